"""Memory by shape: the states are those of a real training, the docs show the function's table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import trainer
from transformers import AutoModelForCausalLM

from stages.lm.lora import Lora
from stages.lm.memory import SHAPES, Training, make_shape, state_bytes, table


def bytes_of(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize(
    ("rank", "dtype", "master"),
    [
        (None, torch.float32, torch.float32),
        (None, torch.bfloat16, torch.bfloat16),
        (4, torch.bfloat16, torch.float32),
    ],
)
def test_states_are_those_of_a_training(checkpoints, tmp_path, rank, dtype, master):
    lora = None if rank is None else Lora(rank, 8.0)
    trained = trainer(checkpoints["qwen2"], tmp_path, dtype=dtype, master_dtype=master, lora=lora)
    learned = trained._parameters.values()
    trained.gradient(np.arange(4))
    moments = [trained.optimizer.state[p][m] for p in learned for m in ("exp_avg", "exp_avg_sq")]
    held = bytes_of(trained.model.parameters()) + bytes_of(p.grad for p in learned)
    plain = AutoModelForCausalLM.from_pretrained(checkpoints["qwen2"])
    expected = state_bytes(plain, Training(rank, dtype, master))
    assert held + bytes_of(moments) == expected


def test_eight_gpus_hold_an_eighth_each():
    model = make_shape(SHAPES["Qwen3-4B"])
    assert sum(p.numel() for p in model.parameters()) == 4_022_468_096  # the model card's 4.0B
    assert state_bytes(model, Training()) == 16 * 4_022_468_096
    assert state_bytes(model, Training(processes=8)) == 2 * 4_022_468_096


def test_the_docs_show_the_table():
    page = Path(__file__).parents[2] / "docs" / "memory.md"
    assert table() in page.read_text()
