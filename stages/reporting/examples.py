"""Questions with their traces, weights and verdicts, packed for the page's browser."""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

MAX_TEXT = 48 << 20  # characters of traces on a page


def pack(
    questions: pd.DataFrame,
    hints: Mapping[str, str],
    traces: pd.DataFrame,
    weights: pd.DataFrame,
    verdicts: pd.DataFrame | None,
) -> dict[str, Any]:
    """Data of the example browser.

    Parameters
    ----------
    questions, traces, weights, verdicts : DataFrame
        Tables of one round.
    hints : mapping
        What the posterior was shown, by question.

    Returns
    -------
    dict
        `packed`, base64 of gzip of a JSON list; `shown` and `all`, numbers of questions. If the
        texts exceed `MAX_TEXT`, evenly spaced questions are shown.
    """
    joined = traces.merge(weights, on=["question_id", "k"], suffixes=("", "_w")).sort_values("k")
    judged = _marks(verdicts)
    cards: dict[str, list[dict[str, Any]]] = {}
    for row in joined[TRACE_COLUMNS].itertuples(index=False):
        marks = judged.get((row.question_id, row.k), "")
        cards.setdefault(row.question_id, []).append(_card(row, marks))
    listed = questions[questions["question_id"].isin(cards.keys())]
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
        for question in listed.iloc[::stride].itertuples(index=False)
    ]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    return {"packed": packed, "shown": len(rows), "all": len(listed)}


TRACE_COLUMNS = [
    *("question_id", "k", "trace", "n_tokens", "weight", "accuracy"),
    *("log_ratio", "log_answer", "selected", "excluded"),
]


def _marks(verdicts: pd.DataFrame | None) -> dict[tuple[str, int], str]:
    """Verdicts on the answers of each trace, one letter each: c, i or e."""
    marks: dict[tuple[str, int], str] = {}
    if verdicts is not None:
        letters = {"correct": "c", "incorrect": "i", "error": "e"}
        for row in verdicts.sort_values("m").itertuples(index=False):
            key = (row.question_id, row.k)
            marks[key] = marks.get(key, "") + letters[row.verdict]
    return marks


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
