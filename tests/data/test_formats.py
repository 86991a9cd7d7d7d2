"""Every source format, on a row in each dataset's own shape."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from stages.data import formats
from stages.data.checks import COLUMNS, BadRow
from stages.experiments.sources import QuestionColumn

STRATOS = (
    "<|begin_of_thought|>\n\nTwo and two.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{4}.\n\n<|end_of_solution|>"
)
THINK = "<think>\nTwo and two.\n</think>\n\nIt is \\boxed{4}."
NUMINA = {"problem": "2+2?", "solution": "It is $\\boxed{4}$.", "source": "amc_aime"}
TRACED = {"question": "2+2?", "answer": "4"}
TRACED |= {"trace": "Two and two.", "solution": "It is \\boxed{4}."}


def turns(who: str, what: str, *said: tuple[str, str]) -> list[dict[str, str]]:
    return [{who: speaker, what: text} for speaker, text in said]


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Bespoke-Stratos": (
        {
            "system": "Think first.",
            "conversations": turns("from", "value", ("user", "2+2?"), ("assistant", STRATOS)),
        },
        {**TRACED, "system": "Think first."},
    ),
    "ShareGPT": (
        {
            "conversations": turns(
                "from", "value", ("system", "Be brief."), ("human", "2+2?"), ("gpt", THINK)
            )
        },
        {**TRACED, "system": "Be brief."},
    ),
    "OpenThoughts messages": (
        {"messages": turns("role", "content", ("user", "2+2?"), ("assistant", THINK))},
        TRACED,
    ),
    "messages with reasoning_content": (
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {
                    "role": "assistant",
                    "content": "It is \\boxed{4}.",
                    "reasoning_content": "Two and two.",
                },
            ]
        },
        TRACED,
    ),
    "NuminaMath-CoT": (
        {**NUMINA, "messages": turns("role", "content", ("user", "2+2?"), ("assistant", "4"))},
        {"question": "2+2?", "answer": "4", "trace": None, "source": "amc_aime"},
    ),
    "NuminaMath-1.5 proof": (
        {**NUMINA, "answer": "proof", "question_type": "proof", "solution": "Clear."},
        {"answer": None, "answer_kind": "none", "solution": "Clear."},
    ),
    "NuminaMath-1.5 multiple choice": (
        {**NUMINA, "answer": "B", "question_type": "MCQ"},
        {"answer": "B", "answer_kind": "choice"},
    ),
    "OpenR1-Math": (
        {
            **NUMINA,
            "answer": "4",
            "uuid": "u1",
            "generations": ["<think>\nFive?", THINK.replace("4", "5"), THINK],
            "is_reasoning_complete": [False, True, True],
            "correctness_math_verify": [True, False, True],
        },
        {**TRACED, "question_id": "u1"},
    ),
    "OpenR1-Math without a correct generation": (
        {**NUMINA, "answer": "4", "generations": ["<think>\nFive?"]},
        {"answer": "4", "trace": None, "solution": NUMINA["solution"]},
    ),
    "DeepScaleR": (
        {"problem": "2+2?", "answer": "4", "solution": ""},
        {"question": "2+2?", "answer": "4", "solution": None},
    ),
    "GSM8K": (
        {"question": "2+2?", "answer": "Two and two are <<2+2=4>>4.\n#### 4"},
        {"answer": "4", "solution": "Two and two are 4.\n\\boxed{4}", "trace": None},
    ),
    "Alpaca": (
        {"instruction": "Add.", "input": "2+2", "output": "It is \\boxed{4}."},
        {"question": "Add.\n\n2+2", "answer": "4", "trace": None},
    ),
    "Alpaca without input": (
        {"instruction": "2+2?", "input": "", "output": THINK},
        TRACED,
    ),
    "our columns": (TRACED, TRACED),
    "our columns with an index of pandas": (
        {**TRACED, "__index_level_0__": 3, "Unnamed: 0": 3},
        TRACED,
    ),
    "our columns with the thought in the solution": (
        {"question": "2+2?", "answer": "4", "solution": STRATOS},
        TRACED,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_become_questions(name: str) -> None:
    row, expected = ROWS[name]
    converted = formats.convert(row)
    assert {column: converted.get(column) for column in expected} == expected
    assert set(converted) <= set(COLUMNS)


def test_other_columns_are_mapped() -> None:
    row = {"prompt": "2+2?", "target": 4, "difficulty": 1}
    converted = formats.convert(row, {"question": "prompt", "answer": "target"})
    assert (converted["question"], converted["answer"]) == ("2+2?", 4)
    with pytest.raises(BadRow, match=r"column 'target' of questions\.columns is missing"):
        formats.convert({"q": 1}, {"answer": "target"})


def test_a_mapped_column_may_be_in_the_form_of_gsm8k() -> None:
    row = {"prompt": "2+2?", "target": "Four.\n#### 4"}
    assert formats.convert(row, {"question": "prompt", "answer": "target"})["answer"] == "4"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 2], "a row must be an object of columns and values"),
        ({"prompt": "q"}, r"columns prompt fit no format; .*\{question: prompt\}"),
        ({"question": "q", "anwser": "6"}, "unknown column 'anwser'; known are question_id"),
        ({"conversations": "q"}, "must be a list of turns, each with from and value"),
        (
            {"messages": turns("role", "content", ("user", "a"))},
            "one turn from user .* not user; keep one question",
        ),
        (
            {"messages": turns("role", "content", *[("user", "a"), ("assistant", "b")] * 2)},
            "not user, assistant, user, assistant",
        ),
        (
            {"instruction": "q", "output": "<think>hm"},
            "output has <think> but no </think>: thought and solution cannot be told apart",
        ),
        ({"instruction": "q", "output": "a</think>b</think>c"}, "2 </think> markers"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(row: Any, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        formats.convert(row)


def test_a_row_without_answer_and_solution_is_dropped() -> None:
    with pytest.raises(formats.Dropped, match="no answer and no solution"):
        formats.convert({"problem": "2+2?", "answer": "notfound", "solution": ""})


def test_settings_name_the_columns_of_the_table() -> None:
    assert get_args(QuestionColumn) == COLUMNS


def test_the_documented_examples_are_read() -> None:
    """Each JSON block of docs/data.md is a row of the format under whose heading it is."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    examples = re.findall(r"^### (.+?)\n.*?```json\n(.*?)\n```", page, re.M | re.S)
    names = [next(f.name for f in formats.FORMATS if f.detects(json.loads(t))) for _, t in examples]
    assert names == [heading for heading, _ in examples]
    assert set(names) == {f.name for f in formats.FORMATS}
    for _, example in examples:
        assert formats.convert(json.loads(example))["question"]
