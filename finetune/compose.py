"""Training examples from a user's own documents, through the real retriever and reader.

Questions come from rules (`eval.draft`, clozes, lists, statements), from golden cases that a
person accepted, from feedback and, if wanted, from the model itself, whose questions are only
taken where retrieval and reader find their way back. Each is searched for as a user's question
would be, and the sources that serving would show are kept with it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from eval import draft
from eval.cases import GoldenCase
from eval.rows import Row
from finetune import examples
from finetune.examples import QAExample, QASource, Split, of_source
from finetune.spans import Lesson
from rag_bot import context
from rag_bot.answer import Pipeline
from rag_bot.cite import parse, renumbered
from rag_bot.generate import Generator
from rag_bot.index import fingerprint
from rag_bot.ledger import Origin
from rag_bot.prompt import NO_ANSWER
from rag_bot.rank import header
from rag_bot.sentences import sentences
from rag_bot.types import OMITTED, Message, Source
from rag_bot.words import content

REMOVED = 0.1
"""Of the answerable questions, so many come once more without the source that answers."""
_SHUFFLED = 0.3
"""So many have their sources in another order: the right one is not always the first."""
_DEEP = 12
"""Sources looked at for the right one, or for others in its place."""
_ROUND_TRIP = 0.5
"""The reader's probability from which a question of the model's is taken."""
_CLOZE = re.compile(
    r"(?<=\s)(?:(?:EUR|USD|\$|€|£)\s?\d[\d.,]*\d|\d[\d.,]*\d(?:\s?%|\s[a-zµ°]{1,12})?"
    r"|[A-Z][\w-]+(?:\s[A-Z][\w-]+){1,3})(?=[\s.,;:)])"
)
_LIST = re.compile(
    r"(?m)^(?P<lead>[^\n]{8,120}):\n{1,2}(?P<items>(?:[ \t]*[-*•] [^\n]+(?:\n|$)){2,8})"
)
_ITEM = re.compile(r"(?m)^[ \t]*[-*•] (.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Question:
    """A question before it has sources.

    `quote` is the text of the document that proves `answer`; both are empty where nothing does.
    """

    document: str
    question: str
    answer: str = ""
    quote: str = ""
    kind: str = "own"
    history: tuple[Message, ...] = ()


class Made(NamedTuple):
    """An example with the documents that it quotes, for the ledger."""

    example: QAExample
    origins: tuple[Origin, ...]


# Questions


def questions(texts: Mapping[str, Sequence[str]], count: int, seed: int = 0) -> list[Question]:
    """At most so many questions by rule about documents' pages, a tenth of them near misses."""
    drawn = random.Random(seed)
    of_either = list(of_cases(draft.draft(texts, count=count, seed=seed)))
    drafted = [each for each in of_either if each.answer]
    misses = [each for each in of_either if not each.answer]
    share = count // 10
    found = drafted[: 4 * share]
    for others in (misses, _follow_ups(drafted), _statements(drafted, drawn), _lists(texts)):
        found += drawn.sample(others, min(share, len(others)))
    free = _clozes(texts)
    drawn.shuffle(free)
    found += free[: 2 * share]
    rest = drafted[4 * share :] + free[2 * share :]
    return (found + rest)[:count]


def of_cases(cases: Iterable[GoldenCase]) -> Iterator[Question]:
    """Golden cases as questions, of one source each."""
    for case in cases:
        kinds = [tag for tag in case.tags if tag in (*draft.KINDS, draft.NEAR_MISS)]
        kind = kinds[0] if kinds else "golden"
        if not case.answerable:
            yield Question(case.group, case.question, kind=kind, history=case.history)
        elif len(case.relevant) == 1 and case.references:
            (ref,) = case.relevant
            yield Question(
                ref.document, case.question, case.references[0], ref.quote, kind, case.history
            )


