"""Questions about a user's own documents, each with the words of a document that answer it.

They come from rules (`eval.draft`, clozes, lists, statements), from golden cases that a person
accepted and, if wanted, from the model itself, whose questions are only taken where retrieval and
reader find their way back.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eval import draft
from eval.cases import GoldenCase
from rag_bot.answer import Pipeline
from rag_bot.generate import Generator
from rag_bot.sentences import sentences
from rag_bot.types import Message
from rag_bot.words import content

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


def by_rule(texts: Mapping[str, Sequence[str]], count: int, seed: int = 0) -> list[Question]:
    """At most so many questions about documents' pages, a tenth of them near misses."""
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


def by_model(
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
