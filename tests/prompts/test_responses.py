"""Responses are split into their parts; the hint is the answer or the solution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import prompts
from stages.prompts import TEMPLATES

TEXT = st.text(max_size=40).filter(lambda t: "<|" not in t)


@given(TEXT.map(str.strip), TEXT.map(str.strip), st.sampled_from(list(TEMPLATES)))
def test_a_response_splits_into_its_parts(trace: str, solution: str, name: str) -> None:
    template = TEMPLATES[name]
    response = "".join((*template.trace(trace), *template.answer(solution)))
    assert prompts.split_response(response) == (trace, solution)
    assert prompts.split_response(prompts.BEGIN_THOUGHT + response)[1] == solution


def test_an_open_response_has_no_solution() -> None:
    assert prompts.split_response("<|begin_of_thought|>\n\nhm") == ("hm", None)


@pytest.mark.parametrize(
    ("question", "hint", "text"),
    [
        ({"answer": "4", "solution": "It is 4.", "answer_kind": "math"}, "answer", "4"),
        ({"answer": "4", "solution": "It is 4.", "answer_kind": "math"}, "solution", "It is 4."),
        ({"answer": "4", "solution": None, "answer_kind": "math"}, "solution", r"\boxed{4}"),
        ({"answer": "B", "solution": None, "answer_kind": "choice"}, "solution", r"\boxed{B}"),
        ({"answer": None, "solution": "Why not.", "answer_kind": "none"}, "answer", "Why not."),
    ],
)
def test_the_hint_is_the_answer_or_the_solution(question: dict, hint: str, text: str) -> None:
    assert prompts.hint_of(question, hint) == text
