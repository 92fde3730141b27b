"""The line from a question to a checked answer. Web, API, command line and evaluation read it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rag_bot import context, prompt, survey
from rag_bot.abstain import NOT_ANSWERED, REASONS, answerable, evidence, trust
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.draft import Draft, Said, evidence_of
from rag_bot.filler import question_in
from rag_bot.index import Flipped, Index, fingerprint
from rag_bot.parts import Part, parts
from rag_bot.rank import distinct, merged, reranked
from rag_bot.retrieve import retrieve
from rag_bot.rewrite import completed, name, refers, standalone
from rag_bot.scope import Scope, take, without
from rag_bot.spell import corrected
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

if TYPE_CHECKING:
    from rag_bot.embed import Embedder
    from rag_bot.generate import Generator as Model
    from rag_bot.read import Reader

_T = TypeVar("_T")


class Pipeline:
    """Everything an answer needs, models loaded once and only when first needed."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        embedder: Callable[[], Embedder],
        generator: Callable[[], Model],
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
        query = self._spelled(question_in(query), collection)
        return self._find(query, collection, limit, _scopes(scope, written))[0]

    def sources(self, query: str, *, collection: str | None = None) -> tuple[Source, ...]:
        """The sources of an answer to a standalone query, before they are cut to the prompt."""
        return self._find(_encodable(query), collection)[0]

    def query(
        self, question: str, history: Sequence[Message] = (), *, collection: str | None = None
    ) -> str:
        """The standalone form of a question, without its filters: what is searched for.

        Slips of the finger are put right by the words of the collection. Errors are as in `search`.
        """
        plain = self._spelled(_plain(_encodable(question)), collection)
        return standalone(
            plain, [replace(each, text=question_in(without(each.text))) for each in history]
        )

    def answer(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        collection: str | None = None,
        scope: Scope | None = None,
    ) -> Iterator[Event]:
        """One question's events: `Retrieved`, then `Token`s, then `Finished`.

        The tokens joined are the text of the answer, unless the model's words did not hold, lack
        what the reader found, or are a few where a sentence is asked for: then `Finished` brings a
        quotation or an abstention in their place. Closing the iterator stops the model; where a
        question has several parts, after the part that it writes. `scope` and errors are as in
        `search`; filters in `history` count no more.
        """
        clock = _Clock()
        question = _encodable(question)
        scopes = _scopes(scope, take(question)[1])
        query = self.query(question, history, collection=collection)
        many = survey.wanted(query)
        if many:
            yield from self._survey(question, query, many, collection, scopes, clock)
            return
        several, looks = self._looked(
            self._parts(question, history, collection), collection, scopes
        )
        # Where no part gets an answer, the whole still may: it says more than they do.
        if not all(look.reason for look in looks):
            answered = yield from self._several(question, query, several, looks, clock)
            if answered:
                return
        look = self._look(query, collection, scopes)
        clock.lap("retrieve")
        yield Retrieved(query, look.sources)

        base = _base(question, query, look)
        if look.reason:
            yield _abstention(base, look.reason, clock, scopes)
            return

        generator = self.generator()
        clock.lap("load")
        shown, draft, tokens = self._draft(query, look.sources, generator)
        for token in tokens:
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
        said = draft.settled()
        if isinstance(said, str):
            yield _abstention(base, said, clock)
            return
        yield _answered(base, said.text, said.citations, said.verdicts, clock)

    def _spelled(self, query: str, collection: str | None) -> str:
        def spelled(held: Collection, embedder: Embedder) -> str:
            return corrected(
                query,
                lambda word: embedder.has_word(word) or self.index.holds(held, word),
                lambda word, slips: self.index.alike(held, word, slips),
            )

        return self._settled(collection, spelled) if query else query

    def _draft(
        self,
        query: str,
        sources: Sequence[Source],
        generator: Model,
        numbers: Mapping[str, int] | None = None,
    ) -> tuple[tuple[Source, ...], Draft, Iterator[str]]:
        """What is shown of the sources, and the draft over them as it is written."""
        settings = self.settings.generation
        shown = context.fit(sources, settings.context_tokens, generator.count)
        believed = bool(self.settings.models.endpoint)
        draft = Draft(
            query,
            shown,
            self.embedder(),
            numbers,
            believed=believed,
            sentences=settings.sentences,
        )
        return shown, draft, draft.write(generator.stream(prompt.build(query, shown)))

    def _parts(
        self, question: str, history: Sequence[Message], collection: str | None
    ) -> tuple[Part, ...]:
        """The parts of a question, each standing alone in the conversation.

        What the first part names is what the others are about: only where it leans on the
        conversation may they.
        """
        found = parts(_plain(question))
        asked = []
        for part in found:
            query = self.query(part.query, history, collection=collection)
            if part is found[0] and query == self.query(part.query, collection=collection):
                history = ()
            asked.append(part._replace(query=query))
        return tuple(asked)

    def _looked(
        self, several: Sequence[Part], collection: str | None, scopes: tuple[Scope, ...]
    ) -> tuple[list[Part], list[_Look]]:
        """What was found for each part.

        One that refers to what a part before it names is asked of that: "Who is …, and what is her
        number?" Where nothing is found so, it is asked as it was.
        """
        asked: list[Part] = []
        looks: list[_Look] = []
        named = ""
        for part in several:
            leans = bool(named) and refers(part.said)
            fuller = part._replace(query=completed(part.query, named)) if leans else part
            look = self._look(fuller.query, collection, scopes)
            if leans and look.reason:
                fuller, look = part, self._look(part.query, collection, scopes)
            asked.append(fuller)
            looks.append(look)
            found = None if look.reason else evidence_of(look.sources)
            named = (found and name(found.words, part.said)) or named
        return asked, looks

    def _several(
        self,
        question: str,
        query: str,
        several: Sequence[Part],
        looks: Sequence[_Look],
        clock: _Clock,
    ) -> Generator[Event, None, bool]:
        """The answer to each part of a question, one under the other; what has none is named.

        Each part is prompted by itself, as any question is, and its text comes when it is checked.
        A passage has one number, whichever parts it was found for. Where no part gets an answer,
        nothing is said, and False returned.
        """
        found = merged([look.sources for look in looks])
        numbers = {source.chunk.id: source.marker for source in found}
        clock.lap("retrieve")
        generator = self.generator()
        clock.lap("load")
        shown: list[tuple[Source, ...]] = []
        unresolved: list[int] = []
        pieces: list[str] = []
        given: dict[str, Said] = {}
        sure: list[float] = []
        unanswered: list[str] = []
        for part, look in zip(several, looks, strict=True):
            said = None
            if not look.reason:
                fitting, draft, tokens = self._draft(part.query, look.sources, generator, numbers)
                shown.append(fitting)
                for _ in tokens:
                    pass
                settled = draft.settled()
                said = settled if isinstance(settled, Said) else None
                # Of the numbers in the answer, a number that the prompt lacked is none either.
                unresolved += [len(found) + number for number in draft.unresolved]
            if said is None:
                unanswered.append(part.said)
                piece = NOT_ANSWERED.format(part=part.said.strip(" ?.,;"))
            else:
                if not given:
                    yield Retrieved(query, found)
                sure.append(look.confidence)
                piece = "" if said.text in given else said.text
                given.setdefault(said.text, said)
            if piece:
                pieces.append(f"\n\n{piece}" if pieces else piece)
            if given and piece:
                clock.mark("first_token")
                # What could not be answered before is told with the first answer.
                yield Token("".join(pieces) if len(given) == 1 and said else pieces[-1])
        clock.lap("generate")
        if not given:
            return False

        base = replace(
            # As sure as of the part that it is least sure of.
            _base(question, query, _Look(merged(shown, numbers), min(sure))),
            model_id=generator.model_id,
            unresolved=tuple(unresolved),
            parts=tuple(part.said for part in several),
            unanswered=tuple(unanswered),
        )
        citations = tuple(dict.fromkeys(c for said in given.values() for c in said.citations))
        verdicts = tuple(verdict for said in given.values() for verdict in said.verdicts)
        yield _answered(base, "".join(pieces), citations, verdicts, clock)
        return True

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
        # A search tells of every place, an answer needs each text once.
        enough = max(limit, settings.read) if limit else settings.candidates
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
        if not limit:
            sources = distinct(sources, max(settings.top_k, settings.read))
        if reader:
            sources = reranked(query, sources, reader, settings)
        return sources[: limit or settings.top_k], found.cosine

    def _look(self, query: str, collection: str | None, scopes: tuple[Scope, ...]) -> _Look:
        """Search, read, and decide whether to ask the model at all."""
        sources, cosine = self._find(query, collection, scopes=scopes)
        settings = self.settings.retrieval
        found = evidence(query, sources, cosine)
        read = answerable(sources)
        reason = ""
        if not query:
            reason = "empty_question"
        elif not sources:
            reason = "empty_scope" if scopes else "empty_collection"
        elif found < settings.floor or (read is not None and read < settings.answerable):
            reason = "no_evidence"
        return _Look(sources, round(found if read is None else trust(read), 4), reason)


class _Look(NamedTuple):
    """What was found for a question; `reason` says why it can't be answered, if so."""

    sources: tuple[Source, ...]
    confidence: float
    reason: str = ""


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


def _base(question: str, query: str, look: _Look) -> Answer:
    found, sure = look.sources, look.confidence
    return Answer(question, query, "", found, (), (), False, "", "", confidence=sure)


def _encodable(text: str) -> str:
    """A text without lone surrogates, which JSON can carry and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def _plain(question: str) -> str:
    """What is asked, without filters and without what a long message has around it."""
    return question_in(take(question)[0].strip())


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
