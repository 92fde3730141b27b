import hashlib
import json
import os
import sqlite3
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.shared_system_client import SharedSystemClient

import ingest.backup
from ingest import archive
from ingest.backup import backup, left_behind, restore, scratch
from ingest.delete import delete, undelete
from ingest.report import Report
from ingest.sync import ingest as sync
from ingest.verify import verify
from rag_bot.config import Settings
from rag_bot.errors import RagBotError, Unavailable, UsageError
from rag_bot.index import Flipped, Index, fingerprint
from tests.ingest.conftest import Entries, Go, Search, content, write

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def uploaded(settings: Settings, run: Go) -> Path:
    """The folder of the collection's uploads, with two of them in the index."""
    folder = settings.data_dir / "uploads" / "docs"
    write(folder, minutes="The minutes of June.", budget="The budget is 900 euros.")
    run(folder)
    return folder


@pytest.fixture
def filled(docs: Path, uploaded: Path, run: Go) -> Path:
    """A folder of two documents, in the index beside two uploads."""
    write(docs, pump="The pump has 4 bar.", lease="The lease ends in March.")
    run(docs)
    return docs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "rag-bot.backup"


def rows(index: Index) -> dict[str, list[Any]]:
    """All records that a restore brings back, but for what a restore itself changes."""
    tables = ("runs", "roots", "rejected", "lineage", "feedback", "pages")
    return {table: index._database.all(f"SELECT * FROM {table}") for table in tables}


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and dates of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_backup_brings_everything_back(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, run: Go
) -> None:
    (filled / "broken.pdf").write_bytes(b"%PDF-1.7\n")
    os.utime(filled / "broken.pdf", (1e9, 1e9))
    run(filled)
    index.ledger.record_feedback(collection="docs", question="q", answer={"a": 1}, thumb=1)
    made = backup(index, settings, place)
    before, records, originals = content(index), rows(index), files(uploaded)
    write(filled, pump="The pump has 7 bar.", new="A new one.")
    (filled / "lease.txt").unlink()
    run(filled, allow_removal=True)
    (uploaded / "minutes.txt").unlink()
    run(uploaded, allow_removal=True)
    assert content(index).differences(before)
    restored = restore(index, settings, place)
    assert content(index).differences(before) == []
    assert rows(index) == records
    assert files(uploaded) == originals
    collection = index.catalogue.collection("docs")
    assert collection
    assert index.differences(collection) == []
    assert (made.collections, made.uploads, made.left_out) == ({"docs": 4}, 2, 0)
    assert restored == made
    assert "4 documents in 'docs', 2 uploads" in made.line()
    assert index.ledger.backups() == [str(place)]
    assert not left_behind(settings.data_dir)


def test_a_backup_is_private_whole_and_holds_nothing_of_chroma(
    filled: Path, index: Index, settings: Settings, place: Path
) -> None:
    backup(index, settings, place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in place.parent.glob("*backup*")] == ["rag-bot.backup"]
    with zipfile.ZipFile(place) as made:
        assert made.testzip() is None
        manifest = json.loads(made.read("manifest.json"))
        assert sorted(made.namelist()) == [
            "catalogue.sqlite",
            "manifest.json",
            "uploads/docs/budget.txt",
            "uploads/docs/minutes.txt",
        ]
        for name, member in manifest["members"].items():
            assert member["sha256"] == hashlib.sha256(made.read(name)).hexdigest()
    assert manifest["collections"] == {"docs": 4}