def _follow_ups(found: Sequence[Question]) -> list[Question]:
    """Second questions of a conversation, that begin with "And", after one about the same thing.

    Of what a document is asked, that is the question which shares most words with it, if any does:
    after another one its search would be completed with words that have nothing to do with it.
    """
    by_document: dict[str, list[Question]] = defaultdict(list)
    for each in found:
        if not each.history and len(each.question.split()) <= 16:
            by_document[each.document].append(each)
    made = []
    for asked in by_document.values():
        words = [content(each.question) for each in asked]
        for n, second in enumerate(asked[1::4]):
            here = 4 * n + 1
            common, place = max(
                (len(words[here] & each), -k) for k, each in enumerate(words) if k != here
            )
            if not common:
                continue
            first = asked[-place]
            turns = (Message("user", first.question), Message("assistant", first.answer))
            text = f"And {second.question[:1].lower()}{second.question[1:]}"
            made.append(replace(second, question=text, history=turns, kind="follow_up"))
    return made


def _statements(found: Sequence[Question], drawn: random.Random) -> list[Question]:
    """Is it so? The answer is the sentence that decides it, whether it agrees or not."""
    made = []
    for each in found:
        sentence = " ".join(each.quote.split()).rstrip(".")
        if each.kind not in ("number", "date", "money") or each.answer not in sentence:
            continue
        if drawn.random() < 0.7 or len(sentence.split()) > 25:
            continue
        said = sentence
        if drawn.random() < 0.5:
            said = sentence.replace(each.answer, _changed(each.answer, drawn))
        made.append(
            replace(
                each,
                question=f"Is it right that {said[:1].lower()}{said[1:]}?",
                answer=each.quote,
                kind="statement",
            )
        )
    return made


def _changed(value: str, drawn: random.Random) -> str:
    return re.sub(r"[1-9]", lambda m: str((int(m[0]) + drawn.randint(1, 8)) % 9 + 1), value)


def _lists(texts: Mapping[str, Sequence[str]]) -> list[Question]:
    made = []
    for document, pages in texts.items():
        for page in pages:
            for match in _LIST.finditer(page):
                items = _ITEM.findall(match["items"])
                lead = match["lead"].strip(" #*-")
                made.append(
                    Question(
                        document,
                        f"What is listed under “{lead}”?",
                        "\n".join(f"- {item}" for item in items),
                        items[0],
                        "list",
                    )
                )
    return made


def _clozes(texts: Mapping[str, Sequence[str]]) -> list[Question]:
    """A sentence with a value left out (Lewis et al., "Unsupervised QA by cloze", 2019)."""
    made = []
    for document, pages in texts.items():
        for page in pages:
            for a, b in sentences(page):
                sentence = page[a:b]
                if not 8 <= len(sentence.split()) <= 40 or "|" in sentence or "\n\n" in sentence:
                    continue
                match = _CLOZE.search(sentence)
                if match:
                    blank = f"{sentence[: match.start()]}…{sentence[match.end() :]}"
                    asked = f"What belongs in the gap: “{' '.join(blank.split())}”"
                    made.append(Question(document, asked, match[0], sentence, "cloze"))
    return made


def asked_by_model(
    texts: Mapping[str, Sequence[str]],
    generator: Generator,
    pipeline: Pipeline,
    count: int,
    seed: int = 0,
) -> Iterator[Question]:
    """Questions that the model writes about sentences, where retrieval and reader come back.

    Round-trip consistency (Alberti et al., 2019): taken is what the reader answers from that very
    sentence, with words of its own choosing, and surely.
    """
    drawn = random.Random(seed)
    told = [
        (document, page[a:b])
        for document, pages in texts.items()
        for page in pages
        for a, b in sentences(page)
        if 8 <= b - a <= 300 and 8 <= len(page[a:b].split()) <= 40
    ]
    drawn.shuffle(told)
    taken = 0
    for document, sentence in told[: 4 * count]:
        if taken == count:
            return
        prompt = (
            "Write one short question that this sentence answers. Write only the question.\n\n"
            f"{sentence}"
        )
        written = "".join(generator.stream([Message("user", prompt)])).strip()
        question = written.split("\n")[0].strip(" \"'“”*")
        if not question.endswith("?") or not 4 <= len(question.split()) <= 25:
            continue
        for source in pipeline.sources(question):
            reading = source.reading
            if reading is None or reading.answerable < _ROUND_TRIP:
                continue
            words = source.chunk.text[reading.start : reading.end].strip()
            if sentence in source.chunk.text and words and words in sentence:
                taken += 1
                yield Question(document, question, words, sentence, "model")
                break


