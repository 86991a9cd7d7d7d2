r"""Every source format, and how its rows become questions; docs/data.md has an example of each.

A format is one object: it detects its rows by their columns, and converts one to columns of the
`questions` table. The first of `FORMATS` that detects a row converts it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.data.checks import COLUMNS, BadRow, text
from stages.experiments.sources import QuestionColumn
from stages.prompts import BEGIN_SOLUTION, BEGIN_THOUGHT, END_SOLUTION, END_THOUGHT
from stages.verifiers.text import last_box

Row = Mapping[str, Any]

# What pandas makes of an index that was written by accident.
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|index|level_\d+|")
# NuminaMath-1.5 and OpenR1-Math say so in place of an answer.
_NO_ANSWER = ("proof", "notfound", "")
_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_USERS, _ASSISTANTS = ("user", "human"), ("assistant", "gpt")


class Dropped(Exception):
    """A row that holds nothing to train on, and why."""


@dataclass(frozen=True)
class Format:
    """One source format: its name, what its rows have, and how they are detected and converted."""

    name: str
    has: str
    detects: Callable[[Row], bool]
    converts: Callable[[Row], dict[str, Any]]


def convert(row: Any, columns: Mapping[QuestionColumn, str] | None = None) -> dict[str, Any]:
    """Columns of the `questions` table from a row of any format.

    Parameters
    ----------
    row : Any
        What the file holds; a row is a mapping of columns to values.
    columns : mapping, optional
        By our column, the row's column to take it from; all others are ignored.

    Raises
    ------
    BadRow
        No format fits, or a part of the row cannot be told from another.
    Dropped
        The row holds nothing to train on.
    """
    if not isinstance(row, dict):
        raise BadRow(f"a row must be an object of columns and values, not {row!r:.40}")
    row = {name: value for name, value in row.items() if not _INDEX.fullmatch(str(name))}
    if columns:
        missing = [theirs for theirs in columns.values() if theirs not in row]
        if missing:
            raise BadRow(
                f"column {missing[0]!r} of questions.columns is missing; the row has "
                f"{', '.join(row)}"
            )
        row = {ours: row[theirs] for ours, theirs in columns.items()}
    for candidate in FORMATS:
        if candidate.detects(row):
            return candidate.converts(row)
    listed = "; ".join(f"{f.name} ({f.has})" for f in FORMATS)
    raise BadRow(
        f"columns {', '.join(row) or 'none'} fit no format; map them with questions.columns, for "
        f"instance {{question: {next(iter(row), 'prompt')}}}, or use one of: {listed}"
    )


def split_thought(response: str, column: str) -> tuple[str | None, str]:
    """A response as trace and solution; the trace is None where there are no markers.

    Raises
    ------
    BadRow
        A thought is opened and never closed, or closed more than once.
    """
    for begin, end in ((BEGIN_THOUGHT, END_THOUGHT), ("<think>", "</think>")):
        if end in response:
            if response.count(end) > 1:
                raise BadRow(
                    f"{column} has {response.count(end)} {end} markers: where the thought ends "
                    "cannot be told; keep one"
                )
            thought, _, rest = response.partition(end)
            solution = rest.partition(BEGIN_SOLUTION)[2] or rest
            solution = solution.partition(END_SOLUTION)[0].strip()
            return thought.partition(begin)[2].strip() or thought.strip() or None, solution
        if begin in response:
            raise BadRow(
                f"{column} has {begin} but no {end}: thought and solution cannot be told apart; "
                "add the marker or remove the row"
            )
    return None, response.strip()


def _with_response(row: Row, question: Any, response: Any, column: str) -> dict[str, Any]:
    """A question whose solution, and perhaps trace, are in a response; its answer is boxed."""
    trace, solution = split_thought(text(response, column) or "", column)
    answer = row.get("answer")
    if answer is None and solution:
        answer = last_box(solution)
    if not solution and answer is None:
        raise Dropped("no answer and no solution")
    kept = {name: row.get(name) for name in ("question_id", "source", "system", "options", "tests")}
    return {
        **kept,
        "question": question,
        "answer": answer,
        "solution": solution or None,
        "trace": trace,
    }


# One format after the other ----------------------------------------------------------------------


def _conversations(row: Row) -> dict[str, Any]:
    return _dialogue(row, "conversations", "from", "value")


def _messages(row: Row) -> dict[str, Any]:
    return _dialogue(row, "messages", "role", "content")


def _dialogue(row: Row, column: str, who: str, what: str) -> dict[str, Any]:
    """One question and its response, after an optional system turn."""
    turns = row[column]
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and who in turn and what in turn for turn in turns
    ):
        raise BadRow(f"{column} must be a list of turns, each with {who} and {what}")
    system = [turn[what] for turn in turns if turn[who] == "system"]
    others = [turn for turn in turns if turn[who] != "system"]
    roles = [turn[who] for turn in others]
    if len(roles) != 2 or roles[0] not in _USERS or roles[1] not in _ASSISTANTS:
        raise BadRow(
            f"{column} must be one turn from user (or human) and one from assistant (or gpt), not "
            f"{', '.join(map(str, roles)) or 'none'}; keep one question and its response"
        )
    asked, said = others
    response, thought = said[what], said.get("reasoning_content")
    row = {**row, "system": row.get("system") or (system[0] if system else None)}
    converted = _with_response(row, asked[what], response, f"{column} (assistant)")
    if thought is not None and str(thought).strip():
        if converted["trace"] is not None:
            raise BadRow(
                f"{column} has a thought in reasoning_content and another in {what}; keep one"
            )
        converted["trace"] = text(thought, "reasoning_content")
    return converted


def _problem(row: Row) -> dict[str, Any]:
    """NuminaMath, OpenR1-Math and DeepScaleR.

    A generation of OpenR1-Math that was found correct is the trace with its solution.
    """
    answer, solution = text_or_none(row.get("answer")), text_or_none(row.get("solution"))
    known = None if answer is None or answer.lower() in _NO_ANSWER else answer
    kept = {"question_id": row.get("uuid"), "source": row.get("source"), "question": row["problem"]}
    generation = _best_generation(row)
    if generation is not None:
        converted = _with_response({**row, **kept, "answer": known}, row["problem"], *generation)
    else:
        boxed = last_box(solution) if solution and answer is None else None
        if known is None and not solution:
            raise Dropped("no answer and no solution")
        trace, solution = split_thought(solution, "solution") if solution else (None, None)
        result = known or boxed
        converted = {**kept, "answer": result, "solution": solution, "trace": trace}
    if converted["answer"] is None:
        converted["answer_kind"] = "none"
    elif row.get("question_type") == "MCQ" and re.fullmatch("[A-J]", str(converted["answer"])):
        converted["answer_kind"] = "choice"
    return converted


def _best_generation(row: Row) -> tuple[str, str] | None:
    """The first complete generation that was verified, and its column; None without one."""
    generations = row.get("generations")
    if not generations:
        return None
    complete = row.get("is_reasoning_complete") or [True] * len(generations)
    correct = row.get("correctness_math_verify") or [True] * len(generations)
    for index, generation in enumerate(generations):
        if complete[index] and correct[index] and generation.count("</think>") == 1:
            return generation, f"generations[{index}]"
    return None


def text_or_none(value: Any) -> str | None:
    """A text, or None for null and for an empty one."""
    return None if value is None or value == "" else text(value, "answer or solution")


def _is_gsm8k(row: Row) -> bool:
    answer = row.get("answer")
    return (
        "question" in row and isinstance(answer, str) and bool(re.search(r"^#### ", answer, re.M))
    )


def _gsm8k(row: Row) -> dict[str, Any]:
    """The worked solution without its calculator notes; `#### 72` becomes a box."""
    worked, _, answer = row["answer"].rpartition("#### ")
    worked, answer = _CALCULATION.sub("", worked).strip(), answer.strip()
    solution = f"{worked}\n\\boxed{{{answer}}}".strip()
    return {**{name: row.get(name) for name in COLUMNS}, "answer": answer, "solution": solution}


def _instruction(row: Row) -> dict[str, Any]:
    question = text(row["instruction"], "instruction") or ""
    if row.get("input") not in (None, ""):
        question += "\n\n" + str(text(row["input"], "input"))
    return _with_response(row, question, row["output"], "output")


def _ours(row: Row) -> dict[str, Any]:
    unknown = [column for column in row if column not in COLUMNS]
    if unknown:
        raise BadRow(
            f"unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}. Rename or remove it, "
            "or name the columns to use in questions.columns"
        )
    converted = {name: row.get(name) for name in COLUMNS}
    if converted["trace"] is None and isinstance(converted["solution"], str):
        trace, solution = split_thought(converted["solution"], "solution")
        if trace is not None:
            converted |= {"trace": trace, "solution": solution or None}
    return converted


def _has(*columns: str) -> Callable[[Row], bool]:
    return lambda row: all(row.get(column) is not None for column in columns)


FORMATS: Sequence[Format] = (
    Format(
        "NuminaMath, OpenR1-Math, DeepScaleR",
        "problem, answer, solution",
        _has("problem"),
        _problem,
    ),
    Format("conversations", "turns with from and value", _has("conversations"), _conversations),
    Format("messages", "turns with role and content", _has("messages"), _messages),
    Format("GSM8K", "question, answer ending in `#### 72`", _is_gsm8k, _gsm8k),
    Format(
        "instruction", "instruction, input, output", _has("instruction", "output"), _instruction
    ),
    Format("our columns", "question, and answer or solution", lambda row: "question" in row, _ours),
)
