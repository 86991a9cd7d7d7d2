"""What counts as a trace that leaks its hint."""

import pytest

from stages.weighting.leaks import leaks_hint


@pytest.mark.parametrize(
    ("trace", "answer", "leaks"),
    [
        ("As the Hint says, it is 12.", "7", True),
        ("No chintz, no hinting.", "7", False),
        ("The provided answer must be reached.", "7", True),
        ("We have given answers before.", "7", False),
        ("It is 12, clearly. " + "Let us see. " * 20, "12", True),
        ("It is 120, clearly. " + "Let us see. " * 20, "12", False),
        ("Let us see. " * 20 + "It is 12.", "12", False),
        ("It is x+1 (of course). " + "Let us see. " * 20, "x+1", True),
        ("Anything", " ", False),
    ],
)
def test_a_trace_leaks(trace: str, answer: str, leaks: bool) -> None:
    assert leaks_hint(trace, answer) is leaks
