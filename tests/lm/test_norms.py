"""The norm by hand has the value and the gradients of its definition."""

import pytest
import torch

from stages.lm.norms import fuse_norms, rms_norm


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (1, 5, 2, 4)])
def test_value_and_gradients(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(shape[-1], generator=generator, dtype=torch.float64).requires_grad_()
    slope = torch.randn(shape, generator=generator, dtype=torch.float64)
    expected = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight
    wanted = torch.autograd.grad(expected, (x, weight), slope)

    single = [t.detach().float().requires_grad_() for t in (x, weight)]
    got = rms_norm(*single, 0.1)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(torch.autograd.grad(got, single, slope.float()), wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_value_is_torchs_own_to_the_last_bit():
    x, weight = torch.randn(50, 64), torch.randn(64)
    expected = torch.nn.functional.rms_norm(x, (64,), weight, 1e-6)
    assert torch.equal(rms_norm(x, weight, 1e-6), expected)


def test_a_token_of_zeros_has_a_finite_norm_and_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x, torch.ones(4), 1e-6).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_half_precision_stays_half_precision():
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    assert rms_norm(x, torch.ones(4, dtype=torch.bfloat16), 1e-6).dtype == torch.bfloat16


class Plain(torch.nn.Module):
    """A norm under a name that says nothing."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = torch.nn.Parameter(torch.ones(8)), 1e-5, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, (8,), self.weight + self.offset, self.eps)


def test_only_norms_that_compute_the_same_are_fused():
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norms = [LlamaRMSNorm(8), Plain(), Plain(1.0), Gemma2RMSNorm(8), torch.nn.LayerNorm(8)]
    for norm, same in zip(norms, (True, True, False, False, False), strict=True):
        before = norm(torch.arange(16.0).view(2, 8))
        assert fuse_norms(torch.nn.Sequential(norm)) == same, type(norm)
        assert torch.allclose(norm(torch.arange(16.0).view(2, 8)), before, rtol=1e-6)
