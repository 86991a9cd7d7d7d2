"""Patterns that text from a model may meet in the parent process: RE2's, which cannot backtrack.

RE2 matches in time linear in the text, and has neither lookaround nor backreferences. Everything
in this room that runs in the parent compiles its patterns here; the standard library's `re` is for
the workers, which can be killed.
"""

import re2

COMPILED: dict[str, re2._Regexp] = {}  # every pattern so far, for the tests of their speed


def pattern(expression: str, *, ignore_case: bool = False) -> re2._Regexp:
    """Compile an expression in RE2's syntax; ``.`` matches line breaks too.

    Raises
    ------
    re2.error
        The expression is not valid in RE2.
    """
    flags = "(?si)" if ignore_case else "(?s)"
    return COMPILED.setdefault(flags + expression, re2.compile(flags + expression))


def encodable(text: str) -> str:
    """Text with lone surrogates, which no pattern takes, replaced by question marks."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
