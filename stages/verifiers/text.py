r"""Where in a model's text its final answer is: work linear in the text's length.

What counts as the final answer, in this order (docs/verification.md has an example of each): the
last box; else the later of ``#### x`` and a statement (``answer is x``, ``Answer: x``, or a heading
``**Final Answer**`` with x below it); else the last bold or displayed value.
"""

import re2

from stages.prompts import BEGIN_SOLUTION, BEGIN_THOUGHT, END_SOLUTION, END_THOUGHT
from stages.verifiers.patterns import encodable, pattern

_BARE_BOX = pattern(r"\\(?:boxed|fbox)\b\s*(\\[A-Za-z]+|[^\s{}$\\]+)")
_BOX_OR_BRACE = pattern(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]")
_BRACE = pattern(r"\\.|[{}]")
_NO_ANSWER = pattern(r"[\s.…]*|\\l?dots|(?:your |the |final )*answer")
_STATED = pattern(r"\banswer[*_\s]*(?:\bis\b\s*:?|:)|\banswer[*_#\s]*\n", ignore_case=True)
_HASHES = pattern(r"(?:^|\n)[ \t]*####[ \t]+")
_SENTENCE_END = pattern(r"\n|[.;!?](?:\s|$)")
_BOLD_OR_DISPLAYED = pattern(r"\*\*([^*\n]+)\*\*|\$\$([^$]+)\$\$|\\\[((?:[^\\]|\\[^\[\]])+)\\\]")
_VALUE = pattern(r"[^A-Za-z]*[0-9].*|\$.*\$|.*=.*")
# Tokens of tokenizers, by their shapes: those that end a turn, and all others.
_END_TOKEN = pattern(
    r"<[|｜][^<>\s]{0,32}(?:end|eot|eos)[^<>\s]{0,32}[|｜]>|</s>|<(?:end_of_turn|eos)>|<\|im_start\|>"
)
_SPECIAL_TOKEN = pattern(r"<[|｜][^<>\s]{1,64}[|｜]>|</?s>|<(?:bos|pad|unk|start_of_turn)>")
MAX_STATEMENT = 4096


def solution_section(text: str) -> str:
    """The text after the last thought, between the last pair of solution markers if any.

    Without special tokens of tokenizers; what follows an end of turn is left out. A text without
    markers is taken whole, a solution that was cut off to its end; a thought that the text opens
    and never closes is no solution, so the section is empty.
    """
    after = encodable(text).rpartition(END_THOUGHT)[2]
    if BEGIN_THOUGHT in after:
        return ""
    after = after.rpartition(BEGIN_SOLUTION)[2].partition(END_SOLUTION)[0]
    return without_special_tokens(after)


def without_special_tokens(text: str) -> str:
    """Text up to the first token that ends a turn, without any other special token."""
    if "<" not in text:
        return text
    end = _END_TOKEN.search(text)
    return _SPECIAL_TOKEN.sub("", text[: end.start()] if end else text)


def last_box(text: str) -> str | None:
    r"""Content of the last balanced ``\boxed{}`` or ``\fbox{}``, or None where there is none.

    A box that only mentions the command (``\boxed{}``, ``\boxed{answer}``) is passed over, as long
    as there is another. ``\boxed 5`` counts with the token after it, as TeX reads it, where there
    is no braced box.
    """
    opened = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if opened < 0:
        return None
    bare = _BARE_BOX.match(text[opened : opened + 64])
    token = bare.group(1).rstrip(".,;") if bare else ""
    content = None if token and not token.isalpha() else _last_balanced(text)
    return token or None if content is None else content


def _last_balanced(text: str) -> str | None:
    """The braced box that closes last: one pass with a stack, whatever is unbalanced around it."""
    stack: list[tuple[bool, int]] = []
    content = mentioned = None
    for token in _BOX_OR_BRACE.finditer(text):
        piece = token.group()
        if piece == "{":
            stack.append((False, token.end()))
        elif piece == "}":
            if stack:
                is_box, start = stack.pop()
                if (
                    is_box
                    and (end := token.start()) - start < 64
                    and _NO_ANSWER.fullmatch(text[start:end])
                ):
                    mentioned = text[start:end]
                elif is_box:
                    content = text[start : token.start()]
        elif piece.endswith("{") and len(piece) > 2:
            stack.append((True, token.end()))
    return mentioned if content is None else content


def stated_answer(text: str) -> str | None:
    """The last statement of an answer up to the end of its sentence, or None."""
    starts = [found[-1] for kind in (_STATED, _HASHES) if (found := _ends(kind, text))]
    if not starts:
        return None
    start = max(starts)
    rest = text[start : start + MAX_STATEMENT].lstrip(" \t\n*_:#")
    end = _SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip(" \t*_") or None


def _ends(kind: re2._Regexp, text: str) -> list[int]:
    return [match.end() for match in kind.finditer(text)]


def emphasized_value(text: str) -> str | None:
    """The last bold or displayed piece of a text that is a value: it begins with a number, say."""
    value = None
    for match in _BOLD_OR_DISPLAYED.finditer(text):
        piece = next(filter(None, match.groups()), "").strip()
        if len(piece) <= MAX_STATEMENT and _VALUE.fullmatch(piece):
            value = piece.rstrip(".:")
    return value


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
