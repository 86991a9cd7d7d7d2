"""Random rounding is right on average, and the optimizer around it is AdamW."""

import pytest
import torch

from stages.lm import optimizer as optimizer_module
from stages.lm.optimizer import RoundingAdamW, round_at_random


def test_rounds_to_a_neighbour_with_the_right_odds():
    low, high = 1.0, 1.0078125  # neighbours in bfloat16
    values = torch.full((100_000,), low + 0.3 * (high - low))
    rounded = round_at_random(values, torch.Generator().manual_seed(0))
    assert set(rounded.tolist()) == {low, high}
    # 4 standard errors of a share of 0.3 among 100,000
    assert float((rounded == high).double().mean()) == pytest.approx(0.3, abs=0.006)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 3e38, 1e-40])
def test_leaves_bfloat16_numbers_alone(value):
    values = torch.full((1000,), value).to(torch.bfloat16).float()
    rounded = round_at_random(values, torch.Generator().manual_seed(0))
    assert torch.equal(rounded.float(), values)


def test_negative_numbers_are_right_on_average_too():
    values = torch.full((100_000,), -0.123456)
    rounded = round_at_random(values, torch.Generator().manual_seed(0))
    assert float(rounded.double().mean()) == pytest.approx(-0.123456, abs=4 * 5e-4 / 100_000**0.5)


@pytest.mark.parametrize("slice_", [1 << 24, 7_000])
def test_follows_adamw(monkeypatch, slice_):
    """Over many steps the roundings average out; what is left is AdamW's path."""
    monkeypatch.setattr(optimizer_module, "SLICE", slice_)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(200, 100, generator=generator).to(torch.bfloat16)
    slope = torch.randn(200, 100, generator=generator).to(torch.bfloat16)
    usual = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}
    ours = torch.nn.Parameter(start.clone())
    theirs = torch.nn.Parameter(start.float())
    optimizers = RoundingAdamW([ours], **usual, seed=1), torch.optim.AdamW([theirs], **usual)
    optimizers[0].state[ours] = {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros_like(ours),
        "exp_avg_sq": torch.zeros_like(ours),
    }
    for step in range(20):
        sign = 1 if step % 5 else -1
        ours.grad, theirs.grad = sign * slope, sign * slope.float()
        for optimizer in optimizers:
            optimizer.step()
    path = theirs.detach() - start.float()
    followed = ours.detach().float() - start.float()
    # moments have 8 bits, roundings a spread of up to 0.004 a step that averages out over weights
    assert float((followed * path).mean() / path.square().mean()) == pytest.approx(1, abs=0.02)
