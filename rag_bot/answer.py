"""The line from a question to a checked answer. Web, API, command line and evaluation read it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rag_bot import context, prompt, survey
from rag_bot.abstain import REASONS, answerable, evidence, trust
from rag_bot.catalogue import Collection
from rag_bot.cite import Claim, ClaimStream, Piece
from rag_bot.config import Settings
from rag_bot.index import Flipped, Index, fingerprint
from rag_bot.rank import distinct, likeliest, reranked
from rag_bot.retrieve import retrieve
from rag_bot.rewrite import standalone
from rag_bot.scope import Scope, take, without
from rag_bot.survey import Survey
from rag_bot.types import (
    Answer,
    Citation,
    Event,
    Finished,
    Message,
    Retrieved,
    Source,
    Token,
    Verdict,
)
from rag_bot.verify import Verifier, citation
from rag_bot.words import content

if TYPE_CHECKING:
    from rag_bot.embed import Embedder
    from rag_bot.generate import Generator
    from rag_bot.read import Reader

_T = TypeVar("_T")

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
_MOST_CLAIMS = 6
_LOOP = 24


class Pipeline:
    """Everything an answer needs, models loaded once and only when first needed."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        embedder: Callable[[], Embedder],
        generator: Callable[[], Generator],
        reader: Callable[[], Reader | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.index = index
        self.embedder = embedder
        self.generator = generator
        self.reader = reader
        self._known: tuple[Settings, str] | None = None

    def _fingerprint(self) -> str:
        # Once for these settings, which a rebuild replaces: it reads the embedder's files, and
        # that takes as long as a search.
        settings, known = self.settings, self._known
        if known is None or known[0] is not settings:
            known = self._known = (settings, fingerprint(settings))
        return known[1]

    def search(
        self,
        query: str,
        *,
        collection: str | None = None,
        limit: int | None = None,
        scope: Scope | None = None,
    ) -> tuple[Source, ...]:
        """The best chunks for a query, numbered by rank. No LLM is needed.

        Only those of documents that fit `scope` and the filters in the query (`scope.take`).
        Raises UsageError for an unknown collection or a date that is none, IndexMismatch for
        other settings.
        """
        query, written = take(_encodable(query))
        return self._find(query, collection, limit, _scopes(scope, written))[0]

    def sources(self, query: str, *, collection: str | None = None) -> tuple[Source, ...]:
        """The sources of an answer to a standalone query, before they are cut to the prompt."""
        return self._find(_encodable(query), collection)[0]

    def query(self, question: str, history: Sequence[Message] = ()) -> str:
        """The standalone form of a question, without its filters: what is searched for."""
        plain = take(_encodable(question))[0].strip()
        return standalone(plain, [replace(each, text=without(each.text)) for each in history])

    def answer(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        collection: str | None = None,
        scope: Scope | None = None,
    ) -> Iterator[Event]:
        """One question's events: `Retrieved`, then `Token`s, then `Finished`.

        The tokens joined are the text of the answer, unless the model's words did not hold, or lack
        what the reader found: then
        `Finished` brings a quotation or an abstention in their place. Closing the iterator stops
        the model. `scope` and errors are as in `search`; filters in `history` count no more.
        """
        clock = _Clock()
        question = _encodable(question)
        scopes = _scopes(scope, take(question)[1])
        query = self.query(question, history)
        many = survey.wanted(query)
        if many:
            yield from self._survey(question, query, many, collection, scopes, clock)
            return
        sources, cosine = self._find(query, collection, scopes=scopes)
        clock.lap("retrieve")
        yield Retrieved(query, sources)

        found = evidence(query, sources, cosine)
        read = answerable(sources)
        confidence = round(found if read is None else trust(read), 4)
        base = Answer(question, query, "", sources, (), (), False, "", "", confidence=confidence)
        reason = self._why_not(query, sources, found, read)
        if reason == "empty_collection" and scopes:
            yield _abstention(base, "empty_scope", clock, scopes)
            return
        if reason:
            yield _abstention(base, reason, clock)
            return

        generator = self.generator()
        clock.lap("load")
        shown = context.fit(sources, self.settings.generation.context_tokens, generator.count)
        draft = _Draft(query, shown, self.embedder())
        for token in draft.write(generator.stream(prompt.build(query, shown))):
            clock.mark("first_token")
            yield Token(token)
        clock.lap("generate")

        base = replace(
            base,
            sources=shown,
            verdicts=tuple(draft.verdicts),
            model_id=generator.model_id,
            unresolved=tuple(draft.unresolved),
        )
        cited = draft.citations
        if cited and draft.tells_what_was_found:
            yield _answered(base, draft.checked, cited, base.verdicts, clock)
            return
        declined = draft.declined and (bool(self.settings.models.endpoint) or not draft.overruled)
        quotation = None if declined else draft.quotation()
        if quotation:
            quote = quotation.citations[0]
            text = f"{quotation.claim} [{quote.marker}]"
            yield _answered(base, text, (quote,), (quotation,), clock)
            return
        yield _abstention(base, "model" if declined else "unsupported", clock)

    def _survey(
        self,
        question: str,
        query: str,
        many: Survey,
        collection: str | None,
        scopes: tuple[Scope, ...],
        clock: _Clock,
    ) -> Iterator[Event]:
        """The answer to a question about many documents: no LLM is asked, code writes it."""
        reader, settings = self.reader(), self.settings.retrieval
        inner = survey.hop(many) if reader else None
        sources = self._find(inner.question, collection, scopes=scopes)[0] if inner else ()
        known = inner and survey.known(many, inner, sources)
        asked, first = known or (many, None)
        gathered = self._settled(
            collection,
            lambda held, embedder: survey.gather(
                self.index, embedder, held, asked, settings, scopes, 2 if first else 1
            ),
        )
        sources = ((first[0],) if first else ()) + gathered.sources
        clock.lap("retrieve")
        yield Retrieved(query, sources)

        listed: list[survey.Finding] = []
        text = ""
        found = survey.findings(asked, gathered, reader, self.embedder())
        for piece, told in survey.written(asked, gathered, found, first):
            clock.mark("first_token")
            text += piece
            listed += told
            yield Token(piece)
        clock.lap("read")
        base = Answer(question, query, "", (), (), (), False, "", "", confidence=1.0)
        if not listed:
            nothing = "empty_scope" if scopes else "empty_collection"
            reason = "no_evidence" if gathered.total else nothing
            base = replace(base, sources=sources[: settings.top_k], confidence=0.0)
            yield _abstention(base, reason, clock, scopes, survey.caveat(gathered))
            return
        verdicts = tuple(verdict for _, verdict in listed)
        base = replace(base, sources=tuple(source for source, _ in listed))
        yield _answered(base, text, tuple(v.citations[0] for v in verdicts), verdicts, clock)

    def _find(
        self,
        query: str,
        collection: str | None,
        limit: int | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> tuple[tuple[Source, ...], float]:
        return self._settled(
            collection, lambda held, embedder: self._found(query, held, embedder, limit, scopes)
        )

    def _settled(self, collection: str | None, find: Callable[[Collection, Embedder], _T]) -> _T:
        name = collection or self.settings.collection
        while True:
            with self.index.view():
                held = self.index.collection(name, self._fingerprint())
                embedder = self.embedder()
            # A rebuilt generation may begin to answer at any moment: then all is asked again.
            with contextlib.suppress(Flipped):
                return find(held, embedder)

    def _found(
        self,
        query: str,
        collection: Collection,
        embedder: Embedder,
        limit: int | None,
        scopes: tuple[Scope, ...],
    ) -> tuple[tuple[Source, ...], float]:
        settings = self.settings.retrieval
        reader = self.reader()
        enough = max(limit or settings.top_k, settings.read)
        found = retrieve(self.index, embedder, collection, query, settings, enough, scopes)
        with self.index.view():
            if not self.index.catalogue.is_live(collection):
                raise Flipped
            paths = self.index.catalogue.sources({hit.chunk.document_id for hit in found.hits})
        # A document that went since it was found is not shown any more.
        hits = [hit for hit in found.hits if hit.chunk.document_id in paths]
        sources = tuple(
            Source(
                marker=rank,
                chunk=hit.chunk,
                document=PurePath(paths[hit.chunk.document_id]).name,
                source=paths[hit.chunk.document_id],
                score=hit.score,
            )
            for rank, hit in enumerate(hits, start=1)
        )
        if reader:
            sources = reranked(query, sources, reader, settings)
        # A search tells of every place, an answer needs each text once.
        sources = sources[:limit] if limit else distinct(sources, settings.top_k)
        return sources, found.cosine

    def _why_not(
        self, query: str, sources: Sequence[Source], found: float, read: float | None
    ) -> str:
        settings = self.settings.retrieval
        if not query:
            return "empty_question"
        if not sources:
            return "empty_collection"
        if found < settings.floor or (read is not None and read < settings.answerable):
            return "no_evidence"
        return ""


class _Draft:
    """An answer being written: the model's text, checked sentence by sentence."""

    def __init__(self, query: str, sources: Sequence[Source], embedder: Embedder) -> None:
        self._verifier = Verifier(query, sources, embedder)
        self._markers = {source.marker for source in sources}
        self._found = evidence_of(sources)
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
                    if isinstance(event, Claim) and not self._repeated:
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
            score, cited = self._found.sure, self._found.citation
        else:
            found = self._verifier.closest()
            if found is None or found[0] < QUOTE_FROM:
                return None
            score, passage = found
            cited = citation(passage.source, passage.start, passage.end)
        claim = f"The documents say: “{' '.join(cited.quote.split())}”"
        return Verdict(claim, (cited,), "supported", round(score, 4))

    def _judge(self, claim: Claim) -> str:
        """Note the verdict; returns the markers that the claim has earned."""
        if _plain(claim.text) == _plain(prompt.NO_ANSWER):
            self.declined = True
            return ""
        if claim.text in (verdict.claim for verdict in self.verdicts):
            self._repeated = True
            return ""
        self.unresolved += [n for n in claim.markers if n not in self._markers]
        verdict = self._verifier.check(claim)
        self.verdicts.append(verdict)
        return "".join(f" [{cited.marker}]" for cited in verdict.citations)

    def _enough(self) -> bool:
        # Where the reader has something to quote instead, one sentence that does not hold is one
        # too many: of answers that begin so, one in five says anything that holds later on.
        patience = 1 if self._found and not self.citations else 2
        last = [verdict.label for verdict in self.verdicts[-patience:]]
        rambling = last == ["unsupported"] * patience
        enough = len(self.verdicts) >= _MOST_CLAIMS
        return self.declined or self._repeated or rambling or enough


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


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _may_decline(opening: str) -> bool:
    """Whether a text that begins so may yet say that there is no answer."""
    return _plain(prompt.NO_ANSWER).startswith(_plain(opening))


def _loops(text: str) -> bool:
    """Whether the end of a text has been said three times over: the model turns in a circle."""
    return len(text) > 3 * _LOOP and text.count(text[-_LOOP:]) >= 3


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


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = now - self._last
        self._last = now

    def mark(self, moment: str) -> None:
        """Seconds from the start to the first time this is called."""
        self._laps.setdefault(moment, time.perf_counter() - self._start)

    def laps(self) -> dict[str, float]:
        total = time.perf_counter() - self._start
        return {name: round(s, 4) for name, s in (self._laps | {"total": total}).items()}


def _encodable(text: str) -> str:
    """A text without lone surrogates, which JSON can carry and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def _answered(
    base: Answer,
    text: str,
    citations: tuple[Citation, ...],
    verdicts: tuple[Verdict, ...],
    clock: _Clock,
) -> Finished:
    # As sure as the sources are about the question, and the best claim is about its source.
    borne_out = max(verdict.score for verdict in verdicts if verdict.citations)
    return Finished(
        replace(
            base,
            text=text,
            citations=citations,
            verdicts=verdicts,
            confidence=round(base.confidence * borne_out, 4),
            timings=clock.laps(),
        )
    )


def _abstention(
    base: Answer,
    reason: str,
    clock: _Clock,
    scopes: Sequence[Scope] = (),
    caveat: str = "",
) -> Finished:
    text = REASONS[reason].format(scope=" ".join(map(str, scopes))) + caveat
    return Finished(replace(base, text=text, abstained=True, reason=reason, timings=clock.laps()))


def _scopes(*given: Scope | None) -> tuple[Scope, ...]:
    """Those that leave anything out."""
    return tuple(scope for scope in given if scope)
