"""Promise: when its disk is full or turns read-only, the index goes on answering as before; once
there is room again, it becomes what a clean build is. A parser that is killed costs one file.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingest import sync
from ingest.delete import delete
from ingest.report import Progress, Report
from rag_bot.catalogue import Collection
from rag_bot.config import Settings, load
from rag_bot.errors import Unavailable
from rag_bot.index import Index, fingerprint, indexed_text
from tests.conftest import WordEmbedder, drafts_here
from tests.reliability.child import task_look
from tests.reliability.conftest import Figures
from tests.reliability.test_crash import assert_answers, assert_equal, words, write

SEED = 20261
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
OLD = ("a0", "a1", "a2", "a3", "a4")
NEW = tuple(f"b{number:02}" for number in range(24))


class Wide(WordEmbedder):
    """Vectors so long that a few hundred chunks fill the disk."""

    dimension = 2048


# Disks


class Disk:
    """A file system of a few megabytes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "data"
        self._ballast = place / "ballast"

    @property
    def free(self) -> int:
        """Bytes."""
        status = os.statvfs(self.place)
        return status.f_bavail * status.f_frsize

    def leave(self, free: int) -> None:
        """Fill it up to so many bytes."""
        with self._ballast.open("wb") as ballast:
            while self.free > free:
                ballast.write(bytes(min(self.free - free, MEGABYTE)))
                ballast.flush()

    def make_room(self) -> None:
        """As much as anybody needs."""
        command("mount", "-o", "remount,size=200m", str(self.place))


def command(*words: str) -> None:
    """Run a command of the system; skip the test where it is refused."""
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {words[0]} here")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"`{' '.join(words)}` is refused here: {error.stderr.strip()}")


@contextmanager
def small_disk(place: Path) -> Iterator[Disk]:
    """6 MB of memory, mounted as a disk."""
    place.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place))
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def failing_disk(place: Path) -> Iterator[Disk]:
    """An ext4 file system in a file, which turns read-only when it is told of an error."""
    image = place.with_suffix(".img")
    with image.open("wb") as stream:
        stream.truncate(32 * MEGABYTE)
    place.mkdir()
    command("mkfs.ext4", "-q", "-F", str(image))
    command("mount", "-o", "loop,errors=remount-ro", str(image), str(place))
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def turn_read_only(disk: Disk) -> None:
    """As Linux does when a disk fails, whatever is open on it."""
    device = next(
        line.split()[0].removeprefix("/dev/")
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1] == str(disk.place)
    )
    trigger = Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel's ext4 can't be told to fail")
    trigger.write_text("1")
    with pytest.raises(OSError, match="Read-only"):
        (disk.place / "anything").touch()


# What is put on them


class Bench(NamedTuple):
    """A folder, the index of its first files, and the index of all that is in it in the end."""

    docs: Path
    first: Path
    clean: dict[str, Any]


ASKED = [words(f"{seed}{part}", 1)[0] for seed in (*OLD, *NEW, "e1") for part in "ac"]


