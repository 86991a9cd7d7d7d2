"""What a program printed or returned, compared with what is expected."""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from stages.verifiers.code.inside import messages
from stages.verifiers.code.programs import Accepted

RELATIVE_TOLERANCE = 1e-6
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree: line by line without outer blanks, numbers by value.

    As LiveCodeBench compares (arXiv 2403.07974).
    """
    lines, wanted = (text.strip().split("\n") for text in (printed, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _same_line(line: str, wanted: str) -> bool:
    line, wanted = line.strip(), wanted.strip()
    if line == wanted:
        return True
    found, expected = line.split(), wanted.split()
    return len(found) == len(expected) and all(map(_same_token, found, expected))


def _same_token(token: str, wanted: str) -> bool:
    if token == wanted:
        return True
    if len(token) > 4096 or (number := as_decimal(token)) is None:
        return False
    expected = as_decimal(wanted)
    return expected is not None and not number.is_nan() and number == expected


def as_decimal(token: str) -> Decimal | None:
    """A token as a number, or None; one with leading zeros is a code, a bit string, a text."""
    if "_" in token or not token.isascii() or _LEADING_ZERO.match(token):
        return None
    try:
        return Decimal(token)
    except InvalidOperation:
        return None


def same_result(result: Any, accepted: Accepted) -> bool:
    """Whether a result, as the sandbox sent it, is one of those that are accepted."""
    try:
        return any(same_value(messages.unpack(result), value) for value in accepted.results)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False


def same_value(returned: Any, expected: Any) -> bool:
    """Whether a result equals the expected one: as JSON has them, decimals to six digits.

    Collections are walked side by side, never copied: a range may be small and yet hold millions.
    """
    if isinstance(expected, dict):
        return _same_mapping(returned, expected)
    if isinstance(expected, list):
        items = _ordered(returned)
        return (
            items is not None
            and len(items) == len(expected)
            and all(map(same_value, items, expected))
        )
    if isinstance(returned, int | float) and isinstance(expected, float):
        return math.isclose(
            returned, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE
        )
    if type(returned) is float and type(expected) is int:
        return returned == expected
    return type(returned) is type(expected) and bool(returned == expected)


def _same_mapping(returned: Any, expected: dict[str, Any]) -> bool:
    if not isinstance(returned, dict) or len(returned) != len(expected):
        return False
    named = {k if isinstance(k, str) else json.dumps(k): value for k, value in returned.items()}
    return named.keys() == expected.keys() and all(
        same_value(named[key], value) for key, value in expected.items()
    )


def _ordered(value: Any) -> Sequence[Any] | None:
    """A collection as JSON would have it, a list; None for anything else."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=_sorting_key)
    if hasattr(value, "__next__"):
        return list(value)
    return value if isinstance(value, list | tuple | range) else None


def _sorting_key(value: Any) -> tuple[str, Any]:
    if isinstance(value, frozenset | tuple):
        return "list", [_sorting_key(item) for item in _ordered(value) or ()]
    return ("", value) if isinstance(value, int | float) else (type(value).__name__, value)
