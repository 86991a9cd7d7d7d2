"""Digests see content and nothing else; differences between recipes read like a sentence."""

import json
import shutil
from pathlib import Path

from stages.artifacts import digests


def test_a_digest_ignores_the_order_of_keys() -> None:
    assert digests.digest({"a": 1, "b": [2]}) == digests.digest({"b": [2], "a": 1})
    assert digests.digest({"a": 1}) != digests.digest({"a": 2})
    assert len(digests.digest({})) == 16


def test_differences_are_dotted_keys_with_old_and_new_value() -> None:
    before = {"traces": {"settings": {"temperature": 0.7, "top_p": 1.0}, "version": 1}}
    after = {"traces": {"settings": {"temperature": 1.0, "top_p": 1.0}, "version": 2}}
    assert digests.differences(before, after) == [
        "traces.settings.temperature: 0.7 -> 1.0",
        "traces.version: 1 -> 2",
    ]
    assert digests.differences(before, before) == []


def test_a_missing_key_stands_at_its_default() -> None:
    assert digests.differences({"seed": 1}, {"traces": {"k": 8}}) == [
        "seed: 1 -> default",
        "traces.k: default -> 8",
    ]
    assert digests.differences({}, {"hint": None}) == ["hint: default -> None"]
    assert digests.differences({}, {"hint": {}}) == ["hint: default -> {}"]


def test_long_values_are_cut() -> None:
    (line,) = digests.differences({"prompt": "x" * 500}, {"prompt": "y" * 500})
    assert line.startswith("prompt: xxx") and len(line) < 200


def test_content_is_of_a_file_a_folder_or_a_model(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    assert digests.content(tmp_path / "a.jsonl") == "44136fa355b3678a"  # sha256sum of {}
    before = digests.content(tmp_path)
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert digests.content(tmp_path) != before
    assert digests.content(tiny_model) == digests.model_digest(tiny_model)


def test_a_models_digest_sees_weights_and_configuration(tiny_model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    assert digests.model_digest(copy) == digests.model_digest(tiny_model)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert digests.model_digest(copy) != digests.model_digest(tiny_model)
    config = json.loads((tiny_model / "config.json").read_text())
    shutil.copy(tiny_model / "model.safetensors", weights)
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 1}))
    assert digests.model_digest(copy) != digests.model_digest(tiny_model)
