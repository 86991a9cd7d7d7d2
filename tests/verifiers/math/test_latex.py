"""Spellings, numbers, units and lists that need no computer algebra."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.verifiers.math import compare, latex, quantities, units


def number(text: str) -> quantities.Quantity | None:
    return quantities.read_number(compare.candidate(text).core)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-12", -12),
        ("−12", -12),
        ("+5", 5),
        ("12.50", Fraction(25, 2)),
        (".5", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)),
        (r"\frac12", Fraction(1, 2)),
        (r"\dfrac1{2}", Fraction(1, 2)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"2\frac{1}{2}", Fraction(5, 2)),
        ("1 1/4", Fraction(5, 4)),
        ("11/4", Fraction(11, 4)),
        (r"1.5\times 10^{3}", 1500),
        ("1.5e3", 1500),
        ("10^{-2}", Fraction(1, 100)),
        (r"10\,000", 10_000),
        ("10{,}000", 10_000),
        ("1,234,567", 1_234_567),
        (r"\$18.00", 18),
        (r"$3$", 3),
        ("((3))", 3),
        (r"\left(3\right)", 3),
        (r"\color{red}{3}", 3),
        (r"\textcolor{blue}{3}", 3),
        (r"\underline{\mathbf{3}}", 3),
        (r"\large 3", 3),
        (r"\hspace{1cm}3\\", 3),
        (r"\text{Answer: }3", 3),
        (r"3^{\text{rd}}", 3),
        (r"70\text{th}", 70),
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"-0.1\overline{6}", Fraction(-1, 6)),
        (r"6.\bar{2}", Fraction(56, 9)),
        ("1 million", 1_000_000),
        (r"2.5\text{ billion}", 2_500_000_000),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert number(text).value == value


@pytest.mark.parametrize(
    "text", ["1,3", "(1,234)", "x", "1/0", "10^{5000}", "1e99999", "", "1.2.3", "--1", "٣"]
)
def test_what_is_not_plainly_a_number_is_none(text):
    assert number(text) is None


@settings(deadline=None)
@given(st.integers(-(10**30), 10**30))
def test_an_integer_is_itself_however_it_is_spelled(value):
    for spelled in (f"{value}", f"{value:,}", f"{value:,}".replace(",", r"\,"), f"{value}.0"):
        assert number(spelled).value == value


@settings(deadline=None)
@given(st.fractions(max_denominator=10**6))
def test_a_fraction_is_itself_however_it_is_spelled(value):
    top, bottom = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    for spelled in (f"{sign}{top}/{bottom}", rf"{sign}\frac{{{top}}}{{{bottom}}}"):
        assert number(spelled).value == value


@settings(deadline=None)
@given(st.text(max_size=200))
def test_cleaning_twice_changes_no_number(text):
    once = latex.clean(text)
    assert quantities.read_number(latex.clean(once)) == quantities.read_number(once)


def same(gold: str, answer: str) -> bool:
    return quantities.same_number(number(gold), number(answer))


def test_decimals_are_equal_exactly_or_correctly_rounded_to_six_places():
    assert same("27.0", "27")
    assert not same("27.0", "27.0000001")
    assert not same("0", "0.0000001")
    assert same("1/3", "0.333333")
    assert not same("1/3", "0.333334")
    assert not same("1/3", "0.333")
    assert not same("1/3000000", "0.000000")


def test_the_noise_of_a_float_is_no_difference():
    assert same("0.3", "0.30000000000000004")
    assert not same("123456789012345678901234567890", "123456789012345678901234567891")


def test_percentages_are_interchangeable():
    assert same("0.5", r"50\%")
    assert same(r"50\%", "50")
    assert same(r"50\%", "0.5")
    assert not same(r"50\%", r"0.5\%")


@pytest.mark.parametrize(
    ("text", "core", "known"),
    [
        ("10 cm", "10", True),
        (r"10\text{ cm}^2", "10", True),
        (r"10 \mathrm{km/h}", "10", True),
        ("5 red apples", "5", True),
        ("10 m", "10", True),
        (r"3\sqrt{2} \text{ miles per hour}", r"3\sqrt{2}", True),
        (r"9.8\,\frac{\text{m}}{\text{s}^2}", "9.8", True),
        (r"9.8\ \mathrm{m\,s^{-2}}", "9.8", True),
        (r"\text{15 apples}", "15", True),
        (r"8:00\text{ a.m.}", "8:00", True),
        ("2s", "2s", False),
        ("3x", "3x", False),
        ("10 x", "10 x", False),
        ("xyz", "xyz", False),
    ],
)
def test_units_are_split_off_and_variables_are_not(text, core, known):
    result, unit = units.split_unit(latex.clean(text))
    assert (result, unit is not None) == (core, known)


def test_lists_forget_their_order_and_tuples_do_not():
    def same_list(one, other):
        return quantities.same_structure(
            quantities.read_structure(one), quantities.read_structure(other)
        )

    assert same_list("1, 2, 3", "3, 2, 1")
    assert same_list(r"\{1, 2, 2\}", r"\{2, 1\}")
    assert not same_list("1, 1, 2", "1, 2")
    assert not same_list("(1, 2)", "(2, 1)")
    assert not same_list("[0, 1)", "(0, 1]")
    assert same_list("(1, 2), (3, 4)", "(3, 4), (1, 2)")
    assert not same_list("(1, 2), (3, 4)", "(1, 4), (3, 2)")
