"""Every family is compared with its transformers class: packed against one row at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_rows import VOCABULARY, random_rows

from stages.common.errors import UserError
from stages.lm import probe
from stages.lm.families import read_config
from stages.lm.model import LanguageModel, load, make_bin

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # attention that really depends on what is attended to
    "pad_token_id": 0,
}
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 7}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 7},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 7},
    "qwen3": {"head_dim": 16, "tie_word_embeddings": False},
    "qwen3_moe": {
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "gemma2": ALTERNATING
    | {
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
    },
    "gemma3_text": ALTERNATING | {"head_dim": 16, "query_pre_attn_scalar": 24},
    "olmo2": {},
    "olmo3": ALTERNATING,
    "phi3": {"sliding_window": 7, "rms_norm_eps": 1e-3},
    "smollm3": {"no_rope_layers": [1, 0]},
    "granite": {
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.5,
    },
    "cohere": {"logit_scale": 0.25},
}
LENGTHS = [2, 3, 40, 17, 17, 16, 90, 5]
N_CONTEXT = [1, 2, 5, 1, 16, 3, 40, 1]
# float32, against the class's eager forward: sums in another order
LOGPROB_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 2e-5


def save_tiny(family: str, folder: Path, **changes: Any) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SHAPE | FAMILIES.get(family, {}) | changes)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # norms that are not all ones
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(request.param, tmp_path_factory.mktemp("family") / request.param)


def test_log_probs_and_gradients_are_the_classes_own(family: Path, record_property: Any) -> None:
    from transformers import AutoModelForCausalLM

    rows = random_rows(LENGTHS)
    weights = np.linspace(0.5, 2.0, len(rows))
    plain = AutoModelForCausalLM.from_pretrained(
        family, dtype=torch.float32, attn_implementation="eager"
    )
    expected = []
    for row, given, weight in zip(rows, N_CONTEXT, weights, strict=True):
        ids = torch.from_numpy(row.astype(np.int64))
        logits = plain(ids[None], use_cache=False).logits[0].float()
        logprobs = torch.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])[given - 1 :, 0]
        (-weight / 50 * logprobs.sum()).backward()
        expected.append(logprobs.detach())

    model = load(family, torch.float32)
    bin_ = make_bin(rows, N_CONTEXT)
    with torch.no_grad():
        apart = (model(bin_) - torch.cat(expected)).abs().max().item()
    coefficients = torch.from_numpy(np.repeat(weights / 50, bin_.counts)).float()
    model(bin_, coefficients).backward()
    ours = dict(model.checkpoint.named_parameters())
    pairs = [(ours[n].grad, p.grad) for n, p in plain.named_parameters() if p.grad is not None]
    off = sum((a - b).double().square().sum().item() for a, b in pairs) ** 0.5
    size = sum(b.double().square().sum().item() for _, b in pairs) ** 0.5
    print(f"| {family.name} | {apart:.1e} | {off / size:.1e} |")
    assert apart < LOGPROB_TOLERANCE
    assert off / size < GRADIENT_TOLERANCE


def test_a_window_is_really_narrow(tmp_path: Path) -> None:
    """The family test would prove little if its rows saw no window."""
    rows = random_rows([40])
    narrow, wide = (
        load(save_tiny("mistral", tmp_path / str(w), sliding_window=w), torch.float32)
        for w in (7, 400)
    )
    wide.load_state_dict(narrow.state_dict())
    with torch.no_grad():
        difference = (narrow(make_bin(rows, [1])) - wide(make_bin(rows, [1]))).abs()
    assert difference[:6].max() < 1e-5
    assert difference[6:].max() > 0.01


@pytest.mark.parametrize(
    ("model_type", "changes", "feature"),
    [
        ("t5", {}, "an encoder and a decoder"),
        ("gpt_oss", {}, "attention sinks"),
        ("mamba", {}, "state-space or linear-attention layers"),
        ("qwen3_next", {}, "layers of type linear_attention"),
        ("lfm2", {}, "state-space or linear-attention layers"),
        ("gemma3", {}, "inputs other than text"),
        ("llava", {}, "inputs other than text"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "bidirectional attention"),
    ],
)
def test_what_a_configuration_tells_is_refused_by_name(
    model_type: str, changes: dict[str, Any], feature: str, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(model_type, **changes).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=feature):
        read_config(tmp_path)  # there are no weights to read


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "martian"}')
    with pytest.raises(UserError, match="not a model that transformers knows"):
        read_config(tmp_path)


def test_the_probe_finds_a_transform_that_the_configuration_hides(tmp_path: Path) -> None:
    path = save_tiny("granite", tmp_path)
    model = load(path, torch.float32)
    model.transform = type(model.transform)()
    with pytest.raises(UserError, match=r"not exact for this granite model: .* nats on average"):
        probe.check(model, "here")


def test_the_probe_finds_a_row_that_sees_its_neighbour(tmp_path: Path, monkeypatch: Any) -> None:
    from stages.lm import attention

    model = load(save_tiny("llama", tmp_path), torch.float32)
    one_row = lambda layout: attention.Layout((layout.n_tokens,), layout.device)  # noqa: E731
    attend = attention._attend_by_group
    monkeypatch.setattr(
        attention,
        "_attend_by_group",
        lambda q, k, v, layout, s: attend(q, k, v, one_row(layout), s),
    )
    with pytest.raises(UserError, match="packing is not exact"):
        probe.check(model, "here")


def test_the_probe_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model: LanguageModel = load(save_tiny("mistral", tmp_path), torch.float32)
    assert model.checkpoint.config.sliding_window == 7
    assert model.checkpoint.config._attn_implementation == "packed"
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_dropout_of_a_configuration_is_off(tmp_path: Path) -> None:
    model = load(save_tiny("llama", tmp_path, attention_dropout=0.1), torch.float32)
    bin_ = make_bin(random_rows([9]), [1])
    one, other = (model.train()(bin_, torch.ones(8)) for _ in range(2))
    assert one == other
