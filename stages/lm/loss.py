"""The loss of docs/method.md over a bin, with gradients as it goes.

The gradient of a weighted sum of log-probs is known the moment the logits are: computing it in the
forward pass leaves nothing of a chunk behind, so memory does not grow with tokens x vocabulary,
and costs the three matrix products that are the least possible (a checkpointed chunk takes four).
"""

from typing import Any

import torch

from stages.lm.families import LogitTransform
from stages.lm.logprobs import PLAIN, Softmax, within


class _WeightedNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        coefficients: torch.Tensor,
        transform: LogitTransform,
    ) -> torch.Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        softmax = Softmax(weight, len(hidden), keep=needs_gradient, transform=transform)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for chunk in softmax.chunks:
            h, t, c = hidden[chunk], targets[chunk], coefficients[chunk]
            logprobs, factors = softmax.logprobs(h, t)
            loss -= logprobs @ c
            if grad_hidden is not None:
                # The coefficient scales rows, so it can wait until after the vocabulary is gone.
                c = c if transform.scale == 1 else c * transform.scale
                scaled, towards = (h * c[:, None]).to(h.dtype), torch.zeros_like(h, dtype=c.dtype)
                for tile, factor in zip(softmax.tiles, factors, strict=True):
                    slope = _slope(softmax, tile, factor, t, logprobs, h.dtype)
                    if transform.softcap is not None:
                        slope *= softmax.cap_slope(h, tile)
                    towards += torch.mm(slope, weight[tile])
                    if grad_weight is not None:
                        grad_weight[tile].addmm_(slope.t(), scaled)
                grad_hidden[chunk] = towards * c[:, None]
        ctx.gradients = grad_hidden, grad_weight
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.gradients
        ctx.gradients = None
        scale = grad_loss.to(grad_hidden.dtype)
        grad_weight = None if grad_weight is None else grad_weight.mul_(scale)
        return grad_hidden.mul_(scale), grad_weight, None, None, None


def _slope(
    softmax: Softmax,
    tile: slice,
    factor: torch.Tensor,
    targets: torch.Tensor,
    logprobs: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """d(−log p_t)/d logits = softmax − one_hot(t) of a chunk over a tile: [chunk, tile]."""
    exponentials = softmax.exponentials(len(targets), tile)
    same = exponentials.dtype == dtype
    slope = exponentials if same else torch.empty_like(exponentials, dtype=dtype)
    torch.mul(exponentials, factor, out=slope)
    place, inside = within(targets, tile)
    at_target = torch.expm1(logprobs)[:, None].to(dtype)  # p_t − 1, without cancellation
    return slope.scatter_(1, place, torch.where(inside, at_target, slope.gather(1, place)))


def weighted_nll(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    coefficients: torch.Tensor,
    transform: LogitTransform = PLAIN,
) -> torch.Tensor:
    """`−Σ_t c_t log p(token_t)`: the objective of docs/method.md when `c_t` is `w_i / (B L̄)`.

    Parameters
    ----------
    hidden : [P, hidden]
        Final hidden states at the positions that predict.
    weight : [vocabulary, hidden]
        The head.
    targets : int64 [P]
        Token ids to learn.
    coefficients : float32 [P]
        Weight of each token.
    transform : LogitTransform
        Makes logits of the head's products.

    Returns
    -------
    float32 scalar; differentiable once in `hidden` and `weight`
    """
    return _WeightedNll.apply(hidden, weight, targets, coefficients, transform)
