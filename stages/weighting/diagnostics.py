"""What the weights step reports: counts of every edge rule, shares of traces, and bounds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.weighting import importance
from stages.weighting.comparison import compare
from stages.weighting.estimators import Method
from stages.weighting.importance import Array, Groups

if TYPE_CHECKING:
    from stages.experiments.settings import StepSettings

ACCURACY_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def by_question(weighed: pd.DataFrame, settings: "StepSettings") -> pd.DataFrame:
    """The `diagnostics` table: one row per question that has traces.

    Parameters
    ----------
    weighed : DataFrame
        As returned by `weigh`, with a column `leaking`.
    settings : StepSettings
        The settings it was weighed with.
    """
    group = np.unique(weighed["position"], return_inverse=True)[1].astype(np.int64)
    log_rho = weighed["log_rho"].fillna(-np.inf).to_numpy()
    traces = weighed.assign(
        too_long=weighed["n_tokens"] >= settings.weights.max_trace_tokens,
        accuracy=_accuracy(weighed),
    )
    figures = traces.groupby("question_id", sort=False).agg(
        traces=("k", "size"),
        candidates=("candidate", "sum"),
        accuracy=("accuracy", "mean"),
        closed=("closed", "mean"),
        too_long=("too_long", "mean"),
        leaking=("leaking", "mean"),
        row_weight=("row_weight", "sum"),
    )
    figures["effective_sample_size"] = importance.effective_sample_size(log_rho, group)
    figures["bounds"] = question_bounds(weighed, group)
    return figures.reset_index()


def _accuracy(weighed: pd.DataFrame) -> pd.Series:
    """Accuracy of each trace, 0 for one that could not be answered; NaN where none was verified."""
    verified = weighed["n_verdicts"].notna() & ~weighed["unverifiable"]
    return weighed["accuracy"].fillna(0.0).where(verified)


def summarise(
    questions: pd.DataFrame, weighed: pd.DataFrame, figures: pd.DataFrame, settings: "StepSettings"
) -> dict[str, Any]:
    """The summary in weights.json.

    Parameters
    ----------
    questions : DataFrame
        Columns question_id and has_trace (whether it has a teacher trace).
    weighed, settings
        As for `by_question`.
    figures : DataFrame
        As returned by it.

    Returns
    -------
    dict
        `counts` of every edge rule of docs/method.md, `shares` of traces, `effective_sample_size`,
        `bounds` (IWAE-k in nats), `accuracy_against_weight` and `estimators` (as returned by
        `comparison.compare`); ready for JSON, without NaN.
    """
    ess = figures["effective_sample_size"].to_numpy()
    return {
        "counts": _counts(questions, weighed, figures, settings),
        "shares": _shares(weighed, figures),
        "effective_sample_size": _spread(ess[ess > 0]),
        "bounds": bounds(figures["bounds"]),
        "accuracy_against_weight": accuracy_against_weight(figures),
        "estimators": compare(weighed, settings),
    }


def _counts(
    questions: pd.DataFrame, weighed: pd.DataFrame, figures: pd.DataFrame, settings: "StepSettings"
) -> dict[str, Any]:
    chosen = weighed[weighed["selected"]]
    without = questions[~questions["question_id"].isin(chosen["question_id"])]
    stands_in = without["has_trace"] & Method.of(settings).teacher_stands_in
    excluded = weighed["excluded"].value_counts()
    with_answer = 0 if settings.role == "posterior" else len(chosen)  # it learns the trace alone
    sampled = int(chosen["answer_m"].notna().sum()) if with_answer else 0
    return {
        "questions": len(questions),
        "questions_without_teacher_trace": int((~questions["has_trace"]).sum()),
        "traces": len(weighed),
        "candidates": int(weighed["candidate"].sum()),
        "excluded": {why: int(excluded.get(why, 0)) for why in ("too_long", "open", "unscored")},
        "candidates_of_weight_zero": int((weighed["candidate"] & (weighed["weight"] == 0)).sum()),
        "questions_verified_by_likelihood": int(
            weighed.groupby("question_id")["by_likelihood"].any().sum()
        ),
        "questions_without_selected_trace": len(without),
        "teacher_stands_in": int(stands_in.sum()),
        "best_by_likelihood_stands_in": int(weighed["stands_in"].sum()),
        "questions_dropped": int((~stands_in).sum()),
        "questions_of_accuracy_0_or_1": int(figures["accuracy"].isin([0.0, 1.0]).sum()),
        "selected_traces": len(chosen),
        "rows_with_sampled_answer": sampled,
        "rows_with_reference_solution": with_answer - sampled,
        "answers_verified": int(weighed["n_verdicts"].sum()),
        "verifier_errors": int(weighed["n_errors"].sum()),
    }


def _shares(weighed: pd.DataFrame, figures: pd.DataFrame) -> dict[str, float | None]:
    """Shares of all traces; correct is the mean accuracy of the traces that were answered."""
    answered = weighed["accuracy"].dropna()
    each = {
        share: float(np.average(figures[share], weights=figures["traces"]))
        for share in ("closed", "too_long", "leaking")
    }
    return {"correct": float(answered.mean()) if len(answered) else None, **each}


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "p10": None, "median": None, "p90": None}
    p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9))
    return {"mean": values.mean(), "p10": p10, "median": median, "p90": p90}


def question_bounds(weighed: pd.DataFrame, group: Groups) -> list[Array]:
    """IWAE-k of each question for k = 1..K, with whole-sequence ratios whatever `weights.ratio` is.

    The answer term is log accuracy where answers were verified, else the log-likelihood of y'. A
    trace without an answer has ρ = 0. Traces of the prior have no posterior score: ratio 1.
    """
    if weighed["posterior_trace_logprob"].isna().all():
        log_ratio = np.zeros(len(weighed))
    else:
        log_ratio = (weighed["prior_trace_logprob"] - weighed["posterior_trace_logprob"]).to_numpy()
    with np.errstate(divide="ignore"):
        answer = np.log(weighed["accuracy"].to_numpy())
    answer = np.where(weighed["accuracy"].isna(), weighed["prior_answer_logprob"], answer)
    log_rho = np.where(weighed["closed"], log_ratio + answer, -np.inf)
    matrix = importance.by_question(np.nan_to_num(log_rho, nan=-np.inf, neginf=-np.inf), group, 0.0)
    n_traces = np.bincount(group)
    found: list[Array] = [np.empty(0)] * len(n_traces)
    for n in np.unique(n_traces):
        rows = np.flatnonzero(n_traces == n)
        for row, row_bounds in zip(rows, importance.iwae_bounds(matrix[rows, :n]), strict=True):
            found[row] = row_bounds
    return found


def bounds(per_question: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Mean bound for each k.

    A question enters the mean if each of its subsets has a trace with ρ > 0; the others, whose
    bound is −inf, are counted separately. `bound_same_questions` is the mean over questions that
    enter at k = 1, and therefore at every k: only it is comparable across k.
    """
    widest = max((len(b) for b in per_question), default=0)
    same = [b for b in per_question if len(b) == widest and np.isfinite(b).all()]
    table = []
    for k in range(widest):
        values = np.array([b[k] for b in per_question if len(b) > k])
        finite = values[np.isfinite(values)]
        table.append(
            {
                "k": k + 1,
                "bound": float(finite.mean()) if len(finite) else None,
                "bound_same_questions": float(np.mean([b[k] for b in same])) if same else None,
                "questions": len(finite),
                "questions_at_minus_infinity": len(values) - len(finite),
            }
        )
    return table


def accuracy_against_weight(figures: pd.DataFrame) -> list[dict[str, Any]]:
    """Share of the training weight by accuracy of the question, with that of rejection sampling.

    Plain rejection sampling weighs a question by its accuracy, so it learns mostly from questions
    that the model already answers.
    """
    verified = figures[figures["accuracy"].notna()]
    if verified.empty:
        return []
    bins = np.searchsorted(ACCURACY_EDGES, verified["accuracy"], side="left")
    table = []
    for index, edge in enumerate(ACCURACY_EDGES):
        here = verified[bins == index]
        table.append(
            {
                "accuracy_above": None if index == 0 else ACCURACY_EDGES[index - 1],
                "accuracy_up_to": edge,
                "questions": len(here),
                "weight_share": _share(here["row_weight"].sum(), verified["row_weight"].sum()),
                "rejection_sampling_share": _share(
                    here["accuracy"].sum(), verified["accuracy"].sum()
                ),
            }
        )
    return table


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
