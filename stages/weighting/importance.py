"""Importance weights of traces: METHOD.md's tables as functions on arrays.

Every function takes flat arrays over traces. `group` numbers the question of each trace: 0 for the
first question, never falling from one trace to the next. Logs are natural; −inf is weight zero.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
SUBSETS = 256


def log_ratio(kind: str, prior: Array, posterior: Array, n_tokens: Array) -> Array:
    """Ratio term of log ρ for `weights.ratio`, from sums of token log-probs of the same tokens."""
    if kind == "none":
        return np.zeros_like(prior)
    difference = prior - posterior
    return difference / n_tokens if kind == "geometric_mean" else difference


def log_answer(kind: str, accuracy: Array, logprob: Array, n_tokens: Array) -> Array:
    """Answer term of log ρ for `weights.answer`, from accuracies and the score of y'."""
    if kind == "none":
        return np.zeros_like(accuracy)
    if kind == "accuracy":
        with np.errstate(divide="ignore"):
            return np.log(accuracy)
    return logprob / n_tokens if kind == "geometric_likelihood" else logprob


def first_of_each(group: Groups) -> Groups:
    """Position of each question's first trace."""
    return np.flatnonzero(np.diff(group, prepend=-1))


def log_sum(log_rho: Array, group: Groups) -> Array:
    """log Σ ρ of each question, without overflow; −inf for a question whose ρ are all zero."""
    starts = first_of_each(group)
    top = np.maximum.reduceat(log_rho, starts)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.add.reduceat(np.exp(log_rho - safe[group]), starts)) + safe


def normalized(kind: str, log_rho: Array, group: Groups, accuracy: Array) -> Array:
    """Weight of each trace for `weights.normalize`.

    Parameters
    ----------
    kind : str
        ``question``: ρ̃ = ρ / Σρ, summing to one a question. ``none``: ρ / K. ``grpo``:
        ρ / (K sqrt(p(1−p))) with p the mean accuracy of the question, 0 where p is 0 or 1.
    log_rho : array of float64
        log ρ, −inf where a trace is no candidate.
    group : array of int64
        Question of each trace.
    accuracy : array of float64
        Accuracy of each trace; only ``grpo`` reads it.

    Raises
    ------
    OverflowError
        A weight is larger than a float64 can hold.
    """
    if kind == "question":
        total = log_sum(log_rho, group)[group]
        return np.exp(log_rho - np.where(np.isfinite(total), total, 0.0))
    k = np.bincount(group)[group]
    with np.errstate(over="ignore"):
        weight = np.exp(log_rho) / k
    if not np.isfinite(weight).all():
        raise OverflowError("a weight that is not normalized by question overflows")
    if kind == "none":
        return weight
    p = (np.bincount(group, weights=accuracy) / np.bincount(group))[group]
    spread = np.sqrt(p * (1 - p))
    return np.divide(weight, spread, out=np.zeros_like(weight), where=spread > 0)


def select(kind: str, weight: Array, log_rho: Array, group: Groups, uniform: Array) -> Array:
    """Row weight of each trace for `weights.select`; 0 where no row is made of it.

    Parameters
    ----------
    kind : str
        ``best``: 1 for the largest ρ of a question, the first of equals. ``all``: the weight
        itself. ``resample``: 1 for one trace a question, drawn with probability ρ̃.
    weight, log_rho, group : arrays
        As given and made by `normalized`; a trace of weight 0 is never selected.
    uniform : array of float64
        One number in [0, 1) a question, for ``resample``.
    """
    if kind == "all":
        return weight
    chosen = np.zeros_like(weight)
    eligible = np.where(weight > 0, log_rho, -np.inf)
    starts = first_of_each(group)
    for question, (start, stop) in enumerate(itertools.pairwise([*starts, len(group)])):
        rho = eligible[start:stop]
        if not np.isfinite(rho).any():
            continue
        if kind == "best":
            chosen[start + int(np.argmax(rho))] = 1.0
        else:
            cumulative = np.cumsum(np.exp(rho - rho.max()))
            drawn = np.searchsorted(cumulative, uniform[question] * cumulative[-1], side="right")
            chosen[start + int(drawn)] = 1.0
    return chosen


def effective_sample_size(log_rho: Array, group: Groups) -> Array:
    """(Σρ)² / Σρ² of each question, between 1 and K; 0 where all ρ are zero."""
    total = log_sum(log_rho, group)
    squares = log_sum(2 * log_rho, group)
    some = np.isfinite(total)
    log_size = np.subtract(2 * total, squares, out=np.full_like(total, -np.inf), where=some)
    return np.exp(log_size)


def iwae_bounds(log_rho: Array) -> Array:
    """IWAE-k bounds of one question for k = 1..K, from its K draws.

    The bound at k is the mean of log (1/k) Σ ρ over subsets of k draws: all of them, or 256 drawn
    once and for all where there are more. It rises with k, and at k = 1 it is the ELBO.
    """
    n = len(log_rho)
    bounds = []
    for k in range(1, n + 1):
        subsets = np.array(_subsets(n, k))
        bounds.append(_log_mean(log_rho[subsets]).mean())
    return np.array(bounds)


def _subsets(n: int, k: int) -> list[tuple[int, ...]]:
    some = list(itertools.islice(itertools.combinations(range(n), k), SUBSETS + 1))
    if len(some) <= SUBSETS:
        return some
    generator = np.random.default_rng([n, k])
    return [tuple(generator.permutation(n)[:k]) for _ in range(SUBSETS)]


def _log_mean(rows: Array) -> Array:
    top = rows.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(rows - safe[:, None]).mean(axis=1)) + safe
