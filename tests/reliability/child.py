"""A process that does one thing to an index, and may be killed while it does it.

It imports everything once, and then forks for each line it is given: that saves seconds a round.
Started as it is in earnest, the parser's process imports this file again: so nothing heavy stands
at the top.

A line in is `{"task": …, "data": …, "out": …, …}`; a line out is first the process's id, then its
exit status. The result lies in `out`, as a pickle.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_bot.catalogue import Collection
    from rag_bot.config import Settings
    from rag_bot.index import Index

COLLECTION = "docs"
LIMITS = (50, 20)
"""So many hits are looked at, by words and by vectors."""
_HEAVY = (
    "chromadb",
    "docx",
    "llama_index.core.node_parser",
    "lxml.html",
    "nltk",
    "pypdf",
    "pypdfium2",
    "chromadb.api.rust",
    "tantivy",
    "ingest.delete",
    "ingest.rebuild",
    "tests.conftest",
)


class Steps:
    """Counts what is written to disk, and dies at the step it is told.

    A step is the moment before a transaction is committed, and the one after each write: what
    lies between the two is the state that a kill leaves.
    """

    def __init__(self, die_at: int) -> None:
        self.die_at = die_at
        self.names: list[str] = []
        self._silent = False

    def __call__(self, name: str) -> None:
        if self._silent:
            return
        self.names.append(name)
        if len(self.names) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Step at everything that writes to the index."""
        from rag_bot.database import Database
        from rag_bot.lexical import Lexical
        from rag_bot.vectors import VectorStore

        plain = Database.transaction

        @contextlib.contextmanager
        def transaction(database: Database, **how: bool) -> Iterator[Any]:
            outermost = not database._depth
            with plain(database, **how) as connection:
                yield connection
                if outermost:
                    self("before COMMIT")
            if outermost:
                self("after COMMIT")

        patched: Any = Database
        patched.transaction = transaction
        for owner, method in (
            (VectorStore, "__init__"),
            (VectorStore, "replace"),
            (VectorStore, "remove"),
            (VectorStore, "close"),
            (Lexical, "__init__"),
            (Lexical, "_commit"),
            (Database, "settle"),
            (Database, "rewrite"),
            (Database, "copy_to"),
            (Database, "replace_with"),
            (os, "unlink"),
            (os, "rmdir"),
            (os, "replace"),
            (os, "fsync"),
            (Path, "touch"),
            (Path, "mkdir"),
        ):
            self._after(owner, method)
        self._within_rmtree()

    def _after(self, owner: Any, method: str) -> None:
        plain = getattr(owner, method)

        @functools.wraps(plain)
        def stepped(*args: Any, **options: Any) -> Any:
            result = plain(*args, **options)
            self(f"after {owner.__name__}.{method}")
            return result

        setattr(owner, method, stepped)

    def _within_rmtree(self) -> None:
        """A folder of a dozen files goes in three steps: one file, most of them, all."""
        plain = shutil.rmtree

        def rmtree(folder: Any, *args: Any, **options: Any) -> None:
            files = sorted(each for each in Path(folder).rglob("*") if each.is_file())
            for each in files[:1]:
                each.unlink()
            self._silent = True
            for each in files[1:-1]:
                each.unlink()
            self._silent = False
            if files[1:-1]:
                self("within shutil.rmtree")
            self._silent = True
            plain(folder, *args, **options)
            self._silent = False
            self("after shutil.rmtree")

        shutil.rmtree = rmtree  # type: ignore[assignment]


# What a line can ask for


def task_ingest(request: dict[str, Any]) -> dict[str, Any]:
    """Make the collection equal folders.

    `parser` is "spawned" (as in earnest: a new process, seconds of imports), "forked" (the same
    with the imports done) or "here" (no process).
    """
    from ingest import sync
    from ingest.report import Report

    _choose_parser(request.get("parser", "here"))
    assert hasattr(sync, "_RACY_NS")
    sync._RACY_NS = 0  # the tests' files are younger than what is taken to be at rest
    settings = _settings(request)
    options = sync.Options(**request.get("options", {}))
    with _index(request) as index:
        paths = [Path(path) for path in request["paths"]]
        *_, report = sync.ingest(paths, index, _embedder(request), settings, COLLECTION, options)
    assert isinstance(report, Report)
    return {
        "files": {each.path: each.status for each in report.files},
        "embedded": report.embedded,
        "warnings": report.warnings,
    }


