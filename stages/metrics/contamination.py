"""Which benchmark items share long passages with training questions."""

import re
from collections.abc import Iterable, Mapping

N = 13
_WORD = re.compile(r"\w+")


def overlapping(items: Mapping[str, str], questions: Iterable[str]) -> list[str]:
    """Names of the items that share a 13-gram of words with any training question.

    Words are runs of letters, digits and underscores, in lower case (Brown et al. 2020,
    arXiv 2005.14165, appendix C, uses the same 13). A text of fewer words counts as one gram, so
    a short item overlaps only with an equally short question of the same words.

    Parameters
    ----------
    items : mapping
        Texts of the items, by name.
    questions : iterable of str
        Training questions; iterated once.
    """
    holders: dict[tuple[str, ...], list[str]] = {}
    for name, text in items.items():
        for gram in grams(text):
            holders.setdefault(gram, []).append(name)
    overlap: set[str] = set()
    for question in questions:
        for gram in grams(question) & holders.keys():
            overlap.update(holders[gram])
    return [name for name in items if name in overlap]


def grams(text: str) -> set[tuple[str, ...]]:
    """All 13-grams of a text's words; all words as one gram if there are fewer."""
    words = _WORD.findall(text.lower())
    if not words:
        return set()
    return {tuple(words[i : i + N]) for i in range(max(1, len(words) - N + 1))}
