"""Rows of text are put together from their parts, and taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import prompts
from stages.prompts import TEMPLATES

TEXT = st.text(max_size=40).filter(lambda t: "<|" not in t)


def test_the_training_prompt_ends_where_the_thought_begins() -> None:
    prompt = TEMPLATES["reasoning"].question_prompt("Why?")
    assert prompt.startswith("<|im_start|>system\nYour role as an assistant involves thoroughly")
    assert prompt.endswith("Why?<|im_end|>\n<|im_start|>assistant\n<|begin_of_thought|>\n\n")


@pytest.mark.parametrize(
    ("name", "variant", "wanted"),
    [
        ("reasoning", "A", "Why?\n\n<hint>42</hint><|im_end|>"),
        ("reasoning", "B", "Why?\n\n<hint>42</hint>\n\nThe hint holds the final result."),
        ("plain", "A", "<|im_start|>Why?<hint>42</hint><|begin_of_thought|>"),
        ("plain", "B", "<|im_start|><hint>42</hint>Why?<|begin_of_thought|>"),
    ],
)
def test_hint_templates(name: str, variant: str, wanted: str) -> None:
    assert wanted in TEMPLATES[name].hint_prompt("Why?", "42", variant)


@given(TEXT, TEXT, st.sampled_from(["A", "B"]), st.sampled_from(list(TEMPLATES)))
def test_braces_in_questions_and_hints_stay_as_they_are(
    question: str, hint: str, variant: str, name: str
) -> None:
    question, hint = question + "{hint}", hint + "{question}{user}"
    prompt = TEMPLATES[name].hint_prompt(question, hint, variant)
    assert question in prompt
    assert f"<hint>{hint}</hint>" in prompt


@given(TEXT.map(str.strip), TEXT.map(str.strip), st.sampled_from(list(TEMPLATES)))
def test_a_response_splits_into_its_parts(trace: str, solution: str, name: str) -> None:
    template = TEMPLATES[name]
    response = template.trace(trace) + template.solution(solution)
    assert prompts.split_response(response) == (trace, solution)
    assert prompts.split_response(prompts.BEGIN_THOUGHT + response)[1] == solution


def test_an_open_response_has_no_solution() -> None:
    assert prompts.split_response("<|begin_of_thought|>\n\nhm") == ("hm", None)


def test_a_solution_goes_on_after_what_a_trace_wrote_past_its_marker() -> None:
    trace = "so\n\n<|end_of_thought|>\n\n"
    whole = TEMPLATES["reasoning"].solution("4")
    rest = TEMPLATES["reasoning"].solution("4", prompts.after_thought(trace))
    assert whole == "\n\n" + rest and rest.startswith("<|begin_of_solution|>")


@pytest.mark.parametrize(
    ("question", "hint", "wanted"),
    [
        ({"answer": "4", "solution": "It is 4.", "answer_kind": "math"}, "answer", "4"),
        ({"answer": "4", "solution": "It is 4.", "answer_kind": "math"}, "solution", "It is 4."),
        ({"answer": "4", "solution": None, "answer_kind": "math"}, "solution", r"\boxed{4}"),
        ({"answer": "B", "solution": None, "answer_kind": "choice"}, "solution", r"\boxed{B}"),
        ({"answer": None, "solution": "Why not.", "answer_kind": "none"}, "answer", "Why not."),
    ],
)
def test_the_hint_is_the_answer_or_the_solution(question: dict, hint: str, wanted: str) -> None:
    assert prompts.hint_of(question, hint) == wanted
