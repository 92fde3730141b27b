import hashlib
import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest import worker
from ingest.worker import Draft, Job, Recipe, Same, draft, drafts
from rag_bot.catalogue import document_id
from rag_bot.errors import ModelBroken, NotADocument, UnreadableDocument


@pytest.fixture
def recipe(embedder_folder: Path) -> Recipe:
    return Recipe("docs", "f1", embedder_folder, 200, 1_000_000)


def job(path: Path, known: str = "") -> Job:
    return Job(path, str(path), known)


def nothing(_done: int, _total: int | None) -> None:
    """No progress is watched."""


def read(path: Any, recipe: Recipe, known: str = "") -> Any:
    return draft(Job(path, str(path), known), recipe, nothing)


def test_a_file_becomes_a_draft(tmp_path: Path, recipe: Recipe) -> None:
    file = tmp_path / "a.md"
    file.write_bytes(b"# Fees\n\nThe fee is 5 euros.\n")
    made = read(file, recipe)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert made.document.id == document_id("docs", str(file), sha256, "f1")
    assert made.document.sha256 == sha256
    assert made.media_type == "text/markdown"
    assert (made.size, made.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert "The fee is 5 euros." in made.chunks[-1].text
    assert made.document.text[made.chunks[-1].char_start :].startswith(made.chunks[-1].text)


def test_known_bytes_are_not_parsed_again(tmp_path: Path, recipe: Recipe) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(b"%PDF-1.7 not really")
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read(file, recipe, known) == Same(19, file.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"", UnreadableDocument, "empty"),
        (b"%PDF-1.7\n", UnreadableDocument, "damaged"),
        (b"\x7fELF" + bytes(range(256)), NotADocument, "unknown_type"),
    ],
)
def test_a_bad_file_is_an_error_with_a_code(
    tmp_path: Path, recipe: Recipe, content: bytes, kind: type, code: str
) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(kind) as caught:
        read(tmp_path / "a.pdf", recipe)
    assert caught.value.code == code


def test_a_file_too_large_is_not_read(tmp_path: Path, recipe: Recipe) -> None:
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(2**40)  # a sparse terabyte
    with pytest.raises(UnreadableDocument, match=r"more than ingest\.max_file_mb") as caught:
        read(tmp_path / "huge.txt", recipe)
    assert caught.value.code == "too_large"


def test_a_file_of_just_the_limit_is_read(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "a.txt").write_text("word " * 200_000)
    assert worker._read(tmp_path / "a.txt", 1_000_000)[1].st_size == 1_000_000


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(UnreadableDocument, match="No such file") as caught:
        read(tmp_path / "gone.txt", recipe)
    assert caught.value.code == "unreadable"


def growing(file: Path, change: Callable[[], None]) -> Any:
    """A path whose file is changed right after its bytes were read."""

    class Stream(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            change()
            return data

    return SimpleNamespace(open=lambda _mode: Stream(file, "rb"), name=file.name)


def test_a_file_that_changes_while_it_is_read_is_not_indexed(
    tmp_path: Path, recipe: Recipe
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old old old")
    os.utime(file, ns=(1, 1))
    with pytest.raises(UnreadableDocument, match="changed while being read") as caught:
        read(growing(file, lambda: file.write_text("new new new") and None), recipe)
    assert caught.value.code == "changed"


def test_a_file_cut_short_while_it_is_read_is_not_indexed(tmp_path: Path, recipe: Recipe) -> None:
    # A file of /proc says that it has no bytes, and has some.
    with pytest.raises(UnreadableDocument, match="changed while being read"):
        read(Path("/proc/self/status"), recipe)


def test_a_hang_and_a_crash_cost_their_file_only(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a pipe without a writer hangs; with one that never writes, we kill the reader."""
    for name in ("first", "third", "last"):
        (tmp_path / name).write_text(f"The {name} file is fine.")
    os.mkfifo(tmp_path / "hangs")
    os.mkfifo(tmp_path / "crashes")

    def kill_reader() -> None:
        writer = os.open(tmp_path / "crashes", os.O_WRONLY)  # waits for the reader
        for child in multiprocessing.active_children():
            child.kill()
        os.close(writer)

    killer = threading.Thread(target=kill_reader)
    killer.start()
    jobs = [job(tmp_path / n) for n in ("first", "crashes", "third", "hangs", "last")]

    def one_by_one() -> Iterator[Job]:
        for each in jobs:
            with monkeypatch.context() as patch:
                if each.path.name == "hangs":
                    patch.setattr(worker, "STALL_SECONDS", 1.0)
                yield each

    outcomes = dict(drafts(one_by_one(), recipe))
    killer.join()
    assert [each.path.name for each in outcomes] == ["first", "crashes", "third", "hangs", "last"]
    kinds = [o.code if isinstance(o, UnreadableDocument) else type(o) for o in outcomes.values()]
    assert kinds == [Draft, "crashed", Draft, "timeout", Draft]
    assert outcomes[jobs[3]].message == "nothing moved for 1 s while reading it"
    assert outcomes[jobs[4]].document.text == "The last file is fine."
    assert multiprocessing.active_children() == []


def test_leaving_early_ends_the_process(tmp_path: Path, recipe: Recipe) -> None:
    for n in range(30):
        (tmp_path / f"{n}.txt").write_text("text")
    outcomes = drafts([job(tmp_path / f"{n}.txt") for n in range(30)], recipe)
    assert isinstance(next(outcomes)[1], Draft)
    outcomes.close()
    assert multiprocessing.active_children() == []


def test_an_embedder_without_a_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    recipe = Recipe("docs", "f1", tmp_path / "no-embedder", 200, 1_000_000)
    with pytest.raises(ModelBroken, match=r"tokenizer\.json"):
        list(drafts([job(tmp_path / "a.txt")], recipe))


def test_no_jobs_start_no_process(recipe: Recipe) -> None:
    assert list(drafts([], recipe)) == []
