"""What more chunks cost: `python -m eval.versus --growth 1000 10000 100000` asks for this.

The texts are sentences of real documents, drawn at random; the vectors are random and of unit
length, for to embed 100,000 chunks takes hours here. They go in by the code that an ingest uses.
Random vectors have no neighbours worth the name, so what is found means nothing; how long the
search takes, and what it needs, is what is measured.

An index is built in one process and asked in another, which opens it as a restart would.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from eval import apart, bench
from eval.systems import SHOWN, WARM_UP
from ingest.sync import ingest, prepare
from rag_bot import config, read
from rag_bot.catalogue import Collection, Prepared, chunk_id, document_id
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.index import Index, fingerprint
from rag_bot.read import Reader
from rag_bot.retrieve import retrieve
from rag_bot.types import PAGE_SEPARATOR, Chunk, Document, Page

SENTENCES = 6
"""A chunk's, about as long as one of a real document."""
CHUNKS, PAGE_CHUNKS = 100, 5
"""Of a document and of a page."""
READ = 10
"""Candidates that the reader reads."""


class Grown(NamedTuple):
    """One size. `query_s`: all questions of all repeats; `read_s`: with `READ` candidates read.

    `add_s`: a second document ingested, per repeat; `embed_s`: what embedding its chunks takes.
    `memory_mb` is the peak of the process that answers, before it adds; `build_memory_mb` that of
    the one that built the index.
    """

    chunks: int
    build_s: float
    build_memory_mb: float
    disk_mb: float
    open_s: tuple[float, ...]
    query_s: tuple[float, ...]
    read_s: tuple[float, ...]
    add_s: tuple[float, ...]
    embed_s: tuple[float, ...]
    memory_mb: float


def grow(
    chunks: int,
    sentences: Sequence[str],
    questions: Sequence[str],
    model: Path,
    repeats: int,
    patience: float,
    seed: int = 0,
) -> Grown:
    """Build an index of so many chunks and ask it, `repeats` times in a new process each.

    Raises Unavailable when a process fails.
    """
    with tempfile.TemporaryDirectory(prefix="rag-bot-growth-") as scratch:
        task = {"data": f"{scratch}/index", "model": str(model), "seed": seed}
        task |= {"chunks": chunks, "sentences": sentences, "questions": questions}
        here = Path(sys.executable)
        built = apart.run(here, "eval.growth", {"do": "build", **task}, patience)
        disk_mb = apart.folder_mb(Path(scratch, "index"))
        asked = []
        for number in range(repeats):
            files = []
            for place in range(2):
                file = Path(scratch, f"new-{number}-{place}.txt")
                # Of a text known already nothing would be embedded.
                chance = random.Random(f"{seed} new {number} {place}")
                file.write_text("\n".join(_drawn(sentences, chance, 40)), "utf-8")
                files.append(str(file))
            more = {"do": "ask", "files": files, **task}
            asked.append(apart.run(here, "eval.growth", more, patience).result)
    return Grown(
        chunks,
        built.result["build_s"],
        built.memory_mb,
        disk_mb,
        tuple(each["open_s"] for each in asked),
        tuple(seconds for each in asked for seconds in each["query_s"]),
        tuple(seconds for each in asked for seconds in each["read_s"]),
        tuple(each["add_s"] for each in asked),
        tuple(each["embed_s"] for each in asked),
        max(each["memory_mb"] for each in asked),
    )


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """The side in the process: `build` or `ask`."""
    flags = {"models.embedder": task["model"], "data_dir": task["data"]}
    settings = config.load(flags=flags, environ={}).settings
    return _build(task, settings) if task["do"] == "build" else _ask(task, settings)


