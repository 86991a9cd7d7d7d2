"""What the weights stage reports about itself: counts of every rule, shares, and bounds."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages import prompts
from stages.experiments.settings import StepSettings
from stages.weighting import importance

LEAK_WORDS = re.compile(r"\bhints?\b|\b(?:given|provided|reference) answer\b", re.IGNORECASE)
ACCURACY_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def by_question(
    questions: pd.DataFrame, weighed: pd.DataFrame, settings: StepSettings
) -> pd.DataFrame:
    """The `diagnostics` table: figures of every question that has traces.

    Parameters
    ----------
    questions : DataFrame
        The `questions` table.
    weighed : DataFrame
        As made by `weights.weigh`.
    settings : StepSettings
        As given to it.
    """
    group = np.unique(weighed["position"], return_inverse=True)[1]
    log_rho = weighed["log_rho"].fillna(-np.inf).to_numpy()
    asked = questions.set_index("question_id").to_dict("index")
    hints = {name: prompts.hint_of(_nulls(asked[name]), "answer") for name in asked}
    leaks = [
        leaks_hint(trace, hints[name])
        for name, trace in zip(weighed["question_id"], weighed["trace"], strict=True)
    ]
    traces = weighed.assign(
        leaking=leaks,
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
    questions: pd.DataFrame, weighed: pd.DataFrame, figures: pd.DataFrame, settings: StepSettings
) -> dict[str, Any]:
    """The summary that stands in weights.json.

    Parameters
    ----------
    questions, weighed, settings
        As for `by_question`.
    figures : DataFrame
        As made by it.

    Returns
    -------
    dict
        `counts` of every edge rule of METHOD.md, `shares` of traces, `effective_sample_size`,
        `bounds` (IWAE-k in nats) and `accuracy_against_weight`; JSON-ready, without NaN.
    """
    ess = figures["effective_sample_size"].to_numpy()
    return {
        "counts": _counts(questions, weighed, figures, settings),
        "shares": _shares(weighed, figures),
        "effective_sample_size": _spread(ess[ess > 0]),
        "bounds": bounds(figures["bounds"]),
        "accuracy_against_weight": accuracy_against_weight(figures),
    }


def _counts(
    questions: pd.DataFrame, weighed: pd.DataFrame, figures: pd.DataFrame, settings: StepSettings
) -> dict[str, Any]:
    how = settings.weights
    chosen = weighed[weighed["selected"]]
    without = questions[~questions["question_id"].isin(chosen["question_id"])]
    stands_in = without["trace"].notna() & (how.no_candidate == "teacher")
    excluded = weighed["excluded"].value_counts()
    with_answer = 0 if settings.role == "posterior" else len(chosen)  # it learns the trace alone
    sampled = int((~chosen["fallback"]).sum()) if with_answer and how.answer == "accuracy" else 0
    return {
        "questions": len(questions),
        "questions_without_teacher_trace": int(questions["trace"].isna().sum()),
        "traces": len(weighed),
        "candidates": int(weighed["candidate"].sum()),
        "excluded": {why: int(excluded.get(why, 0)) for why in ("too_long", "open", "unscored")},
        "candidates_of_weight_zero": int((weighed["candidate"] & (weighed["weight"] == 0)).sum()),
        "questions_verified_by_likelihood": int(
            weighed.groupby("question_id")["fallback"].any().sum()
        ),
        "questions_without_selected_trace": len(without),
        "teacher_stands_in": int(stands_in.sum()),
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


def _nulls(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a DataFrame with its nulls as such; no column of questions holds numbers."""
    return {name: None if isinstance(value, float) else value for name, value in row.items()}


def leaks_hint(trace: str, answer: str) -> bool:
    """Whether a trace speaks of its hint, or states the answer in its first tenth."""
    if LEAK_WORDS.search(trace):
        return True
    stated = re.compile(rf"(?<!\w){re.escape(answer.strip())}(?!\w)")
    return bool(answer.strip()) and stated.search(trace[: len(trace) // 10]) is not None


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "p10": None, "median": None, "p90": None}
    p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9))
    return {"mean": values.mean(), "p10": p10, "median": median, "p90": p90}


def question_bounds(weighed: pd.DataFrame, group: np.ndarray) -> list[np.ndarray]:
    """IWAE-k of each question for k = 1..K, by whole-sequence ratios whatever `weights.ratio` is.

    The answer term is log accuracy where answers were verified, else the log-likelihood of y'. A
    trace without an answer has ρ = 0.
    """
    full = importance.log_ratio(
        "full",
        weighed["prior_trace_logprob"].to_numpy(),
        weighed["posterior_trace_logprob"].to_numpy(),
        weighed["n_tokens"].to_numpy(),
    )
    if weighed["posterior_trace_logprob"].isna().all():  # traces of the prior: no ratio
        full = np.zeros(len(weighed))
    with np.errstate(divide="ignore"):
        answer = np.log(weighed["accuracy"].to_numpy())
    answer = np.where(weighed["accuracy"].isna(), weighed["prior_answer_logprob"], answer)
    log_rho = np.where(weighed["closed"], full + answer, -np.inf)
    log_rho = np.where(np.isnan(log_rho), -np.inf, log_rho)
    firsts = importance.first_of_each(group)
    return [importance.iwae_bounds(rho) for rho in np.split(log_rho, firsts[1:])]


def bounds(per_question: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Mean bound for each k.

    A question all of whose subsets hold an ρ > 0 counts in the mean; the others, whose bound is
    −inf, are counted beside it. `bound_same_questions` is over the questions that count at k = 1,
    and so at every k: only it can be seen to grow with k.
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
    """Share of the training weight by a question's accuracy, ours beside rejection sampling's.

    Plain rejection sampling gives a question the weight of its accuracy, so it learns mostly from
    questions that the model can answer already.
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
