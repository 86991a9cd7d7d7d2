"""The loss of METHOD.md's objective over a bin, with gradients as it goes.

The gradient of a weighted sum of log-probs is known the moment the logits are: computing it in the
forward pass leaves nothing of a chunk behind, so memory does not grow with tokens x vocabulary,
and costs the three matrix products that are the least possible (a checkpointed chunk takes four).
"""

import torch

from stages.lm.logprobs import chunk_logprobs, chunk_size


class _WeightedNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, coefficients):
        size = chunk_size(weight)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        needs_gradient = any(ctx.needs_input_grad)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        grad_weight = torch.zeros_like(weight) if needs_gradient else None
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            h, t, c = hidden[part], targets[part], coefficients[part, None]
            logprobs, slope = chunk_logprobs(h, weight, t, with_softmax=needs_gradient)
            loss -= logprobs @ c[:, 0]
            if needs_gradient:
                # d(−log p_t)/d logits = softmax − one_hot(t); the coefficient scales rows, so it
                # can wait until after the product over the vocabulary.
                slope.scatter_(1, t[:, None], torch.expm1(logprobs)[:, None].to(slope.dtype))
                grad_hidden[part] = torch.mm(slope, weight) * c
                grad_weight.addmm_(slope.t(), (h * c).to(h.dtype))
            del slope
        # Not saved as autograd saves: it would keep a reference, and the parameter's `.grad` would
        # become a copy instead of this very tensor.
        ctx.gradients = (grad_hidden, grad_weight)
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        grad_hidden, grad_weight = ctx.gradients
        ctx.gradients = None
        scale = grad_loss.to(grad_hidden.dtype)
        return grad_hidden.mul_(scale), grad_weight.mul_(scale), None, None


def weighted_nll(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, coefficients: torch.Tensor
) -> torch.Tensor:
    """`−Σ_t c_t log p(token_t)`: METHOD.md's objective when `c_t` is `w_i / (B L̄)`.

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

    Returns
    -------
    float32 scalar; differentiable once in `hidden` and `weight`
    """
    return _WeightedNll.apply(hidden, weight, targets, coefficients)
