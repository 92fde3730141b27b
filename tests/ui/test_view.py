"""The cited page."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from rag_bot.types import Document, Page
from tests.ui.conftest import EXAMPLES, HOSTILE, Served
from ui import view

TWO_PAGES = Document("d", "/nowhere/a.txt", "", (Page(1, "one <b>1"), Page(2, "two & two")), "A")
SENTENCE = "A doctor's certificate is needed from the fourth calendar day."


def test_the_page_of_a_quote_is_found_from_its_offsets() -> None:
    text = TWO_PAGES.text
    start, end = text.index("& two"), len(text)
    page = view.shown(TWO_PAGES, None, start, end)
    assert (page.number, page.text[page.start : page.end]) == (2, "& two")


@pytest.mark.parametrize(
    ("page", "start", "end", "number", "marked"),
    [
        (1, 0, 3, 1, "one"),
        (2, 0, 3, 2, ""),
        (1, 4, 99, 1, "<b>1"),
        (99, None, None, 2, ""),
        (-1, None, None, 1, ""),
        (None, None, None, 1, ""),
        (1, 3, 0, 1, ""),
        (1, -5, 10**30, 1, "one <b>1"),
    ],
)
def test_odd_requests_show_some_page(
    page: int | None, start: int | None, end: int | None, number: int, marked: str
) -> None:
    shown = view.shown(TWO_PAGES, page, start, end)
    assert (shown.number, shown.text[shown.start : shown.end]) == (number, marked)


def test_text_is_escaped_and_the_quote_marked(served: Served) -> None:
    document_id = served.document_id("kettle <b>&'.txt")
    document = served.local.index.catalogue.document(document_id)
    assert document is not None
    start = document.text.index("<script>")
    end = document.text.index("</script>") + len("</script>")
    answer = served.http.get(f"/source/{document_id}?start={start}&end={end}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    quote = "&lt;script&gt;document.title=&#x27;owned&#x27;&lt;/script&gt;"
    assert f'<mark id="quote">{quote}</mark>' in answer.text
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert "kettle &lt;b&gt;&amp;&#x27;.txt</h1>" in answer.text
    assert HOSTILE.split()[0] in answer.text


def test_neighbours_and_numbers(served: Served) -> None:
    document_id = served.document_id("employee_handbook.pdf")
    first = served.http.get(f"/source/{document_id}?page=1").text
    assert "page 1 of 9" in first
    assert 'rel="next"' in first
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in served.http.get(f"/source/{document_id}?page=9").text


def test_an_unknown_document_is_a_plain_404(served: Served) -> None:
    answer = served.http.get("/source/%3Cscript%3E")
    assert answer.status_code == 404
    assert "not in the index" in answer.text
    assert served.http.get("/page-image/unknown/1").status_code == 404
    document_id = served.document_id("employee_handbook.pdf")
    assert served.http.get(f"/page-image/{document_id}/10").status_code == 404


def test_the_picture_of_a_pdf_has_the_quote_in_yellow(served: Served) -> None:
    document_id = served.document_id("employee_handbook.pdf")
    document = served.local.index.catalogue.document(document_id)
    assert document is not None
    start = document.text.index(SENTENCE)
    address = f"/page-image/{document_id}/5?start={start}&end={start + len(SENTENCE)}"
    page = served.http.get(f"/source/{document_id}?start={start}&end={start + len(SENTENCE)}")
    assert f'src="{address.replace("&", "&amp;")}"' in page.text
    answer = served.http.get(address)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    left, top, right, bottom = yellow(answer.content)
    assert right - left > 300
    assert bottom - top < 40
    assert yellow(served.http.get(f"/page-image/{document_id}/5").content) == (0, 0, 0, 0)


def test_words_that_are_not_on_the_page_are_not_marked() -> None:
    page = view.Shown(5, "Nobody wrote this.", 0, 18)
    assert yellow(view.draw(EXAMPLES / "employee_handbook.pdf", page)) == (0, 0, 0, 0)


def test_a_file_that_changed_has_no_picture(tmp_path: Path) -> None:
    data = (EXAMPLES / "office_lease.pdf").read_bytes()
    file = tmp_path / "lease.pdf"
    file.write_bytes(data)
    document = Document("d", str(file), hashlib.sha256(data).hexdigest(), (Page(1, "x"),))
    assert view.original(document) == file
    file.write_bytes(data + b" ")
    assert view.original(document) is None
    file.unlink()
    assert view.original(document) is None
    assert view.picture(document, view.Shown(1, "x", 0, 0)) is None


def test_a_broken_pdf_has_no_picture(tmp_path: Path) -> None:
    data = b"%PDF-1.7\n" + b"[" * 200_000
    file = tmp_path / "broken.pdf"
    file.write_bytes(data)
    document = Document("d", str(file), hashlib.sha256(data).hexdigest(), (Page(1, "x"),))
    assert view.picture(document, view.Shown(1, "x", 0, 0)) is None


def yellow(png: bytes) -> tuple[int, int, int, int]:
    """The box around what is yellow in a picture."""
    red, _, blue = Image.open(io.BytesIO(png)).convert("RGB").split()
    strong = Image.eval(red, lambda v: 255 if v > 240 else 0)
    weak = Image.eval(blue, lambda v: 255 if v < 130 else 0)
    both = Image.composite(strong, Image.new("L", strong.size), weak)
    return both.getbbox() or (0, 0, 0, 0)
