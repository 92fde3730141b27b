"""Check 5: every nasty file among 100 good ones, through the real processes and a real index."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ingest import sync, worker
from ingest.files import name
from ingest.report import FileResult, Report
from ingest.worker import Job, Outcome, Recipe
from rag_bot.catalogue import Prepared
from rag_bot.config import Settings
from rag_bot.index import Index

SECONDS = 60
BYTES = 1_000_000_000


@pytest.fixture(scope="module")
def nasty() -> Iterator[ModuleType]:
    """The neighbour `tests/nasty.py`."""
    spec = importlib.util.spec_from_file_location("nasty", Path(__file__).parents[1] / "nasty.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["nasty"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["nasty"]


@pytest.fixture
def beacon() -> Iterator[socket.socket]:
    """A server that nobody must ask for anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


class Watched:
    """Seconds that each file took in its process, and the most memory that any process used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: dict[str, float] = {}
        self.peak = 0
        self.worst = ""
        real = worker._Worker.run

        def run(process: Any, job: Job) -> Outcome:
            ended = threading.Event()
            sampler = threading.Thread(target=self._sample, args=(process, job, ended))
            sampler.start()
            begun = time.monotonic()
            outcome = real(process, job)
            self.seconds[job.source] = time.monotonic() - begun
            ended.set()
            sampler.join()
            return outcome

        monkeypatch.setattr(worker._Worker, "run", run)

    def _sample(self, process: Any, job: Job, ended: threading.Event) -> None:
        status = Path(f"/proc/{process._process.pid}/status")
        while not ended.wait(0.01):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            peak = next((int(line.split()[1]) * 1024 for line in lines if "VmHWM" in line), 0)
            if peak > self.peak:
                self.peak, self.worst = peak, job.source


@pytest.fixture
def unreadable_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read any file, but not a folder: one takes the place of the forbidden file."""
    if os.geteuid() != 0:
        return
    real = sync.drafts

    def drafts(jobs: Sequence[Job], recipe: Recipe) -> Iterator[tuple[Job, Outcome]]:
        forbidden = "no_permission.txt"
        return real(
            [j._replace(path=j.path.parent) if j.path.name == forbidden else j for j in jobs],
            recipe,
        )

    monkeypatch.setattr(sync, "drafts", drafts)


def ended(result: FileResult) -> str:
    return f"{result.status}:{result.code}" if result.code else result.status


@pytest.mark.usefixtures("unreadable_for_root")
def test_good_neighbours_survive_every_nasty_file(
    tmp_path: Path,
    settings: Settings,
    index: Index,
    word_embedder: Any,
    nasty: ModuleType,
    beacon: socket.socket,
    figures: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = tmp_path / "docs"
    good = nasty.make_good(docs / "good")
    expected = nasty.make(docs, f"http://127.0.0.1:{beacon.getsockname()[1]}/")
    around = {path.name for path in tmp_path.iterdir()}
    watched = Watched(monkeypatch)

    *_, report = sync.ingest([docs], index, lambda: word_embedder, settings, "docs")

    assert isinstance(report, Report)
    ends = {each.path: each for each in report.files}
    honest = {name(docs / "good" / file) for file in good}
    hostile = {f"{name(docs)}/{file}": file for file in expected}
    assert ends.keys() == honest | hostile.keys()
    assert len(report.files) == len(ends) == report.as_json()["found"]

    assert len(honest) == 100
    assert [ends[path] for path in honest if ends[path].status != "indexed"] == []

    rejected = [each for each in report.files if each.status != "indexed"]
    assert [each for each in rejected if not (each.code and each.reason and each.remedy)] == []
    collection = index.catalogue.collection("docs")
    assert collection
    texts: dict[str, str] = {}
    for entry in index.catalogue.entries(collection):
        document = index.catalogue.document(entry.id)
        assert document
        texts[entry.source] = document.text
    wrong: list[str] = []
    for path, file in hostile.items():
        right = expected[file]
        text = texts.get(path, "")
        if ended(ends[path]) not in right.ends:
            wrong.append(f"{file} ended as {ended(ends[path])}, not {sorted(right.ends)}")
        elif text:
            wrong += [f"{file} lacks {each!r}" for each in right.holds if each not in text]
            wrong += [f"{file} holds {each!r}" for each in right.lacks if each in text]
    assert wrong == []
    assert ends[f"{name(docs)}/pdf/half_scan.pdf"].blank_pages == (2,)

    assert not any("secret" in text for text in texts.values())
    for file, sentence in good.items():
        hits = index.lexical(collection, sentence, 10)
        assert any(sentence in hit.chunk.text for hit in hits), file

    assert multiprocessing.active_children() == []
    with pytest.raises(BlockingIOError):
        beacon.accept()
    assert {path.name for path in tmp_path.iterdir()} == around
    assert not Path("/tmp/rag-bot-was-here").exists()

    slowest = max(watched.seconds, key=lambda path: watched.seconds[path])
    assert watched.seconds[slowest] < SECONDS, slowest
    assert watched.peak < BYTES, watched.worst
    figures(
        "nasty files",
        f"{len(honest)} of 100 good files indexed among {len(hostile)} nasty ones, each of which"
        f" ended as expected; the slowest took {watched.seconds[slowest]:.1f} s"
        f" ({Path(slowest).name}), the largest {watched.peak / 1e6:.0f} MB"
        f" ({Path(watched.worst).name})",
    )


def test_ten_thousand_identical_chunks_wall_in_no_other(
    index: Index, prepare: Callable[..., Prepared], word_embedder: Any
) -> None:
    collection = index.make_collection("docs", "f1")
    others = [f"Pump a{n} needs b{n} c{n} d{n} e{n} f{n}." for n in range(100)]
    same = "The same words on every page."
    for source, pages in (("others.txt", others), ("same.txt", [same] * 10_000)):
        index.add(collection, [prepare(collection, word_embedder, source, *pages)])
    for text in [*others, same]:
        vector = word_embedder.encode([text])[0]
        for hits in (index.lexical(collection, text, 10), index.dense(collection, vector, 10)):
            assert text in [hit.chunk.text for hit in hits]
