r"""Units of measurement, split off from the values before them."""

import re
from dataclasses import dataclass
from fractions import Fraction

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
    "before noon": {"am": "1"},
    "after noon": {"pm": "1"},
    "money": {"cent": "1/100", "dollar|usd": "1"},
    "degree": {"degree|deg": "1"},
    "radian": {"radian|rad": "1"},
}.items():
    for _names, _factor in _spellings.items():
        for _name in _names.split("|"):
            _UNITS[_name] = (_dimension, Fraction(_factor))
_UNIT_POWER = re.compile(r"(?:\^\s*\{?\s*|\*\*)([23])\s*\}?$|(?<=[a-z])([23])$")
_TEXT = r"\\text\s*\{(?:[^{}]|\{[^{}]*\})*\}(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|[0-9]))?"
_WRAPPED_UNIT = re.compile(
    rf"\s*((?:(?:{_TEXT}|\\frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}\s*\}})\s?(?:(?:\\cdot|/)\s?)?)+)$"
)
_UNIT_FRACTION = re.compile(r"\\frac\s*\{(.*)\}\s*\{(.*)\}")
MAX_UNIT = 256  # characters
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
    r"""A value and the unit after it; unknown words are dropped as well.

    A unit is the content of a trailing ``\text{}``, or is a word after a number: one letter or two
    only after a space and if known, so that ``2s`` stays a product.
    """
    if wrapped := _WRAPPED_UNIT.search(cleaned, max(0, len(cleaned) - MAX_UNIT)):
        core, name = cleaned[: wrapped.start()].strip(), _UNIT_FRACTION.sub(r"\1/\2", wrapped[1])
        return (core, read_unit(name)) if core else (cleaned, None)
    bare = _BARE_UNIT.search(cleaned) if len(cleaned) < MAX_UNIT else None
    if bare is None or not re.match(r"[-+0-9.\\(]", cleaned):
        return cleaned, None
    name, core = bare.group(1) + (bare.group(2) or ""), cleaned[: bare.start()].strip()
    spaced = cleaned[len(core) : len(core) + 1] == " "
    unit = read_unit(name)
    word = len(bare.group(1)) >= 3 and spaced
    known = unit is not None and (spaced or len(bare.group(1)) >= 2)
    return (core, unit) if core and (word or known) else (cleaned, None)
