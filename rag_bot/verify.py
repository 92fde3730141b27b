"""Is this sentence in the sources? Asked of code, not of the model.

A claim is held against every passage of the sources shown, alone and with its neighbour, by the
share of its words that the passage has; for the closest ones, embeddings then speak for words
said differently. A number or a name that the passage lacks, or a "not" that only one of the two
has, is never forgiven: what the question named must at least stand elsewhere in the source, and in
the passage itself where the question is whether it is so. An answer of a few words that stands
where the reader points needs no more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from rag_bot.catalogue import Vectors
from rag_bot.cite import Claim
from rag_bot.sentences import passages
from rag_bot.types import Citation, Source, Verdict
from rag_bot.words import CAPITALISED, INSIDE, content, months, numbers

SUPPORTED = 0.75
"""A claim whose score reaches this is supported: about one word in four may be its own."""
_CLOSEST = 6
_LEXICAL_WEIGHT = 0.7
_PAIR_COST = 0.05
"""Two passages are only quoted together where the second adds something."""
_CODE_GAIN = 0.1
"""An article number found is better evidence than any other word."""
_NEGATION = re.compile(
    r"\b(?:not|no|non|never|none|neither|nor|without|cannot|nichts?|kein\w*|nie(?:mals?)?|ohne|weder"
    r"|pas|jamais|aucune?|sans|ni|nunca|ning[uú]n[oa]?|niet|geen|nooit|zonder)\b|n['’]t\b",
    re.IGNORECASE,
)
_WHETHER = re.compile(
    r"\W*(?:(?:and|but|so|or)\s+)?(?:is|are|was|were|am|do|does|did|has|have|had|can|could|may|might"
    r"|must|shall|should|will|would|isn['’]t|aren['’]t|don['’]t|doesn['’]t|didn['’]t|whether"
    r"|ist|sind|war|waren|hat|haben|hatte|kann|können|darf|dürfen|muss|müssen|soll|wird|werden|gilt"
    r"|gibt|est-ce|y\s+a-t-il|est|sont|a-t-\w+|peut-\w+|doit-\w+)\b",
    re.IGNORECASE,
)
_FEW = 4
"""So many words may be a name or a figure, of which its sentence's "not" need not speak."""
_BEFORE = re.compile(r"(?:\S+\s+){0,3}$")
_NAME = re.compile(rf"{INSIDE}|^{CAPITALISED}(?= [A-ZÀ-Þ])")


class Encoder(Protocol):
    """What turns texts into unit vectors, one row each."""

    def encode(self, texts: Sequence[str]) -> Vectors: ...


class Passage(NamedTuple):
    """A slice of a source that could be quoted: offsets into the chunk's text.

    `known` are the words of the whole source, its headings and name; `known_numbers` its numbers.
    """

    source: Source
    start: int
    end: int
    text: str
    words: frozenset[str]
    numbers: frozenset[str]
    around: frozenset[str]
    known: frozenset[str]
    known_numbers: frozenset[str]
    pair: bool


