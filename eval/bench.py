"""Where a run takes place: an index of its own over some documents, and the pipeline over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

import platformdirs

from ingest.report import Progress, Report
from ingest.sync import PLAIN, ingest
from rag_bot import generate, read
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import UsageError
from rag_bot.generate import Generator
from rag_bot.index import Index, fingerprint
from rag_bot.read import Reader

SHIPPED = Path(__file__).parent / "data" / "examples.jsonl"
"""Golden cases about `examples/`, written by hand."""
EXAMPLES = Path(__file__).parents[1] / "examples"

Watch = Callable[[Iterator[Progress | Report]], Report]


class Engines(NamedTuple):
    """The models, loaded when first called and shared by the runs of one process."""

    embedder: Callable[[], Embedder]
    generator: Callable[[], Generator]
    reader: Callable[[], Reader | None] = lambda: None


def engines(settings: Settings) -> Engines:
    """Those that the settings name."""
    return Engines(
        cache(lambda: Embedder.from_settings(settings)),
        cache(lambda: generate.load(settings)),
        cache(lambda: read.load(settings)),
    )


@contextmanager
def over(
    docs: Sequence[Path],
    settings: Settings,
    loaded: Engines,
    watch: Watch,
    folder: Path | None = None,
    prepare: Callable[[Index], None] = lambda _: None,
) -> Iterator[Pipeline]:
    """A pipeline over these files and folders, in an index that is kept for the next time.

    `folder` says where it is kept; otherwise it is in the user's cache, apart for other settings.
    `prepare` is called with the index before the documents are read.
    Raises UsageError where there is nothing to index.
    """
    place = folder or _kept(docs, settings)
    with Index(place) as index:
        prepare(index)
        # It is a copy of the documents, made for this: whatever went from them may go here.
        options = PLAIN._replace(allow_removal=True)
        watch(ingest(docs, index, loaded.embedder, settings, settings.collection, options))
        if not index.catalogue.collections():
            raise UsageError(f"no document in {', '.join(map(str, docs))}", "give another --docs")
        yield Pipeline(settings, index, *loaded)


def pages(pipeline: Pipeline) -> dict[str, list[str]]:
    """The documents of a pipeline's collection: the text of each page, by file name."""
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(settings.collection, fingerprint(settings))
    found: dict[str, list[str]] = {}
    for entry in index.catalogue.entries(held):
        document = index.catalogue.document(entry.id)
        if document:
            found[PurePath(entry.source).name] = [page.text for page in document.pages]
    return found


def quiet(events: Iterator[Progress | Report]) -> Report:
    """A `Watch` that shows nothing."""
    *_, report = events
    assert isinstance(report, Report), "an ingest ends with its report"
    return report


def _kept(docs: Sequence[Path], settings: Settings) -> Path:
    name = "\n".join([*(str(each.resolve()) for each in docs), fingerprint(settings)])
    cached = platformdirs.user_cache_path("rag-bot") / "eval"
    return cached / hashlib.sha256(name.encode()).hexdigest()[:16]
