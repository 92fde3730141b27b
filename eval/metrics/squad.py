"""Exact match and token F1 by the rules of SQuAD's official `evaluate-v2.0.py`.

Both texts are normalised: lower case, without ASCII punctuation, without the words "a", "an" and
"the", one space between words. With T the bag of an answer's words and R that of a reference:

    exact match = 1 if the normalised texts are the same, else 0
    precision = |T ∩ R| / |T|,  recall = |T ∩ R| / |R|,  F1 = 2 precision recall / their sum

The best reference counts. No reference means unanswerable: then both are 1 for an empty answer and
0 for any other.

Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016;
Rajpurkar, Jia & Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", ACL 2018.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(text: str) -> str:
    """The text as SQuAD compares it. May be empty."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, references: Iterable[str]) -> float:
    """1 or 0. Give "" as the answer of a case that was abstained from."""
    return float(normalize(answer) in _normalized(references))


def f1(answer: str, references: Iterable[str]) -> float:
    """In [0, 1]. Give "" as the answer of a case that was abstained from."""
    words = normalize(answer).split()
    return max(_overlap(words, each.split()) for each in _normalized(references))


def _normalized(references: Iterable[str]) -> list[str]:
    # The script drops references of articles and punctuation alone before it looks for one.
    return [each for each in map(normalize, references) if each] or [""]


def _overlap(words: list[str], reference: list[str]) -> float:
    if not words or not reference:
        return float(words == reference)
    shared = (Counter(words) & Counter(reference)).total()
    return 2 * shared / (len(words) + len(reference))  # what F1 comes to
