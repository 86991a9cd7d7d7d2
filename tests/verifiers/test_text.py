"""Finding the final answer in a text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.verifiers import verify
from stages.verifiers.text import last_box, solution_section, stated_answer


def test_only_the_solution_is_read():
    text = (
        r"I guess \boxed{1} <|end_of_thought|> no <|begin_of_solution|> so \boxed{2}"
        r" <|end_of_solution|> \boxed{3}"
    )
    assert solution_section(text).strip() == r"so \boxed{2}"


def test_a_text_without_markers_is_a_solution():
    assert solution_section(r"\boxed{2}") == r"\boxed{2}"


def test_a_solution_that_was_cut_off_is_read_to_its_end():
    assert solution_section(r"<|begin_of_solution|>so \boxed{2}") == r"so \boxed{2}"


def test_the_last_balanced_box_counts():
    assert last_box(r"\boxed{4} wait, \boxed{5}") == "5"
    assert last_box(r"\boxed{5}, or \boxed{4") == "5"
    assert last_box(r"\boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert last_box(r"\fbox{3}") == "3"
    assert last_box(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"


def test_a_box_needs_no_braces():
    assert last_box(r"so $\boxed 5$.") == "5"


def test_no_box_is_no_box():
    assert last_box("the answer is 5") is None
    assert last_box(r"\boxed{") is None


def test_a_box_that_is_only_mentioned_is_passed_over():
    for mention in (r"in \boxed{} form", r"(format: \boxed{answer})", r"in a \boxed command"):
        assert last_box(rf"we get \boxed{{17}}, {mention}") == "17"


@pytest.mark.parametrize(
    "token",
    ["<|im_end|>", "</s>", "<|endoftext|>", "<end_of_turn>", "<|eot_id|>", "<｜end▁of▁sentence｜>"],
)
def test_special_tokens_never_reach_a_verdict(token):
    assert verify(f"The answer is 248{token}", "248", "math").verdict == "correct"
    assert verify(f"<s>The answer is 248{token}\n<|im_start|>7", "248", "math").extracted == "248"


def test_a_thought_that_the_text_opens_and_never_closes_has_no_answer():
    text = r"<|begin_of_thought|> maybe \boxed{42}"
    assert verify(text, "42", "math").verdict == "incorrect"
    assert verify(r"\boxed{42}", "42", "math").verdict == "correct"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 248", "248"),
        ("so 3\n#### 1,234", "1234"),
        ("**Final Answer**\n\n81", "81"),
        ("## Answer\n\n$81$", "81"),
        ("Final Answer: **64**", "64"),
        ("The answer is 96 apples, in all.", "96"),
        ("The answer is 1/4, or 25%.", "0.25"),
        ("That makes **64 apples** in all.", "64"),
        ("Hence\n$$x = 5$$", "5"),
        (r"Hence \[x = 5\]", "5"),
        ("The final answer is:\n\n$$12$$", "12"),
    ],
)
def test_what_counts_without_a_box(text, answer):
    assert verify(text, answer, "math").verdict == "correct"
    assert verify(text, answer + "7", "math").verdict == "incorrect"


def test_a_stated_answer_ends_with_its_sentence():
    assert stated_answer("The answer is 1 1/4.") == "1 1/4"
    assert stated_answer("Answer: 12.5. Check: 3") == "12.5"
    assert stated_answer("thus we get 5") is None


@settings(deadline=None)
@given(st.text(st.sampled_from("\\boxed{}fbox ab5"), max_size=200))
def test_any_text_has_a_box_or_none(text):
    box = last_box(text)
    assert box is None or box in text


def test_hostile_texts_take_linear_time():
    began = time.process_time()
    for piece in ("\\boxed{", "\\boxed", "{", "answer is ", "answer is: ", "Answer", "}"):
        last_box(piece * 100_000)
        stated_answer(piece * 100_000)
    assert time.process_time() - began < 10  # quadratic time would be hours
