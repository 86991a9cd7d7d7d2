r"""Mathematical answers: the last box of the solution, compared with the reference.

An answer passes three stages: equal spelling, numbers and lists of numbers (`latex`), and only
then computer algebra (`symbolic`, in a worker). The first two settle most answers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from stages.verifiers.math import latex, numerals, quantities, units
from stages.verifiers.patterns import encodable, pattern
from stages.verifiers.text import emphasized_value, is_nested_deeper, last_box, stated_answer

MAX_TEXT = 16384
MAX_CANDIDATE = 4096
MAX_NESTING = 64
MAX_DIGIT_RUN = 256
MAX_FACTORIAL = 10_000
MAX_BINOMIAL = 100_000
_LONG_DIGITS = re.compile(rf"[0-9]{{{MAX_DIGIT_RUN + 1},}}")
_FACTORIAL = re.compile(r"([0-9]+)\s*!")
_BINOMIAL = re.compile(r"\\binom\s*\{?\s*([0-9]+)")
_OPERATOR = re.compile(r"\\(?:sum|prod|i*int|oint|lim|bigcup|bigcap)(?![A-Za-z])")
_BASE = re.compile(r"\(?([0-9A-Za-z]+)\)?\s*_\s*\{?\s*(?:\\text\s*\{\s*)?([0-9]{1,2})[\s}]*")
_MODULUS = re.compile(r"\s*\(?\s*\\(?:pmod|bmod|mod)\s*\{?\s*([0-9]+)\s*\}?\s*\)?\s*$")
_REMARK = pattern(
    r"(.*[^\s,(].*?)(?:[,;(]\s*\(?\s*(?:\\text\s*\{\s*(?:where|for|with)\s*\}\s*)?"
    r"[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\\in\s*\\?(?:mathbb\s*\{?\s*)?[ZNRQC]\s*\}?[\s^+*0-9{}]*\)?"
    r"|,?\s*\\text\s*\{,?\s*(?:where|for any|for all|for some|with)\b.*)"
)
_WORD = pattern(r"[A-Za-z]{2,}")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-4])\s*:\s*([0-5][0-9])")


@dataclass(frozen=True)
class Rules:
    r"""Rules for a question's answer, in its column `tests`: ``{"kind": "math", ...}``.

    Attributes
    ----------
    golds : tuple of str
        Accepted answers, any of which is correct; empty: the question's `answer` alone.
    tolerance : Fraction, optional
        Largest absolute difference between numbers that still counts as equal.
    unit : str, optional
        Unit the golds are in; an answer in another one is converted, or wrong.
    ordered : bool
        Whether the order of a bare list counts. By default it does not.
    """

    golds: tuple[str, ...] = ()
    tolerance: Fraction | None = None
    unit: str | None = None
    ordered: bool = False


@dataclass(frozen=True)
class Candidate:
    """An answer in the forms that it is compared in."""

    cleaned: str
    compact: str
    core: str
    unit: units.Unit | None


@dataclass(frozen=True)
class Task:
    """A comparison that needs computer algebra: cleaned golds, a cleaned answer, and the order."""

    golds: tuple[str, ...]
    answer: str
    ordered: bool = False


def read_rules(tests: str | Mapping[str, Any] | None) -> Rules:
    """Read the rules of a question.

    Raises
    ------
    ValueError
        What is wrong with them, in words.
    """
    if tests is None:
        return Rules()
    return _read_rules(tests) if isinstance(tests, str) else _rules_of(tests)


@lru_cache(maxsize=4096)
def _read_rules(tests: str) -> Rules:
    try:
        return _rules_of(json.loads(tests))
    except json.JSONDecodeError as error:
        raise ValueError(f"tests are not valid JSON: {error}") from None


def _rules_of(tests: Any) -> Rules:
    if not isinstance(tests, Mapping) or tests.get("kind", "math") != "math":
        raise ValueError('tests of a math question are {"kind": "math", ...}')
    if unknown := set(tests) - {"kind", "golds", "tolerance", "unit", "ordered"}:
        raise ValueError(f"tests hold unknown fields: {', '.join(sorted(map(str, unknown)))}")
    golds, tolerance = tests.get("golds") or (), tests.get("tolerance")
    if isinstance(golds, str) or not all(isinstance(g, str) and g.strip() for g in golds):
        raise ValueError("tests: golds is a list of texts")
    try:
        tolerance = None if tolerance in (None, "") else Fraction(str(tolerance))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"tests: tolerance is a number, not {tolerance!r}") from None
    return Rules(tuple(golds), tolerance, tests.get("unit") or None, bool(tests.get("ordered")))


def with_unit(gold: str, unit: str | None) -> str:
    """A gold with the unit that its question gives apart."""
    return rf"{gold} \text{{{unit.strip('$ ')}}}" if unit and "circ" not in unit else gold


def extract(section: str) -> str | None:
    """The final answer of a solution section: its last box, else what it states as the answer."""
    if (box := last_box(section)) is not None:
        return box
    if (stated := stated_answer(section)) is not None:
        return _value_of(stated)
    return emphasized_value(section)


def _value_of(stated: str) -> str:
    """A statement without the remark after it: ``96 apples, in all`` and ``1/4, or 25%``."""
    value, comma, rest = stated.partition(", ")
    if not comma or not _WORD.match(rest):
        return stated
    if rest.startswith("or "):
        one, other = (quantities.read_number(latex.clean(side)) for side in (value, rest[3:]))
        return value if one and other and quantities.same_number(one, other) else stated
    return stated if rest.startswith("and ") else value


@lru_cache(maxsize=16384)
def candidate(text: str) -> Candidate:
    """Bring an answer into the forms that it is compared in."""
    cleaned = latex.clean(encodable(text))
    value = numerals.read(cleaned)
    core, unit = units.split_unit(str(value) if value is not None else _without_remark(cleaned))
    core = core.replace("°", "").replace("\\$", "")
    return Candidate(cleaned, latex.compact(core), core, unit)


def _without_remark(cleaned: str) -> str:
    r"""An answer without what it says of its letters: ``6k+1, k \in \mathbb{Z}``."""
    remark = _REMARK.fullmatch(cleaned)
    return remark.group(1).strip() if remark else cleaned


def decide(golds: Sequence[str], answer: str, rules: Rules) -> tuple[bool, str] | Task:
    """Compare without computer algebra: right or wrong and why, or the task that is left.

    Raises
    ------
    ValueError
        The answer is beyond the limits of what is parsed, and is not spelled like a gold.
    """
    if len(answer) > MAX_TEXT:
        raise ValueError(f"answer longer than {MAX_TEXT} characters")
    parsed = candidate(answer)
    references = [candidate(with_unit(gold, rules.unit)) for gold in golds]
    verdicts = [_decide_one(gold, parsed, rules) for gold in references]
    for verdict in verdicts:
        if verdict is not None and verdict[0]:
            return verdict
    undecided = tuple(w.core for w, v in zip(references, verdicts, strict=True) if v is None)
    if not undecided:
        return next(verdict for verdict in verdicts if verdict is not None)
    check_limits(parsed.cleaned)
    if _OPERATOR.search(parsed.core) and not any(_OPERATOR.search(gold) for gold in undecided):
        return False, "left unevaluated"
    return Task(undecided, parsed.core, rules.ordered)


def _decide_one(gold: Candidate, answer: Candidate, rules: Rules) -> tuple[bool, str] | None:
    if (conversion := units.convert(gold.unit, answer.unit)) is None:
        return False, "another unit"
    if conversion == (1, 0) and gold.compact == answer.compact and answer.compact:
        return True, "same spelling"
    if latex.is_plain_text(gold.cleaned):
        same = latex.words(gold.cleaned) == latex.words(answer.cleaned)
        return (True, "same words") if same else (False, "other words")
    for special in (_decide_bases, _decide_moduli, _decide_clock):
        if (verdict := special(gold.core, answer.core)) is not None:
            return verdict
    if _is_too_long_for_numbers(answer.core):
        return None
    gold_value, value = quantities.read_structure(gold.core), quantities.read_structure(answer.core)
    if conversion != (1, 0):
        if not (
            isinstance(value, quantities.Quantity) and isinstance(gold_value, quantities.Quantity)
        ):
            return False, "another unit"
        value = replace(value, value=value.value * conversion[0] + conversion[1], places=None)
    if gold_value is None or value is None:
        return None
    if rules.ordered and not isinstance(gold_value, quantities.Quantity):
        sides = [list(map(latex.compact, latex.split_list(c.core))) for c in (gold, answer)]
        return (True, "same spelling") if sides[0] == sides[1] else None
    if quantities.same_structure(gold_value, value, rules.tolerance):
        return True, "same numbers"
    if quantities.is_number_list(gold_value) and quantities.is_number_list(value):
        return False, "different numbers"
    return None


def _decide_bases(gold: str, answer: str) -> tuple[bool, str] | None:
    """Numbers with their base as a subscript are compared by value."""
    if "_" not in gold or "_" not in answer:
        return None
    values = []
    for text in (gold, answer):
        match = _BASE.fullmatch(text)
        if match is None:
            return None
        base = int(match.group(2))
        if not 2 <= base <= 36 or len(match.group(1)) > MAX_DIGIT_RUN:
            return None
        try:
            values.append(int(match.group(1), base))
        except ValueError:
            return None
    return (True, "same numbers") if values[0] == values[1] else (False, "different numbers")


def _decide_moduli(gold: str, answer: str) -> tuple[bool, str] | None:
    """Residues to different moduli are different answers."""
    if "mod" not in gold or "mod" not in answer:
        return None
    moduli = [match.group(1) for text in (gold, answer) if (match := _MODULUS.search(text))]
    return (False, "another modulus") if len(set(moduli)) == 2 else None


def _decide_clock(gold: str, answer: str) -> tuple[bool, str] | None:
    """Times of day, which are not ratios."""
    if ":" not in gold or ":" not in answer:
        return None
    times = []
    for text in (gold, answer):
        match = _CLOCK.fullmatch(re.sub(r"\\text|[{}]", "", text))
        if match is None:
            return None
        times.append([int(part) for part in match.groups()])
    same = times[0] == times[1]
    return (True, "same time") if same else (False, "another time")


def _is_too_long_for_numbers(text: str) -> bool:
    return len(text) > MAX_TEXT or is_nested_deeper(text, 2 * MAX_NESTING)


def check_limits(text: str) -> None:
    """Refuse what a parser should not be given.

    Raises
    ------
    ValueError
        Which limit the text is beyond.
    """
    if len(text) > MAX_CANDIDATE:
        raise ValueError(f"answer longer than {MAX_CANDIDATE} characters")
    if is_nested_deeper(text, MAX_NESTING):
        raise ValueError(f"answer nested deeper than {MAX_NESTING}")
    if _LONG_DIGITS.search(text):
        raise ValueError(f"answer with more than {MAX_DIGIT_RUN} digits in a row")
    if any(int(number) > MAX_FACTORIAL for number in _FACTORIAL.findall(text)):
        raise ValueError(f"factorial of more than {MAX_FACTORIAL}")
    if any(int(number) > MAX_BINOMIAL for number in _BINOMIAL.findall(text)):
        raise ValueError(f"binomial coefficient of more than {MAX_BINOMIAL}")


def is_settled_gold(gold: str) -> bool:
    """Whether a gold is plainly a number, a list of numbers or text, so that it needs no parser."""
    parsed = candidate(gold)
    return latex.is_plain_text(parsed.cleaned) or quantities.read_structure(parsed.core) is not None
