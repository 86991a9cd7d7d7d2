r"""Multiple choice: the letter in the last box of the solution, else the last statement of one.

A box may hold a letter, a letter with the text of its option, or an option's text or value. A
formula or a name in the box is no letter (``A = 18``, ``Vitamin D``): then a statement outside of
it counts. No other letter does: the last capital of a text reads ``\boxed{C}. A quick check`` as A.
"""

import unicodedata
from collections.abc import Sequence

from stages.verifiers.math import compare
from stages.verifiers.math.latex import clean, compact
from stages.verifiers.math.quantities import Quantity, read_structure, same_structure
from stages.verifiers.math.units import convert
from stages.verifiers.patterns import encodable, pattern
from stages.verifiers.text import last_box, stated_answer

LETTERS = "ABCDEFGHIJ"
_WRAPPER = pattern(
    r"\\(?:text|textbf|mathrm|mathbf|mathit|textit|mbox|boxed|rm|bf)\b\s*"
    r"|[${}*_~`]|\\[()\[\],;! ]"
)
_COLON = pattern(r"\\colon\b")
_LETTER_ALONE = pattern(r"\(?\[?\s*([A-Ja-j])\s*\]?\)?\s*[.:)]?")
_LETTER_FIRST = pattern(r"(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:]|([A-J])\s+[-–—(]|([A-J])\s*,)(.*)")
_NAMED = pattern(r"(?:option|choice|answer)\s*(?:is)?\s*:?\s*\(?([A-J])\)?\.?", ignore_case=True)
_LETTER_LIST = pattern(r"\(?[A-J]\)?(?:(?:\s|,|;|/|&|\b(?:and|or)\b)+\(?[A-J]\)?)+\.?")
_LETTER = r"[\"'“”‘’<]*(\(\s*[A-J]\s*\)|\[\s*[A-J]\s*\]|\(\s*[A-J]\b|[A-J])[\"“”>]*"
# What may stand between the word "answer" and its letter.
_LINK = (
    r"(?:\s+(?:is|(?:must|should|would|will|has\s+to)\s+be)|\s*:)(?:\s*:)?\s*"
    r"(?:(?:therefore|thus|then|hence|clearly|indeed|definitely|not\s+\(?[A-J]\)?,?\s+but),?\s+)?"
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|letter|answer)\s*(?:is)?\s*:?\s*)?"
)
_STATED = pattern(
    rf"\b(?:answer|(?:correct|right|best|final|accurate|appropriate|likely)"
    rf"\s+(?:option|choice|letter)|(?:option|choice)\s*:)(?:{_LINK}|\s*){_LETTER}"
    rf"|{_LETTER}\s+is\s+(?:the\s+)?(?:most\s+)?(?:correct|right|best|accurate)\b",
    ignore_case=True,
)
# What may follow a bare letter: the end of a word that is no name, contraction or number.
_WORD_GOES_ON = pattern(r"[A-Za-z0-9]|['’][a-z]|-[0-9A-Za-z]")
_DENIED = pattern(r"(?:\bnot|\bneither|\bnor|n't)\s*(?:\b(?:option|choice)\s*)?$", ignore_case=True)
_PUNCTUATED = pattern(r"\s*(?:$|\n|[.):,;])")
_ANOTHER = pattern(r"\s*(?:and|or|,|/|&)\s*(?:\(\s*([A-J])\s*\)|([A-J])(?:[\s.,;)]|$))")
# After a bare A or I, such a word says that it was a letter after all.
_AFTER_LETTER = (
    "because|since|as|and|or|for|due|by|given|but|so|if|when|while|where|which|with|is|from|based"
)
_WORD_AFTER = pattern(r"\s+([a-z]+)")
_NAME_OF_VALUE = pattern(r"[^=<>]{0,40}=(.*)")
LOOK_BACK = 16  # characters before a letter in which it may be denied


def extract(section: str, options: Sequence[str] | None = None) -> str | None:
    """The letter that a solution section chooses, or None.

    Parameters
    ----------
    section : str
        The text after the thought.
    options : sequence of str, optional
        Texts of the options, in the order of their letters; a box may hold one of them instead of
        a letter, and letters beyond the last one are none.
    """
    letters = LETTERS[: len(options)] if options else LETTERS
    section = encodable(section)
    box = last_box(section)
    if box is not None:
        content = " ".join(_WRAPPER.sub(" ", _COLON.sub(":", box[:4096])).split())
        letter = _in_box(box, content, letters, options)
        if letter or _LETTER_LIST.fullmatch(content):
            return letter
    if letter := _stated(section, letters):
        return letter if letter in letters else None
    text = stated_answer(section)
    return _by_text(text, options) if options and text else None


