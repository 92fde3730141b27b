"""The commands, as a shell and a script meet them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ingest.sync import Options
from rag_bot.config import Settings
from rag_bot.index import Index, Owner
from rag_bot.scope import Scope
from ui import cli
from ui.remote import Remote

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def home(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, and the folder that commands run in."""
    for name in list(os.environ):
        if name.startswith("RAG_BOT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RAG_BOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(settings.models.dir))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `rag-bot ARGUMENTS`."""
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def run_json(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, dict[str, Any]]:
    """The same with `--json`, which must print one object and nothing else."""
    status, out, _ = run(capsys, *arguments, "--json")
    return status, json.loads(out)


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["ingest", "--help"]])
def test_help_answers_in_half_a_second_and_shows_an_example(arguments: list[str]) -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ui.cli", *arguments], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert "example" in done.stdout or "exit status" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("family", ["eval", "finetune"])
def test_a_family_of_commands_says_which_there_are(
    family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, status in (([family, "--help"], 0), ([family], 2), ([family, "nosuch"], 2)):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == status
        said = capsys.readouterr()
        assert "documents" not in re.findall(r"^    (\w+)", said.out, re.MULTILINE)
        if len(arguments) > 1:
            assert f"{family} {'run' if family == 'eval' else 'loop'}" in said.out + said.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, ui.cli\n"
        "try: ui.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'chromadb', 'llama_index', 'gradio', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_from_a_folder_to_a_cited_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = home / "docs"
    docs.mkdir()
    (docs / "lease.md").write_text(
        "# Lease\n\n## Rent\n\nThe monthly rent is 10,450 euros. It is due on the third day.\n"
    )
    (docs / "empty.txt").write_text("")
    (docs / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))

    status, report = run_json(capsys, "ingest", docs)
    assert status == 1, "a file failed"
    words = ("indexed", "unchanged", "removed", "skipped", "failed")
    assert [report[word] for word in words] == [1, 0, 0, 1, 1]
    by_name = {Path(each["path"]).name: each for each in report["files"]}
    assert by_name["lease.md"]["status"] == "indexed"
    assert by_name["lease.md"]["chunks"] >= 1
    assert by_name["empty.txt"]["code"] == "empty"
    assert by_name["empty.txt"]["remedy"]
    assert report["found"] == 3
    assert by_name["photo.png"]["status"] == "skipped"

    (docs / "empty.txt").unlink()
    status, report = run_json(capsys, "ingest", docs)
    assert (status, report["unchanged"], report["embedded"]) == (0, 1, 0)

    status, found = run_json(capsys, "search", "monthly rent", "--top-k", "1")
    assert status == 0
    (hit,) = found["results"]
    assert hit["rank"] == 1
    assert hit["document"].endswith("lease.md")
    assert (hit["page_start"], hit["page_end"]) == (1, 1)
    assert "10,450 euros" in hit["text"]

    status, answer = run_json(capsys, "ask", "How much is the monthly rent?")
    assert status == 0
    assert not answer["abstained"]
    assert "10,450" in answer["text"]
    assert answer["citations"][0]["document"] == "lease.md"
    assert answer["citations"][0]["page"] == 1
    assert "10,450 euros" in answer["citations"][0]["quote"]

    status, answer = run_json(capsys, "ask", "Who composed the opera Tosca?")
    assert (status, answer["abstained"], answer["citations"]) == (0, True, [])

    status, out, _ = run(capsys, "ask", "How much is the monthly rent?")
    assert "[1] lease.md, page 1: “" in out

    status, listed = run_json(capsys, "documents")
    assert [Path(each["source"]).name for each in listed["documents"]] == ["lease.md"]
    status, gone = run_json(capsys, "delete", "lease.md")
    assert (status, len(gone["deleted"])) == (0, 1)
    status, found = run_json(capsys, "search", "monthly rent")
    assert found["results"] == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["ingest", "nowhere"], 2, "no file or folder at nowhere"),
        (["ingest", "hollow"], 2, "nothing to index in hollow"),
        (["search", "x", "--top-k", "0"], 2, "--top-k 0"),
        (["search", "x"], 2, "no collection 'default'"),
        (["ask", "x", "--collection", "no such"], 2, "collection = 'no such'"),
        (["ask", "x", "--set", "retreival.top_k=3"], 2, "did you mean 'retrieval.top_k'?"),
        (["ask", "x", "--set", "retrieval.top_k"], 2, "write --set KEY=VALUE"),
        (["ask", "x", "--config-file", "none.toml"], 2, "none.toml"),
        (["ask", "x", "--config-file", "broken.toml"], 2, "broken.toml"),
        (["delete", "x.pdf"], 2, "no document 'x.pdf'"),
        (["delete"], 2, "name documents, or say --all"),
        (["models", "pull", "gpt"], 2, "no model 'gpt'"),
    ],
)
def test_wrong_usage_is_one_line_with_the_way_out(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    told: str,
) -> None:
    (home / "hollow").mkdir()
    (home / "broken.toml").write_text("[retrieval\n")
    got, out, err = run(capsys, *arguments)
    assert got == status
    assert told in err
    assert err.count("\n") == 1
    assert "(" in err, "no remedy"
    assert out == ""


