import json

from ingest.report import FileResult, Report, report_from_json

FILES = (
    FileResult("/a.pdf", "indexed", "page 3 holds no text", 4, 9),
    FileResult("/b.txt", "unchanged", "", 1, 1),
    FileResult("/c.png", "skipped", "unknown_type: an image"),
    FileResult("/d.txt", "removed", "", 1, 2),
)


def test_the_json_counts_every_status_and_lists_every_file() -> None:
    printed = Report(FILES, 1.23456, 9, ("careful",)).as_json()
    counts = {s: printed[s] for s in ("indexed", "unchanged", "removed", "skipped", "failed")}
    assert counts == {"indexed": 1, "unchanged": 1, "removed": 1, "skipped": 1, "failed": 0}
    assert printed["files"][0] == {
        "path": "/a.pdf",
        "status": "indexed",
        "reason": "page 3 holds no text",
        "pages": 4,
        "chunks": 9,
    }
    assert [each["path"] for each in printed["files"]] == ["/a.pdf", "/b.txt", "/c.png", "/d.txt"]
    assert (printed["embedded"], printed["warnings"], printed["seconds"]) == (9, ["careful"], 1.235)


def test_a_report_survives_the_way_as_json() -> None:
    report = Report(FILES, 1.5, 9, ("careful",))
    assert report_from_json(json.loads(json.dumps(report.as_json()))) == report


def test_what_is_complete() -> None:
    """Skipped files are no gap; failed ones and warnings are."""
    assert Report(FILES, 1, 9).complete
    assert not Report((*FILES, FileResult("/e", "failed", "damaged: x")), 1, 9).complete
    assert not Report(FILES, 1, 9, ("nothing was removed",)).complete
