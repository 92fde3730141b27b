"""Training examples from questions about a user's documents, through the real retriever and reader.

Each is searched for as a user's question would be, and the sources that serving would show are kept
with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import NamedTuple

from finetune import examples
from finetune.examples import QAExample, Split, of_source
from finetune.questions import Question
from finetune.spans import Lesson
from rag_bot import context
from rag_bot.answer import Pipeline
from rag_bot.index import fingerprint
from rag_bot.ledger import Origin
from rag_bot.prompt import NO_ANSWER
from rag_bot.rank import header
from rag_bot.types import Source

REMOVED = 0.1
"""Of the answerable questions, so many come once more without the source that answers."""
_SHUFFLED = 0.3
"""So many have their sources in another order: the right one is not always the first."""
_DEEP = 12
"""Sources looked at for the right one, or for others in its place."""


class Made(NamedTuple):
    """An example with the documents that it quotes, for the ledger."""

    example: QAExample
    origins: tuple[Origin, ...]


class Serving:
    """The pipeline as it would answer, but for what must not be shown.

    `home` says each document's split: what is for testing is a source of nothing else.
    """

    def __init__(self, pipeline: Pipeline, home: Mapping[str, Split]) -> None:
        self.pipeline = pipeline
        self.home = home

    def split(self, document: str) -> Split:
        """The split of a document; what is not known is for training."""
        return self.home.get(document, "train")

    def query(self, each: Question) -> str:
        """What is searched for where the question is asked in its conversation."""
        return self.pipeline.query(each.question, each.history)

    def sources(self, each: Question, query: str) -> list[Source]:
        """What would be found, with the next ones in the place of what must not be shown."""
        found = self.pipeline.sources(query)
        kept = self._allowed(found, each)
        if len(kept) < len(found):
            known = {source.chunk.id for source in found}
            kept += [s for s in self.deep(each, query) if s.chunk.id not in known]
        return kept[: len(found)]

    def deep(self, each: Question, query: str) -> list[Source]:
        """The same, further down."""
        found = self._allowed(self.pipeline.search(query, limit=_DEEP), each)
        # Where there is a reader, what it did not come to would be shown whole or not at all.
        return [source for source in found if source.reading] if self.pipeline.reader() else found

    def shown(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """Sources numbered as they come, cut to the prompt."""
        if not sources:
            return ()
        numbered = [replace(source, marker=n) for n, source in enumerate(sources, start=1)]
        budget = self.pipeline.settings.generation.context_tokens
        return context.fit(numbered, budget, self.pipeline.generator().count)

    def origins(self, sources: Iterable[Source]) -> tuple[Origin, ...]:
        """The documents of sources."""
        return _origins(self.pipeline, {source.chunk.document_id for source in sources})

    def example(
        self, each: Question, query: str, shown: Sequence[Source], answer: str, rejected: str
    ) -> Made:
        """The example of a question over what is shown, with the answer that would be worse."""
        made = QAExample(
            id=examples.id_of(each.document, query, each.kind, answer),
            document_id=each.document,
            question=query,
            answer=answer,
            sources=tuple(map(of_source, shown)),
            answerable=answer != NO_ANSWER,
            split=self.split(each.document),
            kind=each.kind,
            rejected=rejected if rejected != answer else "",
        )
        return Made(made, self.origins(shown))

    def _allowed(self, sources: Iterable[Source], each: Question) -> list[Source]:
        testing = self.split(each.document) == "test"
        return [source for source in sources if testing or self.split(source.document) != "test"]


def origins(pipeline: Pipeline) -> tuple[Origin, ...]:
    """The documents of a pipeline's collection."""
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(settings.collection, fingerprint(settings))
    return _origins(pipeline, {entry.id for entry in index.catalogue.entries(held)})


def _origins(pipeline: Pipeline, document_ids: set[str]) -> tuple[Origin, ...]:
    found = pipeline.index.catalogue.origins(document_ids)
    return tuple(Origin(*each) for each in found.values())