def test_a_backup_taken_over_by_another_data_directory(
    filled: Path, index: Index, settings: Settings, place: Path, tmp_path: Path, word_embedder: Any
) -> None:
    collection = index.catalogue.collection("docs")
    assert collection
    ids = {e.source: e.id for e in index.catalogue.entries(collection)}
    backup(index, settings, place)
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    uploads = elsewhere.data_dir / "uploads/docs"
    with Index(elsewhere.data_dir) as other:
        restore(other, elsewhere, place)
        taken = other.catalogue.collection("docs")
        assert taken
        found = {e.source: e.id for e in other.catalogue.entries(taken)}
        assert set(found) == {
            str(filled / "lease.txt"),
            str(filled / "pump.txt"),
            str(uploads / "budget.txt"),
            str(uploads / "minutes.txt"),
        }
        assert found[str(filled / "pump.txt")] == ids[str(filled / "pump.txt")]
        assert list(verify(other, elsewhere)) == []
        (hit,) = other.lexical(taken, "minutes", 9)
        assert hit.chunk.document_id == found[str(uploads / "minutes.txt")]
        paths = [uploads, filled]
        *_, report = sync(paths, other, lambda: word_embedder, elsewhere, "docs")
        assert isinstance(report, Report)
        assert {each.status for each in report.files} == {"unchanged"}
        restored = content(other)
    with Index(tmp_path / "clean") as clean:
        list(sync(paths, clean, lambda: word_embedder, elsewhere, "docs"))
        assert content(clean).documents == restored.documents


def test_what_was_deleted_since_stays_deleted(
    filled: Path,
    uploaded: Path,
    index: Index,
    settings: Settings,
    place: Path,
    entries: Entries,
    found: Search,
) -> None:
    backup(index, settings, place)
    collection = index.catalogue.collection("docs")
    assert collection
    gone = [entries()["pump.txt"], entries()["minutes.txt"]]
    delete(index, collection, gone[:1], settings)
    # An upload leaves no file behind; one that a backup holds has to be remembered all the same.
    index.remove(collection, gone[1:], forget=gone[1:], keep_out=gone[1:])
    (uploaded / "minutes.txt").unlink()
    restored = restore(index, settings, place)
    assert set(entries()) == {"lease.txt", "budget.txt"}
    assert not (uploaded / "minutes.txt").exists()
    assert found("pump") == found("minutes") == []
    assert (restored.uploads, restored.left_out) == (2, 1)
    assert "1 left out that were deleted since" in restored.line()
    assert list(verify(index, settings)) == []


def test_what_was_deleted_after_its_file_had_gone_stays_deleted(
    filled: Path,
    index: Index,
    settings: Settings,
    place: Path,
    run: Go,
    entries: Entries,
    found: Search,
) -> None:
    backup(index, settings, place)
    collection = index.catalogue.collection("docs")
    assert collection
    (filled / "lease.txt").unlink()
    delete(index, collection, [entries()["lease.txt"]], settings)
    restore(index, settings, place)
    assert found("lease") == []
    assert set(entries()) == {"pump.txt", "budget.txt", "minutes.txt"}
    write(filled, lease="The lease ends in March.")
    (refused,) = [each for each in run(filled).report.files if each.status == "skipped"]
    assert (refused.code, "undelete" in refused.remedy) == ("deleted", True)
    undelete(index, "docs", ["lease.txt"])
    run(filled)
    assert found("lease") == ["The lease ends in March."]


def test_an_upload_under_the_same_name_is_kept_under_a_number(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, run: Go
) -> None:
    backup(index, settings, place)
    write(uploaded, minutes="The minutes of July.")
    run(uploaded)
    restore(index, settings, place)
    assert (uploaded / "minutes.txt").read_text() == "The minutes of June."
    assert (uploaded / "minutes-2.txt").read_text() == "The minutes of July."


def test_a_backup_is_not_overwritten_unless_asked(
    filled: Path, index: Index, settings: Settings, place: Path, run: Go
) -> None:
    backup(index, settings, place)
    write(filled, new="A new one.")
    run(filled)
    with pytest.raises(UsageError, match=r"rag-bot\.backup exists"):
        backup(index, settings, place)
    assert backup(index, settings, place, overwrite=True).collections == {"docs": 5}