@pytest.fixture(scope="module")
def here() -> Iterator[None]:
    """Files are read in this process, and taken to be at rest however young they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync, "drafts", drafts_here)
        patch.setattr(sync, "_RACY_NS", 0)
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, here: None) -> Bench:
    """Five documents are indexed; then there are many more, one is edited and one is gone."""
    folder = tmp_path_factory.mktemp("bench")
    docs, first, clean = folder / "docs", folder / "first", folder / "clean"
    for seed in OLD:
        write(docs / f"{seed}.txt", seed, 8)
    with Index(first) as index:
        ingest(index, docs)
    for seed in NEW:
        write(docs / f"{seed}.txt", seed, 16)
    write(docs / "a1.txt", "e1", 8)
    (docs / "a2.txt").unlink()
    shutil.copytree(first, clean)
    with Index(clean) as index:
        ingest(index, docs)
    size = sum(each.stat().st_size for each in clean.rglob("*") if each.is_file())
    assert size > 6 * MEGABYTE
    return Bench(docs, first, look(clean))


def wide() -> Any:
    """The embedder, as far as ingest needs one."""
    return Wide()


def ingest(index: Index, docs: Path) -> Report:
    """Make the index equal the folder, in small batches."""
    settings = settings_of(index.data_dir)
    *_, report = sync.ingest([docs], index, wide, settings, "docs")
    assert isinstance(report, Report)
    return report


def settings_of(data: Path) -> Settings:
    flags = {"data_dir": data, "ingest.batch_chunks": 16}
    return load(flags=flags, environ={}).settings


def look(data: Path) -> dict[str, Any]:
    """All that a closed index is."""
    return task_look({"data": str(data), "words": ASKED, "dimension": Wide.dimension})


def collection_of(index: Index) -> Collection:
    return index.collection("docs", fingerprint(settings_of(index.data_dir)))


def texts(index: Index) -> dict[str, str]:
    """The documents that are listed, by file name."""
    entries = index.catalogue.entries(collection_of(index))
    found = {Path(e.source).stem: index.catalogue.document(e.id) for e in entries}
    return {stem: document.text for stem, document in found.items() if document}


def answers(index: Index, seeds: Sequence[str]) -> dict[str, list[str]]:
    """What is found by the words of some texts, in the order of the chunks' ids."""
    collection = collection_of(index)
    embedder = Wide()
    found = {}
    for seed in seeds:
        for word in words(f"{seed}a", 2):
            hits = index.lexical(collection, word, 20)
            hits += index.dense(collection, embedder.encode([hits[0].chunk.text])[0], 1)
            found[word] = [each.chunk.text for each in sorted(hits, key=lambda h: h.chunk.id)]
    return found


def assert_whole(index: Index) -> None:
    """Every chunk of each listed document is found, by a word and by its vector; nothing else."""
    collection = collection_of(index)
    listed = {}
    for entry in index.catalogue.entries(collection):
        vectors = index.catalogue.vectors_of(entry.id)
        for stored, vector in zip(index.catalogue.chunks_of(entry.id), vectors, strict=True):
            listed[stored.chunk.id] = indexed_text(stored.chunk, stored.title)
            (nearest,) = index.dense(collection, vector, 1)
            assert nearest.score > 0.999
    for word in ASKED:
        hits = {hit.chunk.id for hit in index.lexical(collection, word, 50)}
        assert hits == {chunk for chunk, text in listed.items() if word in text}


# The checks


def fill_up(disk: Disk, bench: Bench, free: int | None, reopen: bool) -> tuple[str, int]:
    """Ingest until the disk is full, ask all the time, make room, and ingest again.

    Returns what was full, and how often was asked meanwhile.
    """
    shutil.copytree(bench.first, disk.data)
    if free is not None:
        disk.leave(free)
    untouched = ("a0", "a3", "a4")
    index = Index(disk.data)
    try:
        before = answers(index, untouched)
        with asking(index, before) as asked, pytest.raises(Unavailable) as failed:
            ingest(index, bench.docs)
        assert answers(index, untouched) == before
        assert_whole(index)
        held = texts(index)
        if reopen:
            index.close()
            index = Index(disk.data)
            assert answers(index, untouched) == before
            assert_whole(index)
            # What was written and not yet shown is finished on opening, where there is room for it.
            assert held.items() <= texts(index).items()
        disk.make_room()
        ingest(index, bench.docs)
    finally:
        index.close()
    again = look(disk.data)
    assert_equal(again, bench.clean)
    assert_answers(again)
    return str(failed.value).split(str(disk.data))[0], asked[0]


