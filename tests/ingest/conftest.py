"""A folder of the test's own, and what ingesting it does and finds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ingest import sync
from ingest.report import Progress, Report
from ingest.sync import Options, ingest
from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Settings
from rag_bot.index import Index
from tests.conftest import drafts_here


def write(folder: Path, **texts: str) -> None:
    """Text files, dated an hour ago; `sub__a` is `sub/a.txt`."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(f"{path.name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        long_ago = time.time() - 3600
        os.utime(path, (long_ago, long_ago))


class Run(NamedTuple):
    """A report by file name, and everything else that a test looks at."""

    report: Report
    statuses: dict[str, str]
    progress: list[Progress]


class Content(NamedTuple):
    """What a collection holds: by source its id, title and texts, and all vectors by chunk id."""

    documents: dict[str, tuple[str, str, tuple[tuple[str, str, str], ...]]]
    vectors: dict[str, Any]

    def differences(self, other: Content) -> list[str]:
        """Where two differ: ids and texts exactly, vectors by a cosine of less than 0.9999."""
        found = [
            source
            for source in sorted(self.documents.keys() | other.documents.keys())
            if self.documents.get(source) != other.documents.get(source)
        ]
        if self.vectors.keys() != other.vectors.keys():
            return [*found, "other chunks have vectors"]
        for chunk_id, one in self.vectors.items():
            two = other.vectors[chunk_id]
            cosine = float(one @ two) / float(np.linalg.norm(one) * np.linalg.norm(two))
            if cosine < 0.9999:
                found.append(f"{chunk_id}: {cosine}")
        return found


def content(index: Index, collection_name: str = "docs") -> Content:
    """All of a collection that a clean build would make as well."""
    collection = index.catalogue.collection(collection_name)
    documents = {}
    vectors = {}
    for entry in index.catalogue.entries(collection) if collection else []:
        stored = index.catalogue.chunks_of(entry.id)
        texts = tuple((s.chunk.id, s.chunk.heading, s.chunk.text) for s in stored)
        documents[entry.source] = (entry.id, entry.title, texts)
        ids = [each.chunk.id for each in stored]
        vectors |= zip(ids, index.catalogue.vectors_of(entry.id), strict=True)
    return Content(documents, vectors)


Go = Callable[..., Run]
Search = Callable[[str], list[str]]
Entries = Callable[[], dict[str, Entry]]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.fixture
def run(index: Index, settings: Settings, word_embedder: Any) -> Go:
    """Ingest paths into the collection `docs`; options are those of `Options`."""

    def go(
        *paths: Path,
        embedder: Any = lambda: word_embedder,
        settings: Settings = settings,
        **options: Any,
    ) -> Run:
        *progress, report = ingest(paths, index, embedder, settings, "docs", Options(**options))
        assert isinstance(report, Report)
        assert all(isinstance(each, Progress) for each in progress)
        statuses = {Path(each.path).name: each.status for each in report.files}
        return Run(report, statuses, progress)  # type: ignore[arg-type]

    return go


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "drafts", drafts_here)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files written just now are taken to be as old as those that people have."""
    monkeypatch.setattr(sync, "_RACY_NS", 0)


@pytest.fixture
def entries(index: Index) -> Entries:
    """What the collection holds, by file name."""

    def read() -> dict[str, Entry]:
        collection = index.catalogue.collection("docs")
        assert collection
        return {Path(e.source).name: e for e in index.catalogue.entries(collection)}

    return read


@pytest.fixture
def found(index: Index) -> Search:
    """The texts that a word finds."""

    def search(word: str) -> list[str]:
        collection = index.catalogue.collection("docs")
        assert collection
        return sorted(hit.chunk.text for hit in index.lexical(collection, word, 20))

    return search


Docs = Callable[[], Collection]


@pytest.fixture
def collection(index: Index) -> Docs:
    """The collection `docs`, once it is there."""

    def get() -> Collection:
        found = index.catalogue.collection("docs")
        assert found
        return found

    return get
