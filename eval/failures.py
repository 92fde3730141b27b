"""Why a wrong answer is wrong: where on the line a page that it needs was lost."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from eval import score
from eval.cases import PageRef
from eval.rows import Hit, Row, Shown


class Cause(StrEnum):
    """What went wrong, in the order of the line. The value is what a person reads."""

    NOT_PARSED = "not parsed: the page does not hold the words that answer it"
    NOT_RETRIEVED = "not retrieved: a page it needs is not among the candidates"
    RANKED_LOW = "ranked too low: a page it needs was found, but not shown"
    CUT = "cut from the prompt: a page it needs was chosen, but had no room"
    WRONG_ABSTENTION = "wrong abstention: its pages were shown, and no answer given"
    WRONG_GENERATION = "wrong generation: its pages were shown, and the answer is wrong"
    WRONG_CITATION = "wrong citation: the answer is right, and cites another page"
    SHOULD_ABSTAIN = "should have abstained: the documents do not answer this"


REMEDIES = {
    Cause.NOT_PARSED: "look at the file with `ingest status`: a scan needs OCR",
    Cause.NOT_RETRIEVED: "try another embedder, or other chunk sizes with `ingest rebuild`",
    Cause.RANKED_LOW: "raise retrieval.read or retrieval.top_k, or set models.reranker",
    Cause.CUT: "raise generation.context_tokens",
    Cause.WRONG_ABSTENTION: "lower retrieval.answerable or retrieval.floor, or fine-tune the model",
    Cause.WRONG_GENERATION: "fine-tune the model, or use a larger one",
    Cause.WRONG_CITATION: "look at the rows: two pages may say the same",
    Cause.SHOULD_ABSTAIN: "raise retrieval.answerable, or fine-tune the model",
}
"""What a user can do about each."""


class Failure(NamedTuple):
    """`rank` is that of the first right page in the ranking, from 1; None if it is nowhere."""

    cause: Cause
    rank: int | None


def failure(row: Row) -> Failure | None:
    """Why the answer of a row is wrong; None for a right one and for what was not scored."""
    if row.error or not row.answered or not score.can_be_scored(row):
        return None
    if not row.case.answerable:
        return None if row.abstained else Failure(Cause.SHOULD_ABSTAIN, None)
    right = score.correct(row)
    if right and score.cites_right_page(row) is not False:
        return None
    return Failure(Cause.WRONG_CITATION if right else _lost(row), first_rank(row))


def first_rank(row: Row) -> int | None:
    """The rank of the first chunk on a relevant page, from 1."""
    return min(filter(None, (_rank(row, ref) for ref in row.case.relevant)), default=None)


def _lost(row: Row) -> Cause:
    """Where the first page that an answer needs was lost."""
    for number, ref in enumerate(row.case.relevant):
        if number in row.missing:
            return Cause.NOT_PARSED
        if _on(ref, row.sources):
            continue
        if _on(ref, row.cut):
            return Cause.CUT
        return Cause.NOT_RETRIEVED if _rank(row, ref) is None else Cause.RANKED_LOW
    return Cause.WRONG_ABSTENTION if row.abstained else Cause.WRONG_GENERATION


def _rank(row: Row, ref: PageRef) -> int | None:
    return next((rank for rank, hit in enumerate(row.ranking, 1) if _on(ref, [hit])), None)


def _on(ref: PageRef, places: Sequence[Hit | Shown]) -> bool:
    return any(
        place.document == ref.document and ref.page in (None, place.page) for place in places
    )
