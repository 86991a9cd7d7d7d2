"""Log-probs of given tokens, without ever holding the logits of all of them."""

import torch

from stages.lm.families import LogitTransform

PLAIN = LogitTransform()
# float32 logits of the tokens that are worked on at a time. On a CPU these are some hundred tokens,
# enough for the head to be read seldom; on a GPU enough to fill it.
CHUNK_BYTES = {"cpu": 128 << 20, "cuda": 2 << 30}
# Of those, what the softmax goes over at a time: on a CPU what stays in a core's cache.
TILE_BYTES = {"cpu": 1 << 20, "cuda": 2 << 30}


class Softmax:
    """The softmax over a head's logits, chunk of tokens by chunk, in memory that is used again.

    Of a chunk's tokens, the logits of one tile of the vocabulary are computed at a time and become
    exponentials in place; a tile's largest logit and its sum are all that the others need of it.

    Parameters
    ----------
    weight : [vocabulary, hidden]
        The head.
    n_tokens : int
        Tokens in all.
    keep : bool
        Whether a chunk's exponentials are kept, for its gradient, or only those of a tile.
    transform : LogitTransform
        Makes logits of the head's products.

    Attributes
    ----------
    chunks : list of slices
        Of the tokens.
    tiles : list of slices
        Of the vocabulary.
    """

    def __init__(self, weight: torch.Tensor, n_tokens: int, keep: bool, transform: LogitTransform):
        vocabulary, device = weight.shape[0], weight.device.type
        chunk = max(1, min(n_tokens, CHUNK_BYTES[device] // (4 * vocabulary)))
        width = max(1, min(vocabulary, TILE_BYTES[device] // (4 * chunk)))
        self.chunks = _slices(n_tokens, chunk)
        self.tiles = _slices(vocabulary, width)
        self._weight, self._keep, self._transform = weight, keep, transform
        room = chunk * (vocabulary if keep else width)
        self._room = torch.empty(room, dtype=torch.float32, device=weight.device)

    def logprobs(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs of a chunk's targets, and what makes a tile's exponentials probabilities.

        Parameters
        ----------
        hidden : [chunk, hidden]
        targets : int64 [chunk]

        Returns
        -------
        float32 [chunk], and float32 [tiles, chunk, 1]
            `exponentials(tile) * factors[tile]` is the softmax.
        """
        chosen, largest, sums = [], [], []
        for tile in self.tiles:
            logits = self._logits(hidden, tile)
            if temperature != 1:
                logits /= temperature
            place, inside = within(targets, tile)
            chosen.append(logits.gather(1, place).masked_fill_(~inside, 0))
            largest.append(logits.amax(1, keepdim=True))
            sums.append(logits.sub_(largest[-1]).exp_().sum(1, keepdim=True))
        tops = torch.stack(largest)
        top = tops.amax(0)
        factors = (tops - top).exp_()
        total = (torch.stack(sums) * factors).sum(0)
        logprobs = torch.stack(chosen).sum(0) - top - total.log()
        return logprobs[:, 0], factors.div_(total)

    def exponentials(self, n_tokens: int, tile: slice) -> torch.Tensor:
        """A tile's exp(logit − the token's largest in the tile): float32 [n_tokens, tile]."""
        start = n_tokens * tile.start if self._keep else 0
        size = n_tokens * (tile.stop - tile.start)
        return self._room[start : start + size].view(n_tokens, -1)

    def cap_slope(self, hidden: torch.Tensor, tile: slice) -> torch.Tensor:
        """Derivative of the soft cap at a chunk's logits over a tile: float32 [chunk, tile].

        The products are computed again: exponentials may have underflowed.
        """
        assert self._transform.softcap is not None
        products = torch.mm(hidden, self._weight[tile].t()).float()
        ratio = products.mul_(self._transform.scale / self._transform.softcap).tanh_()
        return ratio.square_().neg_().add_(1)

    def _logits(self, hidden: torch.Tensor, tile: slice) -> torch.Tensor:
        """Logits of a chunk over a tile, in float32.

        Half-precision products are summed *and kept* in float32 where the device can (CUDA):
        rounding logits of size 20 to bfloat16 is an error of 0.06 nats.
        """
        out, weight = self.exponentials(len(hidden), tile), self._weight[tile].t()
        if hidden.dtype == torch.float32:
            torch.mm(hidden, weight, out=out)
        elif hidden.is_cuda:
            torch.mm(hidden, weight, out_dtype=torch.float32, out=out)
        else:
            out.copy_(torch.mm(hidden, weight))
        scale, softcap = self._transform.scale, self._transform.softcap
        if softcap is not None:
            return out.mul_(scale / softcap).tanh_().mul_(softcap)
        return out if scale == 1 else out.mul_(scale)


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def within(targets: torch.Tensor, tile: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Place of each target in a tile (any place where it is outside), and whether it is inside.

    Returns
    -------
    int64 [chunk, 1], bool [chunk, 1]
    """
    place = targets[:, None] - tile.start
    bounded = place.clamp(0, tile.stop - tile.start - 1)
    return bounded, place == bounded


def token_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    temperature: float = 1.0,
    transform: LogitTransform = PLAIN,
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
    transform : LogitTransform
        Makes logits of the head's products.

    Returns
    -------
    float32 [P], in nats
    """
    logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    with torch.no_grad():
        softmax = Softmax(weight, len(targets), keep=False, transform=transform)
        for chunk in softmax.chunks:
            logprobs[chunk], _ = softmax.logprobs(hidden[chunk], targets[chunk], temperature)
    return logprobs
