"""`rag-bot eval …`, as a shell meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval import bench, cases
from ingest import sync
from rag_bot import embed, generate
from rag_bot.config import Settings
from tests.conftest import Scripted, WordEmbedder, drafts_here
from ui import cli

ANSWERS = {
    "pump": "The pump runs at 4 bar. [1]",
    "lease": "The lease ends in March. [1]",
    "ferry": "The documents do not say.",
}


class Obedient(Scripted):
    """Answers by a word of the question."""

    def stream(self, messages: Any) -> Any:
        question = messages[-1].text.rpartition("Question: ")[2]
        self.reply = next(text for word, text in ANSWERS.items() if word in question)
        return super().stream(messages)


@pytest.fixture
def home(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of documents, golden cases about them, and stand-ins for the models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_BOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(settings.models.dir))
    monkeypatch.setenv("RAG_BOT_MODELS__READER", "")
    monkeypatch.setenv("RAG_BOT_RETRIEVAL__FLOOR", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(embed.Embedder, "from_settings", lambda _: WordEmbedder())
    monkeypatch.setattr(generate, "load", lambda _: Obedient(""))
    monkeypatch.setattr(sync, "drafts", drafts_here)  # what a process of its own costs, elsewhere
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "pump.txt").write_text("The pump runs at 4 bar.")
    (docs / "lease.txt").write_text("The lease ends in March.")
    made = [
        case("pump", "At what pressure does the pump run?", ["4 bar"], "pump.txt"),
        case("lease", "When does the lease end?", ["in March"], "lease.txt"),
        case("ferry", "When does the ferry leave?", [], None),
    ]
    cases.write(tmp_path / "golden.jsonl", made)
    return tmp_path


def case(name: str, question: str, reference: list[str], document: str | None) -> Any:
    relevant = [{"document": document, "page": 1}] if document else []
    return cases.from_json(
        {
            "id": name,
            "question": question,
            "reference": reference,
            "relevant": relevant,
            "answerable": bool(document),
        }
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = cli.main(["eval", *arguments])
    out, err = capsys.readouterr()
    return status, out + err


GOLDEN = ("--cases", "golden.jsonl", "--docs", "docs")


def test_a_run_writes_what_it_measured_twice_the_same(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("a", "b"):
        status, said = run(capsys, "run", *GOLDEN, "--out", out)
        assert status == 0
        assert "accuracy                1.0000" in said
    assert (home / "a/metrics.json").read_bytes() == (home / "b/metrics.json").read_bytes()
    metrics = json.loads((home / "a/metrics.json").read_text())
    assert metrics["cases"] == 3
    assert metrics["metrics"]["abstention_recall"]["mean"] == 1
    assert metrics["metrics"]["page_precision"]["mean"] == 1
    assert "retrieve" in json.loads((home / "a/timings.json").read_text())["stages"]
    assert "At what pressure" in (home / "a/report.html").read_text()
    assert (home / "a/report.md").exists()

    (home / "a/metrics.json").unlink()
    assert run(capsys, "report", "a")[0] == 0
    assert (home / "a/metrics.json").read_bytes() == (home / "b/metrics.json").read_bytes()


def test_the_gate_passes_the_same_and_names_what_got_worse(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "run", *GOLDEN, "--out", "a")[0] == 0
    assert run(capsys, "gate", "--baseline", "a", "--run", "a")[0] == 0
    # The model says one thing to everything, which no document bears out.
    monkeypatch.setattr(generate, "load", lambda _: Scripted("It is the tenth of Juvember."))
    assert run(capsys, "run", *GOLDEN, "--out", "b", "--config", "retrieval.top_k=1")[0] == 0
    status, said = run(
        capsys, "gate", "--baseline", "a", "--run", "b", "--set", "eval.guards=accuracy=0.03"
    )
    compared = run(capsys, "compare", "a", "b")[1]
    assert "retrieval.top_k: 4 → 1" in compared
    if "now wrong: 0" in compared:  # what was quoted in place of the draft is right as well
        assert status == 0
    else:
        assert status == 1
        assert said.startswith("refused: accuracy is worse by")


def test_a_model_that_fails_on_a_case_costs_that_case(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Obedient):
        def stream(self, messages: Any) -> Any:
            if "lease" in messages[-1].text.rpartition("Question: ")[2]:
                raise RuntimeError("out of memory")
            return super().stream(messages)

    monkeypatch.setattr(generate, "load", lambda _: Failing(""))
    status, said = run(capsys, "run", *GOLDEN, "--out", "a")
    assert status == 1
    assert "3 cases, 1 failed to run" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "golden.jsonl, line 4"),
        ('{"id": "x", "question": "q", "relevant": [], "answerable": true}', "no relevant page"),
        (
            '{"id": "x", "question": "q", "reference": "r",'
            ' "relevant": [{"document": "pump.txt", "page": 9}]}',
            "line 4: pump.txt has 1 pages, not 9",
        ),
        (
            '{"id": "x", "question": "q", "reference": "r",'
            ' "relevant": [{"document": "nope.txt", "page": 1}]}',
            "line 4: there is no document 'nope.txt'",
        ),
    ],
)
def test_a_bad_golden_line_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    with (home / "golden.jsonl").open("a") as stream:
        stream.write(line + "\n")
    status, shown = run(capsys, "run", *GOLDEN, "--out", "a")
    assert status == 2
    assert said in shown


def test_what_is_no_run_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "report", "nowhere")[0] == 2
    assert run(capsys, "run", *GOLDEN, "--out", "a", "--retrieval-only")[0] == 0
    record = json.loads((home / "a/run.json").read_text())
    (home / "a/run.json").write_text(json.dumps(record | {"format": 99}))
    status, said = run(capsys, "gate", "--baseline", "a", "--run", "a")
    assert status == 2
    assert "format 99" in said
    status, said = run(
        capsys, "gate", "--baseline", "a", "--run", "a", "--set", "eval.guards=smell=1"
    )
    assert status == 2
    assert "no metric 'smell'" in said


def test_a_deletion_takes_the_rows_that_quote_the_document(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ("--cases", "golden.jsonl", "--collection", "default", "--out", "a")
    assert cli.main(["ingest", "docs"]) == 0
    assert run(capsys, "run", *mine, "--config", "retrieval.top_k=1")[0] == 0
    assert "4 bar" in (home / "a/rows.jsonl").read_text()
    assert cli.main(["delete", "pump.txt"]) == 0
    rows = [json.loads(line) for line in (home / "a/rows.jsonl").read_text().splitlines()]
    assert "pump" not in [row["id"] for row in rows]
    assert "lease" in [row["id"] for row in rows]
    assert not (home / "a/report.html").exists()
    assert not any("The pump runs" in source["text"] for row in rows for source in row["sources"])


def test_drafts_wait_to_be_accepted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "docs" / "rent.txt").write_text(
        "Rent\n\nThe monthly rent is EUR 1,450. The deposit is EUR 2,900.\n\n"
        "Notice period: three months\n\nThe landlord is Maria Olsen.\n"
    )
    assert run(capsys, "cases", "docs", "--out", "drafts.jsonl", "--count", "8")[0] == 0
    drafts = (home / "drafts.jsonl").read_text()
    assert drafts
    status, said = run(
        capsys, "run", "--cases", "drafts.jsonl", "--docs", "docs", "--out", "a", "--retrieval-only"
    )
    assert status == 2
    assert "accept drafts" in said
    (home / "drafts.jsonl").write_text(drafts.replace('"draft", ', ""))
    assert (
        run(
            capsys,
            *("run", "--cases", "drafts.jsonl", "--docs", "docs", "--out", "a"),
            "--retrieval-only",
        )[0]
        == 0
    )
    assert run(capsys, "cases", "docs", "--out", "drafts.jsonl")[0] == 2  # never written over


def test_disturbances_are_run_and_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ("--only", "upper_case", "--only", "empty_question", "--retrieval-only")
    status, said = run(capsys, "robustness", *GOLDEN, "--out", "r", *only)
    assert status == 0
    assert "| upper_case | 3 |" in said
    found = json.loads((home / "r" / "robustness.json").read_text())
    assert set(found) == {"upper_case", "empty_question"}
    assert run(capsys, "robustness", *GOLDEN, "--out", "r", "--only", "noise")[0] == 2


def test_the_shipped_cases_are_what_the_readme_says() -> None:
    golden = cases.read(bench.SHIPPED)
    documents = {ref.document for case in golden.cases for ref in case.relevant}
    files = {each.name for each in bench.EXAMPLES.iterdir()}
    assert len(golden.cases) >= 200
    assert len(documents) >= 20
    assert documents <= files
    assert sum(not case.answerable for case in golden.cases) * 4 >= len(golden.cases)
    several = [c for c in golden.cases if len({(r.document, r.page) for r in c.relevant}) > 1]
    assert len(several) >= 50
