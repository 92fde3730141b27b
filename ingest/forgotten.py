"""Proving that a deleted document is gone: every place that might hold a trace is looked at."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ingest.backup import PARTIAL
from ingest.delete import uploads
from ingest.files import name as path_name
from ingest.needles import Hits, Needles
from ingest.traces import Look, Places, counted, look
from ingest.worker import Draft, Job, Recipe, drafts
from rag_bot import models
from rag_bot.catalogue import chunk_id, document_id
from rag_bot.config import Settings
from rag_bot.digest import sha256_of
from rag_bot.errors import ModelBroken, ModelMissing, Unavailable, UsageError
from rag_bot.index import Index, fingerprint, indexed_text
from rag_bot.sentences import sentences
from rag_bot.types import Document

if TYPE_CHECKING:
    from rag_bot.embed import Embedder

_ORDINALS = 2000
"""Ids of so many chunks are looked for when it is not known how many there were."""
_PARTS = 500
_PART = 300
"""A longer sentence is looked for in parts of so many characters."""
_PART_BYTES = 64
"""So much of a part is looked for: a long text lies in pieces in SQLite's pages."""
_SHORT = 24
"""A sentence of fewer bytes may stand anywhere."""
_VECTORS = 50


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What is left of a document. `path` may be empty when only an id or a hash was known.

    `live`: it is in the index, not deleted. `remembered`: its path and hash are kept because its
    file or a backup could have brought it back.
    """

    path: str
    live: bool
    remembered: bool
    looked: tuple[Look, ...]

    @property
    def gone(self) -> bool:
        """Whether nothing was found, neither here nor in a backup that is known."""
        return not self.live and all(each.found in ("no", "not searched") for each in self.looked)

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if self.live:
            return "It is in the index, not deleted: `rag-bot delete` deletes it."
        if self.gone:
            return "No trace of it was found."
        found = [each for each in self.looked if each.found == "yes"]
        if not found:
            return "No trace of it was found, but there are places where that can't be told."
        if all(each.place.startswith("backup") for each in found):
            return "It is gone from the index, and still in a backup: delete that, or make it anew."
        return (
            "Traces of it were found: `ingest repair` completes a deletion;"
            " files that are not the index's are yours to delete."
        )

    def lines(self) -> Iterator[str]:
        """The result for people: the verdict last."""
        yield self.path or "a document whose path is not known"
        if self.remembered:
            yield "its path and hash are remembered, so that it stays out (`rag-bot undelete`)"
        for place, found, detail in self.looked:
            yield f"{found:12}  {place}" + (f": {detail}" if detail else "")
        yield self.verdict


def forgotten(
    index: Index,
    settings: Settings,
    name: str,
    collection: str | None = None,
    embedder: Callable[[], Embedder] | None = None,
    *,
    text: Sequence[str] = (),
) -> Forgetting:
    """Look for a deleted document everywhere: `name` is a path, file name, id or SHA-256.

    Looked for are its path and hash (unless they are remembered on purpose), its id and those of
    its chunks, and, if its file can still be read, its sentences and its vectors (some hundred of
    a long one); `text` adds phrases. Looked at are the tables of the catalogue, the caches, the
    bytes of every file in the data directory, what was made from documents, and the backups that
    are known. What a live document has as well counts for nothing.

    Raises UsageError for a name that fits several documents or a folder, and for a phrase that is
    too short, Unavailable when the search is cut off.
    """
    own = collection or settings.collection
    subject = _subject(index, settings, name, own)
    if subject.live:
        answers = Look("documents", "yes", "it answers questions")
        return Forgetting(subject.path, True, False, (answers,))
    draft = _draft(subject, own, settings)
    needles = _needles(index, subject, draft, text, embedder)
    places = Places(
        settings.data_dir.resolve(),
        tuple(Path(each.location) for each in index.ledger.made() if each.location),
        tuple(Path(path + end) for path in index.ledger.backups() for end in ("", PARTIAL)),
        subject.remembered,
    )
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            searched = pool.submit(look, places, needles).result()
    except (BrokenProcessPool, sqlite3.Error) as error:
        raise Unavailable(
            f"the search for traces was cut off: {error}",
            "`ingest verify` says whether the index is whole",
        ) from error
    looked = (
        *_what(subject, draft, needles, text),
        *searched,
        *_caches(index, settings),
        *_uploads(index, settings, subject),
        *_made(index),
    )
    return Forgetting(subject.path, False, subject.remembered, looked)


# Who is meant


class _Subject(NamedTuple):
    """All that is known of the document. `hashes` and `ids` may be of several versions."""

    path: str
    hashes: frozenset[str]
    ids: frozenset[str]
    live: bool
    remembered: bool


def _subject(index: Index, settings: Settings, name: str, collection: str) -> _Subject:
    found = index.catalogue.collection(collection)
    entries = index.catalogue.entries(found) if found else []
    names = {each.name for each in index.catalogue.collections()} | {collection}
    kept_out = [each for own in sorted(names) for each in index.ledger.forgotten(own)]
    known = {e.source: e.sha256 for e in kept_out} | {e.source: e.sha256 for e in entries}
    hashed = re.fullmatch("[0-9a-f]{64}", name)
    ids = {name} if re.fullmatch("[0-9a-f]{20}", name) else set()
    if hashed or ids:
        by_id = {entry.source for entry in entries if entry.id in ids}
        paths = [path for path, sha256 in known.items() if sha256 == name or path in by_id]
    else:
        place = Path(name).expanduser()
        whole = path_name(place.resolve())
        same_name = [path for path in known if Path(path).name == name]
        paths = [path for path in known if path == whole] or same_name or [whole]
    if len(paths) > 1 and not hashed:
        raise UsageError(
            f"{len(paths)} documents are called {name!r}", "give the path: " + ", ".join(paths)
        )
    if any(Path(path).is_dir() for path in paths):
        raise UsageError(f"{name!r} is a folder", "name one document")
    live = {entry.source for entry in entries}
    # Of twins with the hash that was asked for, the one that was deleted is meant.
    path = min(paths, key=lambda each: each in live, default="")
    hashes = {name} if hashed else {known[path]} if path in known else set()
    with contextlib.suppress(OSError):
        hashes.add(sha256_of(Path(path)))
    generations = index.catalogue.generations()
    prints = {each.fingerprint for each in generations}
    with contextlib.suppress(ModelMissing, ModelBroken):
        prints.add(fingerprint(settings))
    ids |= {document_id(collection, path, h, p) for h in hashes for p in prints}
    return _Subject(
        path,
        frozenset(hashes),
        frozenset(ids),
        live=path in live,
        remembered=any(each.source == path for each in kept_out),
    )


def _draft(subject: _Subject, collection: str, settings: Settings) -> Draft | None:
    """The document as its file says, read in a contained process; None if it can't be."""
    file = Path(subject.path)
    if not subject.path or not file.is_file():
        return None
    try:
        folder = models.locate(settings.models.embedder, settings.models.dir)
    except (ModelMissing, ModelBroken):
        return None
    recipe = Recipe(
        collection=collection,
        fingerprint="",
        embedder=folder,
        chunk_tokens=settings.ingest.chunk_tokens,
        max_file_bytes=settings.ingest.max_file_mb * 1_000_000,
    )
    ((_, outcome),) = drafts([Job(file, subject.path, "")], recipe)
    return outcome if isinstance(outcome, Draft) else None


