"""Responses are split into their parts; the hint is the answer or the solution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import prompts
from stages.experiments.sources import Prompts
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


REASONING, CHAT = Prompts(), Prompts(template="chat")
NO_THOUGHT = Prompts(template="chat", thought=None)
MARKED = Prompts(template="chat", solution=("<answer>", "</answer>"))
BESPOKE = "Hm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n248\n\n<|end_of_solution|>"


@pytest.mark.parametrize(
    ("settings", "response", "text"),
    [
        (REASONING, BESPOKE, "\n\n248"),
        (REASONING, "the answer is 5, so I", ""),
        (CHAT, "It is 5?\n</think>\n\nThe answer is 248<|im_end|>", "\n\nThe answer is 248"),
        (CHAT, "It is \\boxed{5}? No", ""),
        (NO_THOUGHT, "The answer is 248</s>", "The answer is 248"),
        (NO_THOUGHT, "248<｜end▁of▁sentence｜>", "248"),
        (NO_THOUGHT, "248<|im_end|><|endoftext|>\n", "248"),
        (NO_THOUGHT, "x <y> 3", "x <y> 3"),
        (NO_THOUGHT, "the pair <3>", "the pair <3>"),
        (MARKED, "</think>\n<answer>\n248\n</answer><|im_end|>", "\n248"),
    ],
)
def test_a_verifier_is_given_the_solution_alone(
    settings: Prompts, response: str, text: str
) -> None:
    assert prompts.text_to_verify(response, settings, has_thought=True) == text


def test_an_answer_that_follows_a_trace_needs_no_thought() -> None:
    text = prompts.text_to_verify("\n\n248<|im_end|>", CHAT, has_thought=False)
    assert text == "\n\n248"
