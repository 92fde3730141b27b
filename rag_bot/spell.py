"""Slips of the finger in a question: "Who is the safety oficer?"

A word that no document has finds nothing, and a reader that learned from clean questions takes it
for a sign that the passage is about something else. So it is put right where that is safe: where
the documents have a word one slip away (Damerau, "A technique for computer detection and correction
of spelling errors", CACM 1964: a letter too many, too few, another, or two the wrong way round).
Names, numbers and codes are never touched, nor any word that the embedder knows, nor a question in
another language than English: most of its words are strange to English documents.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from rag_bot.lexical import analyze
from rag_bot.words import STOP_TERMS

_WORD = re.compile(r"(?<![\w'’.@/-])[^\W\d_]{4,}(?![\w'’@/-]|\.\w)")
_ANY = re.compile(r"[^\W\d_]+")
_FUNCTION_WORDS = """
der das den dem des ein eine einen einer und oder ist sind hatte haben wird wie wann wer wen wo
warum welche welcher für von vom mit nach bei auf aus nicht ich wir sie ihr muss kann zu zum zur
le la les un une du de et ou est sont que qui quel quelle quels dans pour par sur avec nous vous je
il elle ce cette el los las unos y es son cual cuanto por con en del al se su lo gli sono che chi
quale per di da della het een voor wat hoe van ile jest na w z kto kiedy jak czy za
"""
_OTHERS = frozenset(_FUNCTION_WORDS.split())
"""Words that sentences of other languages are held together by, and English ones are not."""


def corrected(
    query: str,
    known: Callable[[str], bool],
    near: Callable[[str, int], Iterable[str]],
) -> str:
    """The query, each slip in it put right; what is not sure stays as it was typed.

    `known` says whether documents or embedder have a word; `near` gives texts of the documents with
    a word whose stem is within so many slips of the word's.
    """
    if _foreign(query):
        return query

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
                best = max(seen, key=lambda each: (_likelihood(typed, each), seen[each], each))
                return best.capitalize() if word.istitle() else best
        return word

    return _WORD.sub(right, query)


def _foreign(query: str) -> bool:
    words = _ANY.findall(query)
    if any(word.islower() and not word.isascii() for word in words):
        return True
    others = sum(word.casefold() in _OTHERS for word in words)
    english = sum(
        set(analyze(word)) <= STOP_TERMS for word in words if word.casefold() not in _OTHERS
    )
    return others > english


def _likelihood(typed: str, meant: str) -> int:
    """Letters swapped come before a letter left out: "mnay" is "many", "wich" is not "with"."""
    return 2 if sorted(typed) == sorted(meant) else int(len(meant) > len(typed))


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
