"""Importance weights of traces: the formulas of docs/method.md as functions on arrays.

Every function takes flat arrays over traces. `group` numbers the question of each trace: 0 for the
first question, then never decreasing by trace and never skipping a number. Logs are natural; −inf
is weight zero.
"""

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Groups = NDArray[np.int64]

SUBSETS = 256
QUESTIONS_AT_ONCE = 1024

# Scores of equal traces that were packed differently, as after a resume, differ by about 1e-6 nats
# in float32. `best` must not depend on that.
TIE = 1e-5


def first_of_each(group: Groups) -> Groups:
    """Position of each question's first trace."""
    return np.flatnonzero(np.diff(group, prepend=-1))


def by_question(values: Array, group: Groups, fill: float) -> Array:
    """The values as a matrix [questions, most traces of one], `fill` where a question has fewer."""
    starts = first_of_each(group)
    column = np.arange(len(group)) - starts[group]
    matrix = np.full((len(starts), column.max(initial=-1) + 1), fill)
    matrix[group, column] = values
    return matrix


def log_sum(log_rho: Array, group: Groups) -> Array:
    """log Σ ρ of each question, without overflow; −inf for a question whose ρ are all zero."""
    starts = first_of_each(group)
    top = np.maximum.reduceat(log_rho, starts)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.add.reduceat(np.exp(log_rho - safe[group]), starts)) + safe


# Normalizations ----------------------------------------------------------------------------------


def self_normalized(log_rho: Array, group: Groups, accuracy: Array | None = None) -> Array:
    """ρ̃ = ρ / Σρ, which sums to 1 for each question with any ρ > 0. `accuracy` is not read."""
    total = log_sum(log_rho, group)[group]
    return np.exp(log_rho - np.where(np.isfinite(total), total, 0.0))


def unnormalized(log_rho: Array, group: Groups, accuracy: Array | None = None) -> Array:
    """ρ / K. `accuracy` is not read.

    Raises
    ------
    OverflowError
        A weight exceeds float64.
    """
    with np.errstate(over="ignore"):
        weight = np.exp(log_rho) / np.bincount(group)[group]
    if not np.isfinite(weight).all():
        raise OverflowError("an unnormalized weight exceeds float64")
    return weight


def grpo(log_rho: Array, group: Groups, accuracy: Array) -> Array:
    """ρ / (K sqrt(p(1−p))) with p the mean accuracy of the question; 0 where p is 0 or 1.

    Raises
    ------
    OverflowError
        A weight exceeds float64.
    """
    weight = unnormalized(log_rho, group)
    p = (np.bincount(group, weights=accuracy) / np.bincount(group))[group]
    deviation = np.sqrt(p * (1 - p))
    return np.divide(weight, deviation, out=np.zeros_like(weight), where=deviation > 0)


# Selections --------------------------------------------------------------------------------------
# Each returns the row weight of every trace, 0 where no row is made of it. A trace of weight 0 is
# never selected. `uniform` is a draw from [0, 1) for each question.


def best(weight: Array, log_rho: Array, group: Groups, uniform: Array | None = None) -> Array:
    """1 for the largest ρ of each question. Of those within `TIE` nats of it, the first."""
    rho = by_question(np.where(weight > 0, log_rho, -np.inf), group, -np.inf)
    top = rho.max(axis=1, initial=-np.inf)
    return _one_of_each(np.argmax(rho >= top[:, None] - TIE, axis=1), np.isfinite(top), group)


def every(weight: Array, log_rho: Array, group: Groups, uniform: Array | None = None) -> Array:
    """The weight itself."""
    return weight


def resample(weight: Array, log_rho: Array, group: Groups, uniform: Array) -> Array:
    """1 for one trace of each question, drawn with probability ρ̃."""
    rho = by_question(np.where(weight > 0, log_rho, -np.inf), group, -np.inf)
    top = rho.max(axis=1, initial=-np.inf)
    any_weight = np.isfinite(top)
    cumulative = np.cumsum(np.exp(rho - np.where(any_weight, top, 0.0)[:, None]), axis=1)
    drawn = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(axis=1)
    return _one_of_each(drawn, any_weight, group)


def _one_of_each(column: Groups, some: NDArray[np.bool_], group: Groups) -> Array:
    chosen = np.zeros(len(group))
    chosen[first_of_each(group)[some] + column[some]] = 1.0
    return chosen


# Diagnostics -------------------------------------------------------------------------------------


def effective_sample_size(log_rho: Array, group: Groups) -> Array:
    """(Σρ)² / Σρ² of each question, between 1 and K; 0 where all ρ are zero."""
    total = log_sum(log_rho, group)
    squares = log_sum(2 * log_rho, group)
    some = np.isfinite(total)
    log_size = np.subtract(2 * total, squares, out=np.full_like(total, -np.inf), where=some)
    return np.exp(log_size)


def iwae_bounds(log_rho: Array) -> Array:
    """IWAE-k bounds of questions with n traces each, for k = 1..n, in nats.

    The bound at k is the mean of log (1/k) Σ ρ over subsets of k traces: all of them, or 256 drawn
    with a fixed seed where there are more. It increases with k, and at k = 1 it is the ELBO.

    Parameters
    ----------
    log_rho : float64 array [questions, n]

    Returns
    -------
    float64 array [questions, n]
    """
    bounds = np.empty_like(log_rho)
    for start in range(0, len(log_rho), QUESTIONS_AT_ONCE):
        rho = log_rho[start : start + QUESTIONS_AT_ONCE]
        for k in range(1, rho.shape[1] + 1):
            subsets = rho[:, _subsets(rho.shape[1], k)]
            bounds[start : start + len(rho), k - 1] = _log_mean(subsets).mean(axis=1)
    return bounds


@functools.cache
def _subsets(n: int, k: int) -> Groups:
    some = list(itertools.islice(itertools.combinations(range(n), k), SUBSETS + 1))
    if len(some) > SUBSETS:
        generator = np.random.default_rng([n, k])
        some = [tuple(generator.permutation(n)[:k]) for _ in range(SUBSETS)]
    return np.array(some)


def _log_mean(log_rho: Array) -> Array:
    """Log of the mean of ρ over the last axis."""
    top = log_rho.max(axis=-1, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_rho - safe).mean(axis=-1)) + safe[..., 0]
