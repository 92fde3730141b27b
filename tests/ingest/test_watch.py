import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import pytest

from ingest.watch import changes
from rag_bot.errors import Unavailable

NOWHERE = Path("/nowhere")


class Watching:
    """Changes seen in the background: when each burst was told, and what ended it if it broke."""

    def __init__(self, *paths: Path, leave_out: Path = NOWHERE, **settings: float) -> None:
        self.seen: list[float] = []
        self.error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(paths, leave_out, settings))

    def _look(self, paths: tuple[Path, ...], leave_out: Path, settings: dict[str, float]) -> None:
        quick = {"quiet": 0.15, **settings}
        try:
            for _ in changes(paths, leave_out, stop=self._over.is_set, **quick):
                self.seen.append(time.monotonic())
        except Exception as error:
            self.error = error

    def __enter__(self) -> "Watching":
        self._thread.start()
        self.wait_for(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(5)
        assert not self._thread.is_alive(), "it did not stop"
        if kind is None and self.error:
            raise self.error

    def wait_for(self, count: int, seconds: float = 15) -> None:
        """Until it told of so many bursts, the first of which is the beginning."""
        until = time.monotonic() + seconds
        while len(self.seen) < count:
            assert self.error is None, self.error
            assert time.monotonic() < until, f"{len(self.seen)} bursts, not {count}"
            time.sleep(0.02)

    def settle(self) -> int:
        """How many bursts it told of, once nothing more can be on its way."""
        time.sleep(0.7)
        return len(self.seen)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    return folder


def test_it_tells_at_once_that_it_watches(docs: Path) -> None:
    begun = time.monotonic()
    with Watching(docs, quiet=5.0) as watching:
        assert watching.seen[0] - begun < 4
    with Watching(docs) as watching:
        assert watching.settle() == 1


def test_fifty_writes_are_one_burst_or_two_told_within_three_seconds(docs: Path) -> None:
    with Watching(docs, quiet=1.0) as watching:
        begun = time.monotonic()
        for number in range(50):
            (docs / f"{number}.txt").write_text("new")
            time.sleep(0.01)
        watching.wait_for(2)
        assert watching.seen[1] - begun < 3
        time.sleep(1.5)
        assert len(watching.seen) - 1 in (1, 2)


def test_a_burst_without_end_is_told_after_the_longest_time(docs: Path) -> None:
    with Watching(docs, quiet=1.0, longest=1.5) as watching:
        begun = time.monotonic()
        while len(watching.seen) < 2 and time.monotonic() < begun + 5:
            (docs / "a.txt").write_text(str(time.monotonic()))
            time.sleep(0.1)
        assert 1.4 < watching.seen[1] - begun < 3


def test_without_a_change_it_tells_every_so_often(docs: Path) -> None:
    with Watching(docs, at_least_every=0.6) as watching:
        watching.wait_for(3)
        gaps = [b - a for a, b in zip(watching.seen, watching.seen[1:], strict=False)]
        assert all(0.6 <= gap < 2 for gap in gaps)


@pytest.mark.parametrize("what", ["edited", "added", "deleted", "renamed", "deep"])
def test_a_change_is_told_once(docs: Path, what: str) -> None:
    with Watching(docs) as watching:
        match what:
            case "edited":
                (docs / "a.txt").write_text("b")
            case "added":
                (docs / "new.txt").write_text("b")
            case "deleted":
                (docs / "a.txt").unlink()
            case "renamed":
                (docs / "a.txt").rename(docs / "b.txt")
            case "deep":
                (docs / "sub" / "deep.txt").write_text("b")
        watching.wait_for(2)
        assert watching.settle() == 2


def test_what_a_scan_leaves_out_is_no_change(docs: Path, tmp_path: Path) -> None:
    own, outside = docs / "data", tmp_path / "outside"
    for folder in (own / "chroma", docs / ".git", outside):
        folder.mkdir(parents=True)
    (docs / "link").symlink_to(outside)
    with Watching(docs, leave_out=own) as watching:
        (own / "catalogue.sqlite").write_text("x")
        os.utime(own)
        (own / "chroma" / "index.bin").write_text("x")
        (docs / ".git" / "HEAD").write_text("x")
        (docs / ".hidden.txt").write_text("x")
        (docs / "~$letter.docx").write_text("x")
        (outside / "secret.txt").write_text("x")
        (docs / "a.txt").read_text()
        os.listdir(docs / "sub")
        assert watching.settle() == 1
        (docs / "letter.docx").write_text("x")
        watching.wait_for(2)


def test_a_burst_ends_though_what_is_left_out_goes_on_changing(docs: Path) -> None:
    with Watching(docs) as watching:
        (docs / "a.txt").write_text("b")
        begun = time.monotonic()
        while len(watching.seen) < 2 and time.monotonic() < begun + 5:
            (docs / ".log").write_text(str(time.monotonic()))
            time.sleep(0.02)
        assert watching.seen[1] - begun < 2.5


def test_a_new_folder_is_watched_too(docs: Path) -> None:
    with Watching(docs) as watching:
        (docs / "new" / "deeper").mkdir(parents=True)
        watching.wait_for(2)
        told = watching.settle()
        (docs / "new" / "deeper" / "x.txt").write_text("x")
        watching.wait_for(told + 1)


def test_a_new_folder_of_an_old_name_is_watched_too(docs: Path) -> None:
    with Watching(docs) as watching:
        shutil.rmtree(docs / "sub")
        (docs / "sub").mkdir()
        watching.wait_for(2)
        told = watching.settle()
        (docs / "sub" / "x.txt").write_text("x")
        watching.wait_for(told + 1)


def test_what_changes_while_the_caller_is_busy_is_told_after_it(docs: Path) -> None:
    over = time.monotonic() + 10
    bursts = changes([docs], NOWHERE, quiet=0.2, stop=lambda: time.monotonic() > over)
    next(bursts)
    (docs / "a.txt").write_text("b")
    time.sleep(0.5)
    begun = time.monotonic()
    next(bursts)
    assert time.monotonic() - begun < 2
    bursts.close()


def test_a_folder_that_is_replaced_by_another_is_told_and_watched(docs: Path) -> None:
    inode = docs.stat().st_ino
    with Watching(docs) as watching:
        for _ in range(50):
            shutil.rmtree(docs)
            docs.mkdir()
            if docs.stat().st_ino == inode:
                break  # as ext4 likes to do: by its number it is the old one
        watching.wait_for(2)
        told = watching.settle()
        (docs / "b.txt").write_text("b")
        watching.wait_for(told + 1)


def test_a_folder_that_goes_and_comes_back_is_told_both_times(docs: Path, tmp_path: Path) -> None:
    with Watching(docs) as watching:
        docs.rename(tmp_path / "elsewhere")
        watching.wait_for(2)
        told = watching.settle()
        (tmp_path / "elsewhere" / "a.txt").write_text("not here")
        assert watching.settle() == told
        (tmp_path / "elsewhere").rename(docs)
        watching.wait_for(told + 1)
        told = watching.settle()
        (docs / "b.txt").write_text("b")
        watching.wait_for(told + 1)


def test_a_path_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    later = tmp_path / "later"
    with Watching(later) as watching:
        later.mkdir()
        watching.wait_for(2)
        told = watching.settle()
        (later / "b.txt").write_text("b")
        watching.wait_for(told + 1)


def test_a_single_file_is_watched_however_it_is_written(docs: Path) -> None:
    file = docs / "a.txt"
    with Watching(file) as watching:
        file.write_text("edited in place")
        watching.wait_for(2)
        (docs / "new").write_text("saved as editors do")
        (docs / "new").replace(file)
        watching.wait_for(3)
        file.unlink()
        watching.wait_for(4)
        file.write_text("back")
        watching.wait_for(5)
        told = watching.settle()
        (docs / "neighbour.txt").write_text("not asked for")
        assert watching.settle() == told


def test_a_name_in_no_encoding_does_not_end_it(docs: Path) -> None:
    with Watching(docs) as watching:
        Path(os.fsdecode(os.fsencode(docs) + b"/\xff\xfe.txt")).write_text("x")
        Path(os.fsdecode(os.fsencode(docs) + b"/\xff\xfe")).mkdir()
        watching.wait_for(2)
        told = watching.settle()
        (docs / "b.txt").write_text("b")
        watching.wait_for(told + 1)


def test_a_folder_whose_name_is_in_no_encoding_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(Unavailable, match=r"can't watch .*\\xff.* --every"):
        next(changes([folder], NOWHERE))


WATCH = """
import os, platform, sys, time  # watchfiles imports platform late, when it may not any more
from pathlib import Path
from ingest.watch import changes
if sys.argv[2] == "nobody" and os.getuid() == 0:
    os.setuid(65534)
over = time.monotonic() + 4
for _ in changes([Path(sys.argv[1])], Path(sys.argv[1], "data"), quiet=0.2,
                 stop=lambda: time.monotonic() > over):
    print("told", flush=True)
"""


def test_a_folder_that_may_not_be_read_does_not_blind_it_to_the_others() -> None:
    with tempfile.TemporaryDirectory() as name:
        docs = Path(name)
        docs.chmod(0o755)
        for number in range(8):
            (docs / str(number)).mkdir()
        closed = (docs / "2", docs / "5")
        for folder in closed:
            folder.chmod(0)
        command = [sys.executable, "-c", WATCH, name, "nobody"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "told\n"
            for number in (0, 1, 3, 4, 6, 7):
                (docs / str(number) / "x.txt").write_text("x")
                assert process.stdout.readline() == "told\n", number
            process.kill()
        for folder in closed:
            folder.chmod(0o700)


def limited(name: str, limit: int, folder: Path) -> str:
    """What comes of watching when this process's own system allows no more."""
    program = f'echo {limit} > /proc/sys/user/{name} && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c", program, "sh"]
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs a user namespace of its own")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", WATCH, str(folder), "root"],
        capture_output=True,
        text=True,
    )
    return done.stderr


@pytest.mark.parametrize(
    ("name", "limit", "setting"),
    [
        ("max_inotify_watches", 1, "fs.inotify.max_user_watches"),
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances"),
    ],
)
def test_the_systems_limit_is_named_with_the_way_out(
    docs: Path, name: str, limit: int, setting: str
) -> None:
    (docs / ".git" / "objects").mkdir(parents=True)
    (docs / "data" / "chroma").mkdir(parents=True)
    said = limited(name, limit, docs)
    assert f"Unavailable: can't watch the 2 folders in {docs}" in said
    assert setting in said
    assert "--every" in said


def test_a_limit_reached_by_a_folder_made_later_is_no_secret(docs: Path) -> None:
    threading.Timer(1.5, (docs / "third").mkdir).start()
    said = limited("max_inotify_watches", 2, docs)
    assert f"can't watch the 3 folders in {docs}" in said
