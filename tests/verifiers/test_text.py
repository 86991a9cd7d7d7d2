"""Finding the final answer in a text."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

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
