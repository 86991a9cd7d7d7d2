"""Adapters on the packed trainer have peft's gradients, and merge into a plain checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_families import save_tiny
from test_trainer import (
    EVERYTHING,
    assert_equal_weights,
    assert_same_gradients,
    gradients,
    some_rows,
    trainer,
)

from stages.common.errors import UserError
from stages.lm.lora import Lora
from stages.lm.trainer import Interrupted, Trainer

LORA = Lora(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def trained(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Twelve steps, so that no adapter is zero."""
    finished = trainer(checkpoints["qwen3"], tmp_path_factory.mktemp("lora"), lora=LORA)
    list(finished.run())
    return finished


@pytest.fixture(scope="module")
def written(trained: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "model"
    trained.save_model(folder, [3], base="the base")
    return folder


def by_peft(checkpoint: Path, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    return PeftModel.from_pretrained(base, adapter, is_trainable=True)


def test_only_adapters_are_learned(trained: Trainer) -> None:
    assert all(".lora_" in name for name in trained._parameters)
    assert len(trained._parameters) == 2 * 2 * 7  # A and B, layers, matrices of a layer
    assert trained.log[-1]["eval_loss"] < trained.log[2]["eval_loss"]


def test_gradients_are_those_of_peft_on_padded_rows(
    checkpoints: dict[str, Path], written: Path, trained: Trainer
) -> None:
    model, rows = by_peft(checkpoints["qwen3"], written / "adapter"), some_rows()
    n, longest = len(rows), int(rows.lengths.max())
    ids, mask = np.zeros((n, longest), np.int64), np.zeros((n, longest), np.int64)
    coefficients = np.zeros((n, longest), np.float32)
    for i in range(n):
        length, context = int(rows.lengths[i]), int(rows.n_context[i])
        ids[i, :length], mask[i, :length] = rows.tokens(i), 1
        coefficients[i, context:length] = rows.weights[i] / (4 * 40.0)
    ids, mask, coefficients = map(torch.from_numpy, (ids, mask, coefficients))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, ids[:, 1:, None])[..., 0]
    (-logprobs * coefficients[:, 1:]).sum().backward()
    wanted = {
        name.removeprefix("base_model.model."): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    trained.optimizer.zero_grad()
    trained.gradient(EVERYTHING)
    assert_same_gradients(gradients(trained), wanted)
    trained.optimizer.zero_grad()


def test_the_merged_checkpoint_is_the_adapted_model(
    checkpoints: dict[str, Path], written: Path
) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.arange(40)[None]
    merged = AutoModelForCausalLM.from_pretrained(written)
    base = AutoModelForCausalLM.from_pretrained(checkpoints["qwen3"])
    assert dict(merged.named_parameters()).keys() == dict(base.named_parameters()).keys()
    adapted = by_peft(checkpoints["qwen3"], written / "adapter")
    with torch.no_grad():
        ours, theirs, before = (m(ids).logits for m in (merged, adapted, base))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)
    assert (ours - before).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")
def test_experts_are_merged_too(tmp_path: Path) -> None:
    """peft adapts their fused matrices under wrappers of another kind."""
    from transformers import AutoModelForCausalLM

    base = save_tiny("qwen3_moe", tmp_path / "base")
    adapted = trainer(base, tmp_path, lora=LORA, steps=3)
    list(adapted.run())
    assert any("experts" in name for name in adapted._parameters)
    adapted.save_model(tmp_path / "model", [3])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        ours = merged(ids).logits
        theirs = by_peft(base, tmp_path / "model" / "adapter")(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_a_killed_training_goes_on_with_the_same_adapters(
    checkpoints: dict[str, Path], trained: Trainer, tmp_path: Path
) -> None:
    killed = trainer(checkpoints["qwen3"], tmp_path, lora=LORA)
    with pytest.raises(Interrupted):
        list(killed.run(stop_requested=lambda: killed.step == 5))
    again = trainer(checkpoints["qwen3"], tmp_path, lora=LORA)
    again.resume()
    list(again.run())
    assert_equal_weights(again._parameters, trained._parameters)


def test_the_frozen_model_is_kept_in_half_precision_and_adapters_are_not(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    half = trainer(
        checkpoints["qwen3"],
        tmp_path,
        lora=Lora(4, 8.0, ("q_proj", "v_proj")),
        dtype=torch.bfloat16,
        learning_rate=0.03,
    )
    assert len(half._parameters) == 2 * 2 * 2
    for name, p in half.model.named_parameters():
        assert p.dtype == (torch.float32 if ".lora_" in name else torch.bfloat16)
    list(half.run())
    assert half.log[-1]["eval_loss"] < half.log[2]["eval_loss"]


def test_a_target_that_the_model_lacks_is_named(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"lora.targets: .*q_prj"):
        trainer(checkpoints["qwen3"], tmp_path, lora=Lora(4, 8.0, ("q_prj",)))
