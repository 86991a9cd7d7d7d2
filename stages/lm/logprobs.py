"""Log-probs of given tokens, without ever holding logits of more than a chunk of them."""

import torch

# float32 logits held at a time. On a GPU a chunk must be large enough to fill it; on a CPU a small
# one costs no speed.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30}


def chunk_size(weight: torch.Tensor) -> int:
    """Tokens whose logits are held at a time, for a head of `weight` [vocabulary, hidden]."""
    return max(1, CHUNK_BYTES[weight.device.type] // (4 * weight.shape[0]))


def chunk_logprobs(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-softmax over the vocabulary in float32: [chunk, vocabulary].

    Half-precision products are summed *and kept* in float32 where the device can (CUDA): rounding
    logits of size 20 to bfloat16 is an error of 0.06 nats.
    """
    if hidden.is_cuda and hidden.dtype != torch.float32:
        logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    else:
        logits = torch.mm(hidden, weight.t()).float()
    if temperature != 1:
        logits /= temperature
    return torch.log_softmax(logits, -1)


def token_logprobs(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Log-prob of each target token given the hidden state before it. No gradient.

    Parameters
    ----------
    hidden : [P, hidden]
        Final hidden states at the positions that predict.
    weight : [vocabulary, hidden]
        The head.
    targets : int64 [P]
        Token ids that were predicted.
    temperature : float
        Logits are divided by it.

    Returns
    -------
    float32 [P], in nats
    """
    with torch.no_grad():
        size = chunk_size(weight)
        chunks = [
            chunk_logprobs(h, weight, temperature).gather(1, t[:, None])[:, 0]
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        return torch.cat(chunks) if chunks else hidden.new_zeros(0, dtype=torch.float32)
