"""Tables, notes and ledger of the report, as plain data for its page."""

from collections.abc import Iterable, Mapping
from typing import Any

from stages.metrics.evaluation import Cost, Evaluation, Interval, MacroPair, Pair, Result, Score

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
    """A share as a percentage; a dash if undefined."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign; a dash if undefined."""
    if value is None:
        return "–"
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def bounds(interval: Interval, signed: bool = False) -> str:
    """An interval in percent or points; empty if undefined."""
    if interval.low is None or interval.high is None:
        return ""
    show = points if signed else percent
    return f"{show(interval.low)} to {show(interval.high)}"


def duration(seconds: float | None) -> str:
    """Seconds in a readable unit."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if hours < 2 else f"{hours:.1f} h"


# -------------------------------------------------------------------------------- the result


def reference(evaluation: Evaluation) -> str | None:
    """The model that others are compared with.

    Within an experiment the initial model, across experiments the final model of the first; failing
    that, the first model.
    """
    kind = "final" if "+" in evaluation.experiment else "initial"
    names = [m for m in evaluation.models if m.rpartition("/")[2] == kind]
    return next(iter(names or evaluation.models), None)


def headline(evaluation: Evaluation) -> dict[str, Any] | None:
    """The result in one sentence: the last model against the reference.

    On the mean of the mathematics benchmarks if defined, else on the first benchmark.
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


def differences(evaluation: Evaluation, before: str) -> dict[str, dict[str, Pair | MacroPair]]:
    """Differences of each model from the model `before`: by model, then by row of the table."""
    titles = {b.name: b.title for b in evaluation.benchmarks}
    by_model: dict[str, dict[str, Pair | MacroPair]] = {}
    for pair in evaluation.pairs:
        if pair.b == before:
            by_model.setdefault(pair.a, {})[titles[pair.benchmark]] = pair
    for mean in evaluation.macro_pairs:
        if mean.b == before and len(mean.members) > 1:
            by_model.setdefault(mean.a, {})[mean_title(mean.group)] = mean
    return by_model


def mean_title(group: str) -> str:
    """Title of a macro-average's row."""
    return f"Mean of {group}"


