import json
from pathlib import Path

import pytest

from ingest import lineage
from ingest.lineage import drop_rows, take_out_rows
from rag_bot.index import Index
from rag_bot.ledger import Made, Origin

A, B = Origin("/docs/a.txt", "a" * 64), Origin("/docs/b.txt", "b" * 64)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "examples.jsonl"
    file.write_text(
        "".join(json.dumps({"id": n, "question": f"Frage {n} – ü?"}) + "\n" for n in "123")
    )
    return file


def lines(file: Path) -> list[str]:
    return [json.loads(line)["id"] for line in file.read_text("utf-8").splitlines()]


def test_rows_of_documents_that_are_gone_are_taken_out_of_their_files(
    index: Index, rows: Path
) -> None:
    ledger = index.ledger
    ledger.record_lineage("example", "1", "docs", [A], str(rows))
    ledger.record_lineage("example", "2", "docs", [B], str(rows))
    ledger.record_lineage("evaluation", "3", "docs", [A, B], str(rows))
    ledger.erase("docs", A, twin_lives=False)
    assert take_out_rows(ledger) == []
    assert lines(rows) == ["2"]
    assert ledger.made() == [Made("example", "2", str(rows), False)]
    assert rows.read_text("utf-8") == '{"id": "2", "question": "Frage 2 \\u2013 \\u00fc?"}\n'


def test_adapters_stay_marked_for_their_owner(index: Index) -> None:
    index.ledger.record_lineage("adapter", "v1", "docs", [A, B])
    index.ledger.erase("docs", B, twin_lives=False)
    assert take_out_rows(index.ledger) == []
    assert index.ledger.made(marked=True) == [Made("adapter", "v1", "", True)]
    assert index.ledger.origins("adapter", "v1") == [A]


def test_a_file_that_is_gone_holds_no_rows(index: Index, tmp_path: Path) -> None:
    index.ledger.record_lineage("example", "1", "docs", [A], str(tmp_path / "gone.jsonl"))
    index.ledger.erase("docs", A, twin_lives=False)
    assert take_out_rows(index.ledger) == []
    assert index.ledger.made() == []


def test_what_cannot_be_taken_out_is_told_and_tried_again(index: Index, rows: Path) -> None:
    whole = rows.read_bytes()
    index.ledger.record_lineage("example", "1", "docs", [A], str(rows))
    index.ledger.erase("docs", A, twin_lives=False)
    rows.write_bytes(whole + b"no JSON\n")
    (left,) = take_out_rows(index.ledger)
    assert (left.item, left.marked) == ("1", True)
    assert rows.read_bytes() == whole + b"no JSON\n"
    rows.write_bytes(whole)
    assert take_out_rows(index.ledger) == []
    assert lines(rows) == ["2", "3"]


def test_one_file_that_cannot_be_written_does_not_hold_up_another(
    index: Index, rows: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("[]\n")
    index.ledger.record_lineage("example", "x", "docs", [A], str(other))
    index.ledger.record_lineage("example", "1", "docs", [A], str(rows))
    index.ledger.erase("docs", A, twin_lives=False)
    (left,) = take_out_rows(index.ledger)
    assert left.location == str(other)
    assert lines(rows) == ["2", "3"]


def test_a_file_cut_off_while_it_is_rewritten_is_as_it_was(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lineage.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        drop_rows(rows, {"1"})
    assert lines(rows) == ["1", "2", "3"]


def test_ids_may_be_numbers_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 1}\n\n{"id": 12}\n{"other": 1}\n')
    drop_rows(file, {"1"})
    assert file.read_text() == '{"id": 12}\n{"other": 1}\n'
