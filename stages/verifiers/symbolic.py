r"""Comparison by computer algebra: math-verify and SymPy, with their wrong verdicts mended.

Only workers import this (`worker`), under limits from outside: nothing here is bounded in time.
Text reaches latex2sympy's grammar and nothing else; were a library ever to hand it to SymPy's
`parse_expr`, which evaluates Python, an audit hook would stop it (`evaluation_forbidden`).
"""

import collections
import dataclasses
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sympy
from latex2sympy2_extended import latex2sympy2
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify import grader
from math_verify.parser import parse_latex_cached
from sympy.core.cache import clear_cache
from sympy.matrices import MatrixBase

from stages.verifiers.latex import compact, split_list
from stages.verifiers.math import Task

# It logs that its own time limit is off, and expressions that it cannot compare: one repr hung.
for _name in ("math_verify.grader", "math_verify.parser", "math_verify.utils"):
    logging.getLogger(_name).disabled = True
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
_DOTS = re.compile(r"\\ldots(?![A-Za-z])")
_PLUS_MINUS_OR_SET = re.compile(r"\\(?:pm|mp)(?![A-Za-z])|\\\{")
_TRAILING_MODULUS = re.compile(r"\s*\(?\\pmod\s*\{?\s*[0-9]+\s*\}?\s*\)?\s*$")
_SUBSCRIPT_BASE = re.compile(r"^\s*([0-9]+)\s*_\s*\{?\s*[0-9]+\s*\}?\s*$")
MAX_LOG10 = 100_000.0
DIGITS = 30
RELATIVE = sympy.Rational(1, 10**14)
NOISE = sympy.Rational(1, 10**12)


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


def parse(text: str) -> sympy.Basic | MatrixBase | None:
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
    golds, answers = _elements(gold), _elements(answer)
    if ordered and len(golds) > 1:
        return len(golds) == len(answers) and all(map(_equal_expressions, golds, answers))
    if _counts_differ(golds, answers):
        return False
    return _equal_expressions(gold, answer)


def _elements(text: str) -> list[str]:
    return split_list(text)


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


def _equal_expressions(gold: str, answer: str) -> bool:
    if compact(gold) == compact(answer):
        return True
    wanted = parse(gold)
    if wanted is None:
        return False
    found = parse(answer)
    if found is None:
        return False
    if _is_undefined(wanted) or _is_undefined(found):
        return False
    if type(wanted) is type(found) and bool(wanted == found):
        return True
    for expression in (wanted, found):
        check_size(expression)
    return grader.verify(wanted, found, timeout_seconds=None)


def _is_undefined(expression: object) -> bool:
    return isinstance(expression, sympy.Basic | MatrixBase) and expression.has(sympy.nan, sympy.zoo)


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
    parts = [_log10(argument) for argument in expression.args]
    if None in parts:
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


# Numbers ------------------------------------------------------------------------------------------


def _numeric_eq(
    gold: sympy.Basic | MatrixBase,
    answer: sympy.Basic | MatrixBase,
    float_rounding: int,
    numeric_precision: int,
) -> bool:
    """Stands in for math-verify's `sympy_numeric_eq`, which compares by absolute difference.

    Two numbers are equal if they agree to 14 significant digits (so 2^-99 is not 2^-98), a decimal
    also if it is the other number rounded to at least `float_rounding` places. Matrices are
    compared by entry, percentages with and without their hundredth. Expressions with variables are
    left to `simplify`, their decimals made exact.
    """
    if isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase):
        return gold.shape == answer.shape and all(
            grader.sympy_expr_eq(g, a, float_rounding, numeric_precision)
            for g, a in zip(gold.flat(), answer.flat(), strict=True)
        )
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
        return False
    if gold.free_symbols or answer.free_symbols:
        if gold.has(sympy.Float) or answer.has(sympy.Float):
            difference = sympy.simplify(_exact(gold) - _exact(answer))
            return difference == 0
        return False
    pairs = [(gold, answer)]
    whole, other = grader.get_pct_val(gold), grader.get_pct_val(answer)
    if (whole is None) != (other is None):
        pairs.append((gold if whole is None else whole, answer if other is None else other))
    return any(_close(g, a, float_rounding) for g, a in pairs)


def _exact(expression: sympy.Expr) -> sympy.Expr:
    """Decimals as the fractions they were written as."""
    return expression.xreplace(
        {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    )


def _close(gold: sympy.Expr, answer: sympy.Expr, places: int) -> bool:
    decimals = [isinstance(e.doit(), sympy.Float) for e in (gold, answer)]
    exact = [_exact(e).doit() for e in (gold, answer)]
    if all(isinstance(e, sympy.Rational) for e in exact) and not any(decimals):
        return bool(exact[0] == exact[1])
    one, other = (e.evalf(DIGITS) for e in exact)
    if one in (sympy.nan, sympy.zoo) or other in (sympy.nan, sympy.zoo):
        return False
    if one.is_infinite or other.is_infinite:
        return bool(one == other)
    difference, largest = abs(one - other), max(abs(one), abs(other))
    if any(decimals):
        rounded = all(decimals) is False and difference * 2 * 10**places <= 1
        return bool(difference <= NOISE * largest) or bool(
            rounded and difference <= largest / 10**3
        )
    return bool(difference <= RELATIVE * largest)


_symbolic_eq = grader.sympy_symbolic_eq
_UNEVALUATED = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)


