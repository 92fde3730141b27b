import subprocess
import sys
from types import SimpleNamespace

import pytest

import ingest.parse as parse_package
from ingest.parse import Parsed, parse
from rag_bot.errors import UnreadableDocument
from rag_bot.types import Heading


def _with_parser(monkeypatch, read):
    module = SimpleNamespace(parse=lambda data, progress: read())
    monkeypatch.setattr(parse_package, "import_module", lambda name: module)


def test_the_promises_of_parsed_are_kept_whatever_a_parser_returns(monkeypatch):
    headings = (Heading(4, 1, "late"), Heading(0, 1, "early"), Heading(99, 1, "outside"))
    _with_parser(monkeypatch, lambda: Parsed("text/plain", ("a\fb\0", "\ud800c"), "", headings))
    parsed = parse("a.txt", b"x")
    assert parsed.pages == ("a\nb\ufffd", "\ufffdc")
    assert [heading.text for heading in parsed.headings] == ["early", "late"]


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