def test_places_that_make_no_sense_are_refused(
    filled: Path, index: Index, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is in the data directory"):
        backup(index, settings, settings.data_dir / "a.backup")
    with pytest.raises(UsageError, match="exists"):
        backup(index, settings, tmp_path, overwrite=True)
    with pytest.raises(Unavailable, match=r"none/a\.backup can't be written: No such file"):
        backup(index, settings, tmp_path / "none/a.backup")
    with pytest.raises(UsageError, match=r"missing\.backup can't be read: No such file"):
        restore(index, settings, tmp_path / "missing.backup")


def test_a_full_disk_leaves_the_old_backup(
    filled: Path, index: Index, settings: Settings, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(index, settings, place)
    before = place.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ingest.backup, "write", full)
    with pytest.raises(Unavailable, match="can't be written: No space left"):
        backup(index, settings, place, overwrite=True)
    assert place.read_bytes() == before
    assert [path.name for path in place.parent.glob("*backup*")] == ["rag-bot.backup"]


# Archives that are not ours

Change = Callable[[dict[str, bytes], dict[str, Any]], None]


def remade(place: Path, change: Change, sign: bool = True) -> Path:
    """The backup with its members and its manifest changed, signed anew or not."""
    with zipfile.ZipFile(place) as before:
        members = {name: before.read(name) for name in before.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    if sign:
        for name, data in members.items():
            told = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "mtime_ns": 0}
            manifest.setdefault("members", {})[name] = told
    made = place.with_name("changed.backup")
    with zipfile.ZipFile(made, "w") as after:
        for name, data in members.items():
            after.writestr(name, data)
        after.writestr("manifest.json", json.dumps(manifest))
    return made


def database(members: dict[str, bytes], sql: str, scratch: Path) -> None:
    file = scratch / "other.sqlite"
    file.write_bytes(members["catalogue.sqlite"])
    with sqlite3.connect(file) as db:
        db.executescript(sql)
    db.close()
    members["catalogue.sqlite"] = file.read_bytes()


CHANGES: dict[str, tuple[Change, str]] = {
    "a path upwards": (lambda m, _: m.update({"uploads/../../evil": b"x"}), "evil"),
    "an absolute path": (lambda m, _: m.update({"/tmp/evil": b"x"}), "evil"),
    "a foreign file": (lambda m, _: m.update({"caches/evil": b"x"}), "evil"),
    "no catalogue": (lambda m, _: [m.pop("catalogue.sqlite"), _["members"].clear()], "other files"),
    "a missing member": (lambda m, _: m.pop("uploads/docs/budget.txt"), "other files"),
    "another format": (lambda _, it: it.update(format=99), "which is newer"),
    "a newer schema": (lambda _, it: it.update(schema=99), "which is newer"),
    "a manifest of another kind": (lambda _, it: it.clear(), "its manifest says nothing"),
    "no database": (lambda m, _: m.update({"catalogue.sqlite": b"not a database"}), "not a whole"),
}


@contextmanager
def untouched(index: Index, uploaded: Path) -> Iterator[None]:
    """Nothing changes inside."""
    before, records, originals = content(index), rows(index), files(uploaded)
    yield
    assert content(index).differences(before) == []
    assert rows(index) == records
    assert files(uploaded) == originals
    assert not left_behind(index.data_dir)


@pytest.mark.parametrize("name", CHANGES)
def test_a_foreign_backup_is_refused_and_nothing_changes(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, name: str
) -> None:
    backup(index, settings, place)
    change, why = CHANGES[name]
    changed = remade(place, change)
    with untouched(index, uploaded), pytest.raises(UsageError, match=why) as raised:
        restore(index, settings, changed)
    assert str(changed) in raised.value.message
    assert raised.value.remedy
    assert not list(settings.data_dir.parent.rglob("evil"))


def test_a_catalogue_that_would_run_code_of_its_own_is_refused(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, tmp_path: Path
) -> None:
    backup(index, settings, place)
    trigger = "CREATE TRIGGER t AFTER DELETE ON documents BEGIN DELETE FROM pages; END;"
    changed = remade(place, lambda members, _: database(members, trigger, tmp_path))
    with untouched(index, uploaded), pytest.raises(UsageError, match="its catalogue holds 't'"):
        restore(index, settings, changed)


def test_a_link_in_a_backup_is_refused(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path
) -> None:
    backup(index, settings, place)
    with zipfile.ZipFile(place) as before:
        members = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(place, "w") as after:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if "budget" in name else 0
            after.writestr(info, data)
    with untouched(index, uploaded), pytest.raises(UsageError, match="is a link"):
        restore(index, settings, place)


def test_more_than_the_manifest_says_is_not_unpacked(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path
) -> None:
    backup(index, settings, place)

    def bomb(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        members["uploads/docs/budget.txt"] = bytes(10_000_000)

    with untouched(index, uploaded), pytest.raises(UsageError, match="has the wrong size"):
        restore(index, settings, remade(place, bomb, sign=False))


def test_a_backup_that_needs_more_room_than_there_is_is_refused(
    filled: Path,
    uploaded: Path,
    index: Index,
    settings: Settings,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup(index, settings, place)

    class Usage:
        free = 1000

    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: Usage)
    with untouched(index, uploaded), pytest.raises(Unavailable, match="MB are needed"):
        restore(index, settings, place)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 1.0])
