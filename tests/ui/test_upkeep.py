"""The commands that change the index and look after it, as a shell meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag_bot.config import Settings
from rag_bot.embed import Embedder
from ui import cli
from ui.local import Local

OLD = time.time() - 3600
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home(
    tmp_path: Path, settings: Settings, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty data directory, a folder of three documents, and the folder commands run in."""
    monkeypatch.setattr(Local, "_embedder", embedder)  # loaded once for all of them
    for name in list(os.environ):
        if name.startswith("RAG_BOT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RAG_BOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(settings.models.dir))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    write(tmp_path, lease="The office lease ends in March.", pump="The pump runs at 4 bar.")
    write(tmp_path, leave="Employees have 28 days of leave.")
    return tmp_path


def write(home: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = home / "docs" / f"{name}.txt"
        file.write_text(text)
        os.utime(file, (OLD, OLD))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit status and output of a command; with `--json`, the object it printed."""

    def go(*arguments: str | Path) -> tuple[int, Any]:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, json.loads(out) if "--json" in arguments else out + err

    return go


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ui.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.2)


def test_a_dry_run_says_what_would_happen_and_writes_nothing(home: Path, run: Any) -> None:
    status, said = run("ingest", "docs", "--dry-run")
    assert status == 0
    assert "3 would be indexed" in said
    assert run("documents", "--json")[1]["documents"] == []
    assert run("ingest", "docs", "--exclude", "p*")[0] == 0
    status, report = run("ingest", "docs", "--dry-run", "--json")
    statuses = {Path(each["path"]).name: each["status"] for each in report["files"]}
    assert statuses == {"lease.txt": "unchanged", "leave.txt": "unchanged", "pump.txt": "indexed"}


def test_renamed_removed_and_guarded(home: Path, run: Any) -> None:
    run("ingest", "docs")
    (home / "docs" / "pump.txt").rename(home / "docs" / "pump_room.txt")
    status, report = run("ingest", "docs", "--json")
    assert (status, report["moved"], report["removed"], report["embedded"]) == (0, 1, 1, 0)
    for name in ("pump_room", "lease"):
        (home / "docs" / f"{name}.txt").unlink()
    status, said = run("ingest", "docs")
    assert status == 1
    assert "--allow-removal" in said
    assert run("ingest", "docs", "--no-delete")[0] == 0
    status, report = run("ingest", "docs", "--allow-removal", "--json")
    assert (status, report["removed"]) == (0, 2)


def test_deleted_stays_deleted_until_undeleted(home: Path, run: Any) -> None:
    run("ingest", "docs")
    status, said = run("forgotten", "pump.txt")
    assert (status, "not deleted" in said) == (1, True)
    assert "kept out" in run("delete", "pump.txt")[1]
    status, said = run("forgotten", "docs/pump.txt")
    assert status == 0, said
    status, report = run("ingest", "docs", "--json")
    (kept_out,) = [each for each in report["files"] if each["status"] == "skipped"]
    assert (kept_out["code"], "undelete" in kept_out["remedy"]) == ("deleted", True)
    assert run("search", "pump", "--json")[1]["results"] != []  # the others, as the nearest
    assert "4 bar" not in run("search", "pump pressure")[1]
    assert run("undelete", "pump.txt")[0] == 0
    run("ingest", "docs")
    assert "4 bar" in run("search", "pump pressure")[1]


def test_verify_finds_and_repair_mends(home: Path, run: Any) -> None:
    run("ingest", "docs")
    assert run("ingest", "verify") == (0, "The index equals its folders.\n")
    write(home, pump="The pump now runs at 6 bar and is blue.", new="A new document on ferries.")
    (home / "docs" / "leave.txt").unlink()
    status, told = run("ingest", "verify", "--json")
    found = {(d["place"], Path(d["path"]).name) for d in told["differences"]}
    assert status == 1
    assert found == {("folder", "pump.txt"), ("folder", "new.txt"), ("folder", "leave.txt")}
    assert all(d["remedy"] for d in told["differences"])
    run("ingest", "repair")
    run("ingest", "docs", "--allow-removal")
    assert run("ingest", "verify")[0] == 0


def test_a_damaged_catalogue_is_said_salvaged_and_filled_again(home: Path, run: Any) -> None:
    run("ingest", "docs")
    file = home / "data" / "catalogue.sqlite"
    content = bytearray(file.read_bytes())
    content[:100] = bytes(100)
    file.write_bytes(content)
    status, said = run("search", "pump")
    assert status == 3
    assert "ingest repair" in said
    assert run("ingest", "repair")[0] in (0, 1)
    run("ingest", "docs")
    assert "4 bar" in run("search", "pump pressure")[1]
    assert run("ingest", "verify")[0] == 0


def test_other_chunks_are_refused_and_rebuild_makes_them(home: Path, run: Any) -> None:
    run("ingest", "docs")
    other = ("--set", "ingest.chunk_tokens=100")
    status, said = run("search", "pump", *other)
    assert status == 3
    assert "ingest rebuild" in said
    status, report = run("ingest", "rebuild", "--json", *other)
    assert (status, report["indexed"], report["embedded"]) == (0, 3, 3)
    assert "4 bar" in run("search", "pump pressure", *other)[1]
    assert run("search", "pump")[0] == 3
    status, report = run("ingest", "docs", "--json", *other)
    assert report["unchanged"] == 3
    _, told = run("ingest", "status", "--json")
    assert told["collections"][0]["collection"]["generation"] == 2


def test_a_backup_comes_back_after_everything_is_lost(home: Path, run: Any) -> None:
    run("ingest", "docs")
    assert run("ingest", "backup", "all.backup")[0] == 0
    assert run("ingest", "backup", "all.backup")[0] == 2
    run("delete", "lease.txt")
    assert run("ingest", "restore", "all.backup")[0] == 0
    assert "March" not in run("search", "office lease")[1], "deleted since the backup"
    shutil.rmtree(home / "data")
    assert run("ingest", "restore", "all.backup")[0] == 0
    assert "March" in run("search", "office lease")[1]
    assert run("ingest", "verify")[0] == 0
    (home / "bad.backup").write_bytes((home / "all.backup").read_bytes()[:-200])
    status, said = run("ingest", "restore", "bad.backup")
    assert status in (2, 3)
    assert "bad.backup" in said
    assert "March" in run("search", "office lease")[1]


def test_status_before_anything_and_after_a_failure(home: Path, run: Any) -> None:
    status, said = run("ingest", "status")
    assert (status, "no index" in said) == (0, True)
    (home / "docs" / "scan.pdf").write_bytes(b"%PDF-1.7\n")
    run("ingest", "docs")
    status, said = run("ingest", "status")
    assert status == 0
    assert "scan.pdf: damaged" in said
    assert "3 indexed, 1 failed" in said
    _, told = run("ingest", "status", "--json")
    assert told["runs"][0]["outcome"] == "in part"
    assert "token" not in json.dumps(told)


def test_a_folder_called_status_can_be_ingested(home: Path, run: Any) -> None:
    shutil.move(home / "docs", home / "status")
    status, report = run("ingest", "./status", "--json")
    assert (status, report["indexed"]) == (0, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--every", "1 fortnight"),
        ("--cron", "every day"),
        ("--every", "1h", "--watch"),
        ("--every", "1h", "--dry-run"),
    ],
)
def test_a_schedule_or_pattern_that_is_none_is_refused(
    home: Path, run: Any, arguments: tuple[str, ...]
) -> None:
    status, said = run("ingest", "docs", *arguments)
    assert status == 2
    assert said.count("\n") == 1


def test_watching_sees_a_new_file_and_ends_with_sigterm(home: Path, run: Any) -> None:
    with running("ingest", "docs", "--watch") as watching:
        until(lambda: "3 indexed" in json.dumps(run("ingest", "status")[1]))
        write(home, ferry="The ferry to Ulvik leaves at noon.")
        start = time.monotonic()
        until(lambda: "1 indexed" in run("ingest", "status")[1])
        assert time.monotonic() - start < 30
        assert "watch" in run("ingest", "status")[1]
        refused = subprocess.run(
            [sys.executable, "-m", "ui.cli", "ingest", "docs", "--watch"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert refused.returncode == 3
        assert str(watching.pid) in refused.stderr
        watching.send_signal(signal.SIGTERM)
        out, _ = watching.communicate(timeout=60)
        assert watching.returncode == 0, out
    assert "Ulvik" in run("search", "ferry")[1]
