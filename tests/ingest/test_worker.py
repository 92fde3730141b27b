import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest import worker
from ingest.worker import Draft, Job, Recipe, Same, draft, drafts, pack, prepare, unpack
from rag_bot.catalogue import document_id
from rag_bot.errors import DocumentError, ModelBroken, NotADocument, Unavailable, UnreadableDocument
from rag_bot.tokenize import WordPieces


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


def test_a_hang_and_a_crash_cost_their_file_only(tmp_path: Path, recipe: Recipe) -> None:
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
    outcomes = dict(drafts(jobs, dataclasses.replace(recipe, stall_seconds=2.0)))
    killer.join()
    assert [each.path.name for each in outcomes] == ["first", "crashes", "third", "hangs", "last"]
    kinds = [o.code if isinstance(o, UnreadableDocument) else type(o) for o in outcomes.values()]
    assert kinds == [Draft, "crashed", Draft, "timeout", Draft]
    assert outcomes[jobs[3]].message == "nothing moved for 2 s while reading it"
    assert outcomes[jobs[4]].document.text == "The last file is fine."
    assert multiprocessing.active_children() == []


def test_leaving_early_ends_the_process(tmp_path: Path, recipe: Recipe) -> None:
    for n in range(30):
        (tmp_path / f"{n}.txt").write_text("text")
    outcomes = drafts([job(tmp_path / f"{n}.txt") for n in range(30)], recipe)
    assert isinstance(next(outcomes)[1], Draft)
    outcomes.close()
    assert multiprocessing.active_children() == []


def test_a_process_kept_ready_takes_the_next_run_and_no_more(
    tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "a.txt").write_text("text")
    prepare(recipe).join()
    (spare,) = multiprocessing.active_children()
    prepare(recipe).join()
    assert multiprocessing.active_children() == [spare]
    ((_, outcome),) = drafts([job(tmp_path / "a.txt")], recipe)
    assert isinstance(outcome, Draft)
    assert not spare.is_alive()
    assert multiprocessing.active_children() == []


def test_a_spare_process_for_other_settings_or_a_dead_one_is_not_taken(
    tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "a.txt").write_text("text")
    other = dataclasses.replace(recipe, chunk_tokens=recipe.chunk_tokens - 1)
    prepare(other).join()
    (spare,) = multiprocessing.active_children()
    ((_, outcome),) = drafts([job(tmp_path / "a.txt")], recipe)
    assert isinstance(outcome, Draft)
    assert multiprocessing.active_children() == [spare]
    prepare(recipe).join()
    assert spare not in multiprocessing.active_children()
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    ((_, outcome),) = drafts([job(tmp_path / "a.txt")], recipe)
    assert isinstance(outcome, Draft)
    worker._SPARE.drop()
    assert multiprocessing.active_children() == []


def test_a_spare_process_does_not_wait_for_ever(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_SPARE_SECONDS", 0.1)
    prepare(recipe).join()
    end = time.monotonic() + 30
    while multiprocessing.active_children():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_embedder_without_a_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    recipe = Recipe("docs", "f1", tmp_path / "no-embedder", 200, 1_000_000)
    with pytest.raises(ModelBroken, match=r"tokenizer\.json"):
        list(drafts([job(tmp_path / "a.txt")], recipe))


def test_no_jobs_start_no_process(recipe: Recipe) -> None:
    assert list(drafts([], recipe)) == []


@pytest.fixture
def started(recipe: Recipe) -> Iterator[Any]:
    """A worker that waits for its first job."""
    made = worker._Worker(recipe)
    yield made
    made.kill()


def test_the_process_can_write_nothing_and_is_the_first_to_go(started: Any) -> None:
    process = Path(f"/proc/{started._process.pid}")
    limits = dict(line[:51].split("  ", 1) for line in (process / "limits").open())
    values = {name: value.split()[0] for name, value in limits.items() if name != "Limit"}
    assert values["Max core file size"] == "0"
    assert values["Max file size"] == "0"
    assert values["Max open files"] == "64"
    assert int(values["Max address space"]) < 3_000_000_000
    assert (process / "oom_score_adj").read_text() == "1000\n"
    assert {os.readlink(process / "fd" / str(n)) for n in (1, 2)} == {"/dev/null"}


def test_what_travels_comes_back_the_same(tmp_path: Path, recipe: Recipe) -> None:
    file = tmp_path / "a.md"
    file.write_text("# Größe \U0001f600\n\nThe fee is 5 €.\n\n## Two\n\n" + "More words. " * 300)
    job = Job(file, str(file), "")
    made = draft(job, recipe, nothing)
    assert isinstance(made, Draft)
    assert len(made.chunks) > 3
    made = dataclasses.replace(made, notes=("a note",), blank_pages=(2, 3))
    assert unpack(pack(made), job, recipe) == made
    assert unpack(pack(Same(5, 7)), job, recipe) == Same(5, 7)
    for kind in (NotADocument, UnreadableDocument):
        error = unpack(pack(kind("empty", "it is \udc80 empty", "fill it")), job, recipe)
        assert type(error) is kind
        assert isinstance(error, DocumentError)
        assert (error.code, error.message, error.remedy) == ("empty", "it is ? empty", "fill it")


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "caught")


