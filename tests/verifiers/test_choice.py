"""Letters."""

import pytest

from stages.verifiers import check_reference, verify
from stages.verifiers.choice import LETTERS, extract, read_reference


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{C}. A quick check", "C"),
        (r"\boxed{A} no, \boxed{\text{B}}", "B"),
        (r"\boxed{\text{(D) } 5}", "D"),
        (r"\boxed{\textbf{(E)}\ 12}", "E"),
        (r"\boxed{c}", "C"),
        (r"\boxed{\text{B. Carbon}}", "B"),
        (r"\boxed{J}", "J"),
        (r"\boxed{\text{option F}}", "F"),
        ("The answer is (B).", "B"),
        ("**Answer: B**", "B"),
        ("The answer is $\\textbf{(E)}$", "E"),
        ("The correct answer is option B.", "B"),
        ("The answer is A because it is", "A"),
        ("the answer is (c)", "C"),
        ('The answer is "D".', "D"),
        ("Hence the correct option is `D`.", "D"),
        ("The answer is therefore D.", "D"),
        ("The answer is D'.", "D"),
        ("The answer is (a+b)/2", None),
        ("The answer is C-14 dating", None),
        ("The answer is B12", None),
        ("The answer is (B). No: the answer is (C).", "C"),
        (r"The answer is (B), that is \boxed{42}", "B"),
        ("The answer is I hope", None),
        ("I hope that A is it", None),
        ("The answer is not listed, but (A) is closest.", None),
        ("The answer is (B) and (C).", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{A \text{ or } B}", None),
        ("", None),
    ],
)
def test_the_letter_of_a_text(text, letter):
    assert extract(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{E = mc^2}. The answer is (C).", "C"),
        (r"$\boxed{\Delta A > 0}$ Answer: B", "B"),
        (r"\boxed{\text{Vitamin D}}", None),
        (r"\boxed{\text{not B}}", None),
        ("Answer: d", "D"),
        ("The answer is d", "D"),
        ("the answer is a number", None),
        ("Option: C", "C"),
        ("Final choice: C", "C"),
        ("Thus option D is correct.", "D"),
        ("Hence (B) is the correct answer.", "B"),
        ("The answer is not A but B.", "B"),
        ("The answer must be B.", "B"),
        ("The most accurate option is D.", "D"),
        ("ANSWER: AB", None),
        ("Neither A nor B is correct.", None),
    ],
)
def test_formulas_names_denials_and_wordings(text, letter):
    assert extract(text) == letter


def test_quantities_named_like_letters_are_values():
    assert extract(r"\boxed{A = 18}", ("12", "18")) == "B"
    assert extract(r"\boxed{Q = 5\ \text{C}}", ("5 C", "10 C")) == "A"
    assert extract(r"\boxed{7}", ("5 cm", "7 cm")) == "B"
    assert extract(r"\boxed{700\text{ cm}}", ("5 m", "7 m")) == "B"
    assert extract(r"\boxed{7\text{ kg}}", ("5 cm", "7 cm")) is None


def test_an_option_may_name_letters():
    options = ("lead", "tin", "zinc", "A and B")
    assert extract(r"\boxed{\text{D. A and B}}", options) == "D"


def test_a_box_may_hold_the_text_of_an_option():
    options = ("40", "41", r"$\frac{1}{2}$")
    assert extract(r"\boxed{41}", options) == "B"
    assert extract(r"\boxed{\dfrac12}", options) == "C"
    assert extract(r"\boxed{0.5}", options) == "C"
    assert extract(r"\boxed{5}", options) is None
    assert extract("The answer is 41.", options) == "B"
    assert extract("The answer is 42.", options) is None
    assert extract(r"\boxed{same}", ("same", "same")) is None


def test_letters_beyond_the_options_are_none():
    assert extract("The answer is (D)", ("a", "b", "c")) is None


def test_real_outputs_read_as_another_extractor_reads_them(rows):
    outputs = rows("verifier/choice_outputs")
    differ = []
    for row in outputs:
        options = tuple(f"option {i}" for i in range(row["n_options"]))
        if extract(row["answer"], options) != row["official_pred"]:
            differ.append(row)
    # The other extractor takes the first statement of several, the first of two letters, and
    # knows no "correct option is".
    assert len(differ) <= 14
    assert all(
        row["answer"].lower().count("answer") >= 2
        or " and (" in row["answer"]
        or "the correct option is (A)" in row["answer"]
        for row in differ
    )


def test_verdicts():
    assert verify(r"\boxed{B}", "B", "choice").verdict == "correct"
    assert verify(r"\boxed{B}", "C", "choice").verdict == "incorrect"
    assert verify("no idea", "C", "choice").verdict == "incorrect"


def test_references_are_letters_or_texts_of_options():
    assert read_reference("(B)") == "B"
    assert read_reference("iron", ("gold", "iron")) == "B"
    assert check_reference("K", "choice") is not None
    assert check_reference("C", "choice", options=("x", "y")) is not None
    assert check_reference(None, "choice") is not None
    assert check_reference("A", "choice", options=("x",) * (len(LETTERS) + 1)) is not None