class Verifier:
    """Holds the claims of one answer against its sources."""

    def __init__(self, question: str, sources: Sequence[Source], encoder: Encoder) -> None:
        self._question = question
        self._asked = content(question)
        self._asked_numbers = numbers(question)
        self._whether = bool(_WHETHER.match(question))
        self._encoder = encoder
        self._passages = [passage for source in sources for passage in _windows(source)]
        self._most_asked = max((len(self._asked & p.words) for p in self._passages), default=0)

    def check(self, claim: Claim) -> Verdict:
        """Supported with its citation, or unsupported with none.

        A source that the model named with a marker is preferred where it supports the claim.
        """
        words = content(claim.text)
        # What the question already said is no news, unless the claim says nothing else.
        news = words - self._asked or words
        if not news:
            return Verdict(claim.text, (), "unsupported", 0.0)
        named = set(claim.markers)
        pointed = self._pointed_at(claim.text, named)
        if pointed:
            score, best = pointed
            return Verdict(
                claim.text, (citation(best.source, best.start, best.end),), "supported", score
            )
        ranked = sorted(
            (
                (_overlap(news, words, passage), passage.source.marker in named, -order, passage)
                for order, passage in enumerate(self._passages)
                if self._may_support(claim.text, passage)
            ),
            key=lambda entry: entry[:3],
            reverse=True,
        )[:_CLOSEST]
        if not ranked:  # no passage has its numbers and names
            return Verdict(claim.text, (), "unsupported", 0.0)
        cosines = self._cosines(claim.text, [entry[3] for entry in ranked])
        scored = [
            (
                (_LEXICAL_WEIGHT * overlap + (1 - _LEXICAL_WEIGHT) * cosine)
                * self._on_topic(passage)
                - passage.pair * _PAIR_COST,
                passage,
            )
            for (overlap, _named, _order, passage), cosine in zip(ranked, cosines, strict=True)
        ]
        chosen = [
            each for each in scored if each[1].source.marker in named and each[0] >= SUPPORTED
        ]
        score, best = max(chosen or scored, key=lambda each: each[0])
        score = round(min(max(score, 0.0), 1.0), 4)
        if score < SUPPORTED:
            return Verdict(claim.text, (), "unsupported", score)
        return Verdict(
            claim.text, (citation(best.source, best.start, best.end),), "supported", score
        )

    def closest(self) -> tuple[float, Passage] | None:
        """The passage that fits the question best, and how well, in [0, 1]."""
        if not self._asked:
            return None
        codes = {word for word in self._asked if re.search(r"\d", word)}
        ranked = sorted(
            self._passages,
            key=lambda each: (len(codes & each.words), len(self._asked & each.words)),
            reverse=True,
        )[: 2 * _CLOSEST]
        # An article number or an error code is what the question is about, if it is anywhere.
        most = len(codes & ranked[0].words) if ranked else 0
        ranked = [each for each in ranked if len(codes & each.words) == most]
        if not ranked:
            return None
        scored = [
            (
                (len(self._asked & each.words) / len(self._asked) + cosine) / 2
                + bool(most) * _CODE_GAIN
                - each.pair * _PAIR_COST,
                each,
            )
            for each, cosine in zip(ranked, self._cosines(self._question, ranked), strict=True)
        ]
        return max(scored, key=lambda entry: entry[0])

    def _pointed_at(self, claim: str, named: set[int]) -> tuple[float, Passage] | None:
        """The passage that has the claim word for word where the reader sees the answer, if any.

        An answer of few words ("James Madison") has nothing to tell its subject by, nor whether
        the "not" of its sentence concerns it; but the reader has read it there for this question.
        """
        said = r"\s+".join(map(re.escape, claim.rstrip(".").split()))
        # "500 EUR" does not stand in "1,500 EUR", nor "20 °C" in "-20 °C".
        words = re.compile(
            rf"(?<!\w)(?<!\w[.,])(?<!(?<!\w)[-−]){said}(?!\w)(?![.,]\d)", re.IGNORECASE
        )
        found = []
        for passage in self._passages:
            reading = passage.source.reading
            if reading is None or passage.pair:
                continue
            read = passage.source.chunk.text[reading.start : reading.end]
            for match in words.finditer(passage.text):
                start, end = passage.start + match.start(), passage.start + match.end()
                if (
                    start < reading.end
                    and reading.start < end
                    and not _negated(claim, match, read, passage)
                ):
                    score = _LEXICAL_WEIGHT + (1 - _LEXICAL_WEIGHT) * reading.answerable
                    found.append((passage.source.marker in named, round(score, 4), passage))
        if not found:
            return None
        _, score, best = max(found, key=lambda each: each[:2])
        return (score, best) if score >= SUPPORTED else None

    def _cosines(self, text: str, passages: Sequence[Passage]) -> list[float]:
        """How close each passage is to a text, in [0, 1]."""
        vectors = self._encoder.encode([text, *(passage.text for passage in passages)])
        return [max(0.0, float(cosine)) for cosine in vectors[1:] @ vectors[0]]

    def _on_topic(self, passage: Passage) -> float:
        """Discounts a passage that says the same of something else than the question asks about.

        "14 days" is on many pages; the one that is meant shares the question's words too.
        """
        if not self._most_asked:
            return 1.0
        shared = len(self._asked & (passage.words | passage.around)) / self._most_asked
        return min(1.0, 0.1 + 1.2 * shared)

    def _may_support(self, claim: str, passage: Passage) -> bool:
        told = passage.numbers
        if not self._whether:
            told |= self._asked_numbers & passage.known_numbers
        if not numbers(claim) <= told:
            return False
        if _denies(claim) != _denies(passage.text):
            return False
        names = {term for name in _NAME.findall(claim) for term in content(name)}
        heard = passage.words
        if not self._whether:
            heard |= self._asked & passage.known
        return names <= heard


def _denies(text: str) -> bool:
    return bool(_NEGATION.search(text))


def _negated(claim: str, match: re.Match[str], read: str, passage: Passage) -> bool:
    """Whether words that stand in a passage are denied there: "Pets" in "No pets are allowed"."""
    if _denies(claim):
        return False
    before = _BEFORE.search(passage.text[: match.start()])
    near = f"{before.group() if before else ''} {read}"
    return _denies(near) or (len(claim.split()) > _FEW and _denies(passage.text))


def citation(source: Source, start: int, end: int) -> Citation:
    """A citation of `source.chunk.text[start:end]`."""
    chunk = source.chunk
    return Citation(
        marker=source.marker,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        document=source.document,
        page=chunk.page_start,
        quote=chunk.text[start:end],
        char_start=chunk.char_start + start,
        char_end=chunk.char_start + end,
    )


def _overlap(news: frozenset[str], words: frozenset[str], passage: Passage) -> float:
    # Mostly what is new must be there; agreeing with the question's words too breaks ties.
    return 0.9 * len(news & passage.words) / len(news) + 0.1 * len(words & passage.words) / len(
        words
    )


def _windows(source: Source) -> list[Passage]:
    """Each passage of a source, and each pair of neighbours."""
    text = source.chunk.text
    spans = passages(text)
    heading = content(source.chunk.heading)
    whole = content(text)
    known = whole | heading | content(source.document) | months(text)
    known_numbers = numbers(f"{text}\n{source.chunk.heading}\n{source.document}")
    found = []
    for width in (1, 2):
        for first in range(len(spans) - width + 1):
            start, end = spans[first].start, spans[first + width - 1].end
            quote = text[start:end]
            found.append(
                Passage(
                    source=source,
                    start=start,
                    end=end,
                    text=quote,
                    words=content(quote) | heading | months(quote),
                    numbers=numbers(quote),
                    # A sentence speaks of what its neighbours name; a row of a table does not.
                    around=frozenset() if "|" in quote else whole,
                    known=known,
                    known_numbers=known_numbers,
                    pair=width == 2,
                )
            )
    return found