# Examples


def compose(
    asked: Sequence[Question],
    pipeline: Pipeline,
    home: Mapping[str, Split],
    generator: Generator,
    seed: int = 0,
) -> Iterator[list[Made]]:
    """The examples of each question: none where its answer is not shown, two where it is asked
    once more without the source that answers.

    `home` says each document's split: what is for testing is a source of nothing else.
    """
    drawn = random.Random(seed)
    for each in asked:
        query = pipeline.query(each.question, each.history)
        found = _sources(each, query, pipeline, home)
        if not each.answer:
            made = _made(each, query, found, NO_ANSWER, pipeline, home, generator, drawn)
            yield [made] if made else []
            continue
        made = _answered(each, query, found, pipeline, home, generator, drawn)
        removed = None
        if drawn.random() < REMOVED:
            said = _squeezed(each.answer)
            others = [
                source
                for source in _allowed(_deep(pipeline, query), each, home)
                if not _holds(source, each) and said not in _squeezed(source.chunk.text)
            ]
            others = others[: pipeline.settings.retrieval.top_k]
            without = replace(each, kind="removed")
            removed = _made(without, query, others, NO_ANSWER, pipeline, home, generator, drawn)
        yield [one for one in (made, removed) if one]


class Read(NamedTuple):
    """A lesson for the reader, with its document, the headers of its passages and its origins."""

    lesson: Lesson
    kind: str
    document: str
    headers: Mapping[str, str]
    origins: tuple[Origin, ...]


def readings(
    asked: Sequence[Question], pipeline: Pipeline, home: Mapping[str, Split]
) -> Iterator[list[Read]]:
    """The reader's lesson of each question, none where retrieval does not find its passage.

    A question without an answer is one about the passage that was found first. `home` is as for
    `compose`.
    """
    for each in asked:
        query = pipeline.query(each.question, each.history)
        found = _allowed(_deep(pipeline, query), each, home)
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
        origins = pipeline.index.catalogue.origins({s.chunk.document_id for s in found})
        headers = {source.chunk.text: header(source) for source in found}
        told = tuple(Origin(*origin) for origin in origins.values())
        yield [Read(lesson, each.kind, each.document, headers, told)]


def _answered(
    each: Question,
    query: str,
    found: Sequence[Source],
    pipeline: Pipeline,
    home: Mapping[str, Split],
    generator: Generator,
    drawn: random.Random,
) -> Made | None:
    right = next((source for source in found if _holds(source, each)), None)
    if right is None:
        right = next((s for s in _deep(pipeline, query) if _holds(s, each)), None)
        if right is None:
            return None
        place = drawn.randrange(len(found)) if found else 0
        found = [*found[:place], right, *found[place + 1 :]]
    if drawn.random() < _SHUFFLED:
        found = drawn.sample(found, len(found))
    numbered = [replace(source, marker=n) for n, source in enumerate(found, start=1)]
    right = next(source for source in numbered if source.chunk.id == right.chunk.id)
    shown = _fitted(numbered, pipeline, generator)
    seen = next((s for s in shown if s.marker == right.marker), None)
    lines = [line.removeprefix("- ") for line in each.answer.split("\n")]
    if seen is None or not all(_squeezed(line) in _squeezed(seen.excerpt) for line in lines):
        return None
    if each.kind == "list":
        answer = "\n".join(f"- {line} [{right.marker}]" for line in lines)
    else:
        answer = f"{' '.join(each.answer.split())} [{right.marker}]"
    return _kept(each, query, shown, answer, pipeline, home, _worse(answer, shown, drawn))


