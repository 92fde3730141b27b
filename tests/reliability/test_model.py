"""The index against a plain dictionary: whatever happens in between, the two say the same."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ingest import sync
from ingest.delete import delete, undelete
from ingest.report import Report
from ingest.sync import Options, ingest
from rag_bot import index as index_module
from rag_bot.caches import Caches
from rag_bot.catalogue import Catalogue, Collection
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.errors import Unavailable
from rag_bot.index import Index, indexed_text
from rag_bot.ledger import Ledger
from rag_bot.lexical import Lexical
from rag_bot.pool import Pool
from rag_bot.seal import Seal
from rag_bot.vectors import VectorStore
from tests.conftest import WordEmbedder, drafts_here
from tests.ingest.conftest import content
from tests.reliability.conftest import Figures

STEPS = 2000
PATHS = [f"{folder}{name}.txt" for folder in ("", "a/", "b/", "a/c/") for name in ("1", "2", "ü")]
ROOTS = ["", "a", "b", "a/c", "a/1.txt"]
MARKS = [f"mark{n}" for n in range(12)]
"""A word for each paragraph that a file may have."""
PARAGRAPHS = st.lists(st.sampled_from(MARKS), min_size=1, max_size=4)

Texts = dict[str, str]


def paragraph(mark: str) -> str:
    """Long enough to be a chunk of its own."""
    return f"{mark} is the word by which this passage is known." + f" And {mark} again." * 6


PLACES: list[tuple[type, str]] = [
    (Catalogue, "write_pending"),
    (Catalogue, "go_live"),
    (Catalogue, "take_away"),
    (Catalogue, "forget_leavings"),
    (Catalogue, "set_caches"),
    (Catalogue, "touch"),
    (Caches, "fill"),
    (VectorStore, "__init__"),
    (VectorStore, "replace"),
    (VectorStore, "remove"),
    (Lexical, "_commit"),
    (Pool, "sweep_folders"),
    (Ledger, "erase"),
    (Ledger, "keep_out"),
    (Ledger, "accept"),
    (Ledger, "remember_root"),
    (Ledger, "end_run"),
    (Database, "settle"),
    (Seal, "_save"),
]
CACHES = [each for each in PLACES if each[0] in (VectorStore, Lexical)]


class Killed(SystemExit):
    """The process is gone. A SystemExit, as nothing takes that for a failure of its own."""


@contextlib.contextmanager
def stopping(
    places: Sequence[tuple[type, str]], at: int, stop: Callable[[], None]
) -> Iterator[None]:
    """Before or after these methods' calls `stop` is called, where the count of both is `at`."""
    counted = itertools.count(1)

    def step() -> None:
        if next(counted) == at:
            stop()

    def around(plain: Any) -> Any:
        @functools.wraps(plain)
        def stepped(*args: Any, **options: Any) -> Any:
            step()
            result = plain(*args, **options)
            step()
            return result

        return stepped

    plain = {(owner, name): getattr(owner, name) for owner, name in places}
    for (owner, name), method in plain.items():
        setattr(owner, name, around(method))
    try:
        yield
    finally:
        for (owner, name), method in plain.items():
            setattr(owner, name, method)


