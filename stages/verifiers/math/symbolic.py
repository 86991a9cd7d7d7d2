r"""Comparison by computer algebra: math-verify and SymPy, with corrections (`repairs`).

Only workers import this (`worker`), under limits from outside: nothing here is bounded in time.
Text reaches latex2sympy's grammar and nothing else; were a library ever to hand it to SymPy's
`parse_expr`, which evaluates Python, an audit hook would stop it (`fence`).
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import TypeAlias

import sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify.parser import parse_latex_cached
from sympy.core.cache import clear_cache
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.matrices import MatrixBase

from stages.verifiers.math import fence
from stages.verifiers.math.compare import Task
from stages.verifiers.math.latex import compact, split_list
from stages.verifiers.math.repairs import And, grader

_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
_DOTS = re.compile(r"\\ldots(?![A-Za-z])")
_PLUS_MINUS_OR_SET = re.compile(r"\\(?:pm|mp)(?![A-Za-z])|\\\{")
_TRAILING_MODULUS = re.compile(r"\s*\(?\s*\\(?:pmod|bmod|mod)\s*\{?\s*[0-9]+\s*\}?\s*\)?\s*$")
_SUBSCRIPT_BASE = re.compile(r"^\s*([0-9]+)\s*_\s*\{?\s*[0-9]+\s*\}?\s*$")
_TUPLES = (sympy.Interval, sympy.Tuple)
MAX_LOG10 = 100_000.0
MAX_RATIO = 8
Expression: TypeAlias = sympy.Basic | MatrixBase


class TooLarge(Exception):
    """A number with more digits than there is any sense in computing."""


class UnreadableGold(Exception):
    """A reference answer that cannot be parsed."""


def compare(task: Task) -> tuple[bool, str]:
    """Whether the answer equals one of the golds, and by what.

    Raises
    ------
    UnreadableGold
        A gold is nothing that the grammar knows; equality with it cannot be judged.
    TooLarge
        A number is too large to be computed.
    """
    try:
        for gold in task.golds:
            if not is_readable(gold):
                raise UnreadableGold(f"the reference cannot be parsed: {gold[:200]}")
            if _equal(gold, task.answer, task.ordered):
                return True, "math-verify: equal"
        return False, "math-verify: different"
    finally:
        clear_cache()
        parse_latex_cached.cache_clear()


def is_readable(gold: str) -> bool:
    """Whether a cleaned gold can be compared: the grammar knows it, or it is a list with dots."""
    return bool(_DOTS.search(gold)) or parse(gold) is not None


def parse(text: str) -> Expression | None:
    """A cleaned answer as a SymPy object, unevaluated; None where the grammar does not know it."""
    text = _TRAILING_MODULUS.sub("", _SUBSCRIPT_BASE.sub(r"\1", text))
    try:
        return parse_latex_cached(normalize_latex(text, _NORMALIZATION))
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:
        return None


def _equal(gold: str, answer: str, ordered: bool) -> bool:
    if _DOTS.search(gold) or _DOTS.search(answer):
        return _equal_patterns(gold, answer)
    if ":" in gold and ":" in answer:
        return _equal_ratios(gold.split(":"), answer.split(":"))
    golds, answers = split_list(gold), split_list(answer)
    if ordered and len(golds) > 1:
        return len(golds) == len(answers) and all(map(_equal_expressions, golds, answers))
    if _counts_differ(golds, answers):
        return False
    return _equal_expressions(gold, answer)


def _counts_differ(golds: Sequence[str], answers: Sequence[str]) -> bool:
    """Whether a bare list repeats an element that the other does not: sets forget that."""
    if any(map(_PLUS_MINUS_OR_SET.search, [*golds, *answers])):
        return False
    repeated = any(len({compact(e) for e in side}) < len(side) for side in (golds, answers))
    return repeated and len(golds) != len(answers)


def _equal_patterns(gold: str, answer: str) -> bool:
    r"""``1,2,\ldots,n``: equal element by element, a longer beginning counts as the same."""
    sides = []
    for text in (gold, answer):
        parts = [part for part in split_list(re.sub(r"^[({\[]|[)}\]]$", "", text)) if part]
        dots = [i for i, part in enumerate(parts) if _DOTS.fullmatch(part)]
        if len(dots) != 1:
            return False
        sides.append((parts[: dots[0]], parts[dots[0] + 1 :]))
    (gold_head, gold_tail), (head, tail) = sides
    shared = min(len(gold_head), len(head))
    if len(gold_tail) != len(tail) or shared < min(2, max(len(gold_head), len(head))):
        return False
    pairs = [*zip(gold_head, head, strict=False), *zip(gold_tail, tail, strict=True)]
    return all(_equal_expressions(g, a) for g, a in pairs)


def _equal_ratios(gold: Sequence[str], answer: Sequence[str]) -> bool:
    """``a:b:c``: equal if all parts are to each other as the other's; SymPy would divide them."""
    return len(gold) == len(answer) <= MAX_RATIO and all(
        _equal_expressions(rf"({gold[i]})\cdot({answer[j]})", rf"({gold[j]})\cdot({answer[i]})")
        for i, j in itertools.combinations(range(len(gold)), 2)
    )


