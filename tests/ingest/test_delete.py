import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.delete import delete, drop, undelete, uploads
from rag_bot.caches import CacheBroken, Caches
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.errors import Unavailable, UsageError
from rag_bot.index import Index
from rag_bot.ledger import Origin
from tests.ingest.conftest import Entries, Go, Search, write

pytestmark = pytest.mark.usefixtures("in_process", "settled")

Gone = Callable[..., None]


@pytest.fixture
def gone(
    index: Index, settings: Settings, entries: Entries, collection: Callable[[], Collection]
) -> Gone:
    """Delete documents by file name."""

    def go(*names: str) -> None:
        delete(index, collection(), [entries()[name] for name in names], settings)

    return go


def _bytes(embedder: Any, text: str, kind: type[np.floating[Any]]) -> bytes:
    """A text's vector as it lies on disk: what Chroma gets went through the catalogue's float16."""
    return bytes(np.asarray(embedder.encode([text])[0], np.float16).astype(kind).tobytes())


def kept_out(index: Index) -> list[str]:
    return [Path(each.source).name for each in index.ledger.forgotten("docs")]


def traces(folder: Path, *needles: bytes) -> list[str]:
    """The files below a folder that hold any of these bytes."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return [each.name for each in files if any(needle in each.read_bytes() for needle in needles)]


def test_a_deleted_document_answers_no_more_and_the_others_do(
    docs: Path, run: Go, gone: Gone, found: Search, index: Index,
    collection: Callable[[], Collection], word_embedder: Any,
) -> None:  # fmt: skip
    write(docs, a="The zebra.", b="The camel.", c="Three.")
    run(docs)
    gone("a.txt")
    assert found("zebra") == []
    vector = word_embedder.encode(["The zebra."])[0]
    assert {h.chunk.text for h in index.dense(collection(), vector, 9)} == {"The camel.", "Three."}
    assert index.differences(collection()) == []
    assert found("camel") == ["The camel."]


def test_its_words_and_vectors_are_in_no_file(
    docs: Path, run: Go, gone: Gone, index: Index, word_embedder: Any
) -> None:
    write(docs, a="The secretive zebra.", b="The camel.", c="Three.")
    run(docs)
    needles = {
        "word": [b"secretive"],
        "vector": [_bytes(word_embedder, "The secretive zebra.", np.float16)],
        "vector in Chroma": [_bytes(word_embedder, "The secretive zebra.", np.float32)],
    }
    assert [name for name, each in needles.items() if traces(index.data_dir, *each)] == [*needles]
    gone("a.txt")
    assert [name for name, each in needles.items() if traces(index.data_dir, *each)] == []
    assert traces(index.data_dir, _bytes(word_embedder, "The camel.", np.float32))


def test_of_two_twins_the_other_answers_on(
    docs: Path, run: Go, gone: Gone, found: Search, index: Index
) -> None:
    write(docs, a="The zebra.", b="The zebra.", c="Three.")
    run(docs)
    gone("a.txt")
    assert found("zebra") == ["The zebra."]
    assert run(docs).statuses == {"a.txt": "skipped", "b.txt": "unchanged", "c.txt": "unchanged"}
    assert found("zebra") == ["The zebra."]
    gone("b.txt")
    assert found("zebra") == []
    assert traces(index.data_dir, b"zebra") == []


def test_path_and_hash_are_remembered_while_the_file_is_there_and_nothing_else(
    docs: Path, run: Go, gone: Gone, entries: Entries, index: Index
) -> None:
    write(docs, a="The zebra.", b="Two.")
    run(docs)
    (docs / "b.txt").unlink()
    before = entries()["a.txt"]
    gone("a.txt", "b.txt")
    (remembered,) = index.ledger.forgotten("docs")
    assert (remembered.source, remembered.sha256) == (before.source, before.sha256)


def test_a_file_whose_name_is_not_utf_8_stays_out_as_well(
    docs: Path, run: Go, gone: Gone, entries: Entries, index: Index
) -> None:
    strange = Path(os.fsdecode(os.fsencode(docs) + b"/m\xfcll.txt"))
    strange.write_text("The zebra.")
    write(docs, b="Two.")
    run(docs)
    gone("m\\xfcll.txt")
    assert kept_out(index) == ["m\\xfcll.txt"]
    assert run(docs).statuses["m\\xfcll.txt"] == "skipped"
    undelete(index, "docs", ["m\\xfcll.txt"])
    assert run(docs).statuses["m\\xfcll.txt"] == "indexed"


def test_a_document_whose_folder_is_away_stays_out_when_that_comes_back(
    docs: Path, run: Go, gone: Gone, index: Index
) -> None:
    write(docs, a="The zebra.", b="Two.")
    run(docs)
    docs.rename(docs.parent / "away")
    gone("a.txt")
    (docs.parent / "away").rename(docs)
    assert run(docs).statuses == {"a.txt": "skipped", "b.txt": "unchanged"}


def test_an_upload_is_deleted_with_its_file(
    docs: Path, run: Go, gone: Gone, index: Index, settings: Settings
) -> None:
    write(uploads(settings) / "docs", given="The zebra.")
    run(uploads(settings) / "docs")
    gone("given.txt")
    assert list((uploads(settings) / "docs").iterdir()) == []
    assert index.ledger.forgotten("docs") == []
    assert traces(index.data_dir, b"zebra") == []


def test_what_was_made_of_it_is_marked_or_gone(
    docs: Path, run: Go, gone: Gone, entries: Entries, index: Index, tmp_path: Path
) -> None:
    write(docs, a="The zebra.", b="Two.")
    run(docs)
    origins = {n: Origin(e.source, e.sha256) for n, e in entries().items()}
    rows = tmp_path / "examples.jsonl"
    rows.write_text('{"id": "of a", "text": "zebra"}\n{"id": "of b", "text": "two"}\n')
    for name in "ab":
        origin = [origins[f"{name}.txt"]]
        index.ledger.record_lineage("example", f"of {name}", "docs", origin, str(rows))
        index.ledger.record_lineage("adapter", f"of {name}", "docs", origin)
        index.ledger.record_feedback(
            collection="docs", question=f"about {name}", answer={}, thumb=1, origins=origin
        )
    gone("a.txt")
    assert rows.read_text() == '{"id": "of b", "text": "two"}\n'
    assert [each["question"] for each in index.ledger.feedback()] == ["about b"]
    made = {(each.kind, each.item): each.marked for each in index.ledger.made()}
    assert made == {
        ("adapter", "of a"): True,
        ("adapter", "of b"): False,
        ("example", "of b"): False,
        ("feedback", "2"): False,
    }


def test_runs_that_named_it_name_it_no_more(docs: Path, run: Go, gone: Gone, index: Index) -> None:
    write(docs, a="The zebra.", b="Two.")
    run(docs)
    (docs / "a.txt").write_bytes(b"%PDF-1.7\nbroken")
    run(docs)
    assert [len(each.report["files"]) for each in index.ledger.runs()] == [1, 0]
    assert len(index.ledger.rejections("docs")) == 1
    gone("a.txt")
    assert [len(each.report["files"]) for each in index.ledger.runs()] == [0, 0]
    assert index.ledger.rejections("docs") == {}


@pytest.mark.parametrize("shown", [True, False])
def test_a_newer_version_that_a_full_disk_held_back_goes_as_well(
    docs: Path, run: Go, gone: Gone, found: Search, index: Index, settings: Settings,
    entries: Entries, collection: Callable[[], Collection], monkeypatch: pytest.MonkeyPatch,
    shown: bool,
) -> None:  # fmt: skip
    """Whether or not a question has brought it to light in the meantime."""
    write(docs, a="The zebra.", b="Two.", c="Three.")
    run(docs)
    write(docs, a="The zebra in its second version.")
    with monkeypatch.context() as patch:
        patch.setattr(Caches, "replace", _full_disk)
        with pytest.raises(Unavailable):
            run(docs)
    listed = entries()["a.txt"]
    if shown:
        assert found("version") == ["The zebra in its second version."]
    delete(index, collection(), [listed], settings)
    assert set(entries()) == {"b.txt", "c.txt"}
    assert found("zebra") == []


def test_without_room_for_new_caches_it_is_gone_from_answers_and_the_next_run_clears_up(
    docs: Path, run: Go, gone: Gone, found: Search, index: Index,
    collection: Callable[[], Collection], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write(docs, a="The zebra.", b="Two.", c="Three.")
    run(docs)
    with monkeypatch.context() as patch:
        patch.setattr(Caches, "open", _full_disk)
        with pytest.raises(Unavailable, match="can't be written"):
            gone("a.txt")
    assert found("zebra") == []
    assert kept_out(index) == ["a.txt"]
    assert index.catalogue.debt(collection()).due
    run(docs)
    assert not index.catalogue.debt(collection()).due
    assert index.differences(collection()) == []


def _full_disk(*_: Any) -> None:
    raise CacheBroken("No space left on device")


class TestUndelete:
    @pytest.fixture(autouse=True)
    def ingested(self, in_process: None, docs: Path, run: Go) -> None:
        write(docs, a="The zebra.", sub__a="The camel.", b="Two.", c="Three.")
        run(docs)

    def names(self, index: Index, names: Sequence[str]) -> list[str]:
        return [each.source for each in undelete(index, "docs", names)]

    def test_by_path(self, docs: Path, gone: Gone, run: Go, found: Search, index: Index) -> None:
        gone("b.txt")
        assert self.names(index, [str(docs / "b.txt")]) == [str(docs / "b.txt")]
        assert run(docs).statuses["b.txt"] == "indexed"
        assert found("two") == ["Two."]

    def test_by_a_path_with_detours(
        self, docs: Path, gone: Gone, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone("b.txt")
        monkeypatch.chdir(docs / "sub")
        assert self.names(index, ["../b.txt"]) == [str(docs / "b.txt")]

    def test_by_name_all_that_are_called_so(
        self, docs: Path, index: Index, settings: Settings, collection: Callable[[], Collection]
    ) -> None:
        everything = index.catalogue.entries(collection())
        delete(index, collection(), everything, settings)
        both = [str(docs / "a.txt"), str(docs / "sub" / "a.txt")]
        assert self.names(index, ["a.txt"]) == both
        assert kept_out(index) == ["b.txt", "c.txt"]

    def test_of_two_deleted_twins_lets_both_in(
        self, docs: Path, gone: Gone, run: Go, found: Search, index: Index
    ) -> None:
        write(docs, twin="Two.")
        run(docs)
        gone("b.txt", "twin.txt")
        assert self.names(index, ["b.txt"]) == [str(docs / "b.txt"), str(docs / "twin.txt")]
        run(docs)
        assert found("two") == ["Two.", "Two."]

    def test_an_unknown_name_is_a_usage_error_and_lets_nothing_in(
        self, docs: Path, gone: Gone, index: Index
    ) -> None:
        gone("b.txt")
        with pytest.raises(UsageError, match=r"no document 'x.txt' is kept out \(kept out are: /"):
            undelete(index, "docs", ["b.txt", "x.txt"])
        assert kept_out(index) == ["b.txt"]


def test_a_collection_dropped_is_gone_with_its_records(
    docs: Path, run: Go, gone: Gone, index: Index, settings: Settings,
    collection: Callable[[], Collection],
) -> None:  # fmt: skip
    write(docs, a="The zebra.", b="Two.")
    write(uploads(settings) / "docs", given="Given.")
    (docs / "empty.txt").write_bytes(b"")
    run(docs, uploads(settings) / "docs")
    gone("b.txt")
    drop(index, collection(), settings)
    assert index.catalogue.collections() == []
    ledger = index.ledger
    assert (ledger.roots("docs"), ledger.rejections("docs"), ledger.forgotten("docs")) == (
        [], {}, [],
    )  # fmt: skip
    assert not (uploads(settings) / "docs" / "given.txt").exists()
    assert (docs / "a.txt").exists()
    assert traces(index.data_dir, b"zebra", b"Given", b"empty.txt") == []
    again = run(docs)
    assert (again.statuses["a.txt"], again.statuses["b.txt"]) == ("indexed", "indexed")
