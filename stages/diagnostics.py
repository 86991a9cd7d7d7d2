"""What the weights stage reports about itself: counts of every rule, shares, and bounds."""

import re
from typing import Any

import numpy as np
import pandas as pd

from stages import importance, prompts
from stages.settings import StepSettings

LEAK_WORDS = re.compile(r"\bhints?\b|\b(?:given|provided|reference) answer\b", re.IGNORECASE)
ACCURACY_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def diagnose(
    questions: pd.DataFrame, weighed: pd.DataFrame, settings: StepSettings
) -> dict[str, Any]:
    """The summary that stands in weights.json.

    Parameters
    ----------
    questions : DataFrame
        The `questions` table.
    weighed : DataFrame
        As made by `weights.weigh`.
    settings : StepSettings
        As given to it.

    Returns
    -------
    dict
        `counts` of every edge rule of METHOD.md, `shares` of traces, `effective_sample_size`,
        `bounds` (IWAE-k in nats) and `accuracy_against_weight`; JSON-ready, without NaN.
    """
    group = np.unique(weighed["position"], return_inverse=True)[1]
    log_rho = weighed["log_rho"].fillna(-np.inf).to_numpy()
    ess = importance.effective_sample_size(log_rho, group)
    return {
        "counts": _counts(questions, weighed, settings),
        "shares": _shares(questions, weighed, settings),
        "effective_sample_size": _spread(ess[ess > 0]),
        "bounds": bounds(weighed, group),
        "accuracy_against_weight": accuracy_against_weight(weighed),
    }


def _counts(
    questions: pd.DataFrame, weighed: pd.DataFrame, settings: StepSettings
) -> dict[str, Any]:
    how = settings.weights
    selected = set(weighed.loc[weighed["selected"], "question_id"])
    without = questions[~questions["question_id"].isin(selected)]
    stands_in = without["trace"].notna() & (how.no_candidate == "teacher")
    by_question = weighed.groupby("question_id")
    accuracy = by_question["accuracy"].mean()
    excluded = weighed["excluded"].value_counts()
    return {
        "questions": len(questions),
        "questions_without_teacher_trace": int(questions["trace"].isna().sum()),
        "traces": len(weighed),
        "candidates": int(weighed["candidate"].sum()),
        "excluded": {why: int(excluded.get(why, 0)) for why in ("too_long", "open", "unscored")},
        "candidates_of_weight_zero": int((weighed["candidate"] & (weighed["weight"] == 0)).sum()),
        "questions_verified_by_likelihood": int(by_question["fallback"].any().sum()),
        "questions_without_selected_trace": len(without),
        "teacher_stands_in": int(stands_in.sum()),
        "questions_dropped": int((~stands_in).sum()),
        "questions_of_accuracy_0_or_1": int(accuracy.isin([0.0, 1.0]).sum()),
        "selected_traces": int(weighed["selected"].sum()),
        "answers_verified": int(weighed["n_verdicts"].sum()),
        "verifier_errors": int(weighed["n_errors"].sum()),
    }


def _shares(
    questions: pd.DataFrame, weighed: pd.DataFrame, settings: StepSettings
) -> dict[str, float | None]:
    """Shares of all traces; correct is the mean accuracy of the traces that were answered."""
    asked = questions.set_index("question_id").to_dict("index")
    leaks = [
        leaks_hint(trace, prompts.hint_of(_nulls(asked[name]), "answer"))
        for name, trace in zip(weighed["question_id"], weighed["trace"], strict=True)
    ]
    answered = weighed["accuracy"].dropna()
    return {
        "correct": float(answered.mean()) if len(answered) else None,
        "closed": float(weighed["closed"].mean()),
        "too_long": float((weighed["n_tokens"] >= settings.weights.max_trace_tokens).mean()),
        "leaking": float(np.mean(leaks)),
    }


def _nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is np.nan else value for name, value in row.items()}


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


def bounds(weighed: pd.DataFrame, group: np.ndarray) -> list[dict[str, Any]]:
    """IWAE-k in nats for k = 1..K, from whole-sequence ratios whatever `weights.ratio` is.

    The answer term is log accuracy where answers were verified, else the log-likelihood of y'. A
    trace without an answer has ρ = 0. A question all of whose subsets hold an ρ > 0 counts in the
    mean; the others, whose bound is −inf, are counted beside it. `bound_same_questions` is over the
    questions that count at k = 1, and so at every k: only it can be seen to grow with k.
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
    per_question = [importance.iwae_bounds(rho) for rho in np.split(log_rho, firsts[1:])]
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


def accuracy_against_weight(weighed: pd.DataFrame) -> list[dict[str, Any]]:
    """Share of the training weight by a question's accuracy, ours beside rejection sampling's.

    Plain rejection sampling gives a question the weight of its accuracy, so it learns mostly from
    questions that the model can answer already.
    """
    answered = weighed[weighed["accuracy"].notna()]
    if answered.empty:
        return []
    by_question = answered.groupby("question_id").agg(
        accuracy=("accuracy", "mean"), weight=("row_weight", "sum")
    )
    bins = np.searchsorted(ACCURACY_EDGES, by_question["accuracy"], side="left")
    table = []
    for index, edge in enumerate(ACCURACY_EDGES):
        here = by_question[bins == index]
        table.append(
            {
                "accuracy_above": None if index == 0 else ACCURACY_EDGES[index - 1],
                "accuracy_up_to": edge,
                "questions": len(here),
                "weight_share": _share(here["weight"].sum(), by_question["weight"].sum()),
                "rejection_sampling_share": _share(
                    here["accuracy"].sum(), by_question["accuracy"].sum()
                ),
            }
        )
    return table


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
