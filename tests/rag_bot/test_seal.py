import json
import os
from pathlib import Path

import pytest

from rag_bot.seal import FILE, Seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.db", "c/a/deep.bin", "c/b.bin", "d/b.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


@pytest.fixture
def sealed(folder: Path) -> Path:
    """The folder with seals on `one.db` and `c`."""
    Seal(folder).write(["one.db", "c"])
    return folder


def intact(folder: Path) -> dict[str, bool]:
    seal = Seal(folder)
    return {part: seal.intact(part) for part in ("one.db", "c", "d")}


def test_what_was_sealed_is_intact_and_nothing_else(sealed: Path) -> None:
    assert intact(sealed) == {"one.db": True, "c": True, "d": False}


def test_without_a_seal_nothing_is_intact(folder: Path) -> None:
    assert intact(folder) == {"one.db": False, "c": False, "d": False}


@pytest.mark.parametrize("place", [0, 1, -1])
def test_one_flipped_bit_is_seen_with_size_and_date_as_they_were(sealed: Path, place: int) -> None:
    file = sealed / "c/a/deep.bin"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert intact(sealed) == {"one.db": True, "c": False, "d": False}


def test_a_cut_a_lost_and_a_strange_file_are_seen(sealed: Path) -> None:
    (sealed / "one.db").write_bytes((sealed / "one.db").read_bytes()[:-1])
    assert not Seal(sealed).intact("one.db")
    (sealed / "one.db").unlink()
    assert not Seal(sealed).intact("one.db")
    (sealed / "c/more.bin").write_bytes(b"")
    assert not Seal(sealed).intact("c")
    (sealed / "c/more.bin").unlink()
    assert Seal(sealed).intact("c")
    (sealed / "c/b.bin").rename(sealed / "c/c.bin")
    assert not Seal(sealed).intact("c")


def test_a_file_that_cannot_be_read_is_not_intact(sealed: Path) -> None:
    """As on a bad sector, where reading ends in an error: here, of a place in no memory."""
    (sealed / "c/b.bin").unlink()
    (sealed / "c/b.bin").symlink_to("/proc/self/mem")
    assert not Seal(sealed).intact("c")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"one.db": 7}', b'{"one.db": null}']
)
def test_a_damaged_seal_makes_nothing_intact(sealed: Path, content: bytes) -> None:
    (sealed / FILE).write_bytes(content)
    assert intact(sealed) == {"one.db": False, "c": False, "d": False}


def test_any_flipped_bit_in_the_seal_is_mistrust_and_never_trust(sealed: Path) -> None:
    whole = (sealed / FILE).read_bytes()
    (sealed / "one.db").write_bytes(b"damage")
    for place in range(0, len(whole), 3):
        torn = bytearray(whole)
        torn[place] ^= 1 << (place % 8)
        (sealed / FILE).write_bytes(torn)
        assert not Seal(sealed).intact("one.db")


def test_writing_keeps_the_seals_it_is_told_to_and_drops_the_others(folder: Path) -> None:
    seal = Seal(folder)
    seal.write(["one.db", "c", "d"])
    seal.write(["one.db"], keep=["c"])
    assert intact(folder) == {"one.db": True, "c": True, "d": False}


def test_a_kept_seal_is_of_the_files_as_they_were(folder: Path) -> None:
    seal = Seal(folder)
    seal.write(["one.db", "c"])
    (folder / "c/b.bin").write_bytes(b"damage")
    seal.write(["one.db"], keep=["c"])
    assert intact(folder) == {"one.db": True, "c": False, "d": False}


def test_renewing_seals_one_folder_alone(sealed: Path) -> None:
    (sealed / "c/b.bin").write_bytes(b"changed")
    (sealed / "one.db").write_bytes(b"damage")
    Seal(sealed).renew("c")
    assert intact(sealed) == {"one.db": False, "c": True, "d": False}


def test_a_lifted_seal_tells_a_killed_process_from_damage(sealed: Path) -> None:
    seal = Seal(sealed)
    assert seal.covers("c")
    seal.lift("c")
    again = Seal(sealed)
    assert not again.covers("c")
    assert not again.intact("c")
    assert again.intact("one.db")
    seal.lift("c")  # and again is no error


def test_a_folder_whose_name_begins_alike_is_another(folder: Path) -> None:
    (folder / "cc").mkdir()
    (folder / "cc/b.bin").write_bytes(b"x")
    seal = Seal(folder)
    seal.write(["c", "cc"])
    seal.lift("c")
    assert Seal(folder).intact("cc")


def test_nothing_is_written_when_nothing_has_changed(sealed: Path) -> None:
    before = (sealed / FILE).stat()
    Seal(sealed).write(["one.db", "c"])
    after = (sealed / FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_seal_is_replaced_whole_or_not_at_all(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (sealed / FILE).read_bytes()
    (sealed / "one.db").write_bytes(b"new")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            Seal(sealed).write(["one.db", "c"])
    assert (sealed / FILE).read_bytes() == before
    Seal(sealed).write(["one.db", "c"])
    assert json.loads((sealed / FILE).read_text()).keys() == {"one.db", "c/a/deep.bin", "c/b.bin"}