def _made(
    each: Question,
    query: str,
    found: Sequence[Source],
    answer: str,
    pipeline: Pipeline,
    home: Mapping[str, Split],
    generator: Generator,
    drawn: random.Random,
) -> Made | None:
    numbered = [replace(source, marker=n) for n, source in enumerate(found, start=1)]
    shown = _fitted(numbered, pipeline, generator)
    if not shown:
        return None
    return _kept(each, query, shown, answer, pipeline, home, _worse(answer, shown, drawn))


def _kept(
    each: Question,
    query: str,
    shown: Sequence[Source],
    answer: str,
    pipeline: Pipeline,
    home: Mapping[str, Split],
    rejected: str,
) -> Made:
    catalogue = pipeline.index.catalogue
    origins = catalogue.origins({source.chunk.document_id for source in shown})
    return Made(
        QAExample(
            id=examples.id_of(each.document, query, each.kind, answer),
            document_id=each.document,
            question=query,
            answer=answer,
            sources=tuple(map(of_source, shown)),
            answerable=answer != NO_ANSWER,
            split=home.get(each.document, "train"),
            kind=each.kind,
            rejected=rejected if rejected != answer else "",
        ),
        tuple(Origin(*each) for each in origins.values()),
    )


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


def _sources(
    each: Question, query: str, pipeline: Pipeline, home: Mapping[str, Split]
) -> list[Source]:
    """What serving would show, with the next ones in the place of what must not be shown."""
    found = pipeline.sources(query)
    kept = _allowed(found, each, home)
    if len(kept) < len(found):
        known = {source.chunk.id for source in found}
        more = _allowed(_deep(pipeline, query), each, home)
        kept += [source for source in more if source.chunk.id not in known]
    return kept[: len(found)]


def _allowed(sources: Iterable[Source], each: Question, home: Mapping[str, Split]) -> list[Source]:
    """Without the documents for testing, unless the question is for testing itself."""
    testing = home.get(each.document) == "test"
    return [source for source in sources if testing or home.get(source.document) != "test"]


def _fitted(
    sources: Sequence[Source], pipeline: Pipeline, generator: Generator
) -> tuple[Source, ...]:
    budget = pipeline.settings.generation.context_tokens
    return context.fit(sources, budget, generator.count) if sources else ()


def _deep(pipeline: Pipeline, query: str) -> tuple[Source, ...]:
    found = pipeline.search(query, limit=_DEEP)
    # Where there is a reader, what it did not come to would be shown whole or not at all.
    return tuple(each for each in found if each.reading) if pipeline.reader() else found


def _holds(source: Source, each: Question) -> bool:
    text = _squeezed(source.chunk.text)
    if PurePath(source.source).name != each.document:
        return False
    if each.quote and _squeezed(each.quote) in text:
        return True
    return not each.quote and _squeezed(each.answer) in text


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold()


# What people said


