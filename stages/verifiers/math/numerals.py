"""Numbers in words."""

from stages.verifiers.patterns import pattern

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_TEXT = pattern(r"(?:\\text\s*\{)?([A-Za-z ,-]{3,120})\}?")


def read(text: str) -> int | None:
    """The number that a text is as a whole (``Twenty-one``, ``two hundred and five``), or None."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    total = group = 0
    words = match.group(1).lower().replace("-", " ").replace(",", " ").split()
    if not any(word in _SMALL for word in words):
        return None
    for word in words:
        if word in _SMALL:
            group += _SMALL[word]
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _LARGE:
            total, group = total + max(group, 1) * _LARGE[word], 0
        elif word != "and":
            return None
    return total + group
