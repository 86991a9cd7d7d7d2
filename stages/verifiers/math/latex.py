r"""Final answers as LaTeX, brought into one form: spellings, brackets and lists.

Pure string work on bounded text, in time linear in its length: nothing a model writes can make it
slow. What an answer's parts mean is read by `units` and `quantities`.
"""

import re
from fractions import Fraction

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
    }
)
_TEXT_COMMANDS = r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|mbox|mathrm|mathsf|mathtt|emph)"
_LETTER_STYLES = r"\\(?:mathbf|mathit|mathcal|boldsymbol|bm|pmb|underline|uline)"
_SIZES = "tiny|small|normalsize|large|Large|LARGE|huge|Huge|bf|rm|it|sf|tt|displaystyle|textstyle"
_GREEK = "alpha|beta|gamma|delta|epsilon|theta|lambda|mu|sigma|phi|omega|pi"
_FUNCTIONS = "sqrt|ln|log|exp|(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc"
_PLAIN_NOTATION = (
    (r"\\operatorname\*?\s*\{\s*([A-Za-z])\s*\}", r"\1"),
    (rf"\\operatorname\*?\s*\{{\s*({_FUNCTIONS}|cis)\s*\}}", r"\\\1 "),
    (r"\\(?:text|mathrm)\s*\{\s*cis\s*\}", r"\\cis "),
    (rf"(?<![A-Za-z\\])({_FUNCTIONS})(?=\s*[(_^])", r"\\\1"),
    (rf"(?<![A-Za-z\\])({_GREEK})(?![A-Za-z])", r"\\\1 "),
    (r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
    (r"(?<=[0-9A-Za-z) ])\*(?=[0-9A-Za-z(\\ ])", r" \\cdot "),
)
_SCRIPT = r"(?:\{\s*([0-9A-Za-z]+)\s*\}|([0-9A-Za-z]))"
_TRANSPOSED = (
    r"\^\s*(?:\{\s*)?(?:T|\\top|\\intercal|\\mathsf\s*\{T\}|\\mathrm\s*\{T\})(?![A-Za-z])\s*\}?"
)
_ARGUMENT = (
    r"(\\frac\{[^{}]*\}\{[^{}]*\}|(?=\()\([^()]*\)|[0-9.]+(?:\s*\^\s*\{?\s*\\circ\s*\}?)?"
    r"(?:\s*\\[a-z]+)?|\\[a-z]+|[a-z])"
)
# In this order: each pattern sees what the ones before it left.
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            # First: later patterns would take quadratic time over long runs of spaces.
            r"(?:[\s~]|(?<!\\)\\(?:[,;:> ]|(?:quad|qquad|enspace|thinspace|space)(?![A-Za-z])))+",
            " ",
        ),
        (r"\\(?:boxed|fbox)(?![A-Za-z])\s*", ""),
        *_PLAIN_NOTATION,
        (r"\\(?:land|lor|wedge|vee)(?![A-Za-z])", ", "),
        (r"\\(?:hat|vec|mathbf|bm|boldsymbol)\s*\{\s*\\?([ijk])(?:math)?\s*\}", r"\\hat{\1}"),
        (r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"^([^{}]*)\\choose(?![A-Za-z])([^{}]*)$", r"\\binom{\1}{\2}"),
        (
            rf"(?:\{{\s*\}})?[_^]\s*{_SCRIPT}\s*(?:C|\\mathrm\s*\{{C\}})\s*_\s*{_SCRIPT}",
            r"\\binom{\1\2}{\3\4}",
        ),
        (r"(?<![\^_}A-Za-z])\{\s*([A-Za-z])\s*\}(?=_)", r"\1"),
        (r"(?<![A-Za-z\\])([A-Za-z])''(?!')", r"\\grave{\1}"),
        (r"(?<![A-Za-z\\])([A-Za-z])'(?!')", r"\\acute{\1}"),
        (rf"(?<![A-Za-z\\])([A-Za-z])\s*{_TRANSPOSED}", r"\\check{\1}"),
        (rf"\)\s*{_TRANSPOSED}\s*$", ")"),
        (r"\$\s*,\s*\$", ", "),
        (r"(?<!\\)(?:\$|\\[()\[\]])", ""),
        (r"\{\\rm\s+([^{}]*)\}", r"\\text{\1}"),
        (rf"\\!\s*|\\(?:{_SIZES}|limits|strut|mathstrut)(?![A-Za-z])", ""),
        (r"\\(?:(?:text)?color|[hv]?phantom|[hv]space\*?)\s*\{[^{}]*\}", ""),
        (r"\\\\\s*\[\s*-?[0-9.]*\s*[a-z]{2}\s*\]", r"\\\\"),
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (_TEXT_COMMANDS + r"\s*\{", r"\\text{"),
        *[(_LETTER_STYLES + r"\s*\{([^{}]*)\}", r"\1")] * 2,  # one may be nested in another
        (r"\\text\{\s*([ie])\s*\}", r"\1"),
        (r"^\s*\\text\{[^{}]*(?::|=|\b(?:is|are))\s*\}", ""),
        (r"^\s*\\text\{\s*(-?[0-9][^{}]*)\}\s*$", r"\1"),
        (r"\\text\{\s*infinity\s*\}", r"\\infty "),
        (r"\\text\{\s*all real(?: number)?s\s*\}", r"\\mathbb{R}"),
        (r"\\text\{\s*mod(?:ulo)?\s*\}", r"\\mod "),
        (r"\b([ap])\.\s?m(?![A-Za-z])\.?", r"\1m"),
        (
            r"(?<=[0-9])(?:\^\{\s*\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}"
            r"|\^\{(?:st|nd|rd|th)\}|\^?\\text\{\s*(?:st|nd|rd|th)\s*\})",
            "",
        ),
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
        (r"\\frac\s*(\\[A-Za-z]+)(?![A-Za-z{])\s*", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z]|\\[A-Za-z]+(?![A-Za-z{]))", r"\1{\2}"),
        (r"\\frac\s*([0-9A-Za-z])\s*(\\[A-Za-z]+)(?![A-Za-z{])", r"\\frac{\1}{\2}"),
        (r"\\sqrt\s*\[\s*\]", r"\\sqrt"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(\\sqrt\s*(?:\[[^\[\]]*\])?)\s*([0-9A-Za-z])", r"\1{\2}"),
        (r"\^\s*(\\(?:frac\{[^{}]*\}|sqrt)\{[^{}]*\})", r"^{\1}"),
        (rf"\\cis\s*{_ARGUMENT}", r"(\\cos(\1)+i\\sin(\1))"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\*\*", "^"),
        (r"_\s*\{\s*\\(max|min)\s*\}", r"_{\1}"),
        (r"\s+", " "),
    )
)
_BARE_NUMBERS = re.compile(r"[-+0-9,/ ]*(?:\.[-+0-9,/ ]*)?")  # nothing in them is rewritten
_SPACED_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?: [0-9]{3})+(?![0-9]| ?/)")
_COMMA_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[^ ])")
_EDGES = " \n\t,;:"
_CIRC = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)" + _CIRC.pattern)
_SCIENTIFIC = re.compile(
    r"(?<![0-9A-Za-z.])([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{1,4})(?![0-9A-Za-z.])"
)
_REPEATING = re.compile(
    r"(?<![0-9.])([0-9]{0,32})\.([0-9]{0,32})\\(?:overline|bar|dot)\s*\{?\s*([0-9]{1,32})\s*\}?"
)
_ENDLESS = re.compile(r"(-?)([0-9]{0,32})\.([0-9]{2,32})\s*\\ldots\s*")
_MEMBER = re.compile(r"([^()\[\]]*\\in(?![A-Za-z])\s*)?(.*)", re.DOTALL)
_SET_OPERATION = re.compile(r"(\\(?:cup|cap|setminus)(?![A-Za-z])\s*)")
_TRANSPOSED_MATRIX = re.compile(
    rf"\\begin\{{([pb]?matrix)\}}([^{{}}]*)\\end\{{\1\}}\s*{_TRANSPOSED}\s*"
)
_CASES = re.compile(r"\\begin\{cases\}((?:[^\\]|\\(?!end\{cases\}))*)\\end\{cases\}")
_CONDITION = re.compile(r"\\text\{\s*(?:if|for|when|where)?\s*([^{}]*?)\s*\}")
_LARGE = {
    "dozen": r"\cdot 12",
    "hundred": r"\times 10^{2}",
    "thousand": r"\times 10^{3}",
    "million": r"\times 10^{6}",
    "billion": r"\times 10^{9}",
    "trillion": r"\times 10^{12}",
}
_LARGE_NUMBER = re.compile(
    rf"(?<=[0-9])\s*(\\text\{{)?\s*({'|'.join(_LARGE)})(?![A-Za-z])\s*(\}})?"
)
_SET_BUILDER = re.compile(
    r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?)?\s*(?:\\mid|\\vert|\||:)(?![A-Za-z])(.*)\\\}"
)
_ONE_CHARACTER_GROUP = re.compile(r"([\^_])\{([0-9A-Za-z])\}")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_ARTICLE = re.compile(r"^(?:an?|the) ")
_SPACE = re.compile(r"\s+")
_SPACE_IN_NUMBER = re.compile(r"(?<=[0-9]) (?=[0-9])")


