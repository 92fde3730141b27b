import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.shared_system_client import SharedSystemClient

from ingest.delete import delete
from ingest.rebuild import rebuild
from ingest.report import Progress, Report
from ingest.sync import Options, ingest
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index, fingerprint
from tests.conftest import WordEmbedder
from tests.ingest.conftest import Content, Go, Search, content, write

pytestmark = pytest.mark.usefixtures("in_process")


class Narrow(WordEmbedder):
    """Another embedder: 128 buckets."""

    dimension = 128


def never() -> Any:
    raise AssertionError("the embedder was loaded")


@pytest.fixture
def other(settings: Settings, embedder_folder: Path, tmp_path: Path) -> Settings:
    """Settings with another embedder, of the same tokenizer, and smaller chunks."""
    folder = tmp_path / "other-model"
    shutil.copytree(embedder_folder, folder, copy_function=os.symlink)
    small = {"chunk_tokens": 40, "batch_chunks": 4}
    return settings.model_copy(
        update={
            "models": settings.models.model_copy(update={"embedder": str(folder)}),
            "ingest": settings.ingest.model_copy(update=small),
        }
    )


def number(count: int, about: str) -> str:
    return " ".join(f"Sentence {i} says that the {about} has number {i * i}." for i in range(count))


@pytest.fixture
def built(docs: Path, run: Go) -> Path:
    """Eight documents in the index: short and long ones, twins, and one with headings."""
    write(docs, pump="The pump has 4 bar.", twin="The pump has 4 bar.", long=number(40, "boiler"))
    write(docs, sub__lease=number(12, "lease"), sub__leave=number(7, "leave"), fee="Fee: 5 euros.")
    (docs / "guide.md").write_text(f"# Guide\n\n## Oil\n\n{number(9, 'oil')}\n\n## Air\n\nAir.\n")
    (docs / "blank.csv").write_text("name,price\nvalve,3\nseal,1\n")
    assert len(run(docs).report.files) == 8
    return docs


@pytest.fixture
def clean(other: Settings, tmp_path: Path) -> Callable[[Path], Content]:
    """What a folder gives with the other settings in an index of its own."""

    def build(docs: Path) -> Content:
        with Index(tmp_path / "clean") as index:
            list(ingest([docs], index, Narrow, other, "docs", Options()))  # type: ignore[arg-type]
            return content(index)

    return build


Clean = Callable[[Path], Content]


def again(index: Index) -> Index:
    """The index as a new process opens it."""
    index.close()
    SharedSystemClient.clear_system_cache()
    return Index(index.data_dir)


def finish(index: Index, other: Settings, embedder: Any = Narrow) -> Report:
    *_, report = rebuild(index, embedder, other, "docs")
    assert isinstance(report, Report)
    return report


def bytes_of(folder: Path) -> bytes:
    return b"\0".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_rebuild_equals_a_clean_ingest_with_the_new_settings(
    built: Path, index: Index, other: Settings, clean: Clean
) -> None:
    expected = clean(built)
    shutil.move(built, built.with_name("away"))
    report = finish(index, other)
    assert content(index).differences(expected) == []
    assert len(expected.vectors) > 20
    collection = index.collection("docs", fingerprint(other))
    assert (collection.generation, index.catalogue.building()) == (2, [])
    assert index.catalogue.dimension(collection) == 128
    assert index.differences(collection) == []
    assert {each.status for each in report.files} == {"indexed"}
    assert (len(report.files), report.embedded) == (8, len(expected.vectors))
    assert sum(each.chunks for each in report.files) == len(expected.vectors)
    (last, *_) = index.ledger.runs()
    assert (last.kind, last.outcome, last.report["indexed"]) == ("rebuild", "done", 8)


def test_after_a_rebuild_the_folder_is_unchanged(
    built: Path, index: Index, other: Settings, run: Go
) -> None:
    for file in built.rglob("*.*"):
        os.utime(file, (1e9, 1e9))
    run(built)
    finish(index, other)
    assert set(run(built, settings=other, embedder=never).statuses.values()) == {"unchanged"}


def test_the_old_generation_answers_until_the_flip_and_leaves_no_trace(
    built: Path, index: Index, other: Settings, found: Search
) -> None:
    old = index.catalogue.collection("docs")
    assert old
    entries = index.catalogue.entries(old)
    stored = [each.chunk.id for e in entries for each in index.catalogue.chunks_of(e.id)]
    vectors = [
        index.catalogue.vectors_of(e.id)[0].astype(kind).tobytes()[:64]
        for e in entries
        for kind in ("<f2", "<f4")
    ]
    traces = [each.encode() for each in (*stored, *(e.id for e in entries))] + vectors
    assert sum(each in bytes_of(index.data_dir) for each in traces) > len(stored)
    asked = 0
    for event in rebuild(index, Narrow, other, "docs"):  # type: ignore[arg-type]
        if isinstance(event, Progress):
            assert index.catalogue.collection("docs") == old
            assert found("pump") == ["The pump has 4 bar."] * 2
            asked += 1
    assert asked == 8
    assert found("pump") == ["The pump has 4 bar."] * 2
    assert [each for each in traces if each in bytes_of(index.data_dir)] == []
    index.close()
    assert [each for each in traces if each in bytes_of(index.data_dir)] == []


def test_adopting_the_settings_is_one_with_the_flip(
    built: Path, index: Index, other: Settings
) -> None:
    seen: list[bool] = []

    def adopt() -> None:
        seen.append(index.catalogue.collection("docs") == index.collection("docs", wanted))

    wanted = fingerprint(other)
    list(rebuild(index, Narrow, other, "docs", adopt=adopt))  # type: ignore[arg-type]
    assert seen == [True]


