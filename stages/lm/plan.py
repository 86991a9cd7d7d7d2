"""What each optimizer step is made of: its rows, every rank's bins of them, its learning rate.

All of it follows from the settings and the step's number; nothing here remembers anything.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from stages.lm.lora import Lora
from stages.lm.model import Bin, make_bin
from stages.lm.packing import balance, pack, row_costs


@dataclass(frozen=True)
class TrainingRows:
    """Token ids of all rows, end to end, and what is to be learned of them.

    Attributes
    ----------
    token_ids : int32 [tokens of all rows]
    offsets : int64 [N + 1]
        Row `i` is `token_ids[offsets[i]:offsets[i + 1]]`.
    n_context : int32 [N]
        Leading tokens of each row that carry no loss (the prompt), at least 1.
    weights : float64 [N]
        Weight of each row in the loss.
    """

    token_ids: np.ndarray
    offsets: np.ndarray
    n_context: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row: int64 [N]."""
        return np.diff(self.offsets)

    def tokens(self, row: int) -> np.ndarray:
        """Token ids of one row."""
        return self.token_ids[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class TrainingSettings:
    """What training depends on.

    Attributes
    ----------
    mean_response_tokens : float
        L̄ of the objective.
    steps : int
        Optimizer steps. Rows are drawn epoch after epoch without replacement.
    n_draws : int
        Rows seen in all steps together; only the last step may fall short of `batch_size`.
    batch_size : int
        B of the objective: rows of one optimizer step.
    learning_rate : float
        Peak; it rises linearly over `warmup_fraction` of the steps and falls as a cosine to 0.
    weight_decay : float
        Of matrices; norms and biases have none.
    seed : int
        Of the order of the rows. Nothing else is random.
    dtype, master_dtype : torch.dtype
        Of computing, and of parameters and optimizer.
    tokens_per_micro_batch : int
        Tokens of one packed bin. Changes memory and speed, not results.
    recompute_every : int
        Layers whose activations are computed again in the backward pass instead of kept: 0 none,
        1 all, 2 every second. Changes memory and speed, not results.
    lora : Lora or None
        Adapters to train instead of the model's parameters.
    """

    mean_response_tokens: float
    steps: int
    n_draws: int
    batch_size: int
    learning_rate: float
    warmup_fraction: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0
    dtype: torch.dtype = torch.float32
    master_dtype: torch.dtype = torch.float32
    tokens_per_micro_batch: int = 8192
    recompute_every: int = 1
    lora: Lora | None = None


def rows_of_step(step: int, n_rows: int, settings: TrainingSettings) -> np.ndarray:
    """Rows of optimizer step `step` (from 0): the next ones of an endless series of shuffles.

    Every epoch is a separate permutation, drawn from (seed, epoch). The result does not depend
    on earlier steps, so a resumed training needs no state of a random generator.
    """
    first = step * settings.batch_size
    draws = np.arange(first, min(first + settings.batch_size, settings.n_draws))
    epochs = {
        epoch: np.random.default_rng([settings.seed, int(epoch)]).permutation(n_rows)
        for epoch in np.unique(draws // n_rows)
    }
    return np.array([epochs[draw // n_rows][draw % n_rows] for draw in draws], dtype=np.int64)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then a cosine to 0."""
    warmup = round(settings.warmup_fraction * settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, settings.steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def micro_batches(
    rows: TrainingRows, chosen: np.ndarray, budget: int, attention_per_token: float, ranks: int
) -> list[list[np.ndarray]]:
    """Rows of a step as bins for each rank: as many on every rank, of nearly equal work.

    Returns
    -------
    list over ranks of lists of int arrays
        Rows of each bin, dearest bin first. A rank with less to do has empty bins at the end,
        because all ranks have to take part in every collective.
    """
    lengths = rows.lengths[chosen]
    costs = row_costs(lengths, attention_per_token)
    bins = []
    for share in balance(costs, ranks):
        packed = pack(lengths[share], budget)
        work = np.array([costs[share[b]].sum() for b in packed])
        packed = [packed[i] for i in np.argsort(-work, kind="stable")]
        bins.append([chosen[share[b]] for b in packed])
    most = max(1, max(len(b) for b in bins))
    return [b + [np.empty(0, dtype=np.int64)] * (most - len(b)) for b in bins]


def weighted_bin(
    rows: TrainingRows, chosen: np.ndarray, divisor: float, device: torch.device
) -> tuple[Bin, torch.Tensor]:
    """A bin of the chosen rows, and the coefficient `w_i / divisor` of each target token."""
    if len(chosen) == 0:  # something to compute for a rank that has nothing to do
        bin_ = make_bin([np.zeros(2, dtype=np.int32)], [1], device)
        return bin_, torch.zeros(1, device=device)
    bin_ = make_bin([rows.tokens(i) for i in chosen], rows.n_context[chosen].tolist(), device)
    coefficients = np.repeat(rows.weights[chosen] / divisor, bin_.counts).astype(np.float32)
    return bin_, torch.from_numpy(coefficients).to(device)