def clean(text: str) -> str:
    r"""One spelling for what LaTeX spells in many ways; meaning and parsability are kept.

    Thousands separators go only where the digits are grouped in threes outside of brackets
    (``1,3`` and ``(1,234)`` keep their comma); degrees become radians inside trigonometric
    functions and ``°`` elsewhere; ``1.5e3`` becomes a power of ten.
    """
    text = " ".join(text.translate(_CHARACTERS).split())
    while text.endswith("\\\\"):
        text = text[:-2].rstrip()
    if not _BARE_NUMBERS.fullmatch(text):
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
    text = _without_degrees(text).lstrip(_EDGES).rstrip(_EDGES + ".")
    text = _SPACED_THOUSANDS.sub(lambda match: match.group().replace(" ", ""), text)
    if not any(bracket in text for bracket in ("(", "[", "\\{")):
        # A bare list such as `100,200` also reads as one number: the two cannot be told apart.
        text = _COMMA_THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    text = _LARGE_NUMBER.sub(_power_of_ten, text)
    text = _REPEATING.sub(_fraction, text)
    if endless := _ENDLESS.fullmatch(text):
        text = _repeating(*endless.groups()) or text
    if "[" in text or "]" in text:
        text = _with_brackets_inwards(text)
    if transposed := _TRANSPOSED_MATRIX.fullmatch(text):
        text = _transposed(*transposed.groups())
    if "cases" in text:
        text = _CASES.sub(_listed_cases, text)
    if (conditions := _SET_BUILDER.fullmatch(text)) and conditions[1] in conditions[2]:
        text = conditions[2].strip()
    text = re.sub(r"^(?:\\approx|=|\+)\s*", "", text)
    return _without_outer_brackets(text)