def _in_box(box: str, content: str, letters: str, options: Sequence[str] | None) -> str | None:
    if alone := _LETTER_ALONE.fullmatch(content):
        letter = alone.group(1).upper()
        return letter if letter in letters else None
    if options and (letter := _by_text(box, options)):
        return letter
    if first := _LETTER_FIRST.fullmatch(content):
        *matched, rest = first.groups()
        letter = next(filter(None, matched))
        if letter not in letters:
            return None
        is_its_text = options and _plain(rest) == _plain(options[letters.index(letter)])
        return letter if is_its_text or not _LETTER_LIST.fullmatch(content) else None
    if named := _NAMED.fullmatch(content):
        letter = named.group(1).upper()
        return letter if letter in letters else None
    return None


def _stated(section: str, letters: str) -> str | None:
    """The letter of the last statement that has one; empty if that names two."""
    plain = _WRAPPER.sub("", section)
    for stated in reversed(list(_STATED.finditer(plain))):
        written = stated.group(1) or stated.group(2)
        start, end = stated.span(1) if stated.group(1) else stated.span(2)
        after = plain[end : end + 64]
        bare = not written.endswith((")", "]"))
        letter = written.strip("()[] ")
        if bare and _WORD_GOES_ON.match(after):
            continue
        if _DENIED.search(plain[max(0, start - LOOK_BACK) : start]):
            continue
        if letter.islower():
            if bare and not _PUNCTUATED.match(after):
                continue  # a word: "the answer is a number"
            letter = letter.upper()
        if letter not in letters:
            continue
        word = _WORD_AFTER.match(after) if bare and letter in "AI" else None
        if word and word.group(1) not in _AFTER_LETTER.split("|"):
            continue
        another = _ANOTHER.match(after)
        if another and (another.group(1) or another.group(2)) != letter:
            return "several"
        return letter
    return None


def _by_text(text: str, options: Sequence[str]) -> str | None:
    """Letter of the only option that has this text, or else this value."""
    reading, *texts = map(_plain, (text, *options[: len(LETTERS)]))
    if not reading:
        return None
    same = [i for i, option in enumerate(texts) if compact(option) == compact(reading)]
    if not same:
        same = [i for i, option in enumerate(options[: len(LETTERS)]) if _same_value(option, text)]
    if not same and (named := _NAME_OF_VALUE.fullmatch(text)):
        return _by_text(named.group(1), options)
    return LETTERS[same[0]] if len(same) == 1 else None


def _same_value(option: str, text: str) -> bool:
    """Whether a text has an option's value, by what needs no computer algebra."""
    gold, answer = compare.candidate(option[:4096]), compare.candidate(text[:4096])
    if (conversion := convert(gold.unit, answer.unit)) is None:
        return False
    if conversion == (1, 0) and gold.compact == answer.compact and gold.compact:
        return True
    reading, value = (read_structure(side.core) for side in (gold, answer))
    if isinstance(reading, Quantity) and isinstance(value, Quantity) and conversion != (1, 0):
        return reading.value == value.value * conversion[0] + conversion[1]
    return reading is not None and value is not None and same_structure(reading, value)


def _plain(text: str) -> str:
    return clean(unicodedata.normalize("NFKC", text[:4096]).casefold())


def read_reference(reference: str, options: Sequence[str] | None = None) -> str:
    """The letter of a reference, which may be given as a letter or as the text of an option.

    Raises
    ------
    ValueError
        It is neither.
    """
    letters = LETTERS[: len(options)] if options else LETTERS
    if options and len(options) > len(LETTERS):
        raise ValueError(f"a choice has at most {len(LETTERS)} options, not {len(options)}")
    reference = encodable(reference)
    alone = _LETTER_ALONE.fullmatch(reference.strip())
    if alone and alone.group(1).upper() in letters:
        return alone.group(1).upper()
    if options and (letter := _by_text(reference, options)):
        return letter
    of = f"of {letters[0]} to {letters[-1]}" + (", nor the text of one option" if options else "")
    raise ValueError(f"{reference[:100]!r} is not a letter {of}")