PLAIN: dict[str, Any] = {
    "sha256": "a",
    "pages": ["some text"],
    "title": "",
    "headings": [[0, 1, "some"]],
    "chunks": [[1, 0, 9, "some"]],
    "media_type": "text/plain",
    "notes": [],
    "blank_pages": [],
    "file": [9, 1],
}


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "7",
        "[" * 100_000,
        '{"error": [1, 2, 3], "skip": true}',
        '{"error": ["a", "b"], "skip": true}',
        '{"same": "no"}',
        '{"same": [1e999, 1]}',
        *(
            json.dumps({**PLAIN, **wrong})
            for wrong in (
                {"pages": 5},
                {"pages": ["\ud800"]},
                {"headings": [[1]]},
                {"chunks": [[1, "a", 2, ""]]},
                {"chunks": [[2, 0, 1, ""]]},
                {"chunks": [[1, 0, 99, ""]]},
                {"chunks": [[1, 0, 1.5, ""]]},
                {"file": [2**63, 1]},
                {"notes": [["a"]]},
            )
        ),
    ],
)
def test_a_message_that_was_never_packed_is_told(recipe: Recipe, message: str) -> None:
    some = unpack(json.dumps(PLAIN).encode(), Job(Path("a"), "a", ""), recipe)
    assert isinstance(some, Draft)
    assert some.chunks[0].text == "some text"
    with pytest.raises(worker._NEVER_PACKED):
        unpack(message.encode(), Job(Path("a"), "a", ""), recipe)