def test_an_error_is_json_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = run_json(capsys, "ingest", "nowhere")
    assert status == 2
    assert told["error"]["kind"] == "UsageError"
    assert "nowhere" in told["error"]["message"]


def test_a_missing_model_is_named_within_seconds_and_search_needs_no_llm(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a.txt").write_text("The ferry leaves at noon from the northern quay.")
    assert run(capsys, "ingest", home / "a.txt")[0] == 0
    llm = "models.llm=/no/such/model"
    assert run(capsys, "search", "ferry", "--set", llm)[0] == 0
    start = time.perf_counter()
    status, _, err = run(capsys, "ask", "When does the ferry leave?", "--set", llm)
    assert time.perf_counter() - start < 5
    assert status == 3
    assert "/no/such/model" in err
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(home / "none"))
    status, _, err = run(capsys, "search", "ferry")
    assert status == 3
    assert "rag-bot models pull" in err


def test_a_busy_index_is_refused_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Index(home / "data"):
        start = time.perf_counter()
        status, _, err = run(capsys, "documents")
    assert time.perf_counter() - start < 5
    assert status == 3
    assert f"process {os.getpid()}" in err


def test_config_tells_where_a_value_came_from(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "rag-bot.toml").write_text("[retrieval]\ntop_k = 6\nfloor = 0.5\n")
    monkeypatch.setenv("RAG_BOT_RETRIEVAL__FLOOR", "0.3")
    monkeypatch.setenv("RAG_BOT_MODELS__ENDPOINT_KEY", "secret")
    status, shown = run_json(capsys, "config", "--set", "server.port=8000")
    rows = {row["key"]: row for row in shown["settings"]}
    assert status == 0
    assert rows["retrieval.top_k"]["value"] == 6
    assert rows["retrieval.top_k"]["origin"].endswith("rag-bot.toml")
    assert rows["retrieval.floor"]["value"] == 0.3
    assert rows["retrieval.floor"]["origin"] == "RAG_BOT_RETRIEVAL__FLOOR"
    assert (rows["server.port"]["value"], rows["server.port"]["origin"]) == (8000, "flag")
    assert rows["retrieval.dense_weight"]["origin"] == "default"
    assert rows["models.endpoint_key"]["value"] == "***"


