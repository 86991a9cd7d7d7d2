"""What a program printed or returned, compared with what is expected."""

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

from stages.verifiers.code.inside import messages
from stages.verifiers.code.programs import Accepted

RELATIVE_TOLERANCE = 1e-6


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
    """A token of a program's output as a number, or None."""
    if "_" in token or not token.isascii():
        return None
    try:
        return Decimal(token)
    except InvalidOperation:
        return None


def same_result(result: Any, accepted: Accepted) -> bool:
    """Whether a result, as the sandbox sent it, is one of those that are accepted."""
    try:
        returned = _as_json(messages.unpack(result))
        return any(same_value(returned, value) for value in accepted.results)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False


def _as_json(value: Any) -> Any:
    """A result as JSON would have it: lists for all collections, texts for keys."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else json.dumps(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_as_json, value), key=_sorting_key)
    if isinstance(value, range):
        return list(value[: messages.MAX_ITEMS])
    if isinstance(value, list | tuple) or hasattr(value, "__next__"):
        return [_as_json(item) for item in value]
    return value


def _sorting_key(value: Any) -> tuple[str, Any]:
    return ("", value) if isinstance(value, int | float) else (type(value).__name__, value)


def same_value(returned: Any, expected: Any) -> bool:
    """Whether a result equals the expected one: as JSON has them, decimals to six digits."""
    if isinstance(returned, dict) and isinstance(expected, dict):
        return returned.keys() == expected.keys() and all(
            same_value(returned[key], expected[key]) for key in expected
        )
    if isinstance(returned, list) and isinstance(expected, list):
        return len(returned) == len(expected) and all(map(same_value, returned, expected))
    if isinstance(returned, int | float) and isinstance(expected, float):
        return math.isclose(
            returned, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE
        )
    if type(returned) is float and type(expected) is int:
        return returned == expected
    return type(returned) is type(expected) and bool(returned == expected)
