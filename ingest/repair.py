"""Mending what `verify` finds, as far as no choice is left to a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.backup import scratch
from ingest.delete import delete
from ingest.lineage import drop_copies, take_out_rows
from ingest.rebuild import rebuild
from ingest.report import FileResult, Progress, Report
from ingest.sync import Options, ingest
from ingest.verify import chosen, returned, roots, verify
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.errors import IndexMismatch, ModelBroken, ModelMissing, UsageError
from rag_bot.index import Index, fingerprint

if TYPE_CHECKING:
    from rag_bot.embed import Embedder


def repair(
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    name: str | None = None,
) -> Iterator[Progress | Report]:
    """Mend all collections, or one: caches, deletions, an unended rebuild, then the folders.

    Each recorded folder is brought up to date with the patterns it was ingested with, and its
    uploads; removal stops where `ingest` would stop. Yields what those runs yield, but one Report
    for all of it, with warnings for what is left. Raises UsageError for an unknown collection,
    Unavailable when the index can't be written.
    """
    clock = time.perf_counter()
    files: dict[str, FileResult] = {}
    warnings: list[str] = []
    embedded = 0
    with scratch(settings.data_dir):
        pass  # what a killed run left in it is gone now
    for collection in chosen(index, name):
        _mend_index(index, collection, settings)
        for event in _bring_up(index, embedder, settings, collection, warnings):
            if isinstance(event, Report):
                files |= {each.path: each for each in event.files}
                warnings += event.warnings
                embedded += event.embedded
            else:
                yield event
    left = list(verify(index, settings, name))
    if left:
        warnings.append(f"{len(left)} differences are left: `ingest verify` names them")
    yield Report(tuple(files.values()), time.perf_counter() - clock, embedded, tuple(warnings))


def _mend_index(index: Index, collection: Collection, settings: Settings) -> None:
    """Make the index agree with itself."""
    damaged = index.catalogue.damaged(collection)
    if damaged:
        index.remove(collection, damaged)
    back = returned(index, collection)
    if back:
        delete(index, collection, back, settings)
    if index.catalogue.debt(collection).chunks or index.differences(collection):
        drop_copies(index)
        index.compact(collection)
    take_out_rows(index.ledger)
    index.seal()


def _bring_up(
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    collection: Collection,
    warnings: list[str],
) -> Iterator[Progress | Report]:
    """Make the collection agree with its folders."""
    try:
        wanted = fingerprint(settings)
    except (ModelMissing, ModelBroken) as error:
        warnings.append(f"{error}; the folders were not compared")
        return
    for begun in index.catalogue.building(collection.name):
        if begun.fingerprint == wanted:
            yield from rebuild(index, embedder, settings, collection.name)
        else:
            index.drop(begun)
    try:
        index.collection(collection.name, wanted)
    except IndexMismatch as error:
        warnings.append(str(error))
        return
    # Each folder has its own patterns; those of the settings are among them.
    bare = settings.ingest.model_copy(update={"include": (), "exclude": ()})
    plain = settings.model_copy(update={"ingest": bare})
    for root in roots(index, settings, collection.name):
        options = Options(include=root.include, exclude=root.exclude)
        path = Path(root.path)
        try:
            yield from ingest(
                [path], index, embedder, plain, collection.name, options, kind="repair"
            )
        except UsageError as error:  # it is empty, or gone with all that came from it
            warnings.append(str(error))