def _simplifies_to_equal(gold: sympy.Basic, answer: sympy.Basic) -> bool:
    """Stands in for `sympy_symbolic_eq`: what differs at a point need not be simplified."""
    return not _differ_at_a_point(gold, answer) and _symbolic_eq(gold, answer)


def _differ_at_a_point(one: sympy.Basic, other: sympy.Basic) -> bool:
    both = (one, other)
    if not all(isinstance(e, sympy.Expr) and not e.has(*_UNEVALUATED) for e in both):
        return False
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    point = {symbol: sympy.Rational(7 + 4 * i, 9 + 2 * i) for i, symbol in enumerate(symbols)}
    values = [e.evalf(DIGITS, subs=point) for e in both]
    if not all(value.is_number and value.is_finite for value in values):
        return False
    scale = max(1, *(abs(value) for value in values))
    return bool(abs(values[0] - values[1]) > scale / 10**8)


# Equations ----------------------------------------------------------------------------------------

_compare_relational = grader.sympy_compare_relational


def _relational_eq(gold: object, answer: object, rounding: int, precision: int) -> bool:
    """Stands in for `sympy_compare_relational`, for which 1 + 1 = 2 equals 2 + 2 = 4."""
    sides = (gold, answer)
    if all(isinstance(s, sympy.core.relational.Relational) for s in sides) and not any(
        s.free_symbols for s in sides
    ):
        return type(gold) is type(answer) and all(
            grader.sympy_expr_eq(g, a, rounding, precision)
            for g, a in ((gold.lhs, answer.lhs), (gold.rhs, answer.rhs))
        )
    return _compare_relational(gold, answer, rounding, precision)


def _solve_eq(gold: object, answer: object, rounding: int, precision: int) -> bool:
    """Stands in for `sympy_solve_and_compare`, for which equations without solutions are equal.

    Equations are equal if one is a multiple of the other, or if they are in the same one variable
    and have the same solutions, of which there are some.
    """
    if not (isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq)):
        return _solve_and_compare(gold, answer, rounding, precision)
    if gold.free_symbols != answer.free_symbols:
        return False
    ratio = sympy.simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
    if ratio.is_number and ratio.is_finite and ratio != 0:
        return True
    if len(gold.free_symbols) != 1:
        return False
    (symbol,) = gold.free_symbols
    solutions = [sympy.solve(equation, symbol) for equation in (gold, answer)]
    return bool(solutions[0]) and grader.sympy_expr_eq(
        sympy.FiniteSet(*solutions[0]), sympy.FiniteSet(*solutions[1]), rounding, precision
    )


_solve_and_compare = grader.sympy_solve_and_compare
grader.sympy_numeric_eq = _numeric_eq
grader.sympy_symbolic_eq = _simplifies_to_equal
grader.sympy_compare_relational = _relational_eq
grader.sympy_solve_and_compare = _solve_eq


# Parsing ------------------------------------------------------------------------------------------


def _read_number(text: str) -> sympy.Number:
    """Stands in for `sympy.Number(text)`, which evaluates the digits as Python."""
    text = text.replace(",", "").replace(" ", "")
    if re.fullmatch("[0-9]+", text):
        return sympy.Integer(int(text))
    if re.fullmatch(r"[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,4})?", text):
        return sympy.Float(text)
    raise ValueError("no number")


def _read_grouped_number(text: str) -> sympy.Number:
    """Stands in for `convert_number`: 0,111 is a decimal, 1,234 has thousands."""
    return _read_number(text.strip().replace(",", ".") if text.startswith("0") else text.strip())


latex2sympy2._Latex2Sympy.parse_number = lambda self, text: _read_number(text)
latex2sympy2.convert_number = _read_grouped_number


# Hardening ----------------------------------------------------------------------------------------

_FORBIDDEN_EVENTS = (
    "ctypes.dlopen",
    "os.chmod",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.link",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.spawn",
    "os.symlink",
    "os.system",
    "os.truncate",
    "pty.spawn",
    "shutil.rmtree",
    "socket.__new__",
    "socket.bind",
    "socket.connect",
    "subprocess.Popen",
)
# These make functions by pasting names of their own together, never an answer's.
_GENERATORS = {module.__file__ for module in (collections, dataclasses, sympy.polys.monomials)}
_forbidding = False


def _asking_file() -> str:
    """File of the code that caused the event which the audit hook is looking at."""
    return sys._getframe(2).f_code.co_filename


@contextmanager
def evaluation_forbidden() -> Iterator[None]:
    """Let nothing in this process compile text, start a program, write a file or open a socket.

    A second fence: nothing here hands a model's text to Python, and if a library ever did, an
    audit hook raises before a character of it runs.
    """
    global _forbidding
    _forbidding = True
    try:
        yield
    finally:
        _forbidding = False


def _refuse(event: str, arguments: tuple) -> None:
    if not _forbidding:
        return
    if event in ("compile", "exec"):
        source = arguments[1] if event == "compile" else arguments[0].co_filename
        # Modules that are loaded on first use come from files, whose names have no `<`.
        if str(source or "<").startswith("<") and _asking_file() not in _GENERATORS:
            raise PermissionError(f"{event} of text is forbidden here")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise PermissionError("writing files is forbidden here")
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"{event} is forbidden here")


def prepare_process() -> None:
    """Load what the libraries load on first use and set up the fence, before workers are forked."""
    for gold, answer in _WARM_UP:
        compare(Task((gold,), answer))
    sys.dont_write_bytecode = True
    sys.addaudithook(_refuse)


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
