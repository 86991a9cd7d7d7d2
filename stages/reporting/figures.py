"""Every figure of the report, as Plotly figures. The page sets the colours of text and grid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from stages.metrics.evaluation import GROUPS, Evaluation, Interval, Result, Score
from stages.reporting import content

# Observable's ten colours: distinct on light and dark backgrounds, also for the colour-blind.
COLOURS = ("#4f7fe8", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e")
NEUTRAL = "#9498a0"
MARGIN = {"l": 56, "r": 18, "t": 14, "b": 54}
MAX_POINTS = 1000


def colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for every model: grey for the reference, blue for the final one."""
    plain = {m: m.rpartition("/")[2] for m in models}
    grey = [m for m in models if plain[m] == "initial"]
    others = sorted((m for m in models if m not in grey), key=lambda m: plain[m] != "final")
    shades = {m: COLOURS[i % len(COLOURS)] for i, m in enumerate(others)}
    return {m: shades.get(m, NEUTRAL) for m in models}


def differences(evaluation: Evaluation, reference: str) -> go.Figure:
    """Paired differences from a model with their intervals."""
    gains = content.differences(evaluation, reference)
    titles = [b.title for b in evaluation.benchmarks] + [content.mean_title(g) for g in GROUPS]
    labels = [t for t in titles if any(t in rows for rows in gains.values())]
    shades = colours(evaluation.models)
    figure = go.Figure()
    for number, (model, rows) in enumerate(gains.items()):
        offset = 0.3 * (number - (len(gains) - 1) / 2)
        scores = {labels.index(title) + offset: row.difference for title, row in rows.items()}
        for kind in ("population", "seeds"):
            figure.add_trace(_intervals(scores, kind, shades[model], model))
    spans = [row.difference.population for rows in gains.values() for row in rows.values()]
    figure.update_layout(
        xaxis={
            "title": f"points more than {reference}",
            "range": _around_zero(spans),
            "zeroline": True,
            "zerolinewidth": 2,
        },
        yaxis={
            "tickvals": list(range(len(labels))),
            "ticktext": labels,
            "range": [len(labels) - 0.4, -0.6],
            "automargin": True,
        },
        height=130 + 46 * max(1, len(labels)) * max(1.0, 0.6 * len(gains)),
    )
    return figure


