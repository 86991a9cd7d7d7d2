r"""Units of measurement, split off from the values before them; pint has the table.

A unit is a product of powers of names. A name that pint knows (``kN``, ``miles``) counts by its
dimension and size; any other word is a dimension of its own, so that 5 apples are not 5 pears.
"""

import functools
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.verifiers.patterns import pattern

MAX_UNIT = 256  # characters
# What pint does not have, or means otherwise: name → (own dimension, factor).
_OWN: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(factor))
    for dimension, spellings in {
        "dollar": {"dollar usd $ \\$": "1", "cent ¢": "1/100"},
        "euro": {"euro eur €": "1"},
        "sterling": {"gbp £": "1", "pence": "1/100"},
        "yen": {"yen jpy ¥": "1"},
        "rupee": {"rupee inr ₹": "1"},
        "before noon": {"am": "1"},
        "after noon": {"pm": "1"},
        "degree": {"degree deg °": "1", "arcminute '": "1/60", "arcsecond ''": "1/3600"},
        "radian": {"radian rad": "1"},
        "byte": {"byte B": "1", "kB KB": "1000", "MB": "1000000", "GB": "1000000000"},
    }.items()
    for names, factor in spellings.items()
    for name in names.split()
}
_SCALES = {
    "°C": (Fraction(1), Fraction("273.15")),
    "°F": (Fraction(5, 9), Fraction("459.67") * 5 / 9),
}
_TEMPERATURES = {"celsius": "°C", "fahrenheit": "°F", "degc": "°C", "degf": "°F"}
_IGNORED = {"unit", "units", "of", "the", "in", "a", "an", "about", "exactly", "total", "all"}
# A word that changes what the number before it says: such words are no unit.
_CHANGING = frozenset(
    [
        "is",
        "isn't",
        "are",
        "not",
        "no",
        "wrong",
        "incorrect",
        "false",
        "than",
        "least",
        "most",
        "more",
        "less",
        "fewer",
        "or",
        "over",
        "under",
        "above",
        "below",
        "minus",
        "plus",
        "times",
        "if",
        "when",
        "for",
        "where",
        "with",
        "and",
        "but",
        "either",
    ]
)
_SYMBOLS = frozenset(
    ["m", "g", "s", "h", "L", "l", "N", "J", "W", "V", "A", "C", "K", "F", "T"]
)  # that need no \text
_NAME = pattern(
    r"(\\?\$|[A-Za-zΩµμ°¢€£¥₹]+|''?)\s*(?:\^\s*\{?\s*(-?[0-9])\s*\}?|\*\*([23])|([23]))?"
    r"|(/)|(?:\\cdot|[*.\s,-])+"
)
_WRAPPING = pattern(r"\\(?:text|mathrm)\s*|[{}]|\\[,; ]")
_TEXT = r"\\text\s*\{(?:[^{}]|\{[^{}]*\})*\}(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|[0-9]))?"
_FRACTION = pattern(r"\\frac\s*\{(.*)\}\s*\{(.*)\}")
_WRAPPED_UNIT = pattern(
    rf"(.*?)\s*((?:°|\^\s*\{{?\s*\\circ\s*\}}?)?\s*"
    rf"(?:(?:{_TEXT}|\\frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}\s*\}})\s?(?:(?:\\cdot|/)\s?)?)+)"
)
_POWER = r"(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|[0-9])|[23])?"
_BARE_UNIT = pattern(
    r"([-+0-9.\\(].*?[0-9}) ])(\s*)((?:(?:sq|square|cubic|cu)\.? )?[A-Za-z]+"
    rf"{_POWER}(?:\s*/\s*[A-Za-z]+{_POWER}|\s+per\s+[A-Za-z]+|\s+[a-z]{{2,}})*)\.?\s*"
)
_SIGN_UNIT = pattern(r"(.*[0-9}) ])\s*(°\s*[CFK]?|''?|\\\$|[€£¥₹¢])")
_SIGN_BEFORE = pattern(r"(-?)\s*(\\\$|[€£¥₹])\s*(.+)")
# Units whose prefixed names are taken for units though they are in small letters: kilogram, mmol.
_PREFIXED = frozenset(
    [
        "meter",
        "gram",
        "second",
        "liter",
        "mole",
        "calorie",
        "watt",
        "volt",
        "ampere",
        "joule",
        "hertz",
        "newton",
        "pascal",
        "bit",
    ]
)
_FIRST_WORD = pattern(r"[A-Za-z]+")


@dataclass(frozen=True)
class Unit:
    """A unit: powers of its dimensions, size, zero point in kelvin, and words that pint lacks."""

    dimension: frozenset[tuple[str, Fraction]]
    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    nouns: frozenset[str] = frozenset()


@functools.cache
def _registry() -> Any:
    import pint  # takes half a second, and most answers have no unit

    return pint.UnitRegistry(non_int_type=Fraction)