def copy(file: str, to: str) -> None:
    """tantivy may tidy up in a thread of its own while everything is being copied."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(file, to)


class Life(RuleBasedStateMachine):
    """A folder, its index, and what the index should answer from.

    `files` is the folder, `indexed` the dictionary, `kept_out` what was deleted while its file
    was there; all map paths to texts.
    """

    settings: ClassVar[Settings]
    home: ClassVar[Path]
    steps: ClassVar[dict[str, int]]
    lives: ClassVar[int] = 0

    @initialize(files=st.dictionaries(st.sampled_from(PATHS), PARAGRAPHS, min_size=2, max_size=6))
    def begin(self, files: dict[str, list[str]]) -> None:
        Life.lives += 1
        self.place = self.home / f"life{Life.lives}"
        self.docs = self.place / "docs"
        self.docs.mkdir(parents=True)
        self.files: Texts = {}
        self.indexed: Texts = {}
        self.kept_out: Texts = {}
        self.embedder = WordEmbedder()
        self.deaths = 0
        self.asked = False
        """Whether nothing has happened since the last question."""
        self.index = Index(self.place / "data0")
        for path, marks in files.items():
            self.put(path, marks)
        self.ingest("", Options())

    def teardown(self) -> None:
        """Everything comes back, and the index equals one that was made of the folder at once."""
        if not hasattr(self, "index"):
            return
        try:
            if self.collection() and self.files:
                while self.kept_out:
                    self.let_in(min(self.kept_out))
                self.ingest("", Options(allow_removal=True))
                self.ask()
                with Index(self.place / "clean") as clean:
                    list(ingest([self.docs], clean, lambda: self.embedder, self.settings, "docs"))
                    assert content(self.index).differences(content(clean)) == []
        finally:
            self.index.close()
            shutil.rmtree(self.place)

    # The folder

    @rule(path=st.sampled_from(PATHS), marks=PARAGRAPHS)
    def write(self, path: str, marks: list[str]) -> None:
        """A new file, an edit, or a twin."""
        self.count("write")
        self.put(path, marks)

    def put(self, path: str, marks: list[str]) -> None:
        text = "\n\n".join(map(paragraph, marks))
        file = self.docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.files[path] = text

    @precondition(lambda self: self.files)
    @rule(which=st.integers(0, 99), to=st.sampled_from(PATHS), keeping=st.booleans())
    def move(self, which: int, to: str, keeping: bool) -> None:
        """Rename a file, into another folder perhaps; with its date, as `cp -p` leaves a twin."""
        path = self.pick(self.files, which)
        if path == to:
            return
        self.count("twin" if keeping else "rename")
        (self.docs / to).parent.mkdir(parents=True, exist_ok=True)
        if keeping:
            shutil.copy2(self.docs / path, self.docs / to)
            self.files[to] = self.files[path]
        else:
            (self.docs / path).rename(self.docs / to)
            self.files[to] = self.files.pop(path)

    @precondition(lambda self: len(self.files) > 1)
    @rule(one=st.integers(0, 99), two=st.integers(0, 99))
    def swap(self, one: int, two: int) -> None:
        first, second = self.pick(self.files, one), self.pick(self.files, two)
        self.count("swap")
        (self.docs / first).rename(self.docs / "aside")
        if first != second:
            (self.docs / second).rename(self.docs / first)
        (self.docs / "aside").rename(self.docs / second)
        self.files |= {first: self.files[second], second: self.files[first]}

    @precondition(lambda self: self.files)
    @rule(which=st.integers(0, 99))
    def remove(self, which: int) -> None:
        self.count("remove")
        path = self.pick(self.files, which)
        (self.docs / path).unlink()
        del self.files[path]

    # What is done to the index

    @precondition(lambda self: self.files or self.indexed)
    @rule(
        root=st.sampled_from(ROOTS),
        how=st.sampled_from([Options(allow_removal=True)] * 3 + [Options(), Options(delete=False)]),
    )
    def synchronise(self, root: str, how: Options) -> None:
        root = self.widened(root)
        self.count("ingest")
        foreseen = self.report(root, how._replace(dry_run=True))
        report = self.ingest(root, how)
        assert ends(foreseen) == ends(report)
        assert foreseen.warnings == report.warnings

    @precondition(lambda self: self.indexed)
    @rule(which=st.integers(0, 99))
    def delete(self, which: int) -> None:
        self.count("delete")
        self.forget(self.pick(self.indexed, which))
        self.compare()

    @precondition(lambda self: self.kept_out)
    @rule(which=st.integers(0, 99))
    def undelete(self, which: int) -> None:
        self.count("undelete")
        self.let_in(self.pick(self.kept_out, which))

    @precondition(lambda self: self.indexed and not self.asked)
    @rule()
    def compact(self) -> None:
        self.count("compact")
        collection = self.collection()
        assert collection
        self.index.compact(collection)

    @precondition(lambda self: not self.asked)
    @rule()
    def reopen(self) -> None:
        self.count("reopen")
        self.index.close()
        self.index = Index(self.index.data_dir)
        assert self.index.damaged == []
        self.compare()

    # What goes wrong

    @rule(
        path=st.sampled_from(PATHS),
        marks=PARAGRAPHS,
        deleting=st.none() | st.integers(0, 99),
        at=st.integers(1, 50),
    )
    def crash(self, path: str, marks: list[str], deleting: int | None, at: int) -> None:
        """Killed in the middle: what is on disk in that moment is all that is left."""
        left = self.place / f"data{self.deaths + 1}"

        def die() -> None:
            # The original may go on ending as it likes: it is never looked at again.
            shutil.copytree(self.index.data_dir, left, copy_function=copy)
            raise Killed

        self.put(path, marks)
        if not self.attempt(deleting, stopping(PLACES, at, die), Killed):
            return
        self.count(f"crash in {'ingest' if deleting is None else 'delete'}")
        self.deaths += 1
        old = self.index
        old.close()
        shutil.rmtree(old.data_dir)
        self.index = Index(left)
        assert self.index.damaged == []
        self.settle(deleting)

    @rule(
        path=st.sampled_from(PATHS),
        marks=PARAGRAPHS,
        deleting=st.none() | st.integers(0, 99),
        at=st.integers(1, 20),
    )
    def full_disk(self, path: str, marks: list[str], deleting: int | None, at: int) -> None:
        """A cache fails once, and may have done what it was asked or not. The process lives on."""

        def fail() -> None:
            raise OSError(28, "No space left on device")

        self.put(path, marks)
        if self.attempt(deleting, stopping(CACHES, at, fail), Unavailable):
            self.count("full disk")
            self.settle(deleting)

    # What is asked of it

    @precondition(lambda self: not self.asked)
    @rule()
    def query(self) -> None:
        self.count("query")
        self.ask()

    @precondition(lambda self: self.indexed and not self.asked)
    @rule()
    def verify(self) -> None:
        self.count("verify")
        collection = self.collection()
        assert collection
        assert self.index.differences(collection) == []
        assert self.index.catalogue.damaged(collection) == []

    # How

    def count(self, what: str) -> None:
        self.steps[what] = self.steps.get(what, 0) + 1
        self.asked = what == "query"

    def pick(self, texts: Texts, which: int) -> str:
        return sorted(texts)[which % len(texts)]

    def collection(self) -> Collection | None:
        return self.index.catalogue.collection("docs")

    def below(self, root: str, texts: Texts) -> Texts:
        return {p: t for p, t in texts.items() if not root or p == root or p.startswith(root + "/")}

    def widened(self, root: str) -> str:
        """The root, or the whole folder where nothing is there and never was: a wrong request."""
        return root if self.below(root, self.files | self.indexed) else ""

    def report(self, root: str, how: Options) -> Report:
        place = self.docs / root
        *_, report = ingest([place], self.index, lambda: self.embedder, self.settings, "docs", how)
        assert isinstance(report, Report)
        return report

    def ingest(self, root: str, how: Options) -> Report:
        """A run that comes to its end, and what the dictionary says to it."""
        wanted, warned = self.expected(root, how)
        before = len(self.embedder.seen)
        report = self.report(root, how)
        self.indexed = wanted
        assert bool(report.warnings) == warned
        counts = report.as_json()
        assert counts["failed"] == 0
        assert counts["found"] == len(self.below(root, self.files))
        assert report.embedded == len(self.embedder.seen) - before
        assert counts["indexed"] or not report.embedded
        self.compare()
        return report

    def expected(self, root: str, how: Options) -> tuple[Texts, bool]:
        """What is indexed after a run, and whether it asks before it removes so much."""
        files = self.below(root, self.files)
        alive = set(self.indexed.values())
        out = {
            path
            for path, text in files.items()
            if path in self.kept_out
            or (
                text != self.indexed.get(path)
                and text in self.kept_out.values()
                and text not in alive
            )
        }
        wanted = self.indexed | {path: text for path, text in files.items() if path not in out}
        if not how.delete:
            return wanted, False
        below = self.below(root, self.indexed)
        gone = {path for path in below if path not in files or path in out}
        staying = {wanted[path] for path in files if path not in out}
        lost = [path for path in gone if self.indexed[path] not in staying]
        if 3 * len(lost) > len(below) and not how.allow_removal:
            return wanted, True
        return {path: text for path, text in wanted.items() if path not in gone}, False

    def forget(self, path: str) -> None:
        collection = self.collection()
        assert collection
        entries = self.index.catalogue.entries(collection)
        wanted = [each for each in entries if each.source == str(self.docs / path)]
        delete(self.index, collection, wanted, self.settings)
        text = self.indexed.pop(path)
        if path in self.files:
            self.kept_out[path] = text

    def let_in(self, path: str) -> None:
        undelete(self.index, "docs", [str(self.docs / path)])
        text = self.kept_out[path]
        self.kept_out = {p: t for p, t in self.kept_out.items() if t != text}

    def attempt(
        self,
        deleting: int | None,
        stop: contextlib.AbstractContextManager[None],
        kind: type[BaseException],
    ) -> bool:
        """Ingest the folder, or delete a document, while something stops it. Whether it did."""
        if deleting is not None and not self.indexed:
            return False
        before = self.indexed.copy(), self.kept_out.copy()
        with stop:
            try:
                if deleting is None:
                    self.ingest("", Options(allow_removal=True))
                else:
                    self.forget(self.pick(self.indexed, deleting))
            except kind:
                self.indexed, self.kept_out = before
                return True
        return False

    def settle(self, deleting: int | None) -> None:
        """After a stop each document is as it was or as it should have become, never a mix."""
        if collection := self.collection():
            self.index.lexical(collection, "any question", 1)
        found = self.look()
        if deleting is None:
            after, _ = self.expected("", Options(allow_removal=True))
        else:
            path = self.pick(self.indexed, deleting)
            after = {p: text for p, text in self.indexed.items() if p != path}
            if found == after and path in self.files:
                self.kept_out[path] = self.indexed[path]
        for each in self.indexed.keys() | after.keys() | found.keys():
            assert found.get(each) in (self.indexed.get(each), after.get(each)), each
        self.indexed = found
        self.ask()

    def look(self) -> Texts:
        """What the index holds."""
        collection = self.collection()
        catalogue = self.index.catalogue
        found: Texts = {}
        for entry in catalogue.entries(collection) if collection else []:
            document = catalogue.document(entry.id)
            assert document
            path = Path(entry.source).relative_to(self.docs).as_posix()
            assert path not in found, "two versions of one document"
            found[path] = document.text
        return found

    def compare(self) -> None:
        assert self.look() == self.indexed
        remembered = {f.source: f.sha256 for f in self.index.ledger.forgotten("docs")}
        assert remembered.keys() == {str(self.docs / path) for path in self.kept_out}

    def ask(self) -> None:
        """Every text finds itself, and what is not in the dictionary is found by nobody."""
        self.compare()
        collection = self.collection()
        if collection is None:
            return
        index = self.index
        alive = {
            each.chunk.id: indexed_text(each.chunk, each.title)
            for entry in index.catalogue.entries(collection)
            for each in index.catalogue.chunks_of(entry.id)
        }
        texts = list(alive.values())
        vectors = WordEmbedder().encode(texts)
        for (chunk_id, text), vector in zip(alive.items(), vectors, strict=True):
            hits = index.dense(collection, vector, len(alive))
            best = {hit.chunk.id for hit in hits if hit.score > 0.9999}
            assert chunk_id in best
            assert {hit.chunk.id for hit in hits} <= alive.keys()
            by_words = index.lexical(collection, text, len(alive))
            assert chunk_id in {hit.chunk.id for hit in by_words}
        for mark in MARKS:
            found = {hit.chunk.id for hit in index.lexical(collection, mark, 200)}
            assert found == {i for i, text in alive.items() if mark in text.split()}
        assert index.catalogue.leavings(collection) == []
        assert index.catalogue.pending(collection) == []


def ends(report: Report) -> list[tuple[str, str, str]]:
    return sorted((each.path, each.status, each.moved_from) for each in report.files)


def test_whatever_happens_the_index_says_what_a_plain_dictionary_says(
    full: bool,
    settings: Settings,
    tmp_path: Path,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync, "drafts", drafts_here)
    monkeypatch.setattr(index_module, "_FEW", 0)  # Chroma, too, must say what the dictionary says
    # Some files are too fresh to be trusted, and some are not.
    monkeypatch.setattr(sync, "_RACY_NS", 30_000_000)
    small = settings.ingest.model_copy(update={"chunk_tokens": 32, "batch_chunks": 6})
    steps: dict[str, int] = {}

    class Here(Life):
        pass

    Here.settings = settings.model_copy(update={"ingest": small})
    Here.home, Here.steps = tmp_path, steps
    plan = hypothesis.settings(
        max_examples=8 if full else 6,
        stateful_step_count=50 if full else 20,
        derandomize=not full,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    wanted = STEPS if full else 1
    while sum(steps.values()) < wanted:
        run_state_machine_as_test(Here, settings=plan)  # type: ignore[no-untyped-call]
    told = ", ".join(f"{count} {what}" for what, count in sorted(steps.items()))
    figures("4 model", f"0 differences in {sum(steps.values())} steps ({told})")
