"""From joined traces to weights: log ρ, normalized by question, and which traces are selected."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.weighting import importance
from stages.weighting.estimators import UNVERIFIABLE, Answer, Method, Ratio
from stages.weighting.importance import Array, Groups

if TYPE_CHECKING:
    from stages.experiments.settings import StepSettings
    from stages.experiments.settings import Weights as WeightsSettings


def weigh(questions: pd.DataFrame, traces: pd.DataFrame, settings: "StepSettings") -> pd.DataFrame:
    """Add the columns of the `weights` table to joined traces.

    Parameters
    ----------
    questions : DataFrame
        Columns question_id and answer_kind, one row per question.
    traces : DataFrame
        Columns of `estimators`, question_id, k, closed, n_verdicts (NaN where no table of verdicts
        was given) and first_correct (the first correct sampled answer, NaN if none is).
    settings : StepSettings
        Sections `traces` and `weights`, `seed` and `round`.

    Returns
    -------
    DataFrame
        In the order of the questions, then of k, with all columns of `traces`; `position`, that of
        the question; `by_likelihood`, whether the answer term is the geometric likelihood because
        no verifier can judge the question; and `stands_in`, whether the trace was selected only
        because of `no_candidate: likelihood`.

    Raises
    ------
    UserError
        A trace of an unknown question, a missing verdict, or a weight that exceeds float64.
    """
    how, method = settings.weights, Method.of(settings)
    weighed = _ordered(questions, traces)
    _check_verdicts(weighed)
    group = np.unique(weighed["position"], return_inverse=True)[1].astype(np.int64)
    uniform = _uniform(settings, weighed["question_id"].iloc[importance.first_of_each(group)])

    weighed["by_likelihood"] = weighed["unverifiable"] & ("verdicts" in method.answer.needs)
    weighed = weighed.assign(**log_weights(weighed, method.ratio, method.answer, how))
    weighed["candidate"] = weighed["excluded"].isna()
    counted = weighed["log_rho"].fillna(-np.inf).to_numpy()
    try:
        weight = method.normalization.weight(
            counted, group, weighed["accuracy"].fillna(0.0).to_numpy()
        )
    except OverflowError:
        raise UserError(
            f"weights overflow with weights.ratio: {how.ratio} and weights.normalize: "
            f"{how.normalize}; set weights.normalize: question or weights.ratio: geometric_mean"
        ) from None
    weighed["weight"] = weight
    row_weight = method.selection(weight, counted, group, uniform)
    stand_ins = np.zeros(len(weighed))
    if method.no_candidate == "likelihood":
        without = (np.bincount(group, weights=row_weight) == 0)[group]
        likely = log_weights(weighed, method.ratio, UNVERIFIABLE, how)["log_rho"]
        stand_ins = np.where(without, best_of_each(likely, group), 0.0)
    weighed["stands_in"] = stand_ins > 0
    weighed["row_weight"] = row_weight + stand_ins
    weighed["selected"] = weighed["row_weight"] > 0
    weighed["answer_m"] = _answer_m(weighed, method.answer)
    return weighed


def _ordered(questions: pd.DataFrame, traces: pd.DataFrame) -> pd.DataFrame:
    index = pd.Index(questions["question_id"])
    position = index.get_indexer(traces["question_id"])
    if (position < 0).any():
        name = traces["question_id"][position < 0].iloc[0]
        raise UserError(f"question_id {name!r} of a trace is not in the table of questions")
    unverifiable = (questions["answer_kind"] == "none").to_numpy()[position]
    placed = traces.assign(position=position, unverifiable=unverifiable)
    return placed.sort_values(["position", "k"], ignore_index=True)


def _check_verdicts(traces: pd.DataFrame) -> None:
    """Refuse verdicts that lack a sampled answer: verifiable closed traces have M answers each."""
    if traces["n_verdicts"].isna().all():  # no table was given
        return
    m = max(1, traces["n_verdicts"].max())
    missing = traces[traces["closed"] & ~traces["unverifiable"] & (traces["n_verdicts"] < m)]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"question_id {row['question_id']!r}, k {row['k']} has {row['n_verdicts']:.0f} of "
            f"{m:.0f} verdicts ({len(missing)} closed traces lack some); run the steps answers and "
            "verdicts again"
        )


def log_weights(
    traces: pd.DataFrame, ratio: Ratio, answer: Answer, how: "WeightsSettings"
) -> pd.DataFrame:
    """log ρ of every trace, with the rules on which traces are candidates.

    Parameters
    ----------
    traces : DataFrame
        Joined traces with a column `unverifiable`: whether no verifier can judge the question. The
        answer term of those is `UNVERIFIABLE` where the estimator needs verdicts.
    ratio, answer
        The terms of log ρ.
    how : Weights
        The limits `max_trace_tokens` and `require_closed`.

    Returns
    -------
    DataFrame
        log_ratio, log_answer, excluded (the first reason why a trace is not a candidate, or null)
        and log_rho (NaN where it is not).
    """
    log_ratio = pd.Series(ratio.log(traces), index=traces.index)
    log_answer = pd.Series(answer.log(traces), index=traces.index)
    if "verdicts" in answer.needs and traces["unverifiable"].any():
        likelihood = pd.Series(UNVERIFIABLE.log(traces), index=traces.index)
        log_answer = log_answer.mask(traces["unverifiable"], likelihood)
    # an open trace has no answer: it can be trained on only where the answer term is always known
    open_ = ~traces["closed"] & (how.require_closed | log_answer.isna())
    too_long = traces["n_tokens"] >= how.max_trace_tokens
    unscored = log_ratio.isna() | log_answer.isna()
    reason = np.select([too_long, open_, unscored], ["too_long", "open", "unscored"], default="")
    excluded = pd.Series(reason, index=traces.index, dtype=object).where(reason != "", None)
    return pd.DataFrame(
        {
            "log_ratio": log_ratio,
            "log_answer": log_answer,
            "excluded": excluded,
            "log_rho": (log_ratio + log_answer).where(excluded.isna()),
        }
    )


def best_of_each(log_rho: pd.Series, group: Groups) -> Array:
    """1 for the trace with the largest ρ of each question; NaN is not a candidate."""
    counted = log_rho.fillna(-np.inf).to_numpy()
    return importance.best(importance.self_normalized(counted, group), counted, group)


def _answer_m(traces: pd.DataFrame, answer: Answer) -> pd.Series:
    """The sampled answer that ends the row of each trace; null: the reference solution does."""
    first = traces["first_correct"].astype("Int32")
    return first if answer.sampled_answer else first.mask(first.notna())


def _uniform(settings: "StepSettings", question_ids: Iterable[str]) -> Array:
    """One draw from [0, 1) for each question, for `weights.select: resample`."""
    seeds = [derive_seed(settings.seed, "resample", settings.round, name) for name in question_ids]
    return np.array([seed >> 10 for seed in seeds]) / 2**53  # the 53 bits of a float64
