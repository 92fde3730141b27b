import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.files import Blocked, Found, Skipped, name, resolve, scan
from rag_bot.errors import UsageError


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for path in ("b.txt", "a.txt", "sub/c.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def below(folder: Path, leave_out: Path | None = None) -> list[tuple[str, str]]:
    """Kind (or the reason it was left out) and relative path of all that a scan lists."""
    return [
        (
            "found" if isinstance(each, Found) else each.reason,
            os.path.relpath(each.source, folder),
        )
        for each in scan(folder, leave_out or Path("/nowhere"))
    ]


def test_files_are_found_at_any_depth_in_order(docs: Path) -> None:
    assert below(docs) == [("found", "a.txt"), ("found", "b.txt"), ("found", "sub/c.txt")]


def test_a_found_file_has_its_size_and_date(docs: Path) -> None:
    os.utime(docs / "a.txt", ns=(1, 5_000_000_001))
    (found,) = scan(docs / "a.txt", Path("/nowhere"))
    assert found == Found(docs / "a.txt", str(docs / "a.txt"), 5, 5_000_000_001)


def test_a_path_with_nothing_at_it_is_a_usage_error(docs: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder at"):
        list(scan(docs / "gone.txt", Path("/nowhere")))


def test_the_named_path_itself_may_be_a_link_and_is_resolved(docs: Path) -> None:
    (docs.parent / "link").symlink_to(docs)
    assert resolve(docs.parent / "link" / "sub" / "..") == docs


def test_a_link_loop_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError):
        resolve(tmp_path / "loop")


def test_links_are_not_followed(docs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (docs / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (docs / "up").symlink_to(tmp_path)
    (docs / "round").symlink_to(docs)
    left_out = [path for kind, path in below(docs) if kind == "symbolic link: not followed"]
    assert left_out == ["leak.txt", "round", "up"]
    assert len(below(docs)) == 6


def test_hidden_and_lock_files_are_named_once(docs: Path) -> None:
    (docs / ".git" / "deep").mkdir(parents=True)
    (docs / ".git" / "deep" / "x.txt").write_text("x")
    (docs / ".env").write_text("KEY=1")
    (docs / "~$report.docx").write_text("lock")
    assert [each for each in below(docs) if each[0] != "found"] == [
        ("hidden", ".env"),
        ("hidden", ".git"),
        ("lock file of an office program", "~$report.docx"),
    ]


def test_our_own_data_is_left_out(docs: Path) -> None:
    assert ("rag-bot's own data", "sub") in below(docs, docs / "sub")
    assert ("found", "sub/c.txt") not in below(docs, docs / "sub")


def test_a_pipe_is_not_read(docs: Path) -> None:
    os.mkfifo(docs / "pipe.txt")
    assert ("not a regular file", "pipe.txt") in below(docs)


@pytest.mark.parametrize("raw", [b"new\nline.txt", b"not-utf8-\xff.txt", b"x" * 251 + b".txt"])
def test_any_file_name_becomes_text_that_can_be_stored(docs: Path, raw: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(docs) + b"/" + raw))
    path.write_text("x")
    sources = [each.source for each in scan(docs, Path("/nowhere"))]
    assert name(path) in sources
    assert name(path).encode("utf-8")
    found = next(each for each in scan(docs, Path("/nowhere")) if each.source == name(path))
    assert found.path.read_text() == "x"


def test_names_that_differ_only_in_unicode_form_are_two_files(docs: Path) -> None:
    (docs / "\u00e9.txt").write_text("composed")
    (docs / "e\u0301.txt").write_text("apart")
    assert len(below(docs)) == 5


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder unlistable, also for root."""

    def lock(folder: Path) -> None:
        real = os.scandir

        def scandir(path: Any) -> Any:
            if Path(path) == folder:
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return lock


def test_a_folder_that_cannot_be_listed_is_blocked_and_the_rest_goes_on(
    docs: Path, locked: Callable[[Path], None]
) -> None:
    locked(docs / "sub")
    assert below(docs) == [
        ("found", "a.txt"),
        ("found", "b.txt"),
        ("unreadable: folder can't be listed: Permission denied", "sub"),
    ]
    assert [type(each) for each in scan(docs, Path("/nowhere"))] == [Found, Found, Blocked]


def test_a_file_that_vanishes_meanwhile_is_blocked_not_gone(docs: Path) -> None:
    listing = scan(docs, Path("/nowhere"))
    assert isinstance(next(listing), Found)
    (docs / "b.txt").unlink()
    gone = next(listing)
    assert isinstance(gone, Blocked)
    assert gone.reason == "unreadable: No such file or directory"
    assert not isinstance(next(listing), Skipped)