def _equal_expressions(gold: str, answer: str) -> bool:
    if compact(gold) == compact(answer):
        return True
    expected = parse(gold)
    if expected is None:
        return False
    parsed = parse(answer)
    if parsed is None:
        return False
    if _is_undefined(expected) or _is_undefined(parsed):
        return False
    if type(expected) is type(parsed) and bool(expected == parsed):
        return True
    for expression in (expected, parsed):
        check_size(expression)
    try:
        expected, parsed = map(_with_imaginary_unit, (expected, parsed))
        expected, parsed = _shaped(expected, parsed), _shaped(parsed, expected)
        return grader.verify(expected, parsed, timeout_seconds=None) or _equal_sets(
            expected, parsed
        )
    except MemoryError:
        raise
    except Exception:  # SymPy has no end of them
        return False


def _is_undefined(expression: object) -> bool:
    return isinstance(expression, sympy.Basic | MatrixBase) and expression.has(sympy.nan, sympy.zoo)


def _with_imaginary_unit(expression: Expression) -> Expression:
    """Let i be the imaginary unit, and give each symbol the same assumptions however it is spelled.

    The library guesses from the spelling whether symbols are real: those of ``2i`` and of
    ``2 \\cdot i`` are not equal.
    """
    if isinstance(expression, sympy.FiniteSet | sympy.Tuple | sympy.Eq):
        parts = getattr(expression, "_unsorted_args", expression.args)
        # Evaluated, an equation of a real symbol and a complex number would be just `false`.
        return expression.func(*map(_with_imaginary_unit, parts), evaluate=False)
    free = expression.free_symbols
    meant = {s: sympy.Symbol(s.name, real=True) for s in free if not s.is_real}
    if not expression.has(Relational):
        meant |= {s: sympy.I for s in free if s.name == "i"}
    return expression.subs(meant) if meant else expression


def _shaped(one: Expression, other: Expression) -> Expression:
    """Convert a row or column to a tuple if the other is one, and ``f(2) = 5`` to 5 for a value."""
    if isinstance(one, MatrixBase) and 1 in one.shape and isinstance(other, _TUPLES):
        return sympy.Tuple(*one)
    if isinstance(one, sympy.Expr) and isinstance(other, (*_TUPLES, MatrixBase)):
        units = [sympy.Symbol(f"hat{{{name}}}", real=True) for name in "ijk"]
        if one.free_symbols & set(units):
            parts = [one.coeff(unit) for unit in units]
            left = sympy.expand(one - sum(p * u for p, u in zip(parts, units, strict=True)))
            size = len(other) if left == 0 else 0
            if not any(parts[size:]):
                return sympy.Tuple(*parts[:size])
    if isinstance(one, sympy.Eq) and isinstance(one.lhs, AppliedUndef):
        return one if isinstance(other, Relational | And) else one.rhs
    return one


