"""Scores of sampled answers, with confidence intervals.

One benchmark and one model give a matrix ``correct`` of shape [questions, samples]. Every score is
a mean over questions of a value per question, and has two intervals:

- *population*: over questions, as if others of the same kind had been drawn. Questions are the unit
  (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640), however often each was sampled.
- *seeds*: over draws on the same questions; needs at least two draws per question.

Pure functions on arrays; a probability is in [0, 1], a difference in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri, stdtrit

LEVEL = 0.95
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An interval of level ``LEVEL`` and how it was computed; NaN bounds where undefined."""

    low: float
    high: float
    method: str

    def __post_init__(self) -> None:
        for bound in ("low", "high"):  # NumPy's scalars are not JSON
            object.__setattr__(self, bound, float(getattr(self, bound)))

    @classmethod
    def missing(cls, reason: str) -> Interval:
        """An undefined interval, with the reason."""
        return cls(float("nan"), float("nan"), f"not available: {reason}")


@dataclass(frozen=True)
class Score:
    """A point estimate with its two intervals; the value is NaN where the score is undefined."""

    value: float
    population: Interval
    seeds: Interval


# ---------------------------------------------------------------------------------- scores


def average(correct: ArrayLike) -> Score:
    """avg@n: the mean over questions of the share of correct samples.

    ``correct``: [questions, n], bool or values in [0, 1].
    """
    draws = _matrix(correct)
    values = draws.mean(axis=1)
    return Score(float(values.mean()), population_interval(values), seed_interval(draws))


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Array:
    """Probability that k samples, drawn without replacement from n, include one of c correct ones.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374, eq. 1),
    elementwise with broadcasting. NaN where k > n.
    """
    n, c, k = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (n, c, k)))
    if np.any((c < 0) | (c > n) | (k < 1)):
        raise ValueError("pass@k needs 0 <= c <= n and k >= 1")
    # log C(n-c, k) - log C(n, k); below zero misses, gammaln's pole gives inf and exp gives 0.
    misses = np.maximum(n - c, 0)
    with np.errstate(invalid="ignore"):
        log_all_wrong = (
            gammaln(misses + 1)
            - gammaln(np.maximum(misses - k, 0) + 1)
            - gammaln(n + 1)
            + gammaln(np.maximum(n - k, 0) + 1)
        )
    chance = -np.expm1(np.minimum(log_all_wrong, 0.0))
    exact = np.where(c == 0, 0.0, np.where(misses < k, 1.0, chance))
    return np.where(k > n, np.nan, exact)


