import dataclasses
import json
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from ingest.report import FileResult, Progress, Report, Status, report_from_json, result_from_json

FILES = (
    FileResult("/a.pdf", "indexed", "", 4, 9, blank_pages=(2, 3)),
    FileResult("/b.txt", "unchanged", "", 1, 1),
    FileResult("/c.png", "skipped", "an image", code="unknown_type", remedy="nothing to do"),
    FileResult("/d.txt", "removed", "", 1, 2),
    FileResult("/e.txt", "moved", "", 1, 2, moved_from="/d.txt"),
)


def test_the_json_counts_every_status_and_lists_every_file() -> None:
    printed = Report(FILES, 1.23456, 9, ("careful",)).as_json()
    counts = {status: printed[status] for status in ("found", *get_args(Status))}
    assert counts == {
        "found": 4,
        "indexed": 1,
        "moved": 1,
        "unchanged": 1,
        "removed": 1,
        "skipped": 1,
        "failed": 0,
    }
    assert printed["files"][0] == {
        "path": "/a.pdf",
        "status": "indexed",
        "code": "",
        "reason": "",
        "remedy": "",
        "pages": 4,
        "chunks": 9,
        "blank_pages": (2, 3),
        "moved_from": "",
    }
    assert [each["path"] for each in printed["files"]] == [each.path for each in FILES]
    assert (printed["embedded"], printed["warnings"], printed["seconds"]) == (9, ["careful"], 1.235)


@given(st.lists(st.sampled_from(get_args(Status))))
def test_what_was_found_is_indexed_moved_unchanged_or_rejected(ends: list[Status]) -> None:
    files = tuple(FileResult(f"/{n}", end) for n, end in enumerate(ends))
    counts = Report(files, 1, 0).as_json()
    ended = ("indexed", "moved", "unchanged", "skipped", "failed")
    assert counts["found"] == sum(counts[status] for status in ended)
    assert counts["found"] == len(files) - counts["removed"]


def test_a_report_survives_the_way_as_json() -> None:
    report = Report(FILES, 1.5, 9, ("careful",), dry_run=True)
    assert report_from_json(json.loads(json.dumps(report.as_json()))) == report


def test_a_files_end_survives_the_way_as_json() -> None:
    step = dataclasses.asdict(Progress(1, 5, 4, 9, FILES[0]))
    assert result_from_json(json.loads(json.dumps(step))["result"]) == FILES[0]


def test_what_is_complete() -> None:
    """Skipped files are no gap; failed ones and warnings are."""
    assert Report(FILES, 1, 9).complete
    failed = FileResult("/e", "failed", "x", code="damaged")
    assert not Report((*FILES, failed), 1, 9).complete
    assert not Report(FILES, 1, 9, ("nothing was removed",)).complete


def test_the_record_keeps_only_files_that_failed_and_not_all_of_them() -> None:
    failed = tuple(FileResult(f"/{n}", "failed", "x", code="damaged") for n in range(5))
    record = Report(FILES + failed, 1, 9).as_record(3)
    assert [each["path"] for each in record["files"]] == ["/0", "/1", "/2"]
    assert (record["found"], record["failed"]) == (9, 5)
