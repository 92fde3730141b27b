"""Is there any evidence at all? Decided before the model is asked."""

from __future__ import annotations

from collections.abc import Sequence

from rag_bot.rank import likeliest
from rag_bot.types import Source, log_odds, probability
from rag_bot.words import content

NOTHING = "The documents do not answer this."
NOT_ANSWERED = "The documents do not answer “{part}”."
"""What the bot says of a part of a question where it answers another."""

REASONS = {
    "empty_question": "Please ask a question.",
    "empty_collection": "There are no documents yet. Add some, then ask again.",
    "empty_scope": "No document fits {scope}. Change that, or ask without it.",
    "no_evidence": NOTHING,
    "model": NOTHING,
    "unsupported": NOTHING,
}
"""Why the bot abstains, and what it says then. `{scope}` stands for the filters of the question."""


def evidence(question: str, sources: Sequence[Source], cosine: float) -> float:
    """How much speaks for the sources being about the question at all, in [0, 1].

    The mean of the nearest chunk's cosine and the share of the question's content words that the
    best source has. `retrieval.floor` is held against it; `python -m eval.floor` shows what each
    floor would cost.
    """
    words = content(question)
    coverage = (
        max(
            (
                len(words & content(f"{source.chunk.heading} {source.chunk.text}")) / len(words)
                for source in sources
            ),
            default=0.0,
        )
        if words
        else 0.0
    )
    return (max(0.0, cosine) + coverage) / 2


_TRUST = (1.74, -1.84)


def trust(answerable: float) -> float:
    """The probability that what the reader points at is right, by what it says of answering.

    The reader's own probability is about a passage known to be the right one; this one was found,
    and its words may be others. Platt scaling (Platt, 1999), fitted on 475 questions over the
    held-out documents, 175 of them near misses: in cross-validation the expected calibration error
    is 0.05. How much of the question's words the source has, and how near it is, add nothing to it.
    """
    slope, bias = _TRUST
    return probability(slope * log_odds(answerable) + bias)


def answerable(sources: Sequence[Source]) -> float | None:
    """The reader's probability that the sources hold the answer; None where nothing was read.

    That of the source that would be quoted (`rank.likeliest`). `retrieval.answerable` is held
    against it.
    """
    source = likeliest(sources)
    return source.reading.answerable if source and source.reading else None