def task_delete(request: dict[str, Any]) -> dict[str, Any]:
    """Delete documents by path; where they are gone already, end what was begun."""
    from ingest.delete import delete

    with _index(request) as index:
        collection = _collection(index)
        entries = [e for e in index.catalogue.entries(collection) if e.source in request["sources"]]
        delete(index, collection, entries, _settings(request))
    return {"deleted": [entry.source for entry in entries]}


def task_drop(request: dict[str, Any]) -> dict[str, Any]:
    """Delete the whole collection, as `rag-bot delete --all` does."""
    from ingest.delete import drop

    with _index(request) as index:
        collection = index.catalogue.collection(COLLECTION)
        if collection:
            drop(index, collection, _settings(request))
    return {}


def task_compact(request: dict[str, Any]) -> dict[str, Any]:
    """Make the caches anew."""
    with _index(request) as index:
        index.compact(_collection(index))
    return {}


def task_rebuild(request: dict[str, Any]) -> dict[str, Any]:
    """Make a new generation with the settings asked for, and flip."""
    from ingest.rebuild import rebuild

    settings = _settings(request)
    with _index(request) as index:
        for _ in rebuild(index, _embedder(request), settings, COLLECTION):
            pass
    return {}


def task_record(request: dict[str, Any]) -> dict[str, Any]:
    """Say that feedback and a training example were made from a document."""
    from rag_bot.ledger import Origin

    with _index(request) as index:
        entries = index.catalogue.entries(_collection(index))
        (entry,) = [each for each in entries if each.source == request["source"]]
        origin = Origin(entry.source, entry.sha256)
        index.ledger.record_feedback(
            collection=COLLECTION,
            question=request["text"],
            answer={"text": request["text"]},
            thumb=1,
            origins=[origin],
        )
        index.ledger.record_lineage(
            "example", request["item"], COLLECTION, [origin], request["rows"]
        )
    return {}


def task_look(request: dict[str, Any]) -> dict[str, Any]:
    """All that an index is: documents, chunks, vectors, what is searched for, what lies about."""
    from rag_bot.caches import Caches
    from rag_bot.index import indexed_text
    from rag_bot.vectors import VectorStore

    embedder = _embedder(request)()
    with _index(request) as index:
        catalogue = index.catalogue
        collection = catalogue.collection(COLLECTION)
        if collection is None:
            return {
                "documents": {},
                "vectors": {},
                "held": {},
                "found": {},
                "nearest": {},
                "generation": None,
                "differences": [],
                **_beside(index),
            }
        # The first search opens the caches, and finishes what was left half done.
        index.lexical(collection, "anything", 1)
        documents = {}
        vectors: dict[str, Any] = {}
        for entry in catalogue.entries(collection):
            document = catalogue.document(entry.id)
            assert document
            stored = catalogue.chunks_of(entry.id)
            chunks = [(s.chunk.id, s.chunk.text, indexed_text(s.chunk, s.title)) for s in stored]
            pages = [page.text for page in document.pages]
            documents[entry.source] = (entry.id, entry.sha256, document.title, pages, chunks)
            ids = [each.chunk.id for each in stored]
            vectors |= dict(zip(ids, catalogue.vectors_of(entry.id), strict=True))
        caches: Caches = index._pool.opened(collection)
        assert isinstance(caches.vectors, VectorStore)
        found = {}
        nearest = {}
        for word in request.get("words", ()):
            vector = embedder.encode([word])[0]
            found[word] = (
                _hits(index.lexical(collection, word, LIMITS[0])),
                _hits(index.dense(collection, vector, LIMITS[1])),
            )
            nearest[word] = caches.dense(vector, LIMITS[1])  # few vectors are not asked of Chroma
        return {
            "documents": documents,
            "vectors": vectors,
            "held": caches.vectors.vectors(list(vectors)),
            "found": found,
            "nearest": nearest,
            "generation": collection.fingerprint,
            "differences": index.differences(collection),
            **_beside(index),
        }