def _equal_sets(gold: Expression, answer: Expression) -> bool:
    """Whether inequalities in one variable have the values of a set, or of other inequalities."""
    conditions = [_conditions(side) for side in (gold, answer)]
    names = {s.name for side in conditions for condition in side for s in condition.free_symbols}
    if len(names) != 1:
        return False
    golds, answers = (
        _solutions(side, inequalities)
        if inequalities
        else [side]
        if isinstance(side, sympy.Set)
        else []
        for side, inequalities in zip((gold, answer), conditions, strict=True)
    )
    return any(
        grader.verify(g, a, timeout_seconds=None) for g, a in itertools.product(golds, answers)
    )


def _conditions(expression: Expression) -> list[sympy.Basic]:
    """The inequalities that an answer consists of; empty for any other answer."""
    listed = expression.args if isinstance(expression, sympy.FiniteSet) else [expression]
    inequalities = (sympy.core.relational._Inequality, sympy.Ne, And)
    held = [isinstance(e, inequalities) for e in listed]
    points = [isinstance(e, sympy.Eq) and isinstance(e.lhs, sympy.Symbol) for e in listed]
    all_held = any(held) and all(h or p for h, p in zip(held, points, strict=True))
    return list(listed) if all_held else []


def _solutions(expression: Expression, conditions: Sequence[sympy.Basic]) -> list[sympy.Set]:
    """Values that satisfy inequalities: of a list, whose "and" or "or" is lost, by either."""
    sets = [condition.as_set() for condition in conditions]
    if not isinstance(expression, sympy.FiniteSet):
        return sets
    return [sympy.Union(*sets), sympy.Intersection(*sets)]


# Size ---------------------------------------------------------------------------------------------


def check_size(expression: object) -> None:
    """Refuse numbers that would have more than `MAX_LOG10` digits if they were evaluated.

    Raises
    ------
    TooLarge
        There is such a number in the expression.
    """
    if isinstance(expression, MatrixBase):
        for entry in expression:
            _log10(entry)
    elif isinstance(expression, sympy.Basic):
        _log10(expression)


def _log10(expression: sympy.Basic) -> float | None:
    """Upper bound of log10 of |number| and of 1/|number|, from its parts; None with variables."""
    if isinstance(expression, sympy.Rational):
        return max(abs(expression.p).bit_length(), expression.q.bit_length()) * 0.30103
    if not expression.args:
        return 1.0 if expression.is_number else None
    known = [_log10(argument) for argument in expression.args]
    parts = [bound for bound in known if bound is not None]
    if len(parts) < len(known):
        return None
    if isinstance(expression, sympy.Pow):
        bound = parts[0] * _magnitude(expression.exp, parts[1])
    elif isinstance(expression, sympy.exp):
        bound = 0.5 * _magnitude(expression.args[0], parts[0])
    elif isinstance(expression, sympy.factorial | sympy.gamma):
        bound = parts[0] * _magnitude(expression.args[0], parts[0])
    else:
        bound = sum(parts) + 1.0
    if bound > MAX_LOG10:
        raise TooLarge(f"a number of more than {MAX_LOG10:.0f} digits")
    return bound


def _magnitude(number: sympy.Basic, bound: float) -> float:
    if isinstance(number, sympy.Rational) and bound < 15:
        return abs(int(number.p)) / int(number.q)
    return 10**bound if bound < 15 else math.inf


# Start --------------------------------------------------------------------------------------------


def prepare_process() -> None:
    """Load what the libraries load on first use and set up the fence, before workers are forked."""
    for gold, answer in _WARM_UP:
        compare(Task((gold,), answer))
    fence.build()


_WARM_UP = (
    (r"(x+1)^{2}", r"x^{2}+2x+1"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"(0,1)\cup(2,\infty)", r"(2,\infty)\cup(0,1)"),
    (r"3x-y+13=0", r"6x-2y+26=0"),
    (r"0<x<1", r"(0,1)"),
    (r"x^{2}=4", r"x=2, x=-2"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    (r"\sin(\frac{\pi}{6})", r"\frac{\sqrt{1}}{2}"),
    (r"\log_{2}(8)", r"\binom{5}{2}"),
    (r"0.5x", r"\frac{x}{2}"),
    (r"3+4i", r"3-4i"),
)