def test_doctor_finds_a_cut_model(
    home: Path, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    assert run(capsys, "doctor")[0] == 0
    copied = home / "models" / "all-minilm-l6-v2"
    copied.mkdir(parents=True)
    original = settings.models.dir / "all-minilm-l6-v2"
    for file in original.glob("*.json"):
        (copied / file.name).write_bytes(file.read_bytes())
    (copied / "model.safetensors").write_bytes(b"cut")
    status, told = run_json(capsys, "doctor", "--set", f"models.dir={home / 'models'}")
    findings = {each["what"]: each for each in told["findings"]}
    assert status == 3
    assert findings["embedder"]["status"] == 3
    assert "rag-bot models pull" in findings["llm"]["remedy"]


def test_a_question_is_kept_to_some_documents(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, rent in (("docs/2024/lease.txt", "9,000"), ("docs/2025/lease.md", "10,450")):
        file = home / place
        file.parent.mkdir(parents=True)
        file.write_text(f"The monthly rent is {rent} euros.\n")
    os.utime(home / "docs/2024/lease.txt", (1_720_000_000, 1_720_000_000))
    assert run(capsys, "ingest", home / "docs")[0] == 0

    def found(*arguments: str) -> set[str]:
        status, answer = run_json(capsys, "search", *arguments)
        assert status == 0
        return {Path(each["document"]).name for each in answer["results"]}

    assert found("monthly rent", "--in", "2024/") == {"lease.txt"}
    assert found("monthly rent", "--type", "txt", "--before", "2025-01-01") == {"lease.txt"}
    assert found("monthly rent", "--doc", "lease.md", "--after", "2025-01-01") == {"lease.md"}
    assert found("type:md monthly rent in:docs/?") == {"lease.md"}

    status, out, _ = run(capsys, "ask", "How much is the monthly rent?", "--in", "2023/")
    assert status == 0
    assert "in:2023/" in out
    status, out, err = run(capsys, "ask", "How much is the rent after:2025-02-30?")
    assert (status, out) == (2, "")
    assert "after:2025-02-30 is not a date" in err
    status, _, err = run(capsys, "search", "rent", "--before", "soon")
    assert status == 2
    assert "before:soon is not a date" in err


def test_a_port_in_use_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, err = run(capsys, "serve", "--port", port)
    assert status == 3
    assert port in err


def test_beside_a_server_commands_go_through_it(served: Any, tmp_path: Path) -> None:
    with Remote(Owner(os.getpid(), served.url, served.local.index.token)) as remote:
        assert remote.verify() == served.local.verify()
        assert [e.source for e in remote.documents()] == [
            e.source for e in served.local.documents()
        ]
        assert remote.search("annual leave", limit=3) == served.local.search(
            "annual leave", limit=3
        )
        scope = Scope((), ("!*.pdf",), ("md",), date(1971, 1, 1), date(2999, 1, 1))
        assert remote.search("annual leave", scope=scope) == served.local.search(
            "annual leave", scope=scope
        )
        answer = list(remote.ask("Who composed the opera Tosca?", scope=scope))[-1].answer
        assert answer.abstained
        note = tmp_path / "ferry.txt"
        note.write_text("The ferry to Ulvik leaves at noon.")
        report = list(remote.ingest([note]))[-1]
        assert [each.status for each in report.files] == ["indexed"]
        assert remote.search("ferry to Ulvik", limit=1)[0].document == "ferry.txt"
        assert [e.source for e in remote.delete(["ferry.txt"])] == [str(note)]
        assert all(s.document != "ferry.txt" for s in remote.search("ferry to Ulvik"))
        assert remote.forgotten("ferry.txt").gone
        (kept_out,) = list(remote.ingest([note], options=Options(dry_run=True)))[-1].files
        assert (kept_out.status, kept_out.code) == ("skipped", "deleted")
        assert remote.undelete(["ferry.txt"]) == [str(note)]
        (report,) = list(remote.repair())[-1:]
        assert report.complete
        made = remote.backup(tmp_path / "all.backup")
        assert made.file == str(tmp_path / "all.backup")
        remote.restore(tmp_path / "all.backup")
        assert remote.verify() == []
        same = (served.local.settings.models.embedder, served.local.settings.ingest.chunk_tokens)
        assert list(remote.rebuild(None, *same))[-1].embedded == 0