def made_up(
    collection: Collection, chunks: int, sentences: Sequence[str], dimension: int, seed: int
) -> Iterator[Prepared]:
    """Documents ready for the index, so many chunks in all: the same for the same seed."""
    for number in range(-(-chunks // CHUNKS)):
        chance = random.Random(f"{seed} {number}")
        count = min(CHUNKS, chunks - number * CHUNKS)
        texts = [" ".join(_drawn(sentences, chance, SENTENCES)) for _ in range(count)]
        starts = range(0, count, PAGE_CHUNKS)
        pages = ["\n".join(texts[start : start + PAGE_CHUNKS]) for start in starts]
        source = f"/made-up/{number:05}.txt"
        sha256 = hashlib.sha256(PAGE_SEPARATOR.join(pages).encode()).hexdigest()
        document = Document(
            id=document_id(collection.name, source, sha256, collection.fingerprint),
            source=source,
            sha256=sha256,
            pages=tuple(Page(place, text) for place, text in enumerate(pages, start=1)),
        )
        cut: list[Chunk] = []
        start = 0
        for ordinal, text in enumerate(texts):
            page = 1 + ordinal // PAGE_CHUNKS
            end = start + len(text)
            name = chunk_id(document.id, ordinal)
            cut.append(Chunk(name, document.id, text, page, page, start, end))
            start = end + 1  # a line's end within a page, a form feed between two
        vectors = np.random.default_rng((seed, number)).standard_normal((count, dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield Prepared(document, tuple(cut), vectors.astype(np.float32), 1, 1, "text/plain")


def _build(task: dict[str, Any], settings: Settings) -> dict[str, Any]:
    dimension = Embedder.from_settings(settings).dimension
    begun = perf_counter()
    with Index(settings.data_dir) as index:
        collection = index.make_collection(settings.collection, fingerprint(settings))
        batch: list[Prepared] = []
        held = 0
        documents = made_up(collection, task["chunks"], task["sentences"], dimension, task["seed"])
        for each in documents:
            batch.append(each)
            held += len(each.chunks)
            if held >= settings.ingest.batch_chunks:
                index.add(collection, batch)
                batch, held = [], 0
        if batch:
            index.add(collection, batch)
    return {"build_s": perf_counter() - begun}


def _ask(task: dict[str, Any], settings: Settings) -> dict[str, Any]:
    embedder = Embedder.from_settings(settings)
    embedder.encode([WARM_UP])
    begun = perf_counter()
    with Index(settings.data_dir) as index:
        collection = index.collection(settings.collection, fingerprint(settings))

        def seconds(question: str, reader: Reader | None = None) -> float:
            begun = perf_counter()
            limit = READ if reader else SHOWN
            found = retrieve(index, embedder, collection, question, settings.retrieval, limit)
            if reader:
                reader.read(question, [("", hit.chunk.text) for hit in found.hits])
            return perf_counter() - begun

        seconds(task["questions"][0])  # opens the caches
        open_s = perf_counter() - begun
        query_s = [seconds(question) for question in task["questions"]]
        reader = read.load(settings)
        seconds("Another one?", reader)  # loads; of the last question the readings are remembered
        read_s = [seconds(question, reader) for question in task["questions"]] if reader else []
        # Linux counts in units of 1,024 bytes.
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        # The second one: a server that has taken a document is ready for the next.
        for file in task["files"]:
            events = ingest([Path(file)], index, lambda: embedder, settings, settings.collection)
            report = bench.quiet(events)
            assert report.complete, "the new document was not indexed"
            if ready := prepare(index, settings.collection, settings):
                ready.join()
        (new,) = (e.id for e in index.catalogue.entries(collection) if e.source == file)
        texts = [stored.chunk.text for stored in index.catalogue.chunks_of(new)]
        begun = perf_counter()
        embedder.encode(texts)
        embed_s = perf_counter() - begun
    return {
        "open_s": open_s,
        "query_s": query_s,
        "read_s": read_s,
        "embed_s": embed_s,
        "memory_mb": memory_mb,
        "add_s": report.seconds,
    }


def _drawn(sentences: Sequence[str], chance: random.Random, count: int) -> list[str]:
    return [chance.choice(sentences) for _ in range(count)]


if __name__ == "__main__":
    sys.exit(apart.main(sys.argv[1:], answer))
