r"""Final answers as LaTeX: brought into one form, and read as numbers, units and lists of numbers.

Pure string work on bounded text, without a computer algebra system: what can be decided here is
decided in microseconds, and nothing a model writes can make it slow. Whatever is not plainly a
number or a list of numbers is left to `symbolic`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–‐‑", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000", " "),
        **dict.fromkeys("\u200b\u2060\ufeff", ""),
        **{full: chr(ord(full) - 0xFEE0) for full in "（），．：；＝＋－＜＞％／［］｛｝"},
        **{full: chr(ord(full) - 0xFEE0) for full in "０１２３４５６７８９"},
        **{"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm "},
        **{"∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "√": r"\sqrt ", "∅": r"\emptyset "},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "},
        **{"²": "^2", "³": "^3", "°": r"^\circ ", "…": r"\ldots ", "ℝ": r"\mathbb{R}"},
        **{"½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
        **dict.fromkeys("€£¥₹", ""),
    }
)
_TEXT_COMMANDS = (
    r"\\(?:text|mbox|mathrm|textbf|textit|textrm|textnormal|mathbf|mathit|mathsf|texttt)"
)
# In this order: each pattern sees what the ones before it left.
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:boxed|fbox)(?![A-Za-z])\s*", ""),
        (r"\$\s*,\s*\$", ", "),
        (r"\\\$|\$|(?<!\\)\\[()]|(?<!\\)\\[\[\]]", ""),
        (r"\\!\s*|\\(?:displaystyle|textstyle|limits|strut|mathstrut)(?![A-Za-z])", ""),
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?", ""),
        (r"(?<!\\)\\(?:[,;:> ]|(?:quad|qquad|enspace|thinspace|space)(?![A-Za-z]))|~", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\{\\rm\s+([^{}]*)\}", r"\\text{\1}"),
        (_TEXT_COMMANDS + r"\s*\{", r"\\text{"),
        (r"\\(?:boldsymbol|bm|mathcal|pmb)\s*\{([^{}]*)\}", r"\1"),
        (r"\\text\{([^{}]*)\\%\s*\}", r"\\text{\1}%"),
        (r"\\text\{\s*(?:percent|percentage|pct)\s*\}|(?<![A-Za-z])percent(?:age)?\b|\\%", "%"),
        (r",?\s*\\text\{\s*,?\s*(?:and|or)\s*\}|,?\s+(?:and|or)\s+", ", "),
        (r"(?<=[0-9])\{\s*,\s*\}(?=[0-9]{3})", ""),
        (r"\{\s*,\s*\}", ","),
        (r"\\leq?(?:slant)?(?![A-Za-z])", r"\\le "),
        (r"\\geq?(?:slant)?(?![A-Za-z])", r"\\ge "),
        (r"\\neq?(?![A-Za-z])", r"\\ne "),
        (r"\\(?:varnothing|O(?![A-Za-z]))", r"\\emptyset "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\(?:[cl]?dots|dotsc|dotsb)(?![A-Za-z])|\.\.\.", r"\\ldots "),
        (r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        (r"_\s*\{\s*\\(max|min)\s*\}", r"_{\1}"),
        (r"\s+", " "),
    )
)
_SPACED_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?: [0-9]{3})+(?![0-9]| ?/)")
_COMMA_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[^ ])")
_EDGES = " \n\t,;:"
_CIRC = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)" + _CIRC.pattern)
_SCIENTIFIC = re.compile(
    r"(?<![0-9A-Za-z.])([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{1,4})(?![0-9A-Za-z.])"
)
_ONE_CHARACTER_GROUP = re.compile(r"([\^_])\{([0-9A-Za-z])\}")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_SPACE = re.compile(r"\s+")
_SPACE_IN_NUMBER = re.compile(r"(?<=[0-9]) (?=[0-9])")


def clean(text: str) -> str:
    r"""One spelling for what LaTeX spells in many ways; meaning and parsability are kept.

    Thousands separators go only where the digits are grouped in threes outside of brackets
    (``1,3`` and ``(1,234)`` keep their comma); degrees become radians inside trigonometric
    functions and are dropped elsewhere; ``1.5e3`` becomes a power of ten.
    """
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _without_degrees(text).lstrip(_EDGES).rstrip(_EDGES + ".")
    text = _SPACED_THOUSANDS.sub(lambda match: match.group().replace(" ", ""), text)
    if not any(bracket in text for bracket in ("(", "[", "\\{")):
        # A bare list such as `100,200` reads as one number too: there is no telling them apart.
        text = _COMMA_THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    text = re.sub(r"^(?:\\approx|=|\+)\s*", "", text)
    return _without_outer_brackets(text)


def _without_degrees(text: str) -> str:
    if "\\circ" not in text:
        return text
    if _TRIGONOMETRIC.search(text):
        return _DEGREES.sub(r"{(\\frac{\1 \\pi}{180})}", text)
    return _CIRC.sub("", text)


def _without_outer_brackets(text: str) -> str:
    """Drop pairs of round or curly brackets that hold the whole of it, unless they hold a list."""
    closes = _matching(text)
    start, end = 0, len(text)
    while end - start >= 2 and text[start] in "({" and closes.get(start) == end - 1:
        if text[start] == "(" and _has_top_level_comma(text[start + 1 : end - 1]):
            break
        start, end = start + 1, end - 1
        while start < end and text[start] == " ":
            start += 1
        while start < end and text[end - 1] == " ":
            end -= 1
    return text[start:end]


def _matching(text: str) -> dict[int, int]:
    """Position of the bracket that closes each opening one; escaped braces are no brackets."""
    stack, closes = [], {}
    escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "([{":
            stack.append(position)
        elif character in ")]}" and stack:
            closes[stack.pop()] = position
    return closes


def _has_top_level_comma(text: str) -> bool:
    return len(split_list(text)) > 1


def split_list(text: str) -> list[str]:
    """Parts between the commas and semicolons that stand in no bracket."""
    parts, level, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            level += 1
        elif character in ")]}":
            level -= 1
        elif character in ",;" and level == 0 and text[position - 1 : position] != "\\":
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return parts


def compact(cleaned: str) -> str:
    """A cleaned answer without optional spaces and braces: equal strings are equal answers."""
    text = _SPACE_IN_NUMBER.sub("\x00", cleaned)
    text = _SPACE.sub("", text).replace("\\times", "\\cdot").replace("*", "\\cdot")
    text = _TEXT.sub(r"\1", text)
    return _ONE_CHARACTER_GROUP.sub(r"\1\2", text)


def words(cleaned: str) -> str | None:
    r"""The letters of an answer that is text: ``\text{No solution}`` and ``偶数``; else None."""
    inner = _TEXT.sub(r"\1", cleaned)
    if re.search(r"[0-9\\^_=+*/<>{}|]", inner):
        return None
    letters = re.sub(r"[\s()\"'.,;:!?]+", " ", inner).strip().casefold()
    return letters if any(c.isalpha() for c in letters) else None


def is_plain_text(cleaned: str) -> bool:
    r"""Whether an answer is wrapped in ``\text`` as a whole, or not written in Latin letters."""
    whole = _TEXT.fullmatch(cleaned) is not None
    foreign = any(ord(c) > 0x24F and c.isalpha() for c in cleaned)
    return (whole or foreign) and words(cleaned) is not None


# Units --------------------------------------------------------------------------------------------

# Unit → (dimension, factor to a common unit of that dimension).
_UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _spellings in {
    "length": {
        "mm|millimeter|millimetre": "1/1000",
        "cm|centimeter|centimetre": "1/100",
        "dm|decimeter|decimetre": "1/10",
        "m|meter|metre": "1",
        "km|kilometer|kilometre": "1000",
        "in|inch": "127/5000",
        "ft|foot|feet": "381/1250",
        "yd|yard": "1143/1250",
        "mi|mile": "201168/125",
    },
    "mass": {
        "mg|milligram": "1/1000",
        "g|gram": "1",
        "kg|kilogram": "1000",
        "lb|pound": "45359237/100000",
        "oz|ounce": "45359237/1600000",
        "t|ton|tonne": "1000000",
    },
    "time": {
        "ms|millisecond": "1/1000",
        "s|sec|second": "1",
        "min|minute": "60",
        "h|hr|hour": "3600",
        "day": "86400",
        "week": "604800",
        "month": "2629746",
        "yr|year": "31556952",
    },
    "volume": {
        "ml|milliliter|millilitre": "1/1000",
        "l|liter|litre": "1",
        "gal|gallon": "3785/1000",
    },
    "money": {"cent": "1/100", "dollar|usd": "1"},
    "degree": {"degree|deg": "1"},
    "radian": {"radian|rad": "1"},
}.items():
    for _names, _factor in _spellings.items():
        for _name in _names.split("|"):
            _UNITS[_name] = (_dimension, Fraction(_factor))
_UNIT_POWER = re.compile(r"(?:\^\s*\{?\s*|\*\*)([23])\s*\}?$|(?<=[a-z])([23])$")
_WRAPPED_UNIT = re.compile(r"\s*\\text\s*\{([^{}]*)\}\s*(\^\s*\{?\s*[23]\s*\}?)?\s*$")
_BARE_UNIT = re.compile(
    r"(?<=[0-9}) ])\s*((?:(?:sq(?:uare)?|cubic|cu)\.?\s+)?"
    r"(?<![A-Za-z\\])[A-Za-z]+(?:\s*/\s*[A-Za-z]+|\s+per\s+[A-Za-z]+|\s+[a-z]{2,})*)"
    r"\.?\s*(\^\s*\{?\s*[23]\s*\}?)?\s*$"
)


@dataclass(frozen=True)
class Unit:
    """A unit that is known: what it measures and its size, or a spelling of one that is not."""

    dimension: str
    factor: Fraction


def read_unit(text: str) -> Unit | None:
    """A known unit such as ``cm^2``, ``km/h``, ``minutes``; None for any other word."""
    text = re.sub(r"\\text|\\|[{}$]", "", text.strip().lower()) if "\\" in text else text.lower()
    text = text.strip(" .$").replace(" per ", "/")
    if "/" in text:
        above, _, below = text.partition("/")
        top, bottom = read_unit(above), read_unit(below)
        if top is None or bottom is None:
            return None
        return Unit(f"{top.dimension}/{bottom.dimension}", top.factor / bottom.factor)
    power = 1
    for prefix, exponent in (("square ", 2), ("sq ", 2), ("sq. ", 2), ("cubic ", 3), ("cu ", 3)):
        if text.startswith(prefix):
            text, power = text.removeprefix(prefix), exponent
    if raised := _UNIT_POWER.search(text):
        text, power = text[: raised.start()].strip(), int(raised.group(1) or raised.group(2))
    text = text.strip()
    known = (
        _UNITS.get(text)
        or _UNITS.get(text.removesuffix("s"))
        or _UNITS.get(text.removesuffix("es"))
    )
    if known is None:
        return None
    dimension, factor = known
    return Unit(f"{dimension}^{power}" if power > 1 else dimension, factor**power)


def split_unit(cleaned: str) -> tuple[str, Unit | None]:
    r"""A value and the unit after it; words that are no known unit are dropped all the same.

    A unit is what stands in a trailing ``\text{}``, or is a word after a number: one letter or two
    only after a space and if known, so that ``2s`` stays a product.
    """
    if wrapped := _WRAPPED_UNIT.search(cleaned):
        core, name = cleaned[: wrapped.start()].strip(), wrapped.group(1) + (wrapped.group(2) or "")
        return (core, read_unit(name)) if core else (cleaned, None)
    bare = _BARE_UNIT.search(cleaned) if len(cleaned) < 256 else None
    if bare is None or not re.match(r"[-+0-9.\\(]", cleaned):
        return cleaned, None
    name, core = bare.group(1) + (bare.group(2) or ""), cleaned[: bare.start()].strip()
    spaced = cleaned[len(core) : len(core) + 1] == " "
    unit = read_unit(name)
    word = len(bare.group(1)) >= 3 and spaced
    known = unit is not None and (spaced or len(bare.group(1)) >= 2)
    return (core, unit) if core and (word or known) else (cleaned, None)


# Numbers ------------------------------------------------------------------------------------------

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
    A percentage may stand for its number or for its hundredth (50 = 50 % = 0.5).
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

    A bracketed list is ``("()", items)`` with its brackets, a bare one ``("", items)``. Items of
    bare lists and of ``\{\}`` are sorted, those of sets also rid of duplicates: their order means
    nothing.
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
    items = tuple(read_structure(part, depth + 1) for part in parts)
    if any(item is None for item in items):
        return None
    if brackets in ("", "\\{\\}"):
        items = tuple(sorted(items, key=_order))
    if brackets == "\\{\\}":
        items = tuple({_order(item): item for item in items}.values())
    return brackets, items


def _order(item: Structure) -> tuple:
    if isinstance(item, Quantity):
        return (0, item.value)
    return (1, item[0], len(item[1]), tuple(_order(i) for i in item[1]))


def same_structure(gold: Structure, answer: Structure, tolerance: Fraction | None = None) -> bool:
    """Whether two structures have the same brackets and the same numbers."""
    if isinstance(gold, Quantity) or isinstance(answer, Quantity):
        both = isinstance(gold, Quantity) and isinstance(answer, Quantity)
        return both and same_number(gold, answer, tolerance)
    return (
        gold[0] == answer[0]
        and len(gold[1]) == len(answer[1])
        and all(same_structure(g, a, tolerance) for g, a in zip(gold[1], answer[1], strict=True))
    )


def is_number_list(structure: Structure) -> bool:
    """Whether a structure is a number, or a bare list or set of numbers."""
    return isinstance(structure, Quantity) or (
        structure[0] in ("", "\\{\\}") and all(isinstance(i, Quantity) for i in structure[1])
    )


def as_decimal(text: str) -> Decimal | None:
    """A token of a program's output as a number, or None."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
