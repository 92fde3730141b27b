"""Training examples from what people said: preferences between answers, thumbs, corrections.

And what to ask them next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from eval.metrics.squad import normalize
from eval.rows import Row
from finetune import examples
from finetune.compose import Made, Serving, origins
from finetune.examples import QAExample, QASource, Split
from finetune.questions import Question
from rag_bot.cite import parse, renumbered
from rag_bot.draft import QUOTATION
from rag_bot.ledger import Origin
from rag_bot.prompt import NO_ANSWER
from rag_bot.types import OMITTED, Source
from rag_bot.words import content


def of_preferred(judged: Iterable[tuple[Row, Row]], serving: Serving) -> Iterator[Made]:
    """Of two runs' answers the better, and as the worse one the other, over today's sources.

    A case is left out where those lack a source that the better answer cites, where either run was
    shown a document that is gone or for testing, and where one answered in parts or about many
    documents: no one prompt shows their sources.
    """
    there: dict[str, list[Origin]] = defaultdict(list)  # of one file name there may be two
    for origin in origins(serving.pipeline):
        there[PurePath(origin.source).name].append(origin)
    for better, worse in judged:
        case = better.case
        then = {source.document for row in (better, worse) for source in row.sources}
        first = next((source.document for source in better.sources), "")
        document = case.relevant[0].document if case.relevant else case.group or first
        each = Question(document, case.question, kind="preferred", history=case.history)
        held = serving.split(document) != "test" and any(
            serving.split(name) == "test" for name in then
        )
        whole = all(row.abstained or row.prompt_sha256 for row in (better, worse))
        if held or not whole or not then <= there.keys():
            continue
        query = serving.query(each)
        shown = serving.shown(serving.sources(each, query))
        markers = {n for claim in parse(better.answer) for n in claim.markers}
        if not shown or (not better.abstained and not markers <= _places(better, shown).keys()):
            continue
        right, wrong = (_said(row, shown) for row in (better, worse))
        made = serving.example(each, query, shown, right, wrong)
        theirs = [origin for name in sorted(then) for origin in there[name]]
        yield made._replace(origins=tuple(dict.fromkeys([*made.origins, *theirs])))


def _said(row: Row, shown: Sequence[Source]) -> str:
    """A run's answer with the numbers that its sources have among those shown now."""
    if row.abstained:
        return NO_ANSWER
    return QUOTATION.sub(r"\1", renumbered(row.answer, _places(row, shown)).strip())


def _places(row: Row, shown: Sequence[Source]) -> dict[int, int]:
    """The numbers that a run's sources have now. A row keeps what was shown of a chunk."""
    return {
        then.marker: now.marker
        for then in row.sources
        for now in shown
        if then.document == now.document
        and all(part in now.chunk.text for part in then.text.split(OMITTED))
    }


def of_feedback(row: Mapping[str, Any], home: Mapping[str, Split]) -> QAExample | None:
    """An answer that a person approved of or corrected, over the sources it was given from.

    A correction is the answer, and what the bot had said is the worse one. Nothing for what was
    answered in parts, or of many documents by code: no one prompt shows its sources; nor for a
    correction that none of the sources bears out by a single word.
    """
    answer, correction = row["answer"], str(row["correction"]).strip()
    sources = tuple(_recorded(each) for each in answer.get("sources", ()))
    surveyed = not answer.get("model_id") and not answer.get("abstained")
    if not sources or surveyed or answer.get("parts") or not (row["thumb"] > 0 or correction):
        return None
    # The prompt counts the sources; an answer's markers may have gaps where some had no room.
    places = {each["marker"]: n for n, each in enumerate(answer["sources"], start=1)}
    said = renumbered(str(answer.get("text", "")).strip(), places)
    # Where code quoted in its place, the model is to say what was quoted.
    said = NO_ANSWER if answer.get("abstained") else QUOTATION.sub(r"\1", said)
    right = _cited(renumbered(correction, places), sources) if correction else said
    if not right:
        return None
    document = _cited_first(right, sources).document
    return QAExample(
        id=examples.id_of("feedback", str(row["created_at"]), row["question"]),
        document_id=document,
        question=str(answer.get("query") or row["question"]),
        answer=right,
        sources=sources,
        answerable=right != NO_ANSWER,
        split=home.get(document, "train"),
        kind="feedback",
        rejected=said if right != said else "",
    )


def _cited_first(answer: str, sources: Sequence[QASource]) -> QASource:
    """The source that an answer cites first; the first one where it cites none that is there."""
    markers = (n for claim in parse(answer) for n in claim.markers)
    return next((sources[n - 1] for n in markers if 0 < n <= len(sources)), sources[0])


def _recorded(source: Mapping[str, Any]) -> QASource:
    chunk, reading = source["chunk"], source.get("reading")
    return QASource(
        source["document"],
        chunk["page_start"],
        chunk["text"],
        chunk["heading"],
        tuple((a, b) for a, b in source.get("shown", ())),
        (reading["start"], reading["end"]) if reading else None,
        reading["answerable"] if reading else 0.0,
    )


def _cited(correction: str, sources: Sequence[QASource]) -> str:
    """A person's words, with the marker of the source that has most of them; nothing if none has.

    That the documents don't say it needs no source.
    """
    if normalize(correction) == normalize(NO_ANSWER):
        return NO_ANSWER
    if any(claim.markers for claim in parse(correction)):
        return correction
    words = content(correction)
    shares = [len(words & content(source.text)) for source in sources]
    return f"{correction} [{shares.index(max(shares)) + 1}]" if max(shares) else ""


def least_sure(made: Iterable[QAExample], count: int) -> list[tuple[float, str]]:
    """The questions of which the reader was least sure, and how sure: what to ask a person next.

    Uncertainty sampling (Lewis and Gale, 1994). Questions that models are judged by are left out:
    what a person says of those must not be learned.
    """
    asked = [each for each in made if each.answerable and each.split != "test"]
    ranked = sorted((max(source.sure for source in each.sources), each.question) for each in asked)
    return ranked[:count]
