"""Corrections of math-verify: replacements for functions that give wrong verdicts.

Importing this puts them in place. The facts are of math-verify 0.9.0.
"""

import logging
import re
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy2
from latex2sympy2_extended.logic import And
from math_verify import grader
from sympy.matrices import MatrixBase

__all__ = ["And", "grader"]

# It logs that its own time limit is off, and expressions that it cannot compare: one repr hung.
for _name in ("math_verify.grader", "math_verify.parser", "math_verify.utils"):
    logging.getLogger(_name).disabled = True
DIGITS = 30
RELATIVE = sympy.Rational(1, 10**14)
NOISE = sympy.Rational(1, 10**12)

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


# What is not analytic may agree at all points tried and differ elsewhere.
_NOT_ANALYTIC = (
    sympy.Abs,
    sympy.floor,
    sympy.ceiling,
    sympy.Mod,
    sympy.Piecewise,
    sympy.sign,
    sympy.Max,
    sympy.Min,
    sympy.factorial,
    sympy.binomial,
    sympy.core.function.AppliedUndef,
)
PLACES = 40  # digits that values must share for two expressions to be one
POINTS = tuple(sympy.Rational(p, q) for p, q in ((7, 9), (-5, 7), (17, 11), (-13, 5), (3, 8)))


def _simplifies_to_equal(gold: sympy.Basic, answer: sympy.Basic) -> bool:
    """Stands in for `sympy_symbolic_eq`: what differs at a point need not be simplified.

    Expressions are equal where both are real: those in variables that agree there at several
    points, to 40 digits, are equal, whatever SymPy makes of variables that may be negative.
    """
    agreement = _agree_where_real(gold, answer)
    return _symbolic_eq(gold, answer) if agreement is None else agreement


def _agree_where_real(one: sympy.Basic, other: sympy.Basic) -> bool | None:
    """Whether two expressions agree at the points where both are real; None if that says nothing.

    Points that are complex in both count where there are no real ones.
    """
    both = (one, other)
    if not all(isinstance(e, sympy.Expr) and not e.has(*_UNEVALUATED) for e in both):
        return None
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return False if _differ(*(e.evalf(DIGITS) for e in both)) else None
    agreed: dict[bool, list[bool]] = {True: [], False: []}
    for shift in range(len(POINTS)):
        point = {s: POINTS[(i + shift) % len(POINTS)] + i for i, s in enumerate(symbols)}
        if shift == 0:  # all positive
            point = {s: sympy.Rational(7 + 4 * i, 9 + 2 * i) for i, s in enumerate(symbols)}
        values = [e.subs(point).evalf(2 * PLACES) for e in both]
        if not all(value.is_number and value.is_finite for value in values):
            continue
        real = [abs(sympy.im(value)) < sympy.Rational(1, 10**PLACES) for value in values]
        if real[0] == real[1]:
            agreed[real[0]].append(not _differ(values[0], values[1], PLACES))
    points = agreed[True] or agreed[False]
    if not points:
        return None
    if not all(points):
        exact = not any(e.has(sympy.Float) for e in both)
        return False if exact or _differ_much(both, symbols) else None
    analytic = not any(e.has(*_NOT_ANALYTIC) or e.has(sympy.Float) for e in both)
    return True if analytic and len(points) > 1 else None


def _differ_much(both: tuple[sympy.Basic, ...], symbols: list[sympy.Basic]) -> bool:
    point = {symbol: sympy.Rational(7 + 4 * i, 9 + 2 * i) for i, symbol in enumerate(symbols)}
    values = [e.evalf(DIGITS, subs=point) for e in both]
    return all(v.is_number and v.is_finite for v in values) and _differ(*values)


def _differ(one: sympy.Basic, other: sympy.Basic, places: int = 8) -> bool:
    if not all(value.is_number and value.is_finite for value in (one, other)):
        return False
    scale = max(1, abs(one), abs(other))
    return bool(abs(one - other) > scale / 10**places)


# Equations ----------------------------------------------------------------------------------------

_compare_relational = grader.sympy_compare_relational


def _relational_eq(gold: Any, answer: Any, rounding: int, precision: int) -> bool:
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