@pytest.mark.parametrize("after", [1, 4, 7])
def test_cut_off_between_documents_it_goes_on_where_it_was(
    built: Path, index: Index, other: Settings, clean: Clean, after: int
) -> None:
    running = rebuild(index, Narrow, other, "docs")  # type: ignore[arg-type]
    for _ in range(after):
        next(running)
    running.close()  # type: ignore[attr-defined]
    assert index.ledger.runs()[0].outcome == "failed"
    (begun,) = index.catalogue.building()
    kept = sum(each.chunks for each in index.catalogue.entries(begun))
    assert kept > 0
    with again(index) as reopened:
        report = finish(reopened, other)
        assert content(reopened).differences(expected := clean(built)) == []
        assert report.embedded == len(expected.vectors) - kept
        assert reopened.catalogue.building() == []


@pytest.mark.parametrize("step", ["write_pending", "go_live", "flip"])
def test_cut_off_at_a_step_of_the_catalogue_it_goes_on(
    built: Path,
    index: Index,
    other: Settings,
    clean: Clean,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(index.catalogue, step, cut)
        with pytest.raises(KeyboardInterrupt):
            finish(index, other)
    with again(index) as reopened:
        finish(reopened, other)
        assert content(reopened).differences(clean(built)) == []


def test_what_was_deleted_between_two_tries_does_not_come_back(
    built: Path, index: Index, other: Settings, clean: Clean, settings: Settings
) -> None:
    running = rebuild(index, Narrow, other, "docs")  # type: ignore[arg-type]
    for _ in range(6):
        next(running)
    running.close()  # type: ignore[attr-defined]
    live = index.catalogue.collection("docs")
    assert live
    gone = [each for each in index.catalogue.entries(live) if "lease" in each.source]
    delete(index, live, gone, settings)
    finish(index, other)
    (built / "sub/lease.txt").unlink()
    assert content(index).differences(clean(built)) == []
    assert b"the lease has number" not in bytes_of(index.data_dir)


def test_what_comes_changes_and_goes_meanwhile_is_minded(
    built: Path, index: Index, other: Settings, clean: Clean, run: Go, settings: Settings
) -> None:
    events = rebuild(index, Narrow, other, "docs")  # type: ignore[arg-type]
    for count, _ in enumerate(events):
        if count == 3:
            write(built, new="A new one.", fee="Fee: 6 euros, from May on.")
            (built / "pump.txt").unlink()
            run(built)
        elif count == 6:
            live = index.catalogue.collection("docs")
            assert live
            gone = [each for each in index.catalogue.entries(live) if "leave" in each.source]
            delete(index, live, gone, settings)
    (built / "sub/leave.txt").unlink()
    assert content(index).differences(clean(built)) == []
    assert index.catalogue.building() == []


def test_a_generation_begun_for_other_settings_is_dropped(
    built: Path, index: Index, other: Settings, clean: Clean, settings: Settings
) -> None:
    middle = settings.model_copy(
        update={"ingest": settings.ingest.model_copy(update={"chunk_tokens": 77})}
    )
    running = rebuild(index, WordEmbedder, middle, "docs")  # type: ignore[arg-type]
    next(running)
    running.close()  # type: ignore[attr-defined]
    finish(index, other)
    assert content(index).differences(clean(built)) == []


def test_with_the_same_settings_only_the_caches_are_made_anew(
    built: Path, index: Index, settings: Settings, found: Search
) -> None:
    before, live = content(index), index.catalogue.collection("docs")
    assert live
    folder = index.catalogue.caches(live)
    report = finish(index, settings, embedder=never)
    assert {each.status for each in report.files} == {"unchanged"}
    assert (report.embedded, len(report.files)) == (0, 8)
    assert content(index).differences(before) == []
    assert index.catalogue.caches(live) != folder
    assert index.catalogue.collection("docs") == live
    assert found("pump") == ["The pump has 4 bar."] * 2


def test_a_failure_is_recorded_and_the_old_generation_answers(
    built: Path, index: Index, other: Settings, found: Search
) -> None:
    class Broken(Narrow):
        def encode(self, texts: Any) -> Any:
            raise UsageError("no", "")

    with pytest.raises(UsageError):
        finish(index, other, embedder=Broken)
    assert index.ledger.runs()[0].outcome == "failed"
    assert found("pump") == ["The pump has 4 bar."] * 2


def test_a_file_swapped_before_the_rebuild_is_looked_at_again(
    docs: Path, index: Index, other: Settings, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(docs, a="The pump has 4 bar.")
    monkeypatch.setattr("ingest.sync._RACY_NS", 0)
    run(docs)
    written = (docs / "a.txt").stat()
    write(docs, a="The pump has 5 bar.")
    os.utime(docs / "a.txt", ns=(written.st_atime_ns, written.st_mtime_ns))
    finish(index, other)
    assert run(docs, settings=other, embedder=Narrow).statuses == {"a.txt": "indexed"}


def test_a_file_written_just_before_it_was_read_is_looked_at_again(
    docs: Path, index: Index, other: Settings, run: Go
) -> None:
    file = docs / "a.txt"
    file.write_text("The pump has 4 bar.")
    run(docs)
    written = file.stat()
    finish(index, other)
    file.write_text("The pump has 5 bar.")
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert run(docs, settings=other, embedder=Narrow).statuses == {"a.txt": "indexed"}


def test_an_unknown_collection_is_refused(index: Index, other: Settings) -> None:
    with pytest.raises(UsageError, match="no collection 'docs'"):
        finish(index, other)