@contextmanager
def asking(index: Index, right: dict[str, list[str]]) -> Iterator[list[int]]:
    """Ask in another thread, and expect the same answers all the time. Counts them."""
    asked, wrong, done = [0], [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                if answers(index, ("a0", "a3", "a4")) != right:
                    wrong.append("another answer")
            except Exception as error:  # whatever it is, an answer was due
                wrong.append(repr(error))
            asked[0] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        done.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not wrong
    assert asked[0]


def test_a_killed_parser_costs_one_file(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for number in range(30):
        write(docs / f"c{number:02}.txt", f"c{number:02}", 4)
    with Index(tmp_path / "data") as index:
        settings = settings_of(index.data_dir)
        killed: list[int] = []
        for event in sync.ingest([docs], index, wide, settings, "docs"):
            if isinstance(event, Progress) and not killed:
                (parser,) = multiprocessing.active_children()
                parser.kill()
                killed.append(parser.pid or 0)
        assert isinstance(event, Report)
        ends = Counter((each.status, each.code) for each in event.files)
        assert ends == {("indexed", ""): 29, ("failed", "crashed"): 1}
        assert_whole(index)
        *_, report = sync.ingest([docs], index, wide, settings, "docs")
        assert isinstance(report, Report)
        assert report.complete
        assert len(texts(index)) == 30


def test_a_full_disk_leaves_the_old_index_and_the_retry_equals_a_clean_build(
    bench: Bench, tmp_path: Path, full: bool, figures: Figures
) -> None:
    begun = time.perf_counter()
    chance = random.Random(SEED)
    # From nothing at all, over what one batch takes, to all of the six megabytes.
    rooms = [0, 200 * KILOBYTE, None]
    if full:
        rooms += [chance.randrange(400) * KILOBYTE for _ in range(11)]
        rooms += [chance.randrange(400, 5000) * KILOBYTE for _ in range(6)]
    was_full: Counter[str] = Counter()
    times = 0
    for number, room in enumerate(rooms):
        with small_disk(tmp_path / f"disk{number}") as disk:
            try:
                what, asked = fill_up(disk, bench, room, reopen=number % 3 != 1)
            except AssertionError as error:
                error.add_note(f"with {room} bytes of room")
                raise
        was_full[what] += 1
        times += asked
    count = len(rooms)
    seconds = time.perf_counter() - begun
    where = ", ".join(f"{what.strip()} {was_full[what]}" for what in was_full)
    figures(
        "full disk",
        f"{count} of {count}: {times} right answers meanwhile, the retry equals a clean build"
        f" ({where}), {seconds:.0f} s",
    )


@pytest.mark.parametrize("room", [0, 60, 150, 500])
def test_a_deletion_without_room_is_done_when_there_is_some(
    bench: Bench, tmp_path: Path, room: int
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        shutil.copytree(bench.first, disk.data)
        disk.leave(room * KILOBYTE)
        with Index(disk.data) as index:
            entries = index.catalogue.entries(collection_of(index))
            (entry,) = [each for each in entries if each.source.endswith("a3.txt")]
            with pytest.raises(Unavailable):
                delete(index, collection_of(index), [entry], settings_of(disk.data))
            # Either it could not even be written down, or no answer has it any more.
            assert texts(index).keys() | {"a3"} == set(OLD)
            assert_whole(index)
            disk.make_room()
            delete(index, collection_of(index), [entry], settings_of(disk.data))
            assert texts(index).keys() == set(OLD) - {"a3"}
        needles = [word.encode() for part in "abc" for word in words(f"a3{part}", 96)]
        for file in disk.data.rglob("*"):
            content = file.read_bytes() if file.is_file() else b""
            assert not any(needle in content for needle in needles), file


def test_a_disk_that_turns_read_only_goes_on_answering(bench: Bench, tmp_path: Path) -> None:
    with failing_disk(tmp_path / "disk") as disk:
        shutil.copytree(bench.first, disk.data)
        with Index(disk.data) as index:
            before = answers(index, OLD)
            turn_read_only(disk)
            assert answers(index, OLD) == before
            with pytest.raises(Unavailable):
                ingest(index, bench.docs)
            assert answers(index, OLD) == before
            assert_whole(index)
        with pytest.raises(Unavailable, match="Read-only"):
            Index(disk.data)
        # Its files, brought to a sound disk, are the old index.
        shutil.copytree(disk.data, tmp_path / "rescued")
    with Index(tmp_path / "rescued") as index:
        assert answers(index, OLD) == before
        ingest(index, bench.docs)
    assert_equal(look(tmp_path / "rescued"), bench.clean)
