"""A data set's documents as a collection, ingested the way a user's files are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eval import bench, datasets
from eval.bench import Engines
from eval.datasets import Dataset
from ingest.report import Progress, Report
from rag_bot import generate
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.index import Index, fingerprint


@contextmanager
def indexed(
    dataset: Dataset, settings: Settings, embedder: Embedder
) -> Iterator[tuple[Index, Collection]]:
    """The documents as files in `settings.data_dir`, indexed; kept for the next time.

    Raises UsageError if the folder holds another set.
    """
    folder = settings.data_dir / "files"
    datasets.write(dataset, folder)
    with indexed_files([folder], settings, embedder) as opened:
        yield opened


@contextmanager
def indexed_files(
    docs: Sequence[Path], settings: Settings, embedder: Embedder
) -> Iterator[tuple[Index, Collection]]:
    """Files and folders, indexed in `settings.data_dir`; kept for the next time."""
    loaded = Engines(lambda: embedder, lambda: generate.load(settings))
    with bench.over(docs, settings, loaded, _watch, settings.data_dir / "index") as pipeline:
        index = pipeline.index
        yield index, index.collection(settings.collection, fingerprint(settings))


def _watch(events: Iterator[Progress | Report]) -> Report:
    def shown() -> Iterator[Progress | Report]:
        for event in events:
            if isinstance(event, Progress) and sys.stderr.isatty():
                print(f"\rindexing {event.done}/{event.total}", end="", file=sys.stderr)
            yield event

    return bench.quiet(shown())
