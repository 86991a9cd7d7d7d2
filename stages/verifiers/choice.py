r"""Multiple choice: the letter in the last box of the solution, else the last ``answer is X``.

Without a letter, the text or the value of an option counts as its letter.

No other letter counts: the last capital of a text reads ``\boxed{C}. A quick check`` as A.
"""

import re
import unicodedata
from collections.abc import Sequence

from stages.verifiers.math.latex import clean, compact
from stages.verifiers.math.quantities import read_structure, same_structure
from stages.verifiers.text import last_box, stated_answer

LETTERS = "ABCDEFGHIJ"
_WRAPPER = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mathit|textit|mbox|rm|bf)(?![A-Za-z])\s*"
    r"|[${}*_~]|\\[()\[\],;! ]"
)
_LETTER_ALONE = re.compile(r"\(?\[?\s*([A-Ja-j])\s*\]?\)?\s*[.:)]?")
_LETTER_FIRST = re.compile(r"(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:]|([A-J])\s+[-–—=(]|([A-J])\s*,)")
_NAMED = re.compile(
    r"\b(?:option|choice|answer)\s*(?:is)?\s*:?\s*\(?([A-J])(?![A-Za-z])", re.IGNORECASE
)
_LONE = re.compile(r"(?<![A-Za-z\\])([A-J])(?![A-Za-z'’])")
_STATED = re.compile(
    r"\b(?:answer|(?:correct|right|best)\s+(?:option|choice|letter))"
    r"(?:\s+is|\s+should\s+be|\s*:)(?:\s*:)?\s*"
    r"(?:(?:therefore|thus|then|hence|clearly|indeed|definitely),?\s+)?"
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|letter|answer)\s*(?:is)?\s*:?\s*)?"
    r"[\"'“”‘’`<]*"
    r"(\(\s*[A-J](?![A-Za-z'’])\s*\)?|\[\s*[A-J]\s*\]|[A-J](?![A-Za-z0-9]|['’][a-z]|-[0-9]))",
    re.IGNORECASE,
)
_ANOTHER = re.compile(r"\s*(?:and|or|,|/|&)\s*(?:\(\s*([A-J])\s*\)|([A-J])(?=[\s.,;)]|$))")
# After a bare A or I, such a word says that it was a letter after all.
_AFTER_LETTER = (
    "because|since|as|and|or|for|due|by|given|but|so|if|when|while|where|which|with|is|from|based"
)
_WORD_AFTER = re.compile(rf"\s+(?!(?:{_AFTER_LETTER})\b)[a-z]")


def extract(section: str, options: Sequence[str] | None = None) -> str | None:
    """The letter that a solution section chooses, or None.

    Parameters
    ----------
    section : str
        Text after the thought.
    options : sequence of str, optional
        Texts of the options, in the order of their letters; a box may hold one of them instead of
        a letter, and letters beyond the last one are none.
    """
    letters = LETTERS[: len(options)] if options else LETTERS
    box = last_box(section)
    if box is not None:
        letter = _in_box(box, letters, options)
        if letter or _LONE.search(box):
            return letter
    plain = _WRAPPER.sub("", section)
    for stated in reversed(list(_STATED.finditer(plain))):
        written = stated.group(1)
        letter = written.strip("()[] ")
        bare = written == letter
        if written.endswith((")", "]")):
            letter = letter.upper()
        if letter not in letters:
            continue  # lower case is a word: "the answer is a"
        if bare and letter in "AI" and _WORD_AFTER.match(plain, stated.end()):
            continue
        another = _ANOTHER.match(plain, stated.end())
        if another and (another.group(1) or another.group(2)) != letter:
            return None  # two different letters are ambiguous
        return letter
    text = stated_answer(section)
    return _by_text(text, options) if options and text else None


def _in_box(box: str, letters: str, options: Sequence[str] | None) -> str | None:
    content = " ".join(_WRAPPER.sub(" ", box[:4096]).split())
    if alone := _LETTER_ALONE.fullmatch(content):
        letter = alone.group(1).upper()
        return letter if letter in letters else None
    if options and (letter := _by_text(box, options)):
        return letter
    lone = {
        match.group(1)
        for match in _LONE.finditer(content)
        if match.group(1) in letters
        and not (match.group(1) in "AI" and _WORD_AFTER.match(content, match.end()))
    }
    if first := _LETTER_FIRST.match(content):
        letter = next(filter(None, first.groups()))
        # What follows is the option's text, unless it is a list of letters.
        return letter if letter in letters and not _is_list(content, lone) else None
    if named := _NAMED.search(content):
        letter = named.group(1).upper()
        return letter if letter in letters and lone <= {letter} else None
    return lone.pop() if len(lone) == 1 else None


def _is_list(content: str, lone: set[str]) -> bool:
    rest = re.sub(r"\b(?:and|or)\b|[^A-Za-z]", "", content)
    return len(lone) > 1 and all(c in LETTERS for c in rest)


def _by_text(text: str, options: Sequence[str]) -> str | None:
    """Letter of the only option that has this text, or else this value."""
    reading, *readings = map(_plain, (text, *options[: len(LETTERS)]))
    same = [i for i, option in enumerate(readings) if compact(option) == compact(reading)]
    if not same and (value := read_structure(reading)) is not None:
        values = map(read_structure, readings)
        same = [i for i, v in enumerate(values) if v is not None and same_structure(v, value)]
    return LETTERS[same[0]] if len(same) == 1 and reading else None


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
    alone = _LETTER_ALONE.fullmatch(reference.strip())
    if alone and alone.group(1).upper() in letters:
        return alone.group(1).upper()
    if options and (letter := _by_text(reference, options)):
        return letter
    of = f"of {letters[0]} to {letters[-1]}" + (", nor the text of one option" if options else "")
    raise ValueError(f"{reference[:100]!r} is not a letter {of}")
