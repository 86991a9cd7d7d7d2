"""All estimators of log ρ on the same traces, without training: figures and choices of each.

Pareto k̂ is that of Pareto-smoothed importance sampling (Vehtari et al., arXiv 1507.02646): above
0.7, an average with these weights is unreliable however many traces there are.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.weighting import importance
from stages.weighting.estimators import ANSWERS, RATIOS
from stages.weighting.importance import Array, Groups
from stages.weighting.weigh import best_of_each, log_weights

if TYPE_CHECKING:
    from stages.experiments.settings import StepSettings

FEWEST_FOR_PARETO = 100
QUESTIONS_AT_ONCE = 1024


def compare(weighed: pd.DataFrame, settings: "StepSettings") -> list[dict[str, Any]]:
    """A row for every ratio and answer estimator that the given tables allow.

    Parameters
    ----------
    weighed : DataFrame
        As returned by `weigh`.
    settings : StepSettings
        The settings it was weighed with.

    Returns
    -------
    list of dict
        ratio, answer: names of the estimators. effective_sample_size: mean over questions with any
        ρ > 0. pareto_k: of ρ over all candidates; None where its tail cannot be fitted.
        rank_agreement: of ρ with accuracy, see `rank_agreement`. same_choice: share of questions
        on which the largest ρ is at the same trace as with this experiment's estimators, both
        choosing none included. chosen_accuracy: mean accuracy of the chosen traces over the
        verified questions, 0 where none is chosen. Figures of accuracy are None without verdicts.
    """
    group = np.unique(weighed["position"], return_inverse=True)[1].astype(np.int64)
    accuracy = weighed["accuracy"].fillna(0.0).to_numpy()
    verified = (weighed["n_verdicts"].notna() & ~weighed["unverifiable"]).to_numpy()
    chosen_here = best_of_each(weighed["log_rho"], group)
    rows = []
    for ratio, answer in _allowed(weighed):
        log_rho = log_weights(weighed, RATIOS[ratio], ANSWERS[answer], settings.weights)["log_rho"]
        counted = log_rho.fillna(-np.inf).to_numpy()
        ess = importance.effective_sample_size(counted, group)
        chosen = best_of_each(log_rho, group)
        differs = np.bincount(group, weights=chosen != chosen_here) > 0
        n_verified = len(np.unique(group[verified]))
        rows.append(
            {
                "ratio": ratio,
                "answer": answer,
                "effective_sample_size": float(ess[ess > 0].mean()) if (ess > 0).any() else None,
                "pareto_k": pareto_k(counted[log_rho.notna().to_numpy()]),
                "rank_agreement": rank_agreement(
                    counted[verified], accuracy[verified], group[verified]
                )
                if n_verified
                else None,
                "same_choice": float(1 - differs.mean()),
                "chosen_accuracy": float((chosen * accuracy)[verified].sum() / n_verified)
                if n_verified
                else None,
            }
        )
    return rows


def _allowed(weighed: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Names of the ratios and answer estimators whose tables were given."""
    columns = {
        "prior": "prior_trace_logprob",
        "posterior": "posterior_trace_logprob",
        "verdicts": "n_verdicts",
    }
    given = {table for table, column in columns.items() if weighed[column].notna().any()}
    for ratio_name, ratio in RATIOS.items():
        for answer_name, answer in ANSWERS.items():
            if ratio.needs | answer.needs <= given:
                yield ratio_name, answer_name


def pareto_k(log_rho: Array) -> float | None:
    """Shape k̂ of the generalized Pareto distribution fitted to the largest ρ.

    None for fewer than 100 weights, or where most of the largest are equal.
    """
    from arviz_stats.base import array_stats

    if len(log_rho) < FEWEST_FOR_PARETO or not np.isfinite(log_rho).any():
        return None
    lowest = log_rho[np.isfinite(log_rho)].min()
    # the library takes log-likelihoods, whose negatives are log weights
    log_likelihood = -np.where(np.isfinite(log_rho), log_rho, lowest - 100)
    try:
        with np.errstate(all="ignore"):  # it divides by zero where the largest are tied
            k = float(array_stats.psislw(log_likelihood)[1])
    except ValueError:  # all values of the tail are the same
        return None
    return k if np.isfinite(k) else None


def rank_agreement(log_rho: Array, accuracy: Array, group: Groups) -> float | None:
    """Somers' D of ρ with respect to accuracy, over the pairs of traces of one question.

    Of the pairs that differ in accuracy, the share that ρ orders alike minus the share that it
    orders the other way: 1 for the same order, 0 for an unrelated one. None without such a pair.
    """
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    rho = importance.by_question(log_rho, group, np.nan)
    acc = importance.by_question(accuracy, group, np.nan)
    agreeing = pairs = 0
    for start in range(0, len(rho), QUESTIONS_AT_ONCE):
        by_rho, by_acc = (_order(m[start : start + QUESTIONS_AT_ONCE]) for m in (rho, acc))
        agreeing += int((by_rho * by_acc).sum())
        pairs += int(np.abs(by_acc).sum())
    return agreeing / pairs if pairs else None


def _order(values: Array) -> np.ndarray:
    """[questions, traces, traces]: 1 where the first is larger, −1 where smaller, else 0."""
    first, second = values[:, :, None], values[:, None, :]
    return (first > second).astype(np.int8) - (first < second).astype(np.int8)
