"""How well a model answers from a page: SQuAD questions over four sources, one of them the right.

    python -m eval.grounded --data ../shared/data --out DIR [--limit 1000] [--system adapter …]

The sources are the question's own paragraph, for unanswerable ones too, and three that hybrid
retrieval takes for it and that don't hold the answer. The reader ranks them and points, and the
prompt is the one that users get. Scored are the model's own words, by SQuAD's rules, before code
checks them: where the reader gives no source enough probability, no model is asked, as in use.

Systems: `silent` (always abstaining), `reader` (the words that the reader points at), `base` (the
LLM alone), `hard` (the same after two worked examples), `adapter` (the live one), `use` (that, and
the reader's words where it declines, as with a local model in use; its words are not checked). Each
is held against the last one, question by question. What a model wrote to a prompt is kept: a killed
run goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eval import datasets
from eval.corpus import indexed
from eval.metrics import bootstrap
from eval.metrics.bootstrap import Difference
from eval.metrics.squad import exact_match, f1
from eval.run import prompt_hash
from rag_bot import adapters, config, context, generate, models, prompt, rank, read
from rag_bot.abstain import answerable
from rag_bot.catalogue import Collection
from rag_bot.cite import parse
from rag_bot.config import Settings
from rag_bot.draft import evidence_of
from rag_bot.embed import Embedder
from rag_bot.generate import Batching, Generator
from rag_bot.index import Index
from rag_bot.rank import likeliest
from rag_bot.read import Reader
from rag_bot.retrieve import retrieve
from rag_bot.types import Chunk, Message, Source

_FILES = {"squad": "test-v2", "squad-val": "val-v2"}
SYSTEMS = ("silent", "reader", "base", "hard", "adapter", "use")
DISTRACTORS = 3
_SCORES = (1.0, 0.88, 0.84, 0.82)
"""How retrieval scores its first four: medians of `val-v2`."""
_BATCH = 8
_TOKENS = 48
"""Longest answer: SQuAD's are short, and what comes later is not read as one."""
_KEY = ("id", "model", "prompt")
_WORKED = (
    (
        "When was the lighthouse built?",
        ("The lighthouse on Gull Rock was built in **1871** [1] by the harbour board.",
         "Ships anchor in the northern bay when the wind is from the south."),
        "1871 [1]",
    ),
    (
        "Who painted the ceiling of the town hall?",
        ("The town hall has four floors and a clock tower.",
         "The ceiling of the chapel was restored in **1990** [2]."),
        prompt.NO_ANSWER,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One question over its sources, as shown, and which of them is the right one (0: none)."""

    id: str
    group: str
    question: str
    references: tuple[str, ...]
    sources: tuple[Source, ...]
    right: int
    probability: float
    pointed: str


class Row(NamedTuple):
    """What a system said: `words` without markers, empty for an abstention."""

    id: str
    group: str
    references: tuple[str, ...]
    words: str
    markers: tuple[int, ...]
    right: int


def arranged(
    question: str,
    passages: Sequence[tuple[str, str]],
    reader: Reader,
    generator_count: Any,
    settings: Settings,
) -> tuple[Source, ...]:
    """Passages (header, text) in the order of their retrieval, as the prompt would show them."""
    sources = tuple(
        Source(
            marker=n,
            chunk=Chunk(f"{n}", f"{n}", text, 1, 1, 0, len(text)),
            document=header or "document",
            source="",
            score=_SCORES[min(n, len(_SCORES)) - 1],
        )
        for n, (header, text) in enumerate(passages, start=1)
    )
    ranked = rank.reranked(question, sources, reader, settings.retrieval)
    return context.fit(ranked, settings.generation.context_tokens, generator_count)


def questions(
    data: datasets.Dataset,
    texts: Mapping[str, str],
    index: Index,
    held: Collection,
    embedder: Embedder,
    reader: Reader,
    count: Any,
    settings: Settings,
    limit: int,
    seed: int,
) -> Iterator[Asked]:
    """So many, half of them unanswerable, each over its own paragraph and three others.

    `texts` gives each question's own paragraph by its id.
    """
    drawn = random.Random(seed)
    kinds = [[c for c in data.cases if c.answerable == kind] for kind in (True, False)]
    chosen = [case for kind in kinds for case in drawn.sample(kind, min(limit // 2, len(kind)))]
    named = {text: name for name, text in data.documents.items()}
    for case in chosen:
        own_text = texts[case.id]
        own = named[own_text]
        found = retrieve(index, embedder, held, case.question, settings.retrieval, 12)
        paths = index.catalogue.sources({hit.chunk.document_id for hit in found.hits})
        passages: list[tuple[str, str]] = []
        place = None
        for hit in found.hits:
            name = Path(paths[hit.chunk.document_id]).stem
            if name == own:
                place = len(passages) if place is None else place
                continue
            text = hit.chunk.text
            if any(each.casefold() in text.casefold() for each in case.references):
                continue
            if len(passages) < DISTRACTORS:
                passages.append((name, text))
        if place is None:
            place = len(passages)
        passages.insert(min(place, len(passages)), (own, own_text))
        shown = arranged(case.question, passages, reader, count, settings)
        pointed = evidence_of(shown)
        right = next((s.marker for s in shown if s.chunk.text == own_text), 0)
        yield Asked(
            case.id,
            case.cluster,
            case.question,
            case.references,
            shown,
            right if case.answerable else 0,
            answerable(shown) or 0.0,
            pointed.words if pointed else "",
        )


def paragraphs(file: Path) -> dict[str, str]:
    """The paragraph that each question of a SQuAD file was asked of, by the question's id."""
    return {
        qa["id"]: paragraph["context"]
        for article in json.loads(file.read_text("utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }


def messages(asked: Asked, worked: bool) -> list[Message]:
    """The prompt, with two worked examples before it if wanted."""
    built = prompt.build(asked.question, asked.sources)
    if not worked:
        return built
    turns = []
    for question, texts, answer in _WORKED:
        shown = "\n\n".join(f"[{n}] document, page 1\n{t}" for n, t in enumerate(texts, start=1))
        turns.append(Message("user", f"Sources:\n\n{shown}\n\nQuestion: {question}"))
        turns.append(Message("assistant", answer))
    return [built[0], *turns, built[1]]


def said(text: str) -> tuple[str, tuple[int, ...]]:
    """A model's words without markers and stars, and its markers; no words if it declines."""
    claims = parse(text.replace(prompt.MARK, ""))
    words = " ".join(claim.text for claim in claims).strip()
    if words.rstrip(".").casefold().startswith(prompt.NO_ANSWER.rstrip(".").casefold()):
        return "", ()
    return words, tuple(dict.fromkeys(n for claim in claims for n in claim.markers))


def against(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Difference | None]:
    """How much better `rows` are than `others`, paired, over all questions."""
    groups = [row.group for row in rows]
    return {
        name: bootstrap.paired(
            [measure(row.words, row.references) for row in others],
            [measure(row.words, row.references) for row in rows],
            groups,
        )
        for name, measure in (("EM", exact_match), ("F1", f1))
    }


def scores(rows: Sequence[Row]) -> dict[str, tuple[float, float, float]]:
    """Each figure with its 95 % interval over articles."""

    def over(values: Sequence[float | None]) -> tuple[float, float, float]:
        found = bootstrap.interval(values, [row.group for row in rows])
        return (found.mean, found.low, found.high) if found else (0.0, 0.0, 0.0)

    tells = [bool(row.references) for row in rows]
    em = [exact_match(row.words, row.references) for row in rows]
    score = [f1(row.words, row.references) for row in rows]
    none = [float(not row.words) for row in rows]

    def of(values: Sequence[float], kind: bool) -> list[float | None]:
        return [value if each == kind else None for value, each in zip(values, tells, strict=True)]

    return {
        "EM": over(em),
        "F1": over(score),
        "EM answerable": over(of(em, True)),
        "F1 answerable": over(of(score, True)),
        "abstains rightly": over(of(none, False)),
        "abstains falsely": over(of(none, True)),
        "marker right": over(
            [float(row.right in row.markers) if row.words and row.right else None for row in rows]
        ),
    }


def rows_of(
    system: str, asked: Sequence[Asked], generator: Generator | None, file: Path, threshold: float
) -> list[Row]:
    """What a system says to each question.

    What this model wrote to this prompt, and stands in `file`, is not asked again.
    """
    known: dict[str, str] = {}
    if generator is not None:
        kept = _kept(file)
        keys = {each.id: _key(each, system, generator) for each in asked}
        known = {each.id: kept[keys[each.id]] for each in asked if keys[each.id] in kept}
        open_ = [each for each in asked if each.probability >= threshold and each.id not in known]
        with file.open("a", encoding="utf-8") as stream:
            for part in _alike(open_):
                for each, text in zip(part, _texts(system, part, generator), strict=True):
                    known[each.id] = text
                    row = dict(zip(_KEY, keys[each.id], strict=True), text=text)
                    stream.write(json.dumps(row) + "\n")
                    stream.flush()
                print(f"\r{system}: {len(known)} written", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    rows = []
    for each in asked:
        best = likeliest(each.sources)
        words = each.pointed
        markers: tuple[int, ...] = (best.marker,) if best else ()
        if each.probability < threshold or system == "silent":
            words, markers = "", ()
        elif generator is not None:
            told = said(known[each.id])
            if told[0] or system != "use":
                words, markers = told
        rows.append(Row(each.id, each.group, each.references, words, markers, each.right))
    return rows


def _key(asked: Asked, system: str, generator: Generator) -> tuple[str, str, str]:
    return asked.id, generator.model_id, prompt_hash(messages(asked, system == "hard"))


def _kept(file: Path) -> dict[tuple[str, ...], str]:
    """What stands in a file. A last line that a kill cut short is taken out of it."""
    if not file.is_file():
        return {}
    *lines, last = file.read_bytes().split(b"\n")  # a kill may cut within a letter
    rows = [json.loads(line) for line in lines if line.strip()]
    if last:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(last))
        new = file.with_name(file.name + ".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        new.replace(file)
    return {tuple(map(row.get, _KEY)): row["text"] for row in rows}


def _alike(asked: Sequence[Asked]) -> Iterator[Sequence[Asked]]:
    """Batches of questions whose sources are about as long, so that little is padding."""
    ordered = sorted(asked, key=lambda each: sum(len(s.excerpt) for s in each.sources))
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _texts(system: str, asked: Sequence[Asked], generator: Generator) -> list[str]:
    prompts = [messages(each, system == "hard") for each in asked]
    if isinstance(generator, Batching):
        return generator.complete(prompts)
    return ["".join(generator.stream(each)) for each in prompts]


def _generator(adapter: str, settings: Settings) -> Generator:
    changed = settings.models.model_copy(update={"adapter": adapter})
    how = settings.generation.model_copy(update={"max_tokens": _TOKENS})
    return generate.load(settings.model_copy(update={"models": changed, "generation": how}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m eval.grounded", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("squad", "squad-val"), default="squad")
    parser.add_argument("--system", action="append", choices=SYSTEMS)
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="default: retrieval.answerable, as in use"
    )
    options = parser.parse_args(arguments)
    settings = config.load().settings
    options.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load(options.split, options.data)
    texts = paragraphs(options.data / "squad" / f"{_FILES[options.split]}.json")
    embedder, reader = Embedder.from_settings(settings), read.load(settings)
    assert reader is not None, "models.reader must not be empty here"
    where = settings.model_copy(update={"data_dir": options.out / "index"})
    tokenizer = generate.tokenizer(models.locate(settings.models.llm, settings.models.dir))

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    with indexed(data, where, embedder) as (index, held):
        asked = list(
            questions(
                data,
                texts,
                index,
                held,
                embedder,
                reader,
                count,
                settings,
                options.limit,
                options.seed,
            )
        )
    print(f"adapter: {adapters.located(settings)}; {len(asked)} questions")
    threshold = settings.retrieval.answerable if options.threshold is None else options.threshold
    loaded = cache(lambda adapter: _generator(adapter, settings))
    rows: dict[str, list[Row]] = {}
    for system in options.system or SYSTEMS:
        speaking = "adapter" if system == "use" else system
        generator = None
        if speaking not in ("silent", "reader"):
            generator = loaded(settings.models.adapter if speaking == "adapter" else "")
        file = options.out / f"{speaking}.jsonl"
        rows[system] = rows_of(system, asked, generator, file, threshold)
    found = {system: scores(each) for system, each in rows.items()}
    print(" " * 18, *(f"{system:19}" for system in rows), sep="  ")
    for name in next(iter(found.values())):
        cells = [f"{v[name][0]:.3f} ({v[name][1]:.3f}–{v[name][2]:.3f})" for v in found.values()]
        print(f"{name:18}", *cells, sep="  ")
    *others, last = rows
    for system in others:
        gains = [
            f"{name} {each.mean:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
            for name, each in against(rows[last], rows[system]).items()
            if each is not None
        ]
        print(f"{last} against {system}:", ", ".join(gains))
    return 0


if __name__ == "__main__":
    sys.exit(main())