def test_nothing_a_parser_sends_is_run_or_too_long(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = pickle.dumps(Trap(tmp_path / "mark"))
    pickle.loads(trap)
    (tmp_path / "mark").unlink()
    started._pipe, theirs = multiprocessing.Pipe()
    theirs.send(Trap(tmp_path / "mark"))
    assert started.run(Job(Path("a"), "a", "")).code == "crashed"
    assert not (tmp_path / "mark").exists()
    assert not started.alive
    monkeypatch.setattr(worker, "MAX_MESSAGE_BYTES", 10)
    started._pipe, theirs = multiprocessing.Pipe()
    theirs.send_bytes(pack(Same(1_000_000, 1_000_000)))
    assert started.run(Job(Path("a"), "a", "")).code == "crashed"


def test_an_error_of_ours_is_named_and_the_process_goes_on(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("Single token exceeded chunk size")

    monkeypatch.setattr(worker, "draft", fail)
    job = Job(Path("a"), "a", "")
    outcome = unpack(worker._outcome(job, recipe, nothing), job, recipe)
    assert isinstance(outcome, UnreadableDocument)
    assert outcome.code == "crashed"
    assert "ValueError: Single token exceeded chunk size" in outcome.message


def test_chunking_a_long_text_shows_that_it_moves(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "a.txt").write_text("Some words of a sentence. " * 2_000)
    calls: list[int] = []
    draft(job(tmp_path / "a.txt"), recipe, lambda done, _: calls.append(done))
    assert len(calls) > 100


def test_a_long_text_is_counted_piecemeal(embedder_folder: Path) -> None:
    ours, plain = worker._Pieces(embedder_folder), WordPieces(embedder_folder)
    assert ours.count("Some words. ") == plain.count("Some words. ")
    assert ours.count("") == 0
    longest: list[int] = []
    real = ours._tokenizer

    class Watched:
        def encode(self, text: str, **options: Any) -> Any:
            longest.append(len(text))
            return real.encode(text, **options)

    ours._tokenizer = Watched()  # type: ignore[assignment]
    assert ours.count(" " * 50_000 + "words " * 50_000) > ours.limit
    assert max(longest) < 20_000
    assert len(longest) < 8


class Given:
    """The child's end of a pipe: jobs to give out, and what was said."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = list(jobs)
        self.said: list[bytes] = []

    def recv(self) -> Job:
        if not self.jobs:
            raise EOFError
        return self.jobs.pop(0)

    def send_bytes(self, message: bytes) -> None:
        self.said.append(message)


@pytest.mark.parametrize("statm", ["/proc/self/statm", "/nowhere/statm"])
@pytest.mark.parametrize("error", [ValueError, OSError])
def test_where_memory_cannot_be_limited_files_are_read_without_a_limit(
    tmp_path: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    statm: str,
    error: type[Exception],
) -> None:
    """As on macOS, which has no /proc and refuses the limit."""

    def refuse(*_: Any) -> None:
        raise error("current limit exceeds maximum limit")

    monkeypatch.setattr(worker, "_STATM", Path(statm))
    monkeypatch.setattr(worker.resource, "setrlimit", refuse)
    monkeypatch.setattr(worker, "_confine", lambda: None)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    (tmp_path / "a.txt").write_text("The fee is 5 euros.")
    given = Given(job(tmp_path / "a.txt"))
    worker._serve(given, recipe)  # type: ignore[arg-type]
    alive, message = given.said[0], given.said[-1]
    assert alive == worker._ALIVE
    assert isinstance(unpack(message, job(tmp_path / "a.txt"), recipe), Draft)
    worker.limit_memory(1_000)  # as for the picture of a page


def test_memory_is_limited_on_top_of_what_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[int, int]] = []
    (tmp_path / "statm").write_text("5000 200 100 1 0 300 0\n")
    page = os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(worker, "_STATM", tmp_path / "statm")
    monkeypatch.setattr(worker.resource, "setrlimit", lambda _, most: limits.append(most))
    worker.limit_memory(1_000 * page)
    worker.limit_memory(1_000 * page, including_used=True)
    assert limits == [(6_000 * page, 6_000 * page), (5_800 * page, 5_800 * page)]


def test_signs_of_life_are_not_sent_all_the_time() -> None:
    ours, theirs = multiprocessing.Pipe()
    pulse = worker._Pulse(theirs)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.5:
        pulse(1, None)
    sent = 0
    while ours.poll(0):
        assert ours.recv_bytes() == b""
        sent += 1
    assert 1 <= sent <= 3


def test_a_process_that_does_not_start_is_tried_once_more(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("text")
    real = worker._Worker
    refusals = [1]

    def refuse_first(recipe: Recipe) -> Any:
        if refusals:
            refusals.pop()
            raise Unavailable("the process that reads files does not start")
        return real(recipe)

    monkeypatch.setattr(worker, "_Worker", refuse_first)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    ((_, outcome),) = drafts([job(tmp_path / "a.txt")], recipe)
    assert isinstance(outcome, Draft)
    refusals += [1, 2]
    with pytest.raises(Unavailable, match="does not start"):
        list(drafts([job(tmp_path / "a.txt")], recipe))


def test_what_waits_is_bounded_by_its_text(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_AHEAD_CHARACTERS", 2_500)
    for n in range(8):
        (tmp_path / f"{n}.txt").write_text("word " * 200)
    read = threading.Semaphore(0)
    real = worker._Worker.run

    def run(self: Any, job: Job) -> Any:
        outcome = real(self, job)
        read.release()
        return outcome

    monkeypatch.setattr(worker._Worker, "run", run)
    outcomes = drafts([job(tmp_path / f"{n}.txt") for n in range(8)], recipe)
    next(outcomes)
    # One is out, two wait, and one more is read and has no room.
    for _ in range(4):
        assert read.acquire(timeout=60)
    assert not read.acquire(timeout=1)
    assert len(list(outcomes)) == 7


def test_a_text_larger_than_all_room_waits_alone() -> None:
    room, stop = worker._Allowance(10), threading.Event()
    room.take(50, stop)
    taken = threading.Thread(target=lambda: room.take(1, stop))
    taken.start()
    taken.join(0.3)
    assert taken.is_alive()
    room.give_back(50)
    taken.join(5)
    assert not taken.is_alive()
