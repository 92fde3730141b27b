"""Slips of the finger in a question: "Who is the safety oficer?"

A word that no document has finds nothing, and a reader that learned from clean questions takes it
for a sign that the passage is about something else. So it is put right where that is safe: where
the documents have a word one slip away (Damerau, "A technique for computer detection and correction
of spelling errors", CACM 1964: a letter too many, too few, another, or two the wrong way round).
Names, numbers and codes are never touched, nor any word that the embedder knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

_WORD = re.compile(r"(?<![\w'’.@/-])[^\W\d_]{4,}(?![\w'’@/-]|\.\w)")
_ANY = re.compile(r"[^\W\d_]+")


def corrected(
    query: str,
    known: Callable[[str], bool],
    near: Callable[[str, int], Iterable[str]],
) -> str:
    """The query, each slip in it put right; what is not sure stays as it was typed.

    `known` says whether documents or embedder have a word; `near` gives texts of the documents with
    a word whose stem is within so many slips of the word's.
    """

    def right(match: re.Match[str]) -> str:
        word = match[0]
        first = not query[: match.start()].strip()
        if not (word.islower() or (first and word.istitle())) or known(word):
            return word
        typed = word.casefold()
        # The stems of two words may differ by more than the words do.
        for slips in (1, 2):
            seen = Counter(
                each
                for text in near(word, slips)
                for each in map(str.casefold, _ANY.findall(text))
                if each[0] in typed[:2] and slipped(typed, each)
            )
            if seen:
                best = max(seen, key=lambda each: (seen[each], each))
                return best.capitalize() if word.istitle() else best
        return word

    return _WORD.sub(right, query)


def slipped(typed: str, meant: str) -> bool:
    """Whether two words are the same but for one slip (Damerau's distance is 1)."""
    if len(typed) > len(meant):
        typed, meant = meant, typed
    if len(meant) - len(typed) > 1 or typed == meant:
        return False
    start = next((n for n, letter in enumerate(typed) if letter != meant[n]), len(typed))
    if len(typed) < len(meant):
        return typed[start:] == meant[start + 1 :]
    if typed[start + 1 :] == meant[start + 1 :]:
        return True
    swapped = typed[start + 1 : start + 2] + typed[start] + typed[start + 2 :]
    return swapped == meant[start:]
