"""The fused loss has the value and the gradients of its definition."""

import pytest
import torch

from stages.lm import logprobs
from stages.lm.families import LogitTransform
from stages.lm.loss import weighted_nll


def problem(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, 50, (23,), generator=generator)
    coefficients = torch.rand(23, generator=generator) * (torch.arange(23) % 4 != 0)
    return hidden, weight, targets, coefficients


def by_definition(hidden, weight, targets, coefficients, transform=LogitTransform()):  # noqa: B008
    logits = (hidden @ weight.t()).float() * transform.scale
    if transform.softcap is not None:
        logits = (logits / transform.softcap).tanh() * transform.softcap
    logprobs = torch.log_softmax(logits, -1)
    return -(logprobs.gather(1, targets[:, None])[:, 0] * coefficients).sum()


@pytest.mark.parametrize(("chunk", "tile"), [(1, 1), (7, 3), (7, 50), (1000, 11), (1000, 50)])
@pytest.mark.parametrize(
    "transform", [LogitTransform(), LogitTransform(0.3), LogitTransform(2.0, 4.0)], ids=str
)
def test_value_and_gradients(chunk, tile, transform, monkeypatch):
    monkeypatch.setitem(logprobs.CHUNK_BYTES, "cpu", chunk * 4 * 50)
    monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", min(chunk, 23) * 4 * tile)
    hidden, weight, targets, coefficients = problem()
    expected = by_definition(hidden, weight, targets, coefficients, transform)
    wanted = torch.autograd.grad(3 * expected, (hidden, weight))
    loss = weighted_nll(hidden, weight, targets, coefficients, transform)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    got = torch.autograd.grad(3 * loss, (hidden, weight))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_token_of_weight_zero_has_no_gradient():
    hidden, weight, targets, coefficients = problem()
    weighted_nll(hidden, weight, targets, coefficients).backward()
    assert (hidden.grad[coefficients == 0] == 0).all()
    assert (hidden.grad[coefficients > 0] != 0).any(1).all()


def test_a_weight_is_not_rounded_to_half_precision():
    """1 + 1/300 is no bfloat16 number: rounding it would weigh every token of a row as 1."""
    hidden, weight, targets, _ = problem(torch.bfloat16)
    one, more = torch.ones(23), torch.full((23,), 1 + 1 / 300)
    losses = [weighted_nll(hidden, weight, targets, c) for c in (one, more)]
    assert losses[1].item() / losses[0].item() == pytest.approx(1 + 1 / 300, abs=1e-6)
    one_grad, more_grad = (torch.autograd.grad(x, weight)[0].double() for x in losses)
    # each gradient is rounded to 8 bits, but in either direction
    ratio = float((more_grad * one_grad).sum() / one_grad.square().sum())
    assert ratio == pytest.approx(1 + 1 / 300, abs=1e-3)


def test_without_gradient_the_value_is_the_same():
    arguments = problem()
    with torch.no_grad():
        loss = weighted_nll(*arguments)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, by_definition(*arguments).detach())
