"""Rows: what is kept of a case is read again as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eval import rows
from eval.cases import GoldenCase, PageRef
from eval.rows import Cited, Hit, Judged, Row, Shown
from rag_bot.errors import UsageError
from rag_bot.types import Message

FULL = Row(
    case=GoldenCase(
        id="leave\u2028\x85",
        question="Wie viele Tage?\r\n\tGenau “28”?",
        references=("28 Tage", "achtundzwanzig"),
        relevant=(PageRef("leave.txt", 2, "28 Tage"), PageRef("pump.txt", None)),
        history=(Message("user", "Urlaub?"), Message("assistant", "Ja.")),
        tags=("de", "multi"),
        group="g",
    ),
    query="Wie viele Tage?",
    ranking=(Hit("c1", "leave.txt", 2, 0.1 + 0.2), Hit("c2", "pump.txt", 1, -1e-9)),
    sources=(Shown(1, "c1", "leave.txt", 2, 0.5, "28 Tage"),),
    cut=(Shown(2, "c2", "pump.txt", 1, 0.25, "4,5 bar\n\f"),),
    prompt_sha256="ab" * 32,
    answered=True,
    answer="28 Tage. [1]",
    draft="28 Tage. [1] Oder",
    citations=(Cited(1, "leave.txt", 2, "28 Tage", True),),
    verdicts=(Judged("28 Tage.", "supported", 0.9, (1,)), Judged("Oder", "unsupported", 0.0, ())),
    unresolved=(7, 7),
    abstained=False,
    reason="",
    confidence=0.8125,
    missing=(1,),
    model_id="scripted:1",
    tokens=4,
    reference_nll=1.25,
    judged_right=False,
    error="",
    timings={"retrieve": 0.0312, "total": 1.5},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_a_row_is_read_as_it_was_written(file: Path) -> None:
    failed = Row(GoldenCase("b", "Who?", (), (), answerable=False), error="RuntimeError: \x00 “”")
    rows.write(file, [FULL, failed])
    assert file.read_text("utf-8").count("\n") == 2
    assert rows.read(file) == [FULL, failed]


def test_no_rows_are_read_as_none(file: Path) -> None:
    rows.write(file, [])
    assert file.read_bytes() == b""
    assert rows.read(file) == []


def test_empty_lines_mean_nothing(file: Path) -> None:
    file.write_text(f"\n{rows.to_line(FULL)}\n  \n\n", "utf-8")
    assert rows.read(file) == [FULL]


def test_a_whole_last_line_counts_without_its_line_feed(file: Path) -> None:
    file.write_text(f"{rows.to_line(FULL)}\n{rows.to_line(FULL)}", "utf-8")
    assert rows.read(file) == [FULL, FULL]


def test_a_last_line_cut_short_anywhere_is_left_out(
    file: Path, case: Callable[..., GoldenCase]
) -> None:
    line = rows.to_line(Row(case("a", ("x.txt", 1)), answer="28 days", answered=True))
    for cut in range(1, len(line), 7):
        file.write_text(f"{line}\n{line[:cut]}", "utf-8")
        assert len(rows.read(file)) == 1


def test_a_line_may_be_cut_within_a_letter(file: Path) -> None:
    line = rows.to_line(FULL).encode()
    file.write_bytes(line + b"\n" + line[: line.index("“".encode()) + 1])
    assert rows.read(file) == [FULL]


@pytest.mark.parametrize(
    "line",
    [
        '{"case": ',
        "[]",
        "{}",
        json.dumps({"case": {"id": "a"}}),
        rows.to_line(FULL).replace('"supported"', '"perhaps"'),
        rows.to_line(FULL)[:-20],
    ],
)
def test_a_bad_line_is_named(file: Path, line: str) -> None:
    file.write_text(f"{rows.to_line(FULL)}\n{line}\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        rows.read(file)
    assert caught.value.message.startswith(f"{file}, line 2: ")
    assert "another folder" in caught.value.remedy
    assert caught.value.exit_status == 2


def test_a_cut_line_that_is_not_the_last_is_bad(file: Path) -> None:
    file.write_text(f'{{"case": \n{rows.to_line(FULL)}', "utf-8")
    with pytest.raises(UsageError, match="line 1: "):
        rows.read(file)
