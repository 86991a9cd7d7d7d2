"""Rows of text are put together from their parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.prompts import TEMPLATES

TEXT = st.text(max_size=40).filter(lambda t: "<|" not in t)


def test_the_training_prompt_ends_where_the_thought_begins() -> None:
    prompt = "".join(TEMPLATES["reasoning"].question_prompt("Why?"))
    assert prompt.startswith("<|im_start|>system\nYour role as an assistant involves thoroughly")
    assert prompt.endswith("Why?<|im_end|>\n<|im_start|>assistant\n<|begin_of_thought|>\n\n")


@pytest.mark.parametrize(
    ("name", "variant", "text"),
    [
        ("reasoning", "A", "Why?\n\n<hint>42</hint><|im_end|>"),
        ("reasoning", "B", "Why?\n\n<hint>42</hint>\n\nThe hint holds the final result."),
        ("plain", "A", "<|im_start|>Why?<hint>42</hint><|begin_of_thought|>"),
        ("plain", "B", "<|im_start|><hint>42</hint>Why?<|begin_of_thought|>"),
    ],
)
def test_hint_templates(name: str, variant: str, text: str) -> None:
    assert text in "".join(TEMPLATES[name].hint_prompt("Why?", "42", variant))


@given(TEXT, TEXT, st.sampled_from(["A", "B"]), st.sampled_from(list(TEMPLATES)))
def test_braces_in_questions_and_hints_are_kept(
    question: str, hint: str, variant: str, name: str
) -> None:
    question, hint = question + "{hint}", hint + "{question}{user}"
    parts = TEMPLATES[name].hint_prompt(question, hint, variant)
    assert sorted(parts[1::2]) == sorted([question, hint])  # every second part is the user's
    assert question in "".join(parts)
    assert f"<hint>{hint}</hint>" in "".join(parts)


REASONING, PLAIN = TEMPLATES["reasoning"], TEMPLATES["plain"]


def test_a_solution_continues_after_what_a_trace_wrote_past_its_marker() -> None:
    after = REASONING.after_thought("so\n\n<|end_of_thought|>\n\n")
    whole, rest = "".join(REASONING.answer("4")), "".join(REASONING.answer("4", after))
    assert whole == "\n\n" + rest and rest.startswith("<|begin_of_solution|>")


@pytest.mark.parametrize(
    ("trace", "closed"),
    [
        ("so", False),
        ("so<|end_of_thought|>", True),
        ("so<|end_of_thought|>\n", True),
        ("so<|end_of_thought|> ", True),
        ("so<|end_of_thought|><", False),  # the token `><`: two line breaks should come first
        ("so<|end_of_thought|>.", False),
    ],
)
def test_a_trace_is_closed_where_its_solution_can_follow(trace: str, closed: bool) -> None:
    assert REASONING.is_closed(trace) is closed


def test_the_token_that_closes_a_thought_may_begin_the_solution() -> None:
    """Without a gap, the token `><` ends the thought and begins the solution's marker."""
    trace = "so<|end_of_thought|><"
    assert PLAIN.is_closed(trace)
    solution = "".join(PLAIN.answer("4", PLAIN.after_thought(trace)))
    assert trace + solution == "so<|end_of_thought|><|begin_of_solution|>4<|end_of_solution|>"
