"""Is packing exact for this model? Measured on the model itself, in seconds, when it is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stages.common.errors import UserError
from stages.lm import attention

if TYPE_CHECKING:
    from stages.lm.model import LanguageModel

LENGTHS = (3, 17, 2, 31, 11)
WINDOW = 8  # sliding windows are made this short for the probe, or short rows would not see them
# (mean log-prob difference in nats, relative gradient difference) that rounding can explain in
# float32, and the most that is ever put down to rounding in half precision
TOLERANCE = (1e-4, 1e-2)
MOST_IN_HALF_PRECISION = (0.5, 1.0)


@dataclass(frozen=True)
class Difference:
    """Packed rows against the same rows one by one.

    Attributes
    ----------
    mean, largest : float
        Of the absolute log-prob differences, in nats.
    gradient : float
        Norm of the difference of the gradients in the embedded tokens, over their norm.
    """

    mean: float
    largest: float
    gradient: float


def check(model: "LanguageModel", name: str) -> Difference:
    """Refuse a model that packing changes.

    Raises
    ------
    UserError
        With the measured difference, or with what the model says to packed attention.
    """
    try:
        difference = measure(model)
        limits = TOLERANCE
        if model.checkpoint.dtype != torch.float32:
            # Measure what rounding explains: the same kernels with one row per bin.
            alone = measure(model, together=False)
            noise = (2 * alone.mean + 0.02, 2 * alone.gradient + 0.05)
            most = MOST_IN_HALF_PRECISION
            limits = min(noise[0], most[0]), min(noise[1], most[1])
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"{name}: {model.checkpoint.config.model_type} models cannot be packed "
            f"({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    if difference.mean <= limits[0] and difference.gradient <= limits[1]:
        return difference
    raise UserError(
        f"{name}: packing is not exact for this {model.checkpoint.config.model_type} model: "
        f"log-probs of packed rows differ from those of single rows by {difference.mean:.2g} nats "
        f"on average ({difference.largest:.2g} at most), gradients by {difference.gradient:.2g} "
        "relative; the model computes something that packed attention does not (a mask, a cache "
        "or a transform of its own)"
    )


def measure(model: "LanguageModel", together: bool = True) -> Difference:
    """Log-probs and one gradient of short rows, against the model's eager forward.

    Parameters
    ----------
    together : bool
        Whether the rows share one bin, or have one each.
    """
    from stages.lm.model import make_bin

    checkpoint, device = model.checkpoint, model.device
    rng = np.random.default_rng(0)
    vocabulary = model.head.shape[0]
    rows = [rng.integers(0, vocabulary, n).astype(np.int32) for n in LENGTHS]
    bins = [rows] if together else [[row] for row in rows]
    with _frozen(checkpoint), _short_windows(checkpoint), _embedded(checkpoint) as embedded:
        logprobs, slopes, expected, gradients = [], [], [], []
        for members in bins:
            packed = make_bin(members, [1] * len(members), device)
            logprobs.append(model(packed).double())
            embedded.clear()
            loss = model(packed, torch.ones(len(packed.targets), device=device))
            slopes.append(torch.autograd.grad(loss, embedded.pop())[0][0])
        checkpoint.set_attn_implementation("eager")
        try:
            for row in rows:
                ids = torch.from_numpy(row.astype(np.int64))[None].to(device)
                logits = checkpoint(input_ids=ids, use_cache=False).logits[0, :-1].float()
                chosen = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
                gradients.append(torch.autograd.grad(-chosen.sum(), embedded.pop())[0][0])
                expected.append(chosen.detach().double())
        finally:
            checkpoint.set_attn_implementation(attention.NAME)
    apart = (torch.cat(logprobs) - torch.cat(expected)).abs()
    reference = torch.cat(gradients).double()
    off = (torch.cat(slopes).double() - reference).norm() / reference.norm()
    return Difference(float(apart.mean()), float(apart.max()), float(off))


@contextmanager
def _frozen(checkpoint: Any) -> Iterator[None]:
    """Parameters without gradients: the probe's gradient stops at the embedded tokens."""
    learned = [p for p in checkpoint.parameters() if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


@contextmanager
def _embedded(checkpoint: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the embedded tokens of every forward pass, ready for a gradient."""
    outputs: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = checkpoint.get_input_embeddings().register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _short_windows(checkpoint: Any) -> Iterator[None]:
    """Make every sliding window `WINDOW` tokens long."""
    owners = [o for o in (checkpoint.config, *checkpoint.modules()) if _window(o)]
    windows = [_window(owner) for owner in owners]
    for owner in owners:
        owner.sliding_window = WINDOW
    try:
        yield
    finally:
        for owner, window in zip(owners, windows, strict=True):
            owner.sliding_window = window


def _window(owner: Any) -> int | None:
    window = getattr(owner, "sliding_window", None)
    return window if isinstance(window, int) else None
