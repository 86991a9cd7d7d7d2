"""What a question must be: texts that can be trained on, and an answer of its kind."""

import json
import math
from collections.abc import Mapping
from typing import Any

from stages.artifacts import tables

KINDS = ("math", "choice", "code", "none")
COLUMNS = tuple(column.name for column in tables.QUESTIONS.columns)
TEXTS = ("question_id", "question", "answer", "solution", "trace", "source", "system")


class BadRow(ValueError):
    """What is wrong with a row: its column, and how to fix it."""


def question_row(row: Mapping[str, Any], question_id: str, source: str) -> dict[str, Any]:
    """A row of the `questions` table, with defaults filled in and numbers turned into text.

    Parameters
    ----------
    row : mapping
        Columns of the table; those left out are null.
    question_id, source : str
        For a row that has none.

    Raises
    ------
    BadRow
        A value is not usable; the message names the column.
    """
    full: dict[str, Any] = {column: row.get(column) for column in COLUMNS}
    for column in TEXTS:
        full[column] = text(full[column], column)
    if full["question"] is None:
        raise BadRow("question is missing; every row needs one")
    full["question_id"] = full["question_id"] or question_id
    full["source"] = full["source"] or source
    if full["tests"] is not None and not isinstance(full["tests"], str):
        full["tests"] = json.dumps(full["tests"])
    full["answer_kind"] = full["answer_kind"] or _kind_of(full)
    _check_kind(full)
    return full


def text(value: Any, column: str) -> str | None:
    """A text, or a number as text; None stays None.

    Raises
    ------
    BadRow
        It is something else, or empty, or not encodable.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"{column} must be a text or a number, not {value!r:.40}")
    if isinstance(value, float):
        if math.isnan(value):
            raise BadRow(f"{column} is NaN; write null where there is none")
        value = int(value) if value.is_integer() else value
    value = str(value)
    if not value.strip():
        raise BadRow(f"{column} is empty; write null where there is none")
    if "\0" in value:
        raise BadRow(f"{column} has a NUL character at position {value.index(chr(0))}; remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow(
                f"{column} has a lone surrogate at position {error.start}, which is not valid "
                "Unicode; remove it"
            ) from None
    return value


def _kind_of(row: Mapping[str, Any]) -> str:
    if row["tests"] is not None:
        return "code"
    if row["answer"] is None:
        return "none"
    return "choice" if row["options"] is not None else "math"


def _check_kind(row: Mapping[str, Any]) -> None:
    options, kind = row["options"], row["answer_kind"]
    if options is not None and not (
        isinstance(options, list) and all(isinstance(option, str) for option in options)
    ):
        raise BadRow(f"options must be a list of texts, not {options!r:.40}")
    if kind not in KINDS:
        raise BadRow(f"answer_kind is {kind!r}; give one of {', '.join(KINDS)}")
    if row["answer"] is None and row["solution"] is None:
        raise BadRow("answer and solution are both missing; the hint is made of one of them")
    if kind in ("math", "choice") and row["answer"] is None:
        raise BadRow(f"answer_kind is {kind}, but answer is missing")
    if kind == "code" and row["tests"] is None:
        raise BadRow("answer_kind is code, but tests are missing")