def compose(asked: Sequence[Question], serving: Serving, seed: int = 0) -> Iterator[list[Made]]:
    """The examples of each question: none where its answer is not shown, two where it is asked
    once more without the source that answers.
    """
    drawn = random.Random(seed)
    for each in asked:
        query = serving.query(each)
        found = serving.sources(each, query)
        if not each.answer:
            made = _unanswered(each, query, found, serving, drawn)
            yield [made] if made else []
            continue
        made = _answered(each, query, found, serving, drawn)
        removed = None
        if drawn.random() < REMOVED:
            said = _squeezed(each.answer)
            others = [
                source
                for source in serving.deep(each, query)
                if not _holds(source, each) and said not in _squeezed(source.chunk.text)
            ]
            others = others[: serving.pipeline.settings.retrieval.top_k]
            removed = _unanswered(replace(each, kind="removed"), query, others, serving, drawn)
        yield [one for one in (made, removed) if one]


def _answered(
    each: Question, query: str, found: list[Source], serving: Serving, drawn: random.Random
) -> Made | None:
    right = next((source for source in found if _holds(source, each)), None)
    if right is None:
        right = next((s for s in serving.deep(each, query) if _holds(s, each)), None)
        if right is None:
            return None
        place = drawn.randrange(len(found)) if found else 0
        found = [*found[:place], right, *found[place + 1 :]]
    if drawn.random() < _SHUFFLED:
        found = drawn.sample(found, len(found))
    shown = serving.shown(found)
    seen = next((source for source in shown if source.chunk.id == right.chunk.id), None)
    lines = [line.removeprefix("- ") for line in each.answer.split("\n")]
    if seen is None or not all(_squeezed(line) in _squeezed(seen.excerpt) for line in lines):
        return None
    if each.kind == "list":
        answer = "\n".join(f"- {line} [{seen.marker}]" for line in lines)
    else:
        answer = f"{' '.join(each.answer.split())} [{seen.marker}]"
    return serving.example(each, query, shown, answer, _worse(answer, shown, drawn))


def _unanswered(
    each: Question, query: str, found: Sequence[Source], serving: Serving, drawn: random.Random
) -> Made | None:
    shown = serving.shown(found)
    if not shown:
        return None
    return serving.example(each, query, shown, NO_ANSWER, _worse(NO_ANSWER, shown, drawn))


def _worse(answer: str, shown: Sequence[Source], drawn: random.Random) -> str:
    """What a model should not say: an invention, another source's words, or too little."""
    pointed = [
        (source.chunk.text[source.reading.start : source.reading.end].strip(), source.marker)
        for source in shown
        if source.reading
    ]
    said = _squeezed(answer.rpartition(" [")[0])
    wrong = [
        f"{words} [{marker}]"
        for words, marker in pointed
        if words and not (said and (said in _squeezed(words) or _squeezed(words) in said))
    ]
    if answer == NO_ANSWER:
        return drawn.choice(wrong) if wrong else ""
    if not wrong or drawn.random() < 0.25:
        return NO_ANSWER
    return drawn.choice(wrong)


class Read(NamedTuple):
    """A lesson for the reader, with its document, the headers of its passages and its origins."""

    lesson: Lesson
    kind: str
    document: str
    headers: Mapping[str, str]
    origins: tuple[Origin, ...]


def readings(asked: Sequence[Question], serving: Serving) -> Iterator[list[Read]]:
    """The reader's lesson of each question, none where retrieval does not find its passage.

    A question without an answer is one about the passage that was found first.
    """
    for each in asked:
        query = serving.query(each)
        found = serving.deep(each, query)
        right = next((source for source in found if _holds(source, each)), None)
        if not each.answer:
            right = found[0] if found else None
        start = -1
        if right:
            # Where its sentence stands: the same words may stand elsewhere and mean another thing.
            around = max(right.chunk.text.find(each.quote), 0)
            start = right.chunk.text.find(each.answer, around)
        if right is None or start < 0:
            yield []
            continue
        wrong = [
            source.chunk.text
            for source in found
            if source is not right and not (each.answer and each.answer in source.chunk.text)
        ]
        lesson = Lesson(
            query,
            right.chunk.text,
            header(right),
            (start, start + len(each.answer)) if each.answer else None,
            bool(each.answer),
            "own",
            tuple(wrong),
        )
        headers = {source.chunk.text: header(source) for source in found}
        yield [Read(lesson, each.kind, each.document, headers, serving.origins(found))]


def _holds(source: Source, each: Question) -> bool:
    text = _squeezed(source.chunk.text)
    if PurePath(source.source).name != each.document:
        return False
    if each.quote and _squeezed(each.quote) in text:
        return True
    return not each.quote and _squeezed(each.answer) in text


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold()