def _needles(
    index: Index,
    subject: _Subject,
    draft: Draft | None,
    phrases: Sequence[str],
    embedder: Callable[[], Embedder] | None,
) -> Needles:
    strings: dict[bytes, tuple[str, int]] = {}
    numbers = itertools.count()

    def add(kind: str, text: str, limit: int | None = None) -> None:
        label = kind, next(numbers)
        for form in (text, json.dumps(text)[1:-1]):
            strings[form.encode("utf-8", "surrogatepass")[:limit]] = label

    catalogue, ledger = index.catalogue, index.ledger
    live = [e for c in catalogue.collections() for e in catalogue.entries(c)]
    paths = {entry.source for entry in live}
    if subject.path and subject.path not in paths:
        add("path", subject.path)
    for sha256 in subject.hashes - {entry.sha256 for entry in live}:
        add("hash", sha256)
    for document in subject.ids:
        add("id", document)
        for ordinal in range(max(_ORDINALS, len(draft.chunks) if draft else 0)):
            add("id", chunk_id(document, ordinal))
    for phrase in phrases:
        if len(phrase.encode()) < _SHORT // 2:
            raise UsageError(f"{phrase!r} is too short to look for", "give a longer phrase")
        add("text", phrase)
    if draft:
        parts = list(dict.fromkeys(_parts(draft.document)))
        for each in parts[:: -(-len(parts) // _PARTS) or 1]:
            add("text", each, _PART_BYTES)
    vectors = np.zeros((0, 0), np.float32)
    if draft and draft.chunks and embedder:
        chosen = draft.chunks[:: -(-len(draft.chunks) // _VECTORS)]
        vectors = embedder().encode([indexed_text(c, draft.document.title) for c in chosen])

    names = [c.name for c in catalogue.collections()]
    paths |= {f.source for n in names for f in ledger.forgotten(n)}
    paths |= {root.path for n in names for root in ledger.roots(n)}
    around = {p for p in paths if subject.path and subject.path in p and p != subject.path}
    explained = {f.encode() for p in around for f in (p, json.dumps(p)[1:-1])}
    return Needles(strings, vectors, tuple(sorted(explained)))


def _parts(document: Document) -> Iterator[str]:
    """The beginnings of sentences, and of what a long one goes on with."""
    for page in document.pages:
        for span in sentences(page.text):
            for start in range(span.start, span.end, _PART):
                part = page.text[start : min(start + _PART, span.end)]
                if len(part.encode("utf-8", "surrogatepass")) >= _SHORT:
                    yield part


# What can be said without looking at bytes


def _what(
    subject: _Subject, draft: Draft | None, needles: Needles, text: Sequence[str]
) -> Iterator[Look]:
    everything = Hits(set(needles.strings), set(range(len(needles.vectors))))
    yield Look("looked for", "no", counted(everything.kinds(needles)))
    if not subject.ids:
        yield Look("ids", "not searched", "without its hash they can't be computed")
    if not draft and not text:
        yield Look(
            "text",
            "not searched",
            "its file can't be read; `--text` gives a phrase to look for",
        )


def _caches(index: Index, settings: Settings) -> Iterator[Look]:
    catalogue = index.catalogue
    rows = catalogue.generations()
    for each in rows:
        place = f"caches of {each.name!r}, generation {each.generation}"
        debt = catalogue.debt(each)
        waiting = len(catalogue.leavings(each)) + debt.chunks
        differences = index.differences(each)
        if debt.due:
            yield Look(place, "yes", "a deletion is not complete: `ingest repair` ends it")
        elif waiting:
            detail = f"{waiting} chunks of replaced documents lie in their files; "
            yield Look(place, "unsure", detail + "`ingest repair` clears them")
        elif differences:
            yield Look(place, "unsure", "; ".join(differences) + "; `ingest repair` mends them")
        else:
            yield Look(place, "no", "equal to the catalogue, and all that was taken out is cleared")
    used = {catalogue.caches(each) for each in rows}
    for folder in sorted((settings.data_dir / "caches").glob("*")):
        if folder.name not in used:
            yield Look(str(folder), "unsure", "left over: it goes when the index is next opened")


def _uploads(index: Index, settings: Settings, subject: _Subject) -> Iterator[Look]:
    catalogue = index.catalogue
    live = {e.source for c in catalogue.collections() for e in catalogue.entries(c)}
    ours = [path for path in uploads(settings).resolve().rglob("*") if path.is_file()]
    found = [path for path in ours if path_name(path) not in live and _is(path, subject)]
    for path in found:
        yield Look(f"uploads: {path}", "yes", "the file itself")
    if not found:
        yield Look("uploads", "no", f"{len(ours)} files")


def _is(path: Path, subject: _Subject) -> bool:
    return path_name(path) == subject.path or sha256_of(path) in subject.hashes


def _made(index: Index) -> Iterator[Look]:
    made = index.ledger.made(marked=True)
    for each in made:
        detail = "made from a document that was deleted; from which is not kept"
        yield Look(f"{each.kind} {each.item}", "unsure", detail)
    if not made:
        yield Look("what was made from deleted documents", "no")
