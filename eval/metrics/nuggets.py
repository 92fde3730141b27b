"""Nugget recall: of the facts that a right answer needs, the share that was said.

A nugget is a fact in all its accepted wordings, and counts as said where `contains` finds one of
them. A case that names none has one, its references. Voorhees, "Overview of the TREC 2003
Question Answering Track"; as there, with recall alone, saying more costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from eval.metrics.contains import contains


def nugget_recall(answer: str, nuggets: Sequence[Sequence[str]]) -> float | None:
    """A share; None where there is nothing to be said."""
    wanted = [wordings for wordings in nuggets if any(wordings)]
    if not wanted:
        return None
    return sum(contains(answer, wordings) for wordings in wanted) / len(wanted)