def of_preferred(
    judged: Iterable[tuple[Row, Row]],
    pipeline: Pipeline,
    home: Mapping[str, Split],
    generator: Generator,
) -> Iterator[Made]:
    """Of two runs' answers the better, and as the worse one the other, over today's sources.

    A case is left out where those lack a source that the better answer cites, where either run was
    shown a document that is gone or for testing, and where one answered in parts or about many
    documents: no one prompt shows their sources.
    """
    there: dict[str, list[Origin]] = defaultdict(list)  # of one file name there may be two
    for origin in origins(pipeline):
        there[PurePath(origin.source).name].append(origin)
    for better, worse in judged:
        case = better.case
        then = {source.document for row in (better, worse) for source in row.sources}
        first = next((source.document for source in better.sources), "")
        document = case.relevant[0].document if case.relevant else case.group or first
        each = Question(document, case.question, kind="preferred", history=case.history)
        held = home.get(document) != "test" and any(home.get(name) == "test" for name in then)
        whole = all(row.abstained or row.prompt_sha256 for row in (better, worse))
        if held or not whole or not then <= there.keys():
            continue
        query = pipeline.query(case.question, case.history)
        found = _sources(each, query, pipeline, home)
        numbered = [replace(source, marker=n) for n, source in enumerate(found, start=1)]
        shown = _fitted(numbered, pipeline, generator)
        markers = {n for claim in parse(better.answer) for n in claim.markers}
        if not shown or (not better.abstained and not markers <= _places(better, shown).keys()):
            continue
        right, wrong = (_said(row, shown) for row in (better, worse))
        made = _kept(each, query, shown, right, pipeline, home, wrong)
        theirs = [origin for name in sorted(then) for origin in there[name]]
        yield made._replace(origins=tuple(dict.fromkeys([*made.origins, *theirs])))


def origins(pipeline: Pipeline) -> list[Origin]:
    """The documents of a pipeline's collection."""
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(settings.collection, fingerprint(settings))
    ids = {entry.id for entry in index.catalogue.entries(held)}
    return [Origin(*each) for each in index.catalogue.origins(ids).values()]


def _said(row: Row, shown: Sequence[Source]) -> str:
    """A run's answer with the numbers that its sources have among those shown now."""
    if row.abstained:
        return NO_ANSWER
    return renumbered(row.answer, _places(row, shown)).strip()


def _places(row: Row, shown: Sequence[Source]) -> dict[int, int]:
    """The numbers that a run's sources have now. A row keeps what was shown of a chunk."""
    return {
        then.marker: now.marker
        for then in row.sources
        for now in shown
        if then.document == now.document
        and all(part in now.chunk.text for part in then.text.split(OMITTED))
    }


def of_feedback(
    rows: Iterable[Mapping[str, Any]], home: Mapping[str, Split]
) -> Iterator[QAExample]:
    """Answers that a person approved of or corrected, over the sources they were given from.

    A correction is the answer, and what the bot had said is the worse one. What was answered in
    parts, or of many documents by code, is left out: no one prompt shows its sources.
    """
    for row in rows:
        answer, correction = row["answer"], str(row["correction"]).strip()
        sources = tuple(_recorded(each) for each in answer.get("sources", ()))
        surveyed = not answer.get("model_id") and not answer.get("abstained")
        if not sources or surveyed or answer.get("parts") or not (row["thumb"] > 0 or correction):
            continue
        # The prompt counts the sources; an answer's markers may have gaps where some had no room.
        places = {each["marker"]: n for n, each in enumerate(answer["sources"], start=1)}
        said = renumbered(str(answer.get("text", "")).strip(), places)
        if answer.get("abstained"):
            said = NO_ANSWER
        right = _cited(renumbered(correction, places), sources) if correction else said
        document = _cited_first(right, sources).document
        yield QAExample(
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
    """A person's words, with the marker of the source that has most of them."""
    if any(claim.markers for claim in parse(correction)):
        return correction
    words = content(correction)
    shares = [len(words & content(source.text)) for source in sources]
    return f"{correction} [{shares.index(max(shares)) + 1}]" if max(shares) else correction


def least_sure(made: Iterable[QAExample], count: int) -> list[tuple[float, str]]:
    """The questions of which the reader was least sure, and how sure: what to ask a person next.

    Uncertainty sampling (Lewis and Gale, 1994). Questions that models are judged by are left out:
    what a person says of those must not be learned.
    """
    asked = [each for each in made if each.answerable and each.split != "test"]
    ranked = sorted((max(source.sure for source in each.sources), each.question) for each in asked)
    return ranked[:count]
