"""Find the final answer in a model's text, in time linear in its length."""

import re
from collections import deque

from stages.prompts import BEGIN_SOLUTION, END_SOLUTION, END_THOUGHT

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_STATED = re.compile(r"\banswer(?:\s+is)?\s*:\s*|\banswer\s+is(?![A-Za-z])\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.;!?](?=\s|$)")


def solution_section(text: str) -> str:
    """Text after the last thought, between the last pair of solution markers if any.

    A text without markers is taken whole; one whose solution was cut off is taken to its end.
    """
    text = text.rpartition(END_THOUGHT)[2]
    text = text.rpartition(BEGIN_SOLUTION)[2]
    return text.partition(END_SOLUTION)[0]


def last_box(text: str) -> str | None:
    r"""Content of the last balanced ``\boxed{}`` or ``\fbox{}``, or None without one.

    ``\boxed 5`` counts with the token after it, as TeX reads it.
    """
    opened = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = _BOX.match(text, opened) if opened >= 0 else None
    if box and text.startswith("{", box.end()):
        start, depth = box.end() + 1, 1
        for token in _BRACE.finditer(text, start):
            depth += (token.group() == "{") - (token.group() == "}")
            if depth == 0:
                return text[start : token.start()]
    elif box:
        content = re.match(r"\\[A-Za-z]+|[^\s{}$\\]+", text[box.end() : box.end() + 64])
        if content:
            return content.group().rstrip(".,;")
    return _last_balanced(text) if opened >= 0 else None


def _last_balanced(text: str) -> str | None:
    """The braced box that closes last: one pass with a stack, whatever is unbalanced around it."""
    stack: list[tuple[bool, int]] = []
    content = None
    for token in _BOX_OR_BRACE.finditer(text):
        piece = token.group()
        if piece == "{":
            stack.append((False, token.end()))
        elif piece == "}":
            if stack:
                is_box, start = stack.pop()
                if is_box:
                    content = text[start : token.start()]
        elif piece.endswith("{") and len(piece) > 2:
            stack.append((True, token.end()))
    return content


def stated_answer(text: str) -> str | None:
    """What follows the last ``answer is`` or ``Answer:`` up to the end of its sentence."""
    last = deque(_STATED.finditer(text), maxlen=1)
    if not last:
        return None
    start = last[0].end()
    rest = text[start : start + 4096].lstrip(" \t*:")
    end = _SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip(" \t*") or None


def is_nested_deeper(text: str, depth: int) -> bool:
    """Whether brackets of any kind are nested deeper than `depth`."""
    level = 0
    for character in text:
        if character in "([{":
            level += 1
            if level > depth:
                return True
        elif character in ")]}":
            level -= 1
    return False
