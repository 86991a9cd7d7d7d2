"""Tables, notes, ledger and examples of the report, as plain data for its page."""

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluation import Cost, Evaluation, Interval, Pair, Result, Score

MAX_TEXT = 48 << 20
PUBLISHED = {
    # arXiv 2509.22637: averages in percent, in the groups of `stages/benchmarks`
    "Qwen3-4B-Base": {"math": 21.38, "other": 18.26},
    "Bespoke-Stratos-4B": {"math": 51.35, "other": 40.40},
    "variational, Acc, 4B": {"math": 55.72, "other": 46.12},
    "variational, GML, 4B": {"math": 55.23, "other": 45.60},
    "Bespoke-Stratos-8B": {"math": 58.54, "other": 49.46},
    "variational, Acc, 8B": {"math": 62.77, "other": 54.69},
    "Bespoke-Stratos-32B": {"math": 70.34, "other": 66.32},
    "variational, Acc, 32B": {"math": 72.01, "other": 67.21},
}


# ------------------------------------------------------------------------------------ numbers


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash for none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign; a dash for none."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def bounds(interval: Interval, signed: bool = False) -> str:
    """An interval in percent or points; empty where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    show = points if signed else percent
    return f"{show(interval.low)} to {show(interval.high)}"


def duration(seconds: float | None) -> str:
    """Seconds as people read them."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if hours < 2 else f"{hours:.1f} h"


# -------------------------------------------------------------------------------- the result


def reference(evaluation: Evaluation) -> str | None:
    """The model that others are compared with.

    Within an experiment it is the initial one, across experiments the final one of the first; the
    first model where there is no such.
    """
    wanted = "final" if "+" in evaluation.experiment else "initial"
    names = [m for m in evaluation.models if m.rpartition("/")[2] == wanted]
    return (names or evaluation.models or [None])[0]


def headline(evaluation: Evaluation) -> dict[str, Any] | None:
    """The result in one sentence: the last model against the reference on what matters most.

    That is the mean of the mathematics benchmarks where there is one, else the first benchmark.
    """
    before, after = reference(evaluation), evaluation.models[-1]
    if before is None or before == after:
        return None
    for macro in evaluation.macro_pairs:
        if (macro.a, macro.b) == (after, before) and len(macro.members) > 1:
            scores = {m.model: m.average for m in evaluation.macro if m.group == macro.group}
            title = f"Mean of {len(macro.members)} benchmarks, {macro.group}"
            return _headline(title, after, before, scores, macro.difference)
    for pair in evaluation.pairs:
        if (pair.a, pair.b) == (after, before):
            results = [r for r in evaluation.results if r.benchmark == pair.benchmark]
            scores = {r.model: r.average for r in results}
            title = next(b.title for b in evaluation.benchmarks if b.name == pair.benchmark)
            return _headline(title, after, before, scores, pair.difference)
    return None


def _headline(
    title: str, after: str, before: str, scores: Mapping[str, Score], difference: Score
) -> dict[str, Any]:
    return {
        "title": title,
        "after": {"model": after, **cell_of(scores[after])},
        "before": {"model": before, **cell_of(scores[before])},
        "difference": points(difference.value),
        "bounds": bounds(difference.population, signed=True),
        "settled": _excludes_zero(difference.population),
    }


def _excludes_zero(interval: Interval) -> bool:
    if interval.low is None or interval.high is None:
        return False
    return interval.low > 0 or interval.high < 0


def cell_of(score: Score) -> dict[str, Any]:
    """A score as shown: percentages, and where its interval lies between 0 and 100."""
    low, high = score.population.low, score.population.high
    return {
        "value": percent(score.value),
        "exact": score.value,
        "bounds": bounds(score.population),
        "method": score.population.method,
        "seeds": bounds(score.seeds),
        "seeds_method": score.seeds.method,
        "strip": None
        if score.value is None or low is None or high is None
        else {"at": 100 * score.value, "low": 100 * low, "width": 100 * (high - low)},
    }


