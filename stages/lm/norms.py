"""Root-mean-square norms in few passes over memory, where transformers makes many."""

from functools import partial

import torch


class _RmsNorm(torch.autograd.Function):
    """`y = x / rms(x) · weight` with its gradient by hand: half the time of torch's on a CPU.

    With `n = x / rms(x)` and `g = dy`: `dweight = Σ g n`, and over d numbers a token
    `dx = (g · weight − n · (Σ g n weight) / d) / rms(x)`.
    """

    @staticmethod
    def forward(ctx, x, weight, epsilon):
        # as torch and transformers round it: a vector norm is a pass less, and an error of its own
        inverse = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight, inverse = ctx.saved_tensors
        normal = x * inverse
        both = grad * normal
        grad_weight = both.flatten(0, -2).sum(0)
        along = (both @ weight).div_(-x.shape[-1])[..., None]
        return normal.mul_(along).addcmul_(grad, weight).mul_(inverse), grad_weight, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Norm over the last dimension: torch's one kernel on a GPU, our own in float32 on a CPU.

    Parameters
    ----------
    x : [..., d]
    weight : [d]
    epsilon : float
        Added to the mean of the squares.
    """
    if x.is_cuda or x.dtype != torch.float32:
        return torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)
    return _RmsNorm.apply(x, weight, epsilon)


def fuse_norms(checkpoint: torch.nn.Module) -> None:
    """Have a checkpoint's norms computed by `rms_norm`."""
    for module in checkpoint.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_of_module, module)


def _of_module(norm: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)
