"""An answer being written: the model's text, checked sentence by sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rag_bot import prompt, survey
from rag_bot.asks import for_a_sentence
from rag_bot.cite import Claim, ClaimStream, Piece, printed
from rag_bot.rank import likeliest
from rag_bot.types import Citation, Source, Verdict
from rag_bot.verify import Verifier, citation
from rag_bot.words import content

if TYPE_CHECKING:
    from rag_bot.embed import Embedder

QUOTE_FROM = 0.55
"""A passage that fits the question this well is quoted when the model's own words don't hold."""
OVERRULED_FROM = 0.5
"""From this probability on, the reader is believed where a small model declines.

That one can't tell: of 233 questions over the held-out documents, 86 % of those that the shipped
model declined have an answer there, and 77 % of those that it answered.
"""
SURE_FROM = 0.7
"""From this probability on, an answer that lacks what the reader found gives way to a quotation.

On the held-out documents the sentence it points at holds the answer in 54 % of the questions
between 0.7 and 0.75 and in 83 % of those above 0.8, but in 31 % of those just below.
"""
_SAYS = "The documents say: “{}”"
QUOTATION = re.compile(
    rf"^{re.escape(_SAYS).replace(re.escape('{}'), '(.*)')}(?=(?: \[\d+\])*$)", re.MULTILINE
)
"""Words of a document that code gave for the model's: group 1."""
_MOST_CLAIMS = 6
_CIRCLE = re.compile(r"(.{8,}?)\1\1$", re.DOTALL)
_LOOP = 400
"""Characters in which a circle is looked for."""


