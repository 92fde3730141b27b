"""ROUGE-L: F1 over the longest common subsequence of words.

    recall = LCS / words of the reference,  precision = LCS / words of the answer
    F1 = 2 precision recall / their sum = 2 LCS / (words of both)

Words are normalised as in `squad`. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries",
Text Summarization Branches Out 2004, section 3, with precision and recall weighed the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.metrics.squad import normalize


def rouge_l(answer: str, references: Iterable[str]) -> float | None:
    """The best reference's F1, in [0, 1]; 0 for a text without words. None without a reference."""
    words = normalize(answer).split()
    return max((_f1(words, normalize(each).split()) for each in references), default=None)


def _f1(words: Sequence[str], reference: Sequence[str]) -> float:
    shared = _lcs(words, reference)
    return 2 * shared / (len(words) + len(reference)) if shared else 0.0


def _lcs(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == other else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]
