"""What the shipped adapter learns from: span lessons as the prompts that serving would write.

    python -m finetune.grounded --lessons LESSONS.jsonl --lessons WRITTEN.jsonl \\
        --out EXAMPLES.jsonl --count 6000
    rag-bot finetune train EXAMPLES.jsonl
    python -m finetune.grounded --pack CANDIDATE --out rag_bot/data/adapter

Each lesson's passage stands among three that hybrid retrieval took for it and that don't hold its
answer. The reader ranks and points, and the prompt is cut to what serving shows, so that what is
learned is what will be met; where the reader sees too little for the model to be asked, nothing is.
Some of the right passages are taken out: then nothing is to be said.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.grounded import arranged
from finetune import examples, spans, train, written
from finetune.examples import QAExample
from finetune.spans import Lesson
from rag_bot import adapters, config, generate, models, rank, read
from rag_bot.abstain import answerable
from rag_bot.asks import for_a_sentence
from rag_bot.config import Settings
from rag_bot.prompt import NO_ANSWER
from rag_bot.read import MiniReader
from rag_bot.sentences import sentences
from rag_bot.types import Source

MIX: Mapping[str, float] = {
    written.ORIGIN: 0.3,
    "squad-v1": 0.2,
    "squad-v2": 0.21,
    "squadshifts-wiki": 0.07,
    "squadshifts-amazon": 0.04,
    "policyqa": 0.04,
    "nq": 0.04,
    "qed": 0.03,
    "tatqa": 0.03,
    "cpgqa": 0.02,
    "quoref": 0.02,
}
"""Each origin's share of the examples; what has too few gives all it has."""
REMOVED = 0.12
"""Of the answerable lessons, so many lose their passage."""
_SOURCES = 4
_SENTENCES = 0.25
"""So many of an origin's ask for a sentence, if it has them: of SQuAD's, one in sixteen does."""
_FIRST = 0.7
"""How often retrieval ranks the right passage first (RRF on SQuAD: 0.77)."""
_SHUFFLED = 0.6
"""So many come in another order: by rank, nine in ten answers would be marked [1]."""
_LONGEST = 1600
"""Characters of a passage: a chunk holds no more."""
_VALIDATION = 100
_PHRASE = 10
"""Words; what is longer is told as the sentence that it is."""
_LOOKED_AT = 60
_ONE_IN = 16
"""Of answers in a few words, so many come with one in a sentence: as in SQuAD."""


def chosen(lessons: Sequence[Lesson], count: int, seed: int) -> list[Lesson]:
    """So many answerable lessons in the shares of `MIX`, a quarter of them asking for a sentence.

    Near misses are left out: an adapter that learned from 200 of them among 700 examples abstained
    on a third of everything, answerable or not. They are the reader's to tell.
    """
    drawn = random.Random(seed)
    by_origin: dict[str, list[Lesson]] = defaultdict(list)
    for lesson in lessons:
        fits = len(lesson.passage) <= _LONGEST and len(lesson.wrong) >= _SOURCES
        if lesson.answerable and fits:
            by_origin[lesson.origin].append(lesson)
    found: list[Lesson] = []
    for origin, share in MIX.items():
        wanted = round(share * count)
        told = [each for each in by_origin[origin] if for_a_sentence(each.question)]
        named = [each for each in by_origin[origin] if not for_a_sentence(each.question)]
        told = drawn.sample(told, min(len(told), round(_SENTENCES * wanted)))
        found += told
        found += drawn.sample(named, min(len(named), wanted - len(told)))
    drawn.shuffle(found)
    return found


def worded(lesson: Lesson) -> str:
    """The answer: the words themselves, or their sentence where a question asks for one."""
    assert lesson.span is not None
    start, end = lesson.span
    if for_a_sentence(lesson.question) or len(lesson.passage[start:end].split()) > _PHRASE:
        for a, b in sentences(lesson.passage):
            if a <= start and end <= b:
                return lesson.passage[a:b]
    return lesson.passage[start:end].strip()


def shuffled(shown: Sequence[Source], drawn: random.Random) -> tuple[Source, ...]:
    """The sources in another order, if the stars stay where they were: a marker must be read."""
    best = rank.likeliest(shown)
    mixed = tuple(
        replace(source, marker=n)
        for n, source in enumerate(drawn.sample(list(shown), len(shown)), start=1)
    )
    again = rank.likeliest(mixed)
    same = best is None or again is None or again.chunk is best.chunk
    return mixed if same else tuple(shown)


def _points_at(right: Source, shown: Sequence[Source], said: str) -> bool:
    """Whether the stars are where the answer is: elsewhere, a small model could only guess."""
    reading = right.reading
    start = right.chunk.text.find(said)
    return (
        right is rank.likeliest(shown)
        and reading is not None
        and start < reading.end
        and reading.start < start + len(said)
    )