class Draft:
    """The text of a model that was shown `sources`, under their markers.

    `numbers` are those that the answer has for them, by chunk id, where they are others.
    `believed` says whether the model is, where it declines; `sentences` that a few words are never
    enough.
    """

    def __init__(
        self,
        query: str,
        sources: Sequence[Source],
        embedder: Embedder,
        numbers: Mapping[str, int] | None = None,
        *,
        believed: bool = False,
        sentences: bool = False,
    ) -> None:
        self._verifier = Verifier(query, sources, embedder)
        self._markers = {source.marker for source in sources}
        self._footnotes = {n for source in sources for n in printed(source.chunk.text)}
        self._numbers = numbers or {each.chunk.id: each.marker for each in sources}
        self._found = evidence_of(sources)
        self._believed = believed
        self._in_full = not believed and (sentences or for_a_sentence(query))
        self._repeated = False
        self._sound = 0
        self.text = ""
        self.declined = False
        self.verdicts: list[Verdict] = []
        self.unresolved: list[int] = []

    @property
    def checked(self) -> str:
        """The text as far as it was judged and says something new."""
        return self.text[: self._sound].strip()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Each citation once, in the order of the text."""
        return tuple(dict.fromkeys(c for verdict in self.verdicts for c in verdict.citations))

    @property
    def overruled(self) -> bool:
        """Whether the reader is surer of an answer than a small model that declines is of none.

        A server's model is believed.
        """
        return self._found is not None and self._found.sure >= OVERRULED_FROM

    @property
    def tells_what_was_found(self) -> bool:
        """Whether what holds of the text has the words that the reader is sure of, or half of them.

        A small model often says something that is true of a source and no answer. On 60 questions
        of SQuAD `val-v2`, 5 of 16 drafts that held had the answer, and 12 of the sentences that
        the reader pointed at instead.
        """
        if self._found is None or self._found.sure < SURE_FROM:
            return True
        words = content(self._found.words)
        told = content(" ".join(verdict.claim for verdict in self.verdicts if verdict.citations))
        return len(words & told) >= len(words) / 2

    def write(self, stream: Iterator[str]) -> Iterator[str]:
        """Hand on the model's text with checked markers, and stop it when it says no more.

        That it declines is not handed on: the answer is then another one, or says so itself.
        """
        opening, undecided = "", True
        for text in self._judged(stream):
            opening += text
            undecided = undecided and _may_decline(opening)
            if not undecided:
                yield opening
                opening = ""
        if opening and not self.declined:
            yield opening

    def _judged(self, stream: Iterator[str]) -> Iterator[str]:
        claims = ClaimStream()
        with contextlib.closing(_Ending(stream)) as pieces:
            for piece in pieces:
                for event in claims.feed(piece) if piece else claims.close():
                    text = event.text if isinstance(event, Piece) else self._judge(event)
                    self.text += text
                    if isinstance(event, Claim) and not (self._repeated or self.declined):
                        self._sound = len(self.text)
                    if text:
                        yield text
                    if isinstance(event, Claim) and self._enough():
                        return
                if piece and _loops(self.text):
                    return

    def quotation(self) -> Verdict | None:
        """What the reader pointed at, or else the passage that fits the question well."""
        if self._found:
            score, cited = self._found.sure, self._numbered(self._found.citation)
        else:
            found = self._verifier.closest()
            if found is None or found[0] < QUOTE_FROM:
                return None
            score, passage = found
            cited = self._numbered(citation(passage.source, passage.start, passage.end))
        return _quoted(cited, score)

    def settled(self) -> Said | str:
        """What is answered in the end, or the reason for not answering (`abstain.REASONS`)."""
        if self.citations and self.tells_what_was_found:
            return self._in_sentences() or Said(self.checked, self.citations, tuple(self.verdicts))
        declined = self.declined and (self._believed or not self.overruled)
        quotation = None if declined else self.quotation()
        if quotation is None:
            return "model" if declined else "unsupported"
        return _quoting([quotation])

    def _in_sentences(self) -> Said | None:
        """The sentences behind what a small model said in a few words, if they are asked for.

        "Current demand" is true of a source and tells nobody how the inventory changed.
        """
        if not self._in_full:
            return None
        quoted: dict[str, Verdict] = {}
        for verdict in self.verdicts:
            for cited in verdict.citations[:1]:
                if len(verdict.claim.split()) > len(cited.quote.split()) / 2:
                    return None
                quotation = _quoted(cited, verdict.score)
                quoted.setdefault(quotation.claim, quotation)
        return _quoting(list(quoted.values()))

    def _judge(self, claim: Claim) -> str:
        """Note the verdict; returns the markers that the claim has earned."""
        if _plain(claim.text) == _plain(prompt.NO_ANSWER):
            self.declined = True
            return ""
        if claim.text in (verdict.claim for verdict in self.verdicts):
            self._repeated = True
            return ""
        # "[14]" of an encyclopaedia is copied with its sentence, and names no source of ours.
        known = self._markers | self._footnotes
        self.unresolved += [n for n in claim.markers if n not in known]
        verdict = self._verifier.check(claim)
        verdict = replace(verdict, citations=tuple(map(self._numbered, verdict.citations)))
        self.verdicts.append(verdict)
        return "".join(f" [{cited.marker}]" for cited in verdict.citations)

    def _numbered(self, cited: Citation) -> Citation:
        return replace(cited, marker=self._numbers[cited.chunk_id])

    def _enough(self) -> bool:
        # Where the reader has something to quote instead, one sentence that does not hold is one
        # too many: of answers that begin so, one in five says anything that holds later on.
        patience = 1 if self._found and not self.citations else 2
        last = [verdict.label for verdict in self.verdicts[-patience:]]
        rambling = last == ["unsupported"] * patience
        enough = len(self.verdicts) >= _MOST_CLAIMS
        return self.declined or self._repeated or rambling or enough


class Said(NamedTuple):
    """A checked answer: its text with markers, what it cites, and what was found of each claim."""

    text: str
    citations: tuple[Citation, ...]
    verdicts: tuple[Verdict, ...]


class Evidence(NamedTuple):
    """The words that answer, the sentences they stand in, and how sure the reader is of them."""

    words: str
    citation: Citation
    sure: float


def evidence_of(sources: Sequence[Source]) -> Evidence | None:
    """What the reader points at in the source that is both well ranked and likely to answer."""
    source = likeliest(sources)
    reading = source.reading if source else None
    if source is None or reading is None or reading.start >= reading.end:
        return None
    start, end = reading.start, reading.end
    cited = survey.around(source, start, end)
    return Evidence(source.chunk.text[start:end], cited, reading.answerable)


def _quoted(cited: Citation, score: float) -> Verdict:
    claim = _SAYS.format(" ".join(cited.quote.split()))
    return Verdict(claim, (cited,), "supported", round(score, 4))


def _quoting(quotations: Sequence[Verdict]) -> Said:
    """An answer in nothing but quotations."""
    text = "\n\n".join(f"{each.claim} [{each.citations[0].marker}]" for each in quotations)
    return Said(text, tuple(each.citations[0] for each in quotations), tuple(quotations))


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _may_decline(opening: str) -> bool:
    """Whether a text that begins so may yet say that there is no answer."""
    return _plain(prompt.NO_ANSWER).startswith(_plain(opening))


def _loops(text: str) -> bool:
    """Whether a text ends in the same words three times over: the model turns in a circle."""
    return bool(_CIRCLE.search(text[-_LOOP:]))


class _Ending:
    """A stream without the prompt's stars, followed by one empty piece: its end is an event too."""

    def __init__(self, stream: Iterator[str]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        held = ""
        for piece in self._stream:
            held = (held + piece).replace(prompt.MARK, "")
            cut = len(held) - held.endswith(prompt.MARK[0])
            if cut:
                yield held[:cut]
            held = held[cut:]
        if held:
            yield held
        yield ""

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close:
            close()
