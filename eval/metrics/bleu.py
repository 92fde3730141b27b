"""Sentence BLEU: `brevity penalty * exp(mean of log p_n)`, n = 1 … 4, as sacrebleu computes it.

p_n is the share of the answer's n-grams found in a reference, each as often as it occurs in the
one that has it most; the penalty is `exp(1 - r / c)` for an answer of c tokens shorter than the
closest reference's r. Orders without an n-gram are left out, and those without a match are smoothed
exponentially. Tokens are those of `13a`, case counts.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002;
Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018 (sacrebleu).
"""

from __future__ import annotations

from collections.abc import Sequence


def bleu(answer: str, references: Sequence[str]) -> float | None:
    """Against all references together, in [0, 1] (sacrebleu says 0 to 100). None without any."""
    import sacrebleu  # takes 0.2 s, which only those who ask for BLEU should wait for

    if not references:
        return None
    return min(sacrebleu.sentence_bleu(answer, references).score / 100, 1.0)
