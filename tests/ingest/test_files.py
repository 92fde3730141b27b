import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.files import Blocked, Found, Patterns, Skipped, name, resolve, scan
from rag_bot.errors import UsageError


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for path in ("b.txt", "a.txt", "sub/c.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


NOWHERE = Path("/nowhere")
ALL = Patterns()


def below(
    folder: Path, leave_out: Path = NOWHERE, patterns: Patterns = ALL
) -> list[tuple[str, str]]:
    """Kind (or the code of why it was left out) and relative path of all that a scan lists."""
    return [
        (
            "found" if isinstance(each, Found) else each.code,
            os.path.relpath(each.source, folder),
        )
        for each in scan(folder, leave_out, patterns)
    ]


def paths(folder: Path, kind: str = "found", **patterns: tuple[str, ...]) -> list[str]:
    """The relative paths of one kind that patterns let through."""
    listed = below(folder, patterns=Patterns(**patterns))
    return [path for found, path in listed if found == kind]


def test_files_are_found_at_any_depth_in_order(docs: Path) -> None:
    assert below(docs) == [("found", "a.txt"), ("found", "b.txt"), ("found", "sub/c.txt")]


def test_a_found_file_has_its_size_and_date(docs: Path) -> None:
    os.utime(docs / "a.txt", ns=(1, 5_000_000_001))
    (found,) = scan(docs / "a.txt", NOWHERE)
    assert found == Found(docs / "a.txt", str(docs / "a.txt"), 5, 5_000_000_001)


def test_a_path_with_nothing_at_it_is_a_usage_error(docs: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder at"):
        list(scan(docs / "gone.txt", NOWHERE))


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
    left_out = [path for kind, path in below(docs) if kind == "symlink"]
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
        ("office_lock", "~$report.docx"),
    ]


def test_our_own_data_is_left_out(docs: Path) -> None:
    assert ("own_data", "sub") in below(docs, docs / "sub")
    assert ("found", "sub/c.txt") not in below(docs, docs / "sub")


def test_a_pipe_is_not_read(docs: Path) -> None:
    os.mkfifo(docs / "pipe.txt")
    assert ("special_file", "pipe.txt") in below(docs)


def test_whatever_is_left_out_has_a_code_a_reason_and_a_remedy(docs: Path) -> None:
    (docs / "link").symlink_to(docs)
    (docs / ".env").write_text("KEY=1")
    (docs / "~$report.docx").write_text("lock")
    os.mkfifo(docs / "pipe")
    (docs / "state").mkdir()
    patterns = Patterns(include=("a.txt", "pipe"), exclude=("b.txt",))
    left_out = [each for each in scan(docs, docs / "state", patterns) if isinstance(each, Skipped)]
    assert [(os.path.basename(each.source), each.code) for each in left_out] == [
        (".env", "hidden"),
        ("b.txt", "excluded"),
        ("link", "symlink"),
        ("pipe", "special_file"),
        ("state", "own_data"),
        ("c.txt", "not_included"),
        ("~$report.docx", "office_lock"),
    ]
    assert all(each.reason and each.remedy for each in left_out)


def test_only_what_is_included_is_taken_and_what_is_excluded_is_not(docs: Path) -> None:
    (docs / "sub" / "d.pdf").write_text("d")
    assert paths(docs, include=("*.pdf",)) == ["sub/d.pdf"]
    assert paths(docs, include=("sub/",)) == ["sub/c.txt", "sub/d.pdf"]
    assert paths(docs, include=("/*.txt",)) == ["a.txt", "b.txt"]
    assert paths(docs, include=("sub/", "a.txt"), exclude=("*.txt",)) == ["sub/d.pdf"]
    assert paths(docs, exclude=("*.txt", "!b.txt")) == ["b.txt", "sub/d.pdf"]
    assert paths(docs, "not_included", include=("*.pdf",)) == ["a.txt", "b.txt", "sub/c.txt"]
    assert paths(docs, "excluded", exclude=("*.txt", "!b.txt")) == ["a.txt", "sub/c.txt"]


@pytest.mark.parametrize("pattern", ["sub/", "sub", "/sub/", "s*/", "sub/**"])
def test_an_excluded_folder_is_named_once_and_not_walked(
    docs: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    real = os.scandir
    walked: list[str] = []

    def scandir(path: Any) -> Any:
        walked.append(str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    patterns = Patterns(exclude=(pattern, "!sub/c.txt"))
    assert below(docs, patterns=patterns)[-1] == ("excluded", "sub")
    assert walked == [str(docs)]


def test_a_file_named_by_itself_is_matched_by_its_name(docs: Path) -> None:
    (left_out,) = scan(docs / "a.txt", NOWHERE, Patterns(exclude=("a.*",)))
    assert isinstance(left_out, Skipped)
    assert isinstance(next(scan(docs / "a.txt", NOWHERE, Patterns(include=("a.*",)))), Found)


@pytest.mark.parametrize("pattern", ["", "  ", "#x", "!", "a\\", "[z-a]", "a[", "/"])
def test_a_pattern_that_can_match_nothing_is_named(docs: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="is not a pattern") as caught:
        list(scan(docs, NOWHERE, Patterns(exclude=("*.log", pattern))))
    assert repr(pattern) in caught.value.message
    with pytest.raises(UsageError):
        list(scan(docs / "a.txt", NOWHERE, Patterns(include=(pattern,))))


@pytest.mark.parametrize("raw", [b"new\nline.txt", b"not-utf8-\xff.txt", b"x" * 251 + b".txt"])
def test_any_file_name_becomes_text_that_can_be_stored(docs: Path, raw: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(docs) + b"/" + raw))
    path.write_text("x")
    sources = [each.source for each in scan(docs, NOWHERE)]
    assert name(path) in sources
    assert name(path).encode("utf-8")
    found = next(each for each in scan(docs, NOWHERE) if each.source == name(path))
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
        ("unreadable", "sub"),
    ]
    blocked = list(scan(docs, NOWHERE))[-1]
    assert isinstance(blocked, Blocked)
    assert blocked.reason == "folder can't be listed: Permission denied"
    assert [type(each) for each in scan(docs, NOWHERE)] == [Found, Found, Blocked]


def test_a_file_that_vanishes_meanwhile_is_blocked_not_gone(docs: Path) -> None:
    listing = scan(docs, NOWHERE)
    assert isinstance(next(listing), Found)
    (docs / "b.txt").unlink()
    gone = next(listing)
    assert isinstance(gone, Blocked)
    assert (gone.code, gone.reason) == ("unreadable", "can't be read: No such file or directory")
    assert not isinstance(next(listing), Skipped)