def _around_zero(intervals: list[Interval]) -> list[float]:
    """An axis range that covers all intervals and zero, with a margin."""
    ends = [100 * end for i in intervals for end in (i.low, i.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.06 * (high - low) or 1.0
    return [low - room, high + room]


def _intervals(scores: Mapping[float, Score], kind: str, colour: str, name: str) -> go.Scatter:
    """Scores by their height: a point with a thin interval (population) or a broad one (seeds)."""
    population = kind == "population"
    what = "other questions" if population else "other seeds"
    values = [100 * (score.value or 0) for score in scores.values()]
    intervals = [getattr(score, kind) for score in scores.values()]
    return go.Scatter(
        x=values,
        y=list(scores),
        mode="markers",
        marker={"color": colour, "size": 10 if population else 1},
        error_x=_error_bars(scores.values(), kind)
        | {"thickness": 2 if population else 7, "color": _rgba(colour, 1 if population else 0.45)},
        name=name,
        showlegend=population,
        hovertext=[
            f"{name}: {value:+.1f} points<br>{what}: {_bounds(interval)}"
            for value, interval in zip(values, intervals, strict=True)
        ],
        hoverinfo="text",
    )


def _error_bars(scores: Iterable[Score], kind: str = "population") -> dict[str, Any]:
    """Plotly's description of the scores' intervals, without caps."""
    spans = [_span(score.value, getattr(score, kind)) for score in scores]
    return {
        "type": "data",
        "symmetric": False,
        "array": [up for _, up in spans],
        "arrayminus": [down for down, _ in spans],
        "width": 0,
    }


def _span(value: float | None, interval: Interval) -> tuple[float, float]:
    if value is None or interval.low is None or interval.high is None:
        return 0.0, 0.0
    return 100 * (value - interval.low), 100 * (interval.high - value)


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return interval.method
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f} ({interval.method})"


def pass_at_k(evaluation: Evaluation) -> dict[str, go.Figure]:
    """pass@k with its band over questions, and maj@k dotted: one panel per benchmark."""
    shades = colours(evaluation.models)
    panels = {}
    for benchmark in evaluation.benchmarks:
        results = [r for r in evaluation.results if r.benchmark == benchmark.name]
        if max(r.samples for r in results) == 1:
            continue
        figure = go.Figure([c for r in results for c in _curves(r, shades[r.model])])
        figure.update_xaxes(type="log", tickvals=[1, 2, 4, 8, 16, 32, 64], title="k")
        figure.update_yaxes(ticksuffix=" %", rangemode="tozero")
        panels[benchmark.title] = figure
    return panels


def _curves(result: Result, colour: str) -> list[go.Scatter]:
    points = [(p, p.value) for p in result.pass_at_k if p.value is not None]
    majority = [(p.k, p.value) for p in result.majority_at_k if p.value is not None]
    k = [p.k for p, _ in points]
    low = [100 * (v if p.population.low is None else p.population.low) for p, v in points]
    high = [100 * (v if p.population.high is None else p.population.high) for p, v in points]
    band = go.Scatter(
        x=[*k, *k[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=_rgba(colour, 0.15),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=k,
        y=[100 * value for _, value in points],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        hovertemplate="pass@%{x}: %{y:.1f} %<extra>" + result.model + "</extra>",
    )
    dashed = go.Scatter(
        x=[number for number, _ in majority],
        y=[100 * value for _, value in majority],
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": "dot"},
        marker={"symbol": "circle-open"},
        hovertemplate="maj@%{x}: %{y:.1f} %<extra>" + result.model + "</extra>",
    )
    return [band, line, dashed]


def by_difficulty(evaluation: Evaluation) -> dict[str, go.Figure]:
    """Score by difficulty as graded by the source: one panel per benchmark with grades."""
    shades = colours(evaluation.models)
    panels = {}
    for benchmark in evaluation.benchmarks:
        results = [r for r in evaluation.results if r.benchmark == benchmark.name and r.difficulty]
        if not results:
            continue
        figure = go.Figure([_graded(r, shades[r.model]) for r in results])
        figure.update_xaxes(tickangle=0)
        figure.update_yaxes(ticksuffix=" %", rangemode="tozero")
        panels[benchmark.title] = figure
    return panels


def _graded(result: Result, colour: str) -> go.Scatter:
    scores = [level.average for level in result.difficulty]
    return go.Scatter(
        x=[level.difficulty.replace(" ", "<br>", 1) for level in result.difficulty],
        y=[100 * (score.value or 0) for score in scores],
        error_y=_error_bars(scores) | {"thickness": 1.5},
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 8},
        customdata=[level.items for level in result.difficulty],
        hovertemplate="%{x}: %{y:.1f} % of %{customdata} items<extra>" + result.model + "</extra>",
    )


TRAINING = {
    "loss": "Loss",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens a second",
}


def training(logs: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Loss (held-back rows dotted), gradient norm, learning rate and speed, one panel each."""
    shades = colours(list(logs))
    panels = {}
    for column, title in TRAINING.items() if logs else ():
        figure = go.Figure()
        for model, log in logs.items():
            figure.add_trace(_line(log, column, model, shades[model]))
            held = log[log["eval_loss"].notna()]
            if column == "loss" and len(held):
                dotted = _line(held, "eval_loss", f"{model}, held-back rows", shades[model])
                figure.add_trace(dotted.update(line_dash="dot"))
        figure.update_xaxes(title="optimizer step")
        if column == "loss":
            figure.update_yaxes(type="log", **_log_ticks([y for t in figure.data for y in t.y]))
        panels[title] = figure
    return panels


def _log_ticks(values: Sequence[float]) -> dict[str, Any]:
    """Ticks at powers of ten, and at 2 and 5 between where that leaves few."""
    positive = [value for value in values if value > 0]
    few = bool(positive) and max(positive) < 100 * min(positive)
    digits = (1, 2, 5) if few else (1,)
    ticks = [digit * 10.0**power for power in range(-8, 4) for digit in digits]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _line(log: pd.DataFrame, column: str, name: str, colour: str) -> go.Scatter:
    thin = log.iloc[np.unique(np.linspace(0, len(log) - 1, MAX_POINTS).astype(int))]
    return go.Scatter(
        x=thin["step"].tolist(),
        y=thin[column].tolist(),
        mode="lines",
        line={"color": colour, "width": 1.8},
        name=name,
    )


def trace_lengths(n_tokens: np.ndarray, closed: np.ndarray) -> go.Figure:
    """Number of traces by length, closed and truncated ones separately."""
    edges = np.histogram_bin_edges(n_tokens, bins=min(40, max(1, int(np.ptp(n_tokens)))))
    figure = go.Figure()
    for name, rows, colour in (("closed", closed, COLOURS[0]), ("open", ~closed, COLOURS[2])):
        counts, _ = np.histogram(n_tokens[rows], edges)
        figure.add_trace(
            go.Bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts,
                width=np.diff(edges),
                name=name,
                marker={"color": colour, "line": {"width": 0}},
            )
        )
    figure.update_layout(
        barmode="stack",
        bargap=0,
        xaxis={"title": "tokens of a trace"},
        yaxis={"title": "traces"},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        margin={**MARGIN, "t": 30},
        meta="An open trace was cut at the token limit before it ended its thought.",
    )
    return figure


def accuracy_against_weight(table: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Share of the training weight by a question's accuracy, compared with rejection sampling."""
    if not table:
        return None
    total = sum(row["questions"] for row in table)
    labels = [_accuracy_label(row) for row in table]
    figure = go.Figure()
    for name, values, colour in (
        ("questions", [row["questions"] / max(total, 1) for row in table], NEUTRAL),
        ("weight, this experiment", [row["weight_share"] for row in table], COLOURS[0]),
        (
            "weight, plain rejection sampling",
            [row["rejection_sampling_share"] for row in table],
            COLOURS[2],
        ),
    ):
        figure.add_trace(
            go.Bar(
                x=labels,
                y=[None if v is None else 100 * v for v in values],
                name=name,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{y:.1f} %<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(
        barmode="group",
        bargap=0.3,
        xaxis={"title": "accuracy of the question's traces"},
        yaxis={"title": "share", "ticksuffix": " %"},
    )
    return figure


def _accuracy_label(row: Mapping[str, Any]) -> str:
    if row["accuracy_above"] is None:
        return "0 %"
    return f"{100 * row['accuracy_above']:g}–{100 * row['accuracy_up_to']:g} %"


def effective_sample_size(values: np.ndarray, most: int) -> go.Figure:
    """Number of questions by their effective sample size, from 1 to K."""
    edges = np.linspace(1, max(most, 2), 4 * (max(most, 2) - 1) + 1)
    counts, _ = np.histogram(values, edges)
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            marker={"color": COLOURS[0], "line": {"width": 0}},
            name="questions",
        )
    )
    figure.update_layout(
        bargap=0,
        showlegend=False,
        xaxis={"title": "effective sample size"},
        yaxis={"title": "questions"},
        meta=f"(Σρ)² / Σρ² over a question's traces: 1 where one trace has all the weight, {most} "
        "where all weigh the same.",
    )
    return figure


def bounds(table: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """The IWAE-k bound as k grows, over the questions where it is finite at every k."""
    rows = [row for row in table if row.get("bound_same_questions") is not None]
    if not rows:
        return None
    figure = go.Figure(
        go.Scatter(
            x=[row["k"] for row in rows],
            y=[row["bound_same_questions"] for row in rows],
            mode="lines+markers",
            line={"color": COLOURS[0], "width": 2},
            hovertemplate="k = %{x}: %{y:.3f} nats<extra></extra>",
        )
    )
    total = rows[0]["questions"] + rows[0]["questions_at_minus_infinity"]
    figure.update_layout(
        xaxis={"title": "k", "dtick": 1 if len(rows) < 17 else None},
        yaxis={"title": "IWAE-k, nats a question"},
        meta="IWAE-k, a lower bound of log P(Yₓ | x) that tightens as k grows; k = 1 is the ELBO. "
        f"Over the {rows[0]['questions']:,} of {total:,} questions where it is finite at every k.",
    )
    return figure


def _rgba(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