def score_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of the main table: one per benchmark or mean, with a cell per model."""
    rows = []
    for benchmark in evaluation.benchmarks:
        results = [evaluation.result(m, benchmark.name) for m in evaluation.models]
        details = dict.fromkeys(
            f"{r.items:,} items × {r.samples}" for r in results if r is not None
        )
        rows.append(
            {
                "title": benchmark.title,
                "detail": " or ".join(details),
                "cells": [r and _result_cell(r) for r in results],
                "reference": [f"{n}: {v:g}" for n, v in benchmark.reference.items()],
                "mean": False,
            }
        )
    rows += [row for group in ("math", "other") if (row := _mean_row(evaluation, group))]
    before = reference(evaluation)
    gains = differences(evaluation, before) if before else {}
    for row in rows:
        row["gains"] = {
            model: _gain(pairs[row["title"]])
            for model, pairs in gains.items()
            if row["title"] in pairs
        }
    return rows


def _result_cell(result: Result) -> dict[str, Any]:
    rates = result.rates.model_dump()
    clean = result.clean
    overlap = ""
    if clean is not None and clean.average is not None and clean.items < result.items:
        overlap = f"{percent(clean.average.value)} on {clean.items:,} clean items"
    return {
        **cell_of(result.average),
        "rates": {name: percent(rate) for name, rate in rates.items()},
        "alarming": [name for name, limit in ALARMING.items() if rates[name] > limit],
        "clean": overlap or None,
    }


ALARMING = {"truncated": 0.05, "no_answer": 0.05, "error": 0.01}


def _gain(pair: Pair | MacroPair) -> dict[str, Any]:
    counts = f"{pair.better:,} better, {pair.worse:,} worse" if isinstance(pair, Pair) else ""
    return {
        "value": points(pair.difference.value),
        "exact": pair.difference.value,
        "bounds": bounds(pair.difference.population, signed=True),
        "settled": _excludes_zero(pair.difference.population),
        "counts": counts,
    }


def _mean_row(evaluation: Evaluation, group: str) -> dict[str, Any] | None:
    """The row of a macro-average, if any model has more than one benchmark in it."""
    means = {m.model: m for m in evaluation.macro if m.group == group}
    if not any(len(m.members) > 1 for m in means.values()):
        return None
    missing = next(iter(means.values())).missing
    published = {} if missing else PUBLISHED
    return {
        "title": mean_title(group),
        "detail": f"without {', '.join(missing)}" if missing else "as in the paper",
        "cells": [
            cell_of(means[m].average) | {"rates": None, "clean": None} if m in means else None
            for m in evaluation.models
        ],
        "reference": [f"{name}: {values[group]:g}" for name, values in published.items()],
        "mean": True,
    }


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
    sentences = []
    for name, what in RATES.items():
        high = [
            f"{r.model} on {titles[r.benchmark]} {percent(rate)} %"
            for r in evaluation.results
            if (rate := getattr(r.rates, name)) > ALARMING[name]
        ]
        if high:
            sentences.append(f"Samples that {what}: {', '.join(high)}.")
    for overlap in evaluation.contamination or ():
        if overlap.overlapping:
            sentences.append(
                f"{len(overlap.overlapping):,} of {overlap.items:,} items of "
                f"{titles[overlap.benchmark]} "
                "share a passage of 13 words with a training question; the table also has the "
                "scores without them."
            )
    if evaluation.contamination is None:
        sentences.append("Overlap of benchmark items with training questions was not checked.")
    if evaluation.protocol == "authors":
        sentences.append(
            "Protocol of the authors: responses begin with a marker that no model was trained on."
        )
    once = dict.fromkeys(titles[r.benchmark] for r in evaluation.results if r.samples == 1)
    if once:
        sentences.append(
            f"One sample per item ({', '.join(once)}): the interval over seeds is undefined."
        )
    return sentences


RATES = {
    "truncated": "were cut at the token limit",
    "no_answer": "have no extractable answer",
    "error": "could not be verified and count as not correct",
}


# ----------------------------------------------------------------------------------- the cost


def ledger(costs: Iterable[Cost]) -> dict[str, Any]:
    """The cost table: one row per artifact with its share of all seconds, and the sums."""
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

SHARES = {
    "correct": "of the answers after a trace, by the verifier",
    "closed": "traces that end their thought",
    "too_long": "traces of weights.max_trace_tokens or more",
    "leaking": "traces that mention the hint, or state its answer in their first tenth",
}
CLOSED = 0.5
COUNTS = {
    "questions": "questions",
    "questions_without_teacher_trace": "of them without a teacher trace",
    "traces": "traces",
    "candidates": "of them candidates",
    "candidates_of_weight_zero": "candidates of weight zero",
    "questions_verified_by_likelihood": "unverifiable questions, weighted by likelihood",
    "questions_without_selected_trace": "questions without a selected trace",
    "teacher_stands_in": "of them, replaced by the teacher's trace",
    "best_by_likelihood_stands_in": "questions with their best trace by likelihood instead",
    "questions_dropped": "of them dropped",
    "selected_traces": "selected traces",
    "rows_with_sampled_answer": "of them with the first correct answer sampled",
    "rows_with_reference_solution": "of them with the reference solution",
    "answers_verified": "answers verified",
    "verifier_errors": "verifier errors",
}


def trace_notes(title: str, summary: Mapping[str, Any]) -> list[str]:
    """A warning where fewer than half of the traces are closed: most of them count for nothing."""
    closed = summary.get("shares", {}).get("closed")
    if closed is None or closed >= CLOSED:
        return []
    return [
        f"{title}: only {percent(closed)} % end their thought, and the others cannot be selected. "
        "Raise traces.max_tokens if they were cut; train the posterior longer if they never write "
        "the end marker; or use markers that the tokenizer has as single tokens "
        "(prompts.template: chat, prompts.thought)."
    ]


def shares(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Shares of weights.json: name, percentage, and meaning."""
    values = summary.get("shares", {})
    return [
        (
            name.replace("_", " "),
            "–" if values[name] is None else f"{percent(values[name])} %",
            note,
        )
        for name, note in SHARES.items()
        if name in values
    ]


def counts(summary: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Counts of weights.json in words."""
    values = summary.get("counts", {})
    excluded = values.get("excluded", {})
    listed = [(words, values[name]) for name, words in COUNTS.items() if name in values]
    return listed + [(f"excluded: {why.replace('_', ' ')}", n) for why, n in excluded.items()]


def estimators(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of the table of estimators of weights.json: names and figures as shown."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}".replace("-", "−")

    return [
        {
            "ratio": row["ratio"].replace("_", " "),
            "answer": row["answer"].replace("_", " "),
            "effective_sample_size": number(row["effective_sample_size"]),
            "pareto_k": number(row["pareto_k"]),
            "rank_agreement": number(row["rank_agreement"]),
            "same_choice": percent(row["same_choice"]),
            "chosen_accuracy": percent(row["chosen_accuracy"]),
        }
        for row in summary.get("estimators", [])
    ]
