r"""Numbers, and lists, tuples, intervals and sets of numbers, read from cleaned answers.

Exact arithmetic without a computer algebra system: it settles most answers in microseconds.
Whatever is not plainly a number or a list of numbers is left to `symbolic`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stages.verifiers.math.latex import split_list

_DECIMAL = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_PLAIN = re.compile(rf"(-)?\s*({_DECIMAL})\s*(%)?")
_FRACTION = re.compile(
    r"(-)?\s*(?:([0-9]+)\s*)?"
    rf"(?:\\frac\s*\{{\s*(-)?\s*({_DECIMAL})\s*\}}\s*\{{\s*({_DECIMAL})\s*\}})\s*(%)?"
)
_SLASHED = re.compile(rf"(-)?\s*(?:([0-9]+) )?({_DECIMAL})\s*/\s*({_DECIMAL})\s*(%)?")
_POWER_OF_TEN = re.compile(
    rf"(-)?\s*(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*\^\s*(?:\{{\s*([+-]?[0-9]{{1,4}})\s*\}}|([0-9]))"
)
MAX_DIGITS = 256
MAX_EXPONENT = 1000


@dataclass(frozen=True)
class Quantity:
    """A number as it was written: its exact value, decimal places, significant digits, percent.

    `places` is None for what was written as an integer or a fraction.
    """

    value: Fraction
    places: int | None = None
    digits: int = 0
    percent: bool = False


@lru_cache(maxsize=65536)
def read_number(text: str) -> Quantity | None:
    """Read a cleaned answer as one number; None if it is anything else, or far too long."""
    if len(text) > 2 * MAX_DIGITS:
        return None
    if match := _PLAIN.fullmatch(text):
        sign, number, percent = match.groups()
        return _quantity(sign, number, percent)
    if match := _FRACTION.fullmatch(text):
        sign, whole, inner_sign, above, below, percent = match.groups()
        if whole and inner_sign:
            return None
        sign = None if (sign and inner_sign) else (sign or inner_sign)
    elif match := _SLASHED.fullmatch(text):
        sign, whole, above, below, percent = match.groups()
    elif match := _POWER_OF_TEN.fullmatch(text):
        sign, number, exponent, digit = match.groups()
        power = int(exponent or digit)
        if abs(power) > MAX_EXPONENT:
            return None
        value = Fraction(number or 1) * Fraction(10) ** power
        return Quantity(-value if sign else value)
    else:
        return None
    bottom = Fraction(below)
    if bottom == 0:
        return None
    value = int(whole or 0) + Fraction(above) / bottom
    return Quantity(-value if sign else value, percent=bool(percent))


def _quantity(sign: str | None, number: str, percent: str | None) -> Quantity:
    value = Fraction(number if number != "." else 0)
    point = number.find(".")
    places = None if point < 0 else len(number) - point - 1
    digits = len(number.replace(".", "").lstrip("0"))
    return Quantity(-value if sign else value, places, digits, bool(percent))


def same_number(gold: Quantity, answer: Quantity, tolerance: Fraction | None = None) -> bool:
    """Whether two numbers are the same answer.

    Exactly equal; or within `tolerance` if there is one; or one is the other correctly rounded to
    six or more places, as 0.333333 is of 1/3; or they differ by no more than a float's noise.
    A percentage equals its number or a hundredth of it (50 = 50 % = 0.5).
    """
    if gold.percent == answer.percent:
        return _close(gold, answer, tolerance)
    percent, other = (gold, answer) if gold.percent else (answer, gold)
    hundredth = Quantity(percent.value / 100, _more(percent.places, 2), percent.digits)
    return _close(hundredth, other, tolerance) or _close(percent, other, tolerance)


def _more(places: int | None, by: int) -> int | None:
    return None if places is None else places + by


def _close(one: Quantity, other: Quantity, tolerance: Fraction | None) -> bool:
    difference = abs(one.value - other.value)
    if difference == 0:
        return True
    if tolerance is not None and difference <= tolerance:
        return True
    largest = max(abs(one.value), abs(other.value))
    noisy = any(q.places and q.digits >= 15 for q in (one, other))
    if noisy and difference <= largest / 10**12:
        return True
    return _is_rounded(one, other) or _is_rounded(other, one)


def _is_rounded(rounded: Quantity, exact: Quantity) -> bool:
    if rounded.places is None or rounded.places < 6 or rounded.digits < 3:
        return False
    if exact.places is not None and exact.places <= rounded.places:
        return False
    return _terminates_later(exact.value, rounded.places) and (
        abs(exact.value - rounded.value) * 2 * 10**rounded.places <= 1
    )


def _terminates_later(value: Fraction, places: int) -> bool:
    """Whether a number needs more decimal places than these, so that rounding it makes sense."""
    return (value * 10**places).denominator != 1


# Lists --------------------------------------------------------------------------------------------

Structure = Quantity | tuple[str, tuple["Structure", ...]]


def read_structure(cleaned: str, depth: int = 0) -> Structure | None:
    r"""Read numbers, tuples, intervals, sets and bare lists of numbers; None for anything else.

    A tuple or an interval is ``("()", items)`` with its brackets, a set or a bare list
    ``("", items)``. The latter's items are sorted, for their order means nothing, and sets rid of
    duplicates; a set of one is its element.
    """
    number = read_number(cleaned)
    if number is not None or depth > 4:
        return number
    parts = split_list(cleaned)
    brackets = ""
    if len(parts) == 1:
        for opening, closing in (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")):
            if cleaned.startswith(opening) and cleaned.endswith(closing):
                brackets = opening + closing
                parts = split_list(cleaned[len(opening) : -len(closing)])
                break
        else:
            return None
    structures = [read_structure(part, depth + 1) for part in parts]
    items = tuple(item for item in structures if item is not None)
    if len(items) < len(structures):
        return None
    if brackets in ("", "\\{\\}"):
        items = tuple(sorted(items, key=_order))
    if brackets == "\\{\\}":
        items = tuple({_order(item): item for item in items}.values())
        return items[0] if len(items) == 1 else ("", items)
    return brackets, items


def _order(item: Structure) -> tuple:
    if isinstance(item, Quantity):
        return (0, item.value)
    return (1, item[0], len(item[1]), tuple(_order(i) for i in item[1]))


def same_structure(gold: Structure, answer: Structure, tolerance: Fraction | None = None) -> bool:
    """Whether two structures have the same brackets and the same numbers."""
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return same_number(gold, answer, tolerance)
    if isinstance(gold, Quantity) or isinstance(answer, Quantity):
        return False
    return (
        gold[0] == answer[0]
        and len(gold[1]) == len(answer[1])
        and all(same_structure(g, a, tolerance) for g, a in zip(gold[1], answer[1], strict=True))
    )


def is_number_list(structure: Structure) -> bool:
    """Whether a structure is a number, or a bare list or set of numbers."""
    return isinstance(structure, Quantity) or (
        structure[0] == "" and all(isinstance(i, Quantity) for i in structure[1])
    )