def _beside(index: Index) -> dict[str, Any]:
    return {
        "damaged": index.damaged,
        "forgotten": [each.source for each in index.ledger.forgotten(COLLECTION)],
        "roots": [each.path for each in index.ledger.roots(COLLECTION)],
        "rejected": {s: r.code for s, r in index.ledger.rejections(COLLECTION).items()},
        "feedback": len(index.ledger.feedback()),
        "made": index.ledger.made(),
        "debris": _debris(index),
    }


def _debris(index: Index) -> list[str]:
    """What a run that ended well leaves nothing of."""
    catalogue = index.catalogue
    rows = catalogue.collections()
    kept = {catalogue.caches(each) for each in rows}
    folders = {each.name for each in (index.data_dir / "caches").glob("*")}
    debris = [f"folder {each}" for each in sorted(folders ^ kept)]
    debris += [f"building {each}" for each in catalogue.building()]
    for each in rows:
        debris += [f"leaving {chunk}" for chunk in catalogue.leavings(each)]
        debris += [f"pending {document}" for document in catalogue.pending(each)]
        debris += ["a purge is due"] if catalogue.debt(each).due else []
    debris += [f"file {each.name}" for each in index.data_dir.glob("*.new*")]
    return debris


def _hits(scored: Any) -> list[tuple[str, float]]:
    return sorted(((each.chunk.id, each.score) for each in scored), key=lambda hit: hit[0])


# What they share


def _settings(request: dict[str, Any]) -> Settings:
    from rag_bot import config

    flags = {"data_dir": request["data"], **request.get("settings", {})}
    return config.load(flags=flags, environ={}).settings


def _index(request: dict[str, Any]) -> Index:
    from rag_bot.index import Index

    return Index(Path(request["data"]))


def _collection(index: Index) -> Collection:
    collection = index.catalogue.collection(COLLECTION)
    assert collection
    return collection


def _embedder(request: dict[str, Any]) -> Callable[[], Any]:
    if request.get("real_embedder"):
        return _real_embedder
    from tests.conftest import WordEmbedder

    return type("Hashed", (WordEmbedder,), {"dimension": request.get("dimension", 256)})


@functools.cache
def _real_embedder() -> Any:
    import torch

    from rag_bot import config
    from rag_bot.embed import Embedder

    # The model is loaded before the fork; more threads would stay behind in the parent.
    torch.set_num_threads(1)
    return Embedder.from_settings(config.load(environ={}).settings)


def _choose_parser(parser: str) -> None:
    import multiprocessing

    from ingest import sync
    from tests.conftest import drafts_here

    patched: Any = sync
    forking: Any = multiprocessing.get_context("fork")
    if parser == "forked":
        multiprocessing.get_context = lambda _method=None: forking
    elif parser == "here":
        patched.drafts = drafts_here


def _carry_out(request: dict[str, Any]) -> int:
    steps = Steps(request.get("die_at", 0))
    if "die_at" in request:
        steps.watch()
    try:
        result = globals()[f"task_{request['task']}"](request)
        status = 0
    except BaseException as error:  # whatever it is, the test is told
        result = {"error": type(error).__name__, "trace": traceback.format_exc()}
        status = 1
    if "die_at" in request:
        result["steps"] = steps.names
    with open(request["out"], "wb") as out:
        pickle.dump(result, out)
    return status


def main() -> None:
    """Fork for each line until there are no more."""
    for name in _HEAVY:
        importlib.import_module(name)

    if "--real" in sys.argv:
        _real_embedder()
    gc.collect()
    gc.freeze()  # what is looked through in a child is copied into it
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            os.setsid()  # whoever is left behind can be told by the group
            # Not sys.exit: the parent's threads and buffers are not ours to end.
            os._exit(_carry_out(request))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