def test_a_flipped_byte_is_noticed_and_nothing_changes(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, part: float
) -> None:
    backup(index, settings, place)
    data = bytearray(place.read_bytes())
    with zipfile.ZipFile(place) as archive:
        # Of what follows the members, dates and the like may change without harm.
        data[int((archive.start_dir - 30) * part)] ^= 0xFF
    place.write_bytes(data)
    with untouched(index, uploaded), pytest.raises(UsageError, match=str(place)):
        restore(index, settings, place)


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_a_cut_backup_is_refused(
    filled: Path, uploaded: Path, index: Index, settings: Settings, place: Path, kept: int
) -> None:
    backup(index, settings, place)
    place.write_bytes(place.read_bytes()[:kept])
    with untouched(index, uploaded), pytest.raises(UsageError, match="not a whole backup"):
        restore(index, settings, place)


def test_when_the_index_refuses_the_uploads_are_put_back(
    filled: Path,
    uploaded: Path,
    index: Index,
    settings: Settings,
    place: Path,
    run: Go,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup(index, settings, place)
    write(uploaded, minutes="The minutes of July.")
    (uploaded / "budget.txt").unlink()
    run(uploaded, allow_removal=True)

    def full(_: Path) -> None:
        raise Unavailable("the disk is full", "make room")

    monkeypatch.setattr(index, "restore", full)
    with untouched(index, uploaded), pytest.raises(Unavailable, match="the disk is full"):
        restore(index, settings, place)


def test_copies_of_a_killed_run_are_seen_and_cleared(settings: Settings) -> None:
    folder = settings.data_dir / "scratch"
    folder.mkdir(parents=True)
    (folder / "catalogue.sqlite").write_text("left")
    assert left_behind(settings.data_dir) == folder
    with scratch(settings.data_dir) as fresh:
        assert list(fresh.iterdir()) == []
        assert left_behind(settings.data_dir) is None
    assert not folder.exists()


# While serving


def test_who_searches_meanwhile_sees_the_old_state_or_the_new(
    docs: Path, index: Index, settings: Settings, place: Path, run: Go
) -> None:
    texts = {f"d{i}": f"old word{i} zebra" for i in range(30)}
    write(docs, **texts)
    run(docs)
    backup(index, settings, place)
    write(docs, **{name: text.replace("old", "new") for name, text in texts.items()})
    run(docs)
    wanted = fingerprint(settings)
    seen: list[frozenset[str]] = []
    wrong: list[BaseException] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                with index.view():
                    hits = index.lexical(index.collection("docs", wanted), "zebra", 50)
            except Flipped:
                continue
            except (RagBotError, AssertionError) as error:
                wrong.append(error)
                return
            seen.append(frozenset(hit.chunk.text for hit in hits))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(3):
        made = place.with_name("again.backup")
        backup(index, settings, made, overwrite=True)
        restore(index, settings, place)
        restore(index, settings, made)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    old = frozenset(texts.values())
    new = frozenset(text.replace("old", "new") for text in texts.values())
    assert set(seen) == {old, new}


def test_what_was_restored_is_there_when_it_is_opened_again(
    filled: Path, index: Index, settings: Settings, place: Path, run: Go
) -> None:
    backup(index, settings, place)
    before = content(index)
    write(filled, pump="The pump has 7 bar.")
    run(filled)
    restore(index, settings, place)
    index.close()
    SharedSystemClient.clear_system_cache()
    with Index(settings.data_dir) as opened:
        assert content(opened).differences(before) == []
        assert opened.damaged == []