@functools.lru_cache(maxsize=4096)
def _look_up(name: str) -> tuple[Fraction, dict[str, Fraction]] | None:
    """Size and dimensions of a unit's name; None for any other word."""
    for spelled in (name, name.lower(), name.lower().removesuffix("s")):
        if spelled in _OWN:
            dimension, factor = _OWN[spelled]
            return factor, {dimension: Fraction(1)}
    for spelled in dict.fromkeys((name, name.lower() if len(name) > 1 else name)):
        meanings = _registry().parse_unit_name(spelled)
        if not meanings:
            continue
        prefix, unit, _ = meanings[0]
        if prefix and len(spelled) > 3 and spelled.islower() and unit not in _PREFIXED:
            continue  # cats are not centi-atmospheres
        try:
            factor, base = _registry().get_root_units(prefix + unit)
        except Exception:  # a logarithmic unit
            return None
        return Fraction(factor), {d: Fraction(e) for d, e in base._units.items()}
    return None


def read_unit(text: str) -> Unit | None:
    """A unit such as ``cm^2``, ``km/h``, ``minutes`` or ``apples``; None for what is none."""
    text = _FRACTION.sub(r"\1/\2", text)
    text = _WRAPPING.sub(" ", text).replace("\\circ", "°").replace("^ °", "°").replace("^°", "°")
    text = " ".join(text.split()).strip(" .,")
    squeezed = text.replace(" ", "").replace("degrees", "°").replace("degree", "°")
    squeezed = _TEMPERATURES.get(squeezed.lower().lstrip("°"), squeezed)
    if squeezed in _SCALES:
        factor, offset = _SCALES[squeezed]
        return Unit(frozenset({("kelvin", Fraction(1))}), factor, offset)
    factor, nouns = Fraction(1), set[str]()
    dimensions: defaultdict[str, Fraction] = defaultdict(Fraction)
    sign, power = 1, 1
    for match in _NAME.finditer(text):
        name, *powers, slash = match.groups()
        if slash:
            sign = -1
        if not name:
            continue
        word = name.lower()
        if word in _CHANGING:
            return None
        if word == "per":
            sign = -1
        elif word in ("square", "sq"):
            power = 2
        elif word in ("cubic", "cu"):
            power = 3
        elif name in _IGNORED:
            pass
        else:
            exponent = sign * int(next(filter(None, powers), power))
            if (known := _look_up(name)) is None:
                nouns.add(word.removesuffix("s"))
            else:
                factor *= known[0] ** exponent
                for dimension, times in known[1].items():
                    dimensions[dimension] += times * exponent
            sign, power = (sign, 1) if not slash else (-1, 1)
    if not dimensions and not nouns:
        return None
    held = frozenset((d, e) for d, e in dimensions.items() if e)
    return Unit(held, factor, Fraction(0), frozenset(nouns))


def convert(gold: Unit | None, answer: Unit | None) -> tuple[Fraction, Fraction] | None:
    """Factor and summand that bring a value in the answer's unit into the gold's.

    None if the two measure different things. What has no unit has the other's.
    """
    if gold is None or answer is None or gold == answer:
        return Fraction(1), Fraction(0)
    if gold.dimension != answer.dimension:
        return None
    if not (gold.nouns <= answer.nouns or answer.nouns <= gold.nouns):
        return None
    return answer.factor / gold.factor, (answer.offset - gold.offset) / gold.factor


def split_unit(cleaned: str) -> tuple[str, Unit | None]:
    r"""A value and the unit after it, or the sign of a currency before it.

    A unit is a trailing ``\text{}``, or a word after a number: one letter or two only after a space
    and if known, so that ``2s`` stays a product.
    """
    if before := _SIGN_BEFORE.fullmatch(cleaned):
        sign, symbol, value = before.groups()
        core, unit = split_unit(value)
        return sign + core, unit or read_unit(symbol)
    if len(cleaned) > 4 * MAX_UNIT:
        return cleaned, None
    if wrapped := _WRAPPED_UNIT.fullmatch(cleaned):
        core, unit = wrapped.group(1).strip(), read_unit(wrapped.group(2))
        return (core, unit) if core and _may_drop(wrapped.group(2)) else (cleaned, None)
    if signed := _SIGN_UNIT.fullmatch(cleaned):
        return signed.group(1).strip(), read_unit(signed.group(2))
    bare = _BARE_UNIT.fullmatch(cleaned)
    if bare is None:
        return cleaned, None
    core, space, name = bare.groups()
    spaced = bool(space) or core.endswith(" ")
    first = _FIRST_WORD.match(name).group()
    number = core.rstrip()[-1:].isdigit()
    known = _look_up(first) is not None and (len(first) > 1 or (number and first in _SYMBOLS))
    is_unit = (known and (spaced or len(first) >= 2)) or (len(first) >= 3 and spaced)
    unit = read_unit(name)
    return (core.strip(), unit) if is_unit and _may_drop(name) else (cleaned, None)


def _may_drop(words: str) -> bool:
    """Whether words after a value leave it as it is: ``is wrong`` does not."""
    return not _CHANGING.intersection(_WRAPPING.sub(" ", words).lower().split())