def score_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of the main table: a benchmark or a mean each, with a cell a model."""
    before = reference(evaluation)
    pairs = {(p.a, p.benchmark): p for p in evaluation.pairs if p.b == before}
    rows = []
    for benchmark in evaluation.benchmarks:
        results = [evaluation.result(m, benchmark.name) for m in evaluation.models]
        asked = next(r for r in results if r is not None)
        rows.append(
            {
                "title": benchmark.title,
                "detail": f"{asked.items:,} items × {asked.samples}",
                "cells": [r and _result_cell(r) for r in results],
                "gains": [_gain(pairs.get((m, benchmark.name))) for m in evaluation.models],
                "reference": [f"{n}: {v:g}" for n, v in benchmark.reference.items()],
                "mean": False,
            }
        )
    return [*rows, *_mean_rows(evaluation, before)]


def _result_cell(result: Result) -> dict[str, Any]:
    rates = result.rates.model_dump()
    return {
        **cell_of(result.average),
        "rates": {name: percent(rate) for name, rate in rates.items()},
        "alarming": [name for name, limit in ALARMING.items() if rates[name] > limit],
        "clean": result.clean.average
        and result.clean.items < result.items
        and f"{percent(result.clean.average.value)} on {result.clean.items:,} clean items"
        if result.clean
        else None,
    }


ALARMING = {"truncated": 0.05, "no_answer": 0.05, "error": 0.01}


def _gain(pair: Pair | None) -> dict[str, Any] | None:
    if pair is None:
        return None
    return {
        "value": points(pair.difference.value),
        "exact": pair.difference.value,
        "bounds": bounds(pair.difference.population, signed=True),
        "settled": _excludes_zero(pair.difference.population),
        "counts": f"{pair.better:,} better, {pair.worse:,} worse",
    }


def _mean_rows(evaluation: Evaluation, before: str | None) -> list[dict[str, Any]]:
    rows = []
    for group in ("math", "other"):
        means = {m.model: m for m in evaluation.macro if m.group == group}
        if not any(len(m.members) > 1 for m in means.values()):
            continue
        missing = next(iter(means.values())).missing
        gains = {
            m.a: m.difference for m in evaluation.macro_pairs if m.group == group and m.b == before
        }
        rows.append(
            {
                "title": f"Mean of {group}",
                "detail": f"without {', '.join(missing)}" if missing else "as in the paper",
                "cells": [
                    cell_of(means[m].average) | {"rates": None, "clean": None}
                    if m in means
                    else None
                    for m in evaluation.models
                ],
                "gains": [
                    {
                        "value": points(gains[m].value),
                        "exact": gains[m].value,
                        "bounds": bounds(gains[m].population, signed=True),
                        "settled": _excludes_zero(gains[m].population),
                        "counts": "",
                    }
                    if m in gains
                    else None
                    for m in evaluation.models
                ],
                "reference": []
                if missing
                else [f"{name}: {values[group]:g}" for name, values in PUBLISHED.items()],
                "mean": True,
            }
        )
    return rows


def at_k_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of the table of further figures: a model on a benchmark each."""
    titles = {b.name: b.title for b in evaluation.benchmarks}
    return [
        {
            "title": titles[r.benchmark],
            "model": r.model,
            "average": cell_of(r.average),
            "pass": cell_of(r.pass_at_k[-1]) | {"k": r.pass_at_k[-1].k},
            "majority": r.majority_at_k
            and cell_of(r.majority_at_k[-1]) | {"k": r.majority_at_k[-1].k},
            "tokens": f"{r.mean_tokens:,.0f}",
        }
        for r in evaluation.results
    ]


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader should know before believing the table."""
    titles = {b.name: b.title for b in evaluation.benchmarks}
    said = []
    for result in evaluation.results:
        rates = result.rates.model_dump()
        high = [name for name in RATES if rates[name] > ALARMING[name]]
        if high:
            what = ", ".join(f"{percent(rates[name])} % {RATES[name]}" for name in high)
            said.append(f"{result.model} on {titles[result.benchmark]}: of the samples, {what}.")
    for found in evaluation.contamination or ():
        if found.overlapping:
            said.append(
                f"{len(found.overlapping):,} of {found.items:,} items of {titles[found.benchmark]} "
                "share a passage of 13 words with a training question; scores without them stand "
                "in the table."
            )
    if evaluation.contamination is None:
        said.append("Overlap of benchmark items with training questions was not looked for.")
    if evaluation.protocol == "authors":
        said.append(
            "Protocol of the authors: responses begin with a marker that no model was trained on."
        )
    if any(r.samples == 1 for r in evaluation.results):
        said.append("With one sample an item, how much a score depends on the seed is not known.")
    return said


RATES = {
    "truncated": "were cut at the token limit",
    "no_answer": "hold no answer that could be read",
    "error": "could not be verified and count as not correct",
}


# ----------------------------------------------------------------------------------- the cost


def ledger(costs: Iterable[Cost]) -> dict[str, Any]:
    """The ledger: an entry an artifact with its share of all seconds, and the sums."""
    entries = list(costs)
    total = sum(c.seconds or 0 for c in entries)
    return {
        "rows": [
            {
                "artifact": c.artifact,
                "step": c.step,
                "files": c.files,
                "seconds": duration(c.seconds),
                "share": 100 * (c.seconds or 0) / total if total else 0,
                "tokens": "–" if c.tokens is None else f"{c.tokens:,}",
                "speed": f"{c.tokens / c.seconds:,.0f}" if c.tokens and c.seconds else "–",
                "device": c.device or "–",
            }
            for c in entries
        ],
        "seconds": duration(total),
        "tokens": f"{sum(c.tokens or 0 for c in entries):,}",
    }


# --------------------------------------------------------------------------------- the traces

COUNTS = {
    "questions": "questions",
    "questions_without_teacher_trace": "of them without a teacher trace",
    "traces": "traces",
    "candidates": "of them candidates",
    "candidates_of_weight_zero": "candidates of weight zero",
    "questions_verified_by_likelihood": "questions weighed by likelihood, as nothing verifies them",
    "questions_without_selected_trace": "questions without a selected trace",
    "teacher_stands_in": "of them, the teacher's trace stands in",
    "questions_dropped": "of them dropped",
    "selected_traces": "selected traces",
    "answers_verified": "answers verified",
    "verifier_errors": "verifier errors",
}


def counts(summary: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Counts of weights.json in words."""
    found = summary.get("counts", {})
    excluded = found.get("excluded", {})
    listed = [(words, found[name]) for name, words in COUNTS.items() if name in found]
    return listed + [(f"excluded: {why.replace('_', ' ')}", n) for why, n in excluded.items()]


