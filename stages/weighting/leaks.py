"""Traces that give away that their writer saw the hint."""

import re

LEAK_WORDS = re.compile(r"\bhints?\b|\b(?:given|provided|reference) answer\b")
PARTS_OF_LEAK_WORDS = ("hint", "given answer", "provided answer", "reference answer")


def leaks_hint(trace: str, answer: str) -> bool:
    """Whether a trace mentions its hint, or states the answer in its first tenth.

    Parameters
    ----------
    trace : str
        Text of the trace.
    answer : str
        The reference answer. A blank one cannot be stated.
    """
    lower = trace.lower()
    # the pattern is several times slower than a substring search, and texts are long
    if any(part in lower for part in PARTS_OF_LEAK_WORDS) and LEAK_WORDS.search(lower):
        return True
    answer = answer.strip()
    opening = trace[: len(trace) // 10]
    if not answer or answer not in opening:
        return False
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", opening) is not None
