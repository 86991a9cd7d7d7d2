"""What a program printed or returned, compared with what is expected."""

import pytest

from stages.verifiers.code import programs
from stages.verifiers.code.inside import messages
from stages.verifiers.code.results import same_output, same_result, same_value


def test_outputs_are_compared_by_line_and_numbers_by_value():
    assert same_output("3 \n4\n\n", "3\n4")
    assert same_output("1.0 2e0", "1 2")
    assert not same_output("3 4", "3\n4")
    assert not same_output("0.3333333", "0.333333")
    assert not same_output("nan", "1")
    assert not same_output("1_000", "1000")
    assert not same_output("３", "3")
    assert not same_output("", "0")


@pytest.mark.parametrize(("one", "other"), [("110", "00110"), ("0", "000"), ("-07", "-7")])
def test_digits_with_leading_zeros_are_text(one, other):
    assert not same_output(one, other)
    assert not same_output(other, one)
    assert same_output("0.50", "0.5")


def test_ranges_are_compared_but_never_listed():
    huge = messages.pack([range(10**12)] * 300)
    assert not same_result(huge, programs.Accepted(([[1]] * 300,)))
    assert same_result(messages.pack(range(3)), programs.Accepted(([0, 1, 2],)))


def test_results_are_compared_by_type_and_decimals_to_six_digits():
    assert same_value([1, [2.0000001]], [1, [2.0]])
    assert same_value({"a": 1}, {"a": 1})
    assert same_value(2.0, 2)
    assert not same_value(True, 1)
    assert not same_value("1", 1)
    assert not same_value([1], [1, 2])
    assert not same_value(2.1, 2)