def _power_of_ten(match: re.Match[str]) -> str:
    """A factor for a word such as million; more text may follow it."""
    wrapped, word, closed = match.groups()
    return f" {_LARGE[word]}" + (
        r"\text{" if wrapped and not closed else "}" if closed and not wrapped else ""
    )


def _fraction(match: re.Match[str]) -> str:
    """A decimal whose last digits repeat for ever."""
    whole, fixed, repeated = match.groups()
    value = Fraction(int(whole or 0))
    value += Fraction(int(fixed or 0) * (10 ** len(repeated) - 1) + int(repeated)) / (
        10 ** len(fixed) * (10 ** len(repeated) - 1)
    )
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _repeating(sign: str, whole: str, places: str) -> str | None:
    """``0.1666...`` as a fraction, if its last digits repeat twice; else None."""
    for period in range(1, len(places) // 2 + 1):
        block, times = places[-period:], 1
        while places.endswith(block * (times + 1)):
            times += 1
        if times >= 2:
            fixed = places[: len(places) - times * period]
            return sign + _REPEATING.sub(_fraction, rf"{whole}.{fixed}\overline{{{block}}}")
    return None


def _with_brackets_inwards(text: str) -> str:
    """``]0,1[`` as ``(0,1)``, each interval of a union by itself."""
    pieces = _SET_OPERATION.split(text)
    for number, piece in enumerate(pieces):
        member = _MEMBER.match(piece.strip())
        head, interval = member.groups() if member else (None, "")
        if interval[:1] in ("]", "[", "(") and interval[-1:] in ("[", "]", ")") and "," in interval:
            turned = "(" if interval[0] == "]" else interval[0]
            closed = ")" if interval[-1] == "[" else interval[-1]
            pieces[number] = (head or "") + turned + interval[1:-1] + closed
    return "".join(pieces)


def _transposed(kind: str, body: str) -> str:
    """A matrix that is written out and transposed."""
    rows = [[entry.strip() for entry in row.split("&")] for row in body.split("\\\\")]
    if len({len(row) for row in rows}) != 1:
        return rf"\begin{{{kind}}}{body}\end{{{kind}}}^{{T}}"
    columns = "\\\\".join("&".join(column) for column in zip(*rows, strict=True))
    return rf"\begin{{{kind}}}{columns}\end{{{kind}}}"


def _listed_cases(match: re.Match[str]) -> str:
    """A system as a list of its equations; a function by cases with its conditions bare."""
    rows = [row.strip(" ,;.") for row in match[1].split("\\\\") if row.strip()]
    if not any("&" in row for row in rows):
        return ", ".join(rows)
    cells = [[_CONDITION.sub(r"\1", c).strip(" ,;.") for c in row.split("&")] for row in rows]
    return r"\begin{cases}" + r"\\".join("&".join(row) for row in cells) + r"\end{cases}"


def _without_degrees(text: str) -> str:
    if "\\circ" not in text:
        return text
    if _TRIGONOMETRIC.search(text):
        return _DEGREES.sub(r"{(\\frac{\1 \\pi}{180})}", text)
    return _CIRC.sub("°", text)


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
    """Position of the bracket that closes each opening one; escaped braces do not count."""
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
    """Parts between commas and semicolons outside brackets."""
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
    parts = [re.sub(r"[\s()\"'.;:!?]+", " ", part).strip() for part in inner.casefold().split(",")]
    letters = ", ".join(sorted(_ARTICLE.sub("", part) for part in parts if part))
    return letters if any(c.isalpha() for c in letters) else None


def is_word(cleaned: str) -> bool:
    """Whether bare letters are words (``true``, ``no solution``), not a product (``abc``, ``mgh``).

    A word has three letters, a vowel, and letters out of the order of the alphabet.
    """
    runs = cleaned.casefold().split()
    return (
        bool(runs)
        and all(run.isalpha() for run in runs)
        and any(
            run in ("no", "yes")
            or (len(run) > 2 and set(run) & set("aeiou") and list(run) != sorted(run))
            for run in runs
        )
    )


def is_plain_text(cleaned: str) -> bool:
    r"""Whether an answer is wrapped in ``\text`` as a whole, or not written in Latin letters."""
    whole = _TEXT.fullmatch(cleaned) is not None
    whole = whole or is_word(cleaned)
    foreign = any(ord(c) > 0x24F and c.isalpha() for c in cleaned)
    return (whole or foreign) and words(cleaned) is not None