def pass_score(correct: ArrayLike, k: int) -> Score:
    """pass@k of a benchmark. The seed interval is a delete-one jackknife, so it needs k < n."""
    draws = _matrix(correct)
    n, c = draws.shape[1], draws.sum(axis=1)
    if k > n:
        return _undefined(f"pass@{k} needs {k} samples per question, not {n}")
    values = pass_at_k(n, c, k)
    if k == n:
        seeds = Interval.missing(f"pass@{k} of {n} samples has no leave-one-out estimate")
    else:
        without_hit = pass_at_k(n - 1, np.maximum(c - 1, 0), k)
        without_miss = pass_at_k(n - 1, np.minimum(c, n - 1), k)
        # n leave-one-out values, c of one kind and n - c of the other: (n-1)/n * sum of squares
        variances = (n - 1) / n * (c * (n - c) / n) * (without_hit - without_miss) ** 2
        seeds = _seed_interval(values, variances, n - 1, n // k)
    return Score(float(values.mean()), population_interval(values), seeds)


def majority(votes: ArrayLike, correct: ArrayLike) -> Array:
    """Probability that the most frequent answer is correct, along the last axis.

    ``votes``: [..., k] int, equal numbers for answers that the verifier considers equal, negative
    for a missing answer, which casts no vote. A tie gives the expectation over its winners; a
    question without any answer gives 0. ``correct``: [..., k], the verdict on each sample.
    """
    votes, correct = np.asarray(votes), np.asarray(correct, np.float64)
    voted = votes >= 0
    counts = (votes[..., :, None] == votes[..., None, :]).sum(axis=-1) * voted
    winners = voted & (counts == counts.max(axis=-1, keepdims=True))
    # Tied groups have equal size: the mean over their votes is the mean over the groups.
    return (correct * winners).sum(axis=-1) / np.maximum(winners.sum(axis=-1), 1)


def majority_score(votes: ArrayLike, correct: ArrayLike, k: int) -> Score:
    """maj@k: majorities of disjoint blocks of k samples, in the order drawn.

    ``votes`` as in ``majority`` and ``correct``: [questions, n]. Samples that do not fill a
    block are ignored.
    """
    votes, correct = np.asarray(votes), _matrix(correct)
    questions, n = correct.shape
    if k > n:
        return _undefined(f"maj@{k} needs {k} samples per question, not {n}")
    blocks = n // k
    shape = (questions, blocks, k)
    draws = majority(votes[:, : blocks * k].reshape(shape), correct[:, : blocks * k].reshape(shape))
    return average(draws)


# ------------------------------------------------------------------------------- intervals


def wilson_interval(p: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion p of n independent trials (n may be fractional)."""
    z = ndtri((1 + LEVEL) / 2)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def population_interval(values: ArrayLike) -> Interval:
    """Interval of the mean over the population of questions.

    ``values``: [questions], each question's mean. Student's t over questions; where that is
    degenerate (no spread, or a bound outside [0, 1]) Wilson's interval with the effective number
    of trials p(1-p)/se^2, or the number of questions if they have no spread.
    With a low mean over few questions (0.05 over 30) it covers about 90 % rather than 95: the
    questions that would raise the mean are likely not among them.
    """
    values = np.asarray(values, np.float64)
    n, p = len(values), float(np.mean(values)) if len(values) else float("nan")
    if n < 2:
        return Interval.missing("one question says nothing about others")
    se = float(np.std(values, ddof=1) / np.sqrt(n))
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * se
    if se > 1e-12 and p - half >= 0 and p + half <= 1:
        return Interval(p - half, p + half, "t over questions")
    trials = p * (1 - p) / se**2 if se > 1e-12 else n
    return Interval(*wilson_interval(p, trials), f"Wilson, effective n = {trials:.4g}")


def seed_interval(draws: ArrayLike) -> Interval:
    """Interval of the mean over draws on the same questions. ``draws``: [questions, n]."""
    draws = _matrix(draws)
    n = draws.shape[1]
    if n < 2:
        return Interval.missing("one sample per question has no spread")
    return _seed_interval(draws.mean(axis=1), draws.var(axis=1, ddof=1) / n, n - 1, n)


def _seed_interval(values: Array, variances: Array, df: int, draws: int) -> Interval:
    """t interval with Satterthwaite's degrees of freedom from per-question variances.

    If no question's draws differ, each bound assumes that the questions that could move it share
    one rate, which Wilson's interval bounds from their draws. (A shared rate is the case in which
    all draws are equal most often, so the interval errs on the wide side.)
    """
    p, total = float(values.mean()), float(variances.sum())
    if total > 1e-24:
        freedom = total**2 / float((variances**2).sum() / df)
        half = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(total) / len(values)
        return Interval(max(0.0, p - half), min(1.0, p + half), "t over samples")
    low = p * _bound_of_none(draws * int((values > 0).sum()))
    high = (1 - p) * _bound_of_none(draws * int((values < 1).sum()))
    return Interval(p - low, p + high, "Wilson over samples, none of which differed")


def paired_difference(a: ArrayLike, b: ArrayLike) -> Score:
    """Score of a minus score of b on the same questions. ``a``, ``b``: [questions, n_a or n_b].

    Population: t over the differences of question means. Seeds: both models' seed intervals
    combined as for independent draws (an upper bound of the width if they shared seeds).
    """
    a, b = _matrix(a), _matrix(b)
    if len(a) != len(b):
        raise ValueError(f"paired scores need the same questions: {len(a)} and {len(b)}")
    d = a.mean(axis=1) - b.mean(axis=1)
    seeds = combine([average(a), average(b)], [1.0, -1.0], low=-1.0).seeds
    return Score(float(d.mean()), difference_interval(d), seeds)


def difference_interval(d: ArrayLike) -> Interval:
    """t interval of a mean difference over the population of questions.

    ``d``: [questions], differences in [-1, 1]. Where all are equal, Wilson's bound on the share
    of questions with another difference, each as far off as possible.
    """
    d = np.asarray(d, np.float64)
    n = len(d)
    if n < 2:
        return Interval.missing("one question says nothing about others")
    mean, se = float(d.mean()), float(np.std(d, ddof=1) / np.sqrt(n))
    if se > 1e-12:
        half = stdtrit(n - 1, (1 + LEVEL) / 2) * se
        return Interval(max(-1.0, mean - half), min(1.0, mean + half), "t over paired questions")
    others = _bound_of_none(n)
    low, high = mean - others * (mean + 1), mean + others * (1 - mean)
    return Interval(low, high, "Wilson, no question differs from the others")


def combine(scores: list[Score], weights: list[float], low: float = 0.0) -> Score:
    """Weighted sum of independent scores: a macro-average, or a difference.

    Bounds by the method of variance estimates recovery (Zou and Donner 2008), which supports
    asymmetric intervals. The sum lies in [``low``, 1].
    """
    value = float(sum(w * s.value for w, s in zip(weights, scores, strict=True)))
    parts = {"population": [s.population for s in scores], "seeds": [s.seeds for s in scores]}
    combined = {}
    for name, intervals in parts.items():
        missing = next((i for i in intervals if np.isnan(i.low)), None)
        if missing is not None or np.isnan(value):
            reason = "a score is undefined"
            if missing is not None:
                reason = missing.method.removeprefix("not available: ")
            combined[name] = Interval.missing(reason)
            continue
        down = [
            w * (s.value - (i.low if w > 0 else i.high))
            for w, s, i in zip(weights, scores, intervals, strict=True)
        ]
        up = [
            w * ((i.high if w > 0 else i.low) - s.value)
            for w, s, i in zip(weights, scores, intervals, strict=True)
        ]
        combined[name] = Interval(
            max(low, value - float(np.hypot.reduce(down))),
            min(1.0, value + float(np.hypot.reduce(up))),
            "combined over independent parts",
        )
    return Score(value, **combined)


def _bound_of_none(n: int) -> float:
    """Wilson's upper bound of a rate observed in none of n trials; 0 without trials."""
    return wilson_interval(0.0, n)[1] if n else 0.0


def _matrix(correct: ArrayLike) -> Array:
    matrix = np.asarray(correct, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"expected a non-empty [questions, samples], got shape {matrix.shape}")
    return matrix


def _undefined(reason: str) -> Score:
    return Score(float("nan"), Interval.missing(reason), Interval.missing(reason))