def compose(
    lessons: Sequence[Lesson],
    headers: Mapping[str, str],
    reader: MiniReader,
    count: Any,
    settings: Settings,
    seed: int,
) -> Iterator[QAExample]:
    """One example of each lesson, unless what is shown of its passage lacks the answer.

    Nor where serving would abstain before it asks the model.
    """
    drawn = random.Random(seed)
    for lesson in lessons:
        removed = lesson.span is not None and drawn.random() < REMOVED
        wrong = drawn.sample(lesson.wrong[:6], _SOURCES - (not removed))
        passages = wrong if removed else [lesson.passage, *wrong]
        # The right one is first or anywhere, the rest in the order of their retrieval.
        if not removed and drawn.random() > _FIRST:
            passages.insert(drawn.randrange(1, len(passages)), passages.pop(0))
        shown = arranged(
            lesson.question,
            [(headers.get(text, ""), text[:_LONGEST]) for text in passages],
            reader,
            count,
            settings,
        )
        if drawn.random() < _SHUFFLED:
            shown = shuffled(shown, drawn)
        if (answerable(shown) or 0.0) < settings.retrieval.answerable:
            continue
        answer = NO_ANSWER
        if lesson.span and not removed:
            said = worded(lesson)
            right = next((s for s in shown if s.chunk.text == lesson.passage[:_LONGEST]), None)
            if right is None or said not in right.excerpt or not _points_at(right, shown, said):
                continue
            answer = f"{said} [{right.marker}]"
        yield QAExample(
            id=examples.id_of(lesson.question, lesson.passage, str(removed)),
            document_id=examples.id_of(lesson.passage),
            question=lesson.question,
            answer=answer,
            sources=tuple(map(examples.of_source, shown)),
            answerable=answer != NO_ANSWER,
            kind=lesson.origin if not removed else "removed",
        )


def few_words(found: Sequence[QAExample], count: int) -> list[QAExample]:
    """So many examples to learn few words from, or to say nothing, and 60 to look at.

    An adapter that is to copy what the reader points at gets worse at it where a quarter of what
    it learns from are sentences: those code quotes, where they are asked for.
    """
    taught = [each for each in found if each.split == "train"]
    told = [each for each in taught if each.answerable and _in_a_sentence(each)]
    ids = {each.id for each in told}
    short = [each for each in taught if each.id not in ids][:count]
    short += told[: len(short) // _ONE_IN]
    random.Random(0).shuffle(short)
    return [each for each in found if each.split == "validation"][:_LOOKED_AT] + short


def _in_a_sentence(example: QAExample) -> bool:
    words = example.answer.rpartition(" [")[0].split()
    return for_a_sentence(example.question) or len(words) > _PHRASE


def pack(candidate: Path, out: Path) -> None:
    """Copy a candidate's adapter in float16, with its card and loss, into `out`."""
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(candidate / models.ADAPTER)
    halved = {name: value.half().contiguous() for name, value in weights.items()}
    save_file(halved, out / models.ADAPTER, metadata={"format": "pt"})
    for name in (models.ADAPTER_CONFIG, adapters.CARD, train.PLOT):
        shutil.copy(candidate / name, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the examples, and say how many there are."""
    parser = argparse.ArgumentParser(prog="python -m finetune.grounded", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--lessons", type=Path, action="append", help="may be given again")
    what.add_argument("--pack", type=Path, metavar="CANDIDATE", help="a candidate's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--few-words",
        type=int,
        metavar="N",
        help="keep so many whose answer is a few words or none, and a sentence for each 16",
    )
    options = parser.parse_args(arguments)
    if options.pack:
        pack(options.pack, options.out)
        return 0
    settings = config.load().settings
    lessons = [lesson for file in options.lessons for lesson in spans.read(file)]
    headers = {lesson.passage: lesson.header for lesson in lessons}
    reader = MiniReader(read.SHIPPED, settings)
    tokenizer = generate.tokenizer(models.locate(settings.models.llm, settings.models.dir))
    made: dict[str, QAExample] = {}
    wanted = chosen(lessons, options.count, options.seed)
    for n, each in enumerate(
        compose(
            wanted,
            headers,
            reader,
            lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
            settings,
            options.seed,
        ),
        start=1,
    ):
        made[each.id] = each
        if n % 100 == 0:
            print(f"\r{n}/{len(wanted)}", end="", file=sys.stderr)
    held = set(list(dict.fromkeys(each.document_id for each in made.values()))[:_VALIDATION])
    found = [
        replace(each, split="validation") if each.document_id in held else each
        for each in made.values()
    ]
    if options.few_words:
        found = few_words(found, options.few_words)
    examples.check(found)
    examples.write(options.out, found)
    unanswerable = sum(not each.answerable for each in found)
    print(f"\n{len(found)} examples, {unanswerable} unanswerable, in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
