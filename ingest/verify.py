"""Comparing the index with itself and with the folders it was made from; nothing is changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ingest.backup import left_behind
from ingest.delete import uploads
from ingest.files import Blocked, Found, Listed, Patterns, scan
from ingest.files import name as path_name
from ingest.sync import changed_since, from_root, is_below, untouched
from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.digest import sha256_of
from rag_bot.errors import IndexDamaged, ModelBroken, ModelMissing, UsageError
from rag_bot.index import CATALOGUE, Index, fingerprint
from rag_bot.ledger import Root

Place = Literal[
    "catalogue", "vectors", "lexical", "caches", "folder", "settings", "rebuild", "deletion"
]
_REPAIR = "`ingest repair` mends it"


class Finding(NamedTuple):
    """A difference. `path` is the file or folder it is about, or empty; `remedy` names a command.

    `collection` is empty for what concerns all of them.
    """

    collection: str
    place: Place
    path: str
    detail: str
    remedy: str


def verify(index: Index, settings: Settings, name: str | None = None) -> Iterator[Finding]:
    """All differences between catalogue, vectors, lexical index, records and folders.

    Of all collections, or of one. Reads the whole catalogue and both caches, but of the folders
    only what looks changed. A file that was refused, kept out or left out, and is as it was then,
    is no difference. Raises UsageError for an unknown collection.
    """
    try:
        with contextlib.closing(Database(index.data_dir / CATALOGUE, read_only=True)) as beside:
            beside.sound()
        for collection in chosen(index, name):
            yield from _catalogue(index, collection)
            yield from _caches(index, collection)
            yield from _settings(index, settings, collection)
            yield from _deletions(index, collection)
            yield from _folders(index, settings, collection)
    except IndexDamaged as error:
        yield Finding("", "catalogue", "", error.message, error.remedy)
    if name is None:
        yield from _strays(index, settings)


def chosen(index: Index, name: str | None) -> list[Collection]:
    """All collections, or the one that is named. Raises UsageError."""
    found = [each for each in index.catalogue.collections() if name in (None, each.name)]
    if name is not None and not found:
        raise UsageError(f"there is no collection {name!r}", "`ingest status` lists them")
    return found


def roots(index: Index, settings: Settings, name: str) -> list[Root]:
    """The folders and files a collection comes from; its uploads are one that is always ours."""
    own = (uploads(settings) / name).resolve()
    found = [Root(path_name(own), (), (), 0)] if own.is_dir() else []
    return index.ledger.roots(name) + found


def _catalogue(index: Index, collection: Collection) -> Iterator[Finding]:
    for entry in index.catalogue.damaged(collection):
        detail = "what the catalogue holds of it is not what was written"
        yield Finding(collection.name, "catalogue", entry.source, detail, _REPAIR)
    for rejection in index.ledger.rejections(collection.name).values():
        if rejection.code == "index_damaged":
            yield Finding(collection.name, "catalogue", rejection.source, rejection.reason, _REPAIR)


def _caches(index: Index, collection: Collection) -> Iterator[Finding]:
    starts: tuple[tuple[str, Place], ...] = (
        ("the vector index: ", "vectors"),
        ("the lexical index: ", "lexical"),
    )
    for said in index.differences(collection):
        start, place = next((each for each in starts if said.startswith(each[0])), ("", "caches"))
        yield Finding(collection.name, place, "", said.removeprefix(start), _REPAIR)


def _settings(index: Index, settings: Settings, collection: Collection) -> Iterator[Finding]:
    remedy = f"`ingest rebuild --collection {collection.name}`"
    try:
        wanted = fingerprint(settings)
    except (ModelMissing, ModelBroken) as error:
        yield Finding(collection.name, "settings", "", error.message, error.remedy)
    else:
        if collection.fingerprint != wanted:
            detail = f"made with {collection.fingerprint}, the settings say {wanted}"
            yield Finding(collection.name, "settings", "", detail, f"{remedy} makes it anew")
    for begun in index.catalogue.building(collection.name):
        detail = f"a new generation with {begun.fingerprint} was begun and not ended"
        yield Finding(collection.name, "rebuild", "", detail, f"{remedy} goes on with it")


def _deletions(index: Index, collection: Collection) -> Iterator[Finding]:
    debt = index.catalogue.debt(collection)
    if debt.due:
        detail = "a document was deleted, and its bytes still lie in the files of the caches"
        yield Finding(collection.name, "deletion", "", detail, _REPAIR)
    elif index.owes(collection):
        detail = f"{debt.chunks} replaced chunks still lie in the files of the caches"
        yield Finding(collection.name, "caches", "", detail, _REPAIR)
    for entry in returned(index, collection):
        detail = "was deleted, and is in the index all the same"
        yield Finding(collection.name, "deletion", entry.source, detail, _REPAIR)


def returned(index: Index, collection: Collection) -> list[Entry]:
    """Documents that are kept out, and answer all the same."""
    out = {each.source for each in index.ledger.forgotten(collection.name)}
    return [each for each in index.catalogue.entries(collection) if each.source in out]


# Folders


def _folders(index: Index, settings: Settings, collection: Collection) -> Iterator[Finding]:
    entries = {each.source: each for each in index.catalogue.entries(collection)}
    alive = {each.sha256 for each in entries.values()}
    own = settings.data_dir.resolve()
    looked: set[str] = set()
    for root in roots(index, settings, collection.name):
        below = {each.source: each for each in from_root(entries.values(), root.path, own)}
        looked |= below.keys()
        if not os.path.lexists(root.path):
            if below:
                detail = f"is not there, and {len(below)} documents from it still answer"
                remedy = f"bring it back, or `ingest {root.path} --allow-removal`"
                yield Finding(collection.name, "folder", root.path, detail, remedy)
            continue
        patterns = Patterns(root.include, root.exclude)
        listed = {each.source: each for each in scan(Path(root.path), own, patterns)}
        yield from _compared(index, collection, below, listed, alive)
    alone = {source: entry for source, entry in entries.items() if source not in looked}
    listed = {s: each for s in alone for each in _one(s, own)}
    yield from _compared(index, collection, alone, listed, alive)


def _one(source: str, own: Path) -> Iterator[Listed]:
    """A document whose folder is not on record: of an old version, or beside the roots."""
    with contextlib.suppress(UsageError):
        yield from scan(Path(source), own)


def _compared(
    index: Index,
    collection: Collection,
    entries: Mapping[str, Entry],
    listed: Mapping[str, Listed],
    alive: set[str],
) -> Iterator[Finding]:
    """`alive` are the hashes of all documents of the collection."""
    ledger = index.ledger
    refused = ledger.rejections(collection.name)
    forgotten = ledger.forgotten(collection.name)
    out = {each.source for each in forgotten}
    deleted = {each.sha256 for each in forgotten} - alive
    blocked = [each.source for each in listed.values() if isinstance(each, Blocked)]

    def finding(path: str, detail: str, remedy: str = _REPAIR) -> Finding:
        return Finding(collection.name, "folder", path, detail, remedy)

    for source, each in listed.items():
        if isinstance(each, Blocked):
            yield finding(source, each.reason, each.remedy)
        if not isinstance(each, Found) or source in out:
            continue
        entry, before = entries.get(source), refused.get(source)
        if entry and untouched(each, entry) and not changed_since(each.path, entry.indexed_at):
            continue
        if before and (before.size, before.mtime_ns) == (each.size, each.mtime_ns):
            continue
        try:
            sha256 = sha256_of(each.path)
        except OSError as error:
            yield finding(source, f"can't be read: {error.strerror}", "check its permissions")
            continue
        if entry and sha256 != entry.sha256:
            yield finding(source, "has changed since it was indexed")
        elif not entry and sha256 not in deleted:
            yield finding(source, "is not in the index: it is new, or could not be read")
    for source in entries:
        if not isinstance(listed.get(source), Found) and not is_below(source, blocked):
            yield finding(source, "is gone or left out, and its text still answers")


def _strays(index: Index, settings: Settings) -> Iterator[Finding]:
    """What belongs to no collection."""
    for made in index.ledger.made(marked=True):
        detail = f"{made.kind} {made.item!r} was made from a document that was deleted"
        remedy = _REPAIR if made.kind != "adapter" else "train it anew, or remove it"
        yield Finding("", "deletion", made.location, detail, remedy)
    names = {each.name for each in index.catalogue.collections()}
    for folder in sorted(uploads(settings).glob("*")):
        if folder.name not in names:
            remedy = f"`ingest {folder} --collection {folder.name}`, or delete it"
            yield Finding("", "folder", str(folder), "uploads that are in no collection", remedy)
    left = left_behind(settings.data_dir)
    if left:
        yield Finding("", "catalogue", str(left), "copies that a killed run left", _REPAIR)