def examples(
    questions: pd.DataFrame,
    hints: Mapping[str, str],
    traces: pd.DataFrame,
    weights: pd.DataFrame,
    verdicts: pd.DataFrame | None,
) -> dict[str, Any]:
    """Questions with their traces, weights and verdicts, packed for the page's browser.

    Parameters
    ----------
    questions, traces, weights, verdicts : DataFrame
        Tables of one round.
    hints : mapping
        What the posterior was shown, by question.

    Returns
    -------
    dict
        `packed`, base64 of gzip of a JSON list; `shown` and `all`, numbers of questions. Where
        the texts are more than a page should carry, questions are taken at even distances.
    """
    joined = traces.merge(weights, on=["question_id", "k"], suffixes=("", "_w")).sort_values("k")
    judged = _marks(verdicts)
    cards: dict[str, list[dict[str, Any]]] = {}
    for row in joined[TRACE_COLUMNS].itertuples(index=False):
        marks = judged.get((row.question_id, row.k), "")
        cards.setdefault(row.question_id, []).append(_card(row, marks))
    asked = questions[questions["question_id"].isin(cards.keys())]
    size = int(joined["trace"].str.len().sum())
    stride = max(1, -(-size // MAX_TEXT))
    rows = [
        {
            "id": question.question_id,
            "question": question.question,
            "hint": hints.get(question.question_id),
            "source": question.source,
            "traces": cards[question.question_id],
        }
        for question in asked.iloc[::stride].itertuples(index=False)
    ]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    return {"packed": packed, "shown": len(rows), "all": len(asked)}


TRACE_COLUMNS = [
    *("question_id", "k", "trace", "n_tokens", "weight", "accuracy"),
    *("log_ratio", "log_answer", "selected", "excluded"),
]


def _marks(verdicts: pd.DataFrame | None) -> dict[tuple[str, int], str]:
    """Verdicts on the answers of each trace, a letter each: c, i or e."""
    found: dict[tuple[str, int], str] = {}
    if verdicts is not None:
        letters = {"correct": "c", "incorrect": "i", "error": "e"}
        for row in verdicts.sort_values("m").itertuples(index=False):
            key = (row.question_id, row.k)
            found[key] = found.get(key, "") + letters[row.verdict]
    return found


def _card(row: Any, marks: str) -> dict[str, Any]:
    return {
        "k": int(row.k),
        "text": row.trace,
        "tokens": int(row.n_tokens),
        "weight": _finite(row.weight),
        "accuracy": _finite(row.accuracy),
        "ratio": _log(row.log_ratio),
        "answer": _log(row.log_answer),
        "selected": bool(row.selected),
        "excluded": row.excluded if isinstance(row.excluded, str) else None,
        "verdicts": marks,
    }


def _finite(value: Any) -> float | None:
    return float(f"{value:.5g}") if value is not None and np.isfinite(value) else None


def _log(value: Any) -> float | str | None:
    return "−∞" if value == -np.inf else _finite(value)
