import subprocess
import sys
from types import SimpleNamespace

import pytest

import ingest.parse as parse_package
from ingest.parse import Parsed, parse, parsed
from rag_bot.errors import UnreadableDocument
from rag_bot.types import Heading


def _with_parser(monkeypatch, read):
    module = SimpleNamespace(parse=lambda data, progress: read())
    monkeypatch.setattr(parse_package, "import_module", lambda name: module)


def test_the_promises_of_parsed_are_kept_whatever_a_parser_returns(monkeypatch):
    headings = (Heading(4, 1, "late"), Heading(0, 1, "early"), Heading(99, 1, "outside"))
    _with_parser(monkeypatch, lambda: Parsed("text/plain", ("a\fb\0", "\ud800c"), "", headings))
    read = parse("a.txt", b"x")
    assert read.pages == ("a\nb\ufffd", "\ufffdc")
    assert [heading.text for heading in read.headings] == ["early", "late"]


def test_what_has_no_end_is_cut_or_refused(monkeypatch, rejected):
    long = "word " * 100
    headings = tuple(Heading(n, 1 + n % 3, long) for n in range(30_000))
    notes = tuple(f"note {n}\nof many" for n in range(50))
    pages = ("x" * 40_000, " ", "y")
    _with_parser(monkeypatch, lambda: Parsed("text/plain", pages, long, headings, notes))
    read = parse("a.txt", b"x")
    assert len(read.title) == 300
    assert {len(heading.text) for heading in read.headings} == {300}
    assert {heading.level for heading in read.headings} == {1, 2}
    assert read.notes[:1] + read.notes[-2:] == (
        "note 0 of many",
        "and 30 notes more",
        "too many headings: those of level 3 count as text",
    )
    assert read.blank_pages == (2,)
    monkeypatch.setattr(parsed, "MAX_CHARACTERS", 40_000)
    assert rejected("a.txt", b"x") == "too_large"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"a,b\n" + b"1,2\n" * 50),
        ("a.json", b"[" + b'{"a": {"b": 1}},' * 50 + b"1]"),
        ("a.html", b"<html>" + b"<p>text" * 50),
        ("a.eml", b"Subject: x\n\n" + b"text\n" * 50),
        ("a.md", b"text\n" * 50),
        ("a.txt", b"text\n" * 50),
    ],
)
def test_every_format_stops_at_the_limit_of_text(monkeypatch, rejected, name, data):
    assert parse(name, data).pages
    monkeypatch.setattr(parsed, "MAX_CHARACTERS", 100)
    assert rejected(name, data) == "too_large"


def test_what_is_written_line_by_line_tells_of_each_line():
    calls: list[int] = []
    parse("a.csv", b"a,b\n" + b"1,2\n" * 50, lambda done, _: calls.append(done))
    assert len(calls) > 50


def test_no_text_is_an_error(monkeypatch, rejected):
    _with_parser(monkeypatch, lambda: Parsed("text/plain", ("", " \n")))
    assert rejected("a.txt", b"x") == "no_text"


def test_a_library_error_becomes_damaged(monkeypatch):
    def fail():
        raise KeyError("/Root\nmore")

    _with_parser(monkeypatch, fail)
    with pytest.raises(UnreadableDocument, match="KeyError") as caught:
        parse("a.txt", b"x")
    assert caught.value.code == "damaged"


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_what_is_not_the_files_fault_passes_through(monkeypatch, kind):
    def fail():
        raise kind

    _with_parser(monkeypatch, fail)
    with pytest.raises(kind):
        parse("a.txt", b"x")


def test_importing_the_package_is_cheap():
    heavy = ["pypdf", "pypdfium2", "docx", "pptx", "openpyxl", "lxml", "charset_normalizer"]
    code = f"import sys, ingest.parse; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_progress_is_told_page_by_page():
    calls: list[tuple[int, int | None]] = []
    parse("a.txt", b"one\ftwo", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (2, 2)
