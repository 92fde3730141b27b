import io
import re

import pypdf
import pypdfium2 as pdfium
import pytest
from fpdf import FPDF
from PIL import Image
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

from ingest.parse import parse, parsed, pdf


def _pdf(*pages, title="", outline=()):
    made = FPDF()
    made.set_font("helvetica")
    made.set_title(title)
    for text in pages:
        made.add_page()
        for name in outline:
            if name in text:
                made.start_section(name)
        made.multi_cell(0, 8, text)
    return bytes(made.output())


def _encrypted(user, owner):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(_pdf("secret words")))
    writer.encrypt(user, owner, algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def _raw(*objects):
    """A PDF of the given objects, numbered from 1 (the catalogue), with a true xref table."""
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    return out


def test_pages_numbers_title_and_outline():
    pages = ["Intro\nfirst words", "", "Chapter Two\nMüller paid 5 EUR"]
    data = _pdf(*pages, title="A Report", outline=["Intro", "Chapter Two"])
    calls: list[tuple[int, int | None]] = []
    read = parse("a.pdf", data, lambda done, total: calls.append((done, total)))
    assert read.title == "A Report"
    assert read.pages == tuple(pages)
    assert read.blank_pages == (2,)
    assert [(h.char_start, h.text) for h in read.headings] == [
        (0, "Intro"),
        (len(pages[0]) + 2, "Chapter Two"),
    ]
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "title", ["untitled", "Microsoft Word - x.doc", "C:\\a\\b", "report.docx", "0000320193-22-70"]
)
def test_titles_that_are_none(title):
    assert parse("a.pdf", _pdf("words", title=title)).title == ""


def test_both_readers_agree_and_pypdf_steps_in_where_they_do_not(monkeypatch):
    data = _pdf(*(f"page {n} of many words" for n in range(5)))
    fast = parse("a.pdf", data)
    wrong = pdfium.PdfTextPage
    monkeypatch.setattr(wrong, "get_text_range", lambda self: "garbled nonsense 123")
    assert parse("a.pdf", data).pages == fast.pages


def test_pypdf_reads_what_pdfium_cannot_open(monkeypatch):
    def fail(data):
        raise pdfium.PdfiumError("Data format error")

    monkeypatch.setattr(pdf.pdfium, "PdfDocument", fail)
    read = parse("a.pdf", _pdf("some words", "more", title="A Report"))
    assert read.pages == ("some words", "more")
    assert read.title == "A Report"


@pytest.mark.parametrize(
    "text", ["signifi\ufffecantly", "signifi\x02cantly", "signifi\x02\r\ncantly"]
)
def test_line_end_hyphens_are_what_pypdf_gives(monkeypatch, text):
    monkeypatch.setattr(pdfium.PdfTextPage, "get_text_range", lambda self: text)
    assert parse("a.pdf", _pdf("signifi-cantly")).pages == ("signifi-\ncantly",)


def test_agreement_is_the_share_of_common_characters():
    assert pdf.agreement("a b\nc", "abc") == 1.0
    assert pdf.agreement("abcd", "abxy") == 0.5
    assert pdf.agreement("", "") == 1.0
    assert pdf.agreement("", "abc") == 0.0


@pytest.mark.parametrize(
    ("fast", "again", "kept"),
    [
        ("the ef ect of a rule", "the effect of a rule", "the effect of a rule"),
        ("run autoconf in a folder", "runautoconfinafolder", "run autoconf in a folder"),
        ("the ef ect of a rule", "theeffectofarule", "the ef ect of a rule"),
    ],
)
def test_pypdf_mends_lost_letters_but_not_at_the_price_of_the_spaces(
    monkeypatch, fast, again, kept
):
    filler = " many more words of the same page" * 10
    monkeypatch.setattr(pdfium.PdfTextPage, "get_text_range", lambda self: fast + filler)
    glued = filler.replace(" ", "") if " " not in again else filler
    monkeypatch.setattr(pypdf.PageObject, "extract_text", lambda self: again + glued)
    assert parse("a.pdf", _pdf("a page")).pages == (kept + filler,)


def test_passwords(rejected):
    assert rejected("a.pdf", _encrypted("open me", "owner")) == "encrypted"
    assert parse("a.pdf", _encrypted("", "owner")).pages == ("secret words",)


def test_a_scan_has_no_text(rejected):
    made = FPDF()
    made.add_page()
    made.image(Image.new("RGB", (50, 50), "red"))
    assert rejected("a.pdf", bytes(made.output())) == "no_text"


def test_header_only(rejected):
    assert rejected("a.pdf", b"%PDF-1.7\n") == "damaged"


def test_a_cut_xref_is_repaired():
    data = _pdf("words of the page")
    assert parse("a.pdf", data[: data.rindex(b"xref\n") - 5]).pages == ("words of the page",)


def test_junk_before_the_header():
    data = b"\x00\x01\x02\x1b%-12345X@PJL\n" + _pdf("words of the page")
    assert parse("a.prn", data).pages == ("words of the page",)


def test_a_page_tree_that_contains_itself(rejected):
    data = _raw(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>")
    assert rejected("a.pdf", data) in {"damaged", "no_text"}


def test_a_count_that_lies():
    data = re.sub(rb"/Count 1\b", b"/Count 999999999", _pdf("words of the page"))
    assert b"999999999" in data
    assert parse("a.pdf", data).pages == ("words of the page",)


def test_circular_prev_and_nested_arrays(rejected):
    data = _pdf("words of the page")
    start = int(data.split()[-2])
    looped = data.replace(b"trailer\n<<", b"trailer\n<<\n/Prev %d" % start)
    assert b"/Prev" in looped
    assert parse("a.pdf", looped).pages == ("words of the page",)
    nested = _raw(b"<</Type/Catalog/Pages 2 0 R>>", b"[" * 200_000)
    assert rejected("a.pdf", nested) in {"damaged", "no_text"}


def test_too_many_pages(rejected, monkeypatch):
    monkeypatch.setattr(parsed, "MAX_PAGES", 2)
    assert rejected("a.pdf", _pdf("a", "b", "c")) == "too_large"


def test_too_much_text_is_refused_while_it_comes(rejected, monkeypatch):
    monkeypatch.setattr(parsed, "MAX_CHARACTERS", 20)
    calls: list[int] = []
    monkeypatch.setattr(pdf, "_checked", lambda *_: calls.append(1))
    assert rejected("a.pdf", _pdf("a page of words", "a page of words")) == "too_large"
    assert calls == []


def test_a_page_of_half_a_million_commands_needs_no_witness(monkeypatch):
    data = _pdf("some words")
    monkeypatch.setattr(pdfium.PdfTextPage, "get_text_range", lambda self: "wrong words 123")
    assert parse("a.pdf", data).pages == ("some words",)
    monkeypatch.setattr(pdf, "MAX_WITNESSED_BYTES", 10)
    assert parse("a.pdf", data).pages == ("wrong words 123",)


def _form(text, *fields, flags=4):
    """A PDF of one page with a form, whose fields are (type, name, value)."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(_pdf(text, "next page")))
    widgets = ArrayObject()
    for kind, name, value in fields:
        field = {"/Type": "/Annot", "/Subtype": "/Widget", "/FT": kind}
        widget = DictionaryObject({NameObject(k): NameObject(v) for k, v in field.items()})
        widget[NameObject("/T")] = TextStringObject(name)
        named = kind == "/Btn"
        widget[NameObject("/V")] = NameObject(value) if named else TextStringObject(value)
        widget[NameObject("/F")] = NumberObject(flags)
        widget[NameObject("/Rect")] = ArrayObject(map(NumberObject, (10, 10, 90, 30)))
        if named:
            widget[NameObject("/AS")] = NameObject(value)
            drawn = DictionaryObject({NameObject("/Yes"): DictionaryObject()})
            widget[NameObject("/AP")] = DictionaryObject({NameObject("/N"): drawn})
        widgets.append(writer._add_object(widget))
    writer.pages[0][NameObject("/Annots")] = widgets
    writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): widgets})
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_what_a_form_is_filled_with_stands_below_its_page():
    data = _form(
        "Application of Ada Lovelace, page 12",
        ("/Tx", "Street", "Große\rAllee 5"),
        ("/Tx", "Street", "Große\rAllee 5"),
        ("/Tx", "Empty", ""),
        ("/Tx", "Applicant", "Ada Lovelace"),
        ("/Tx", "Children", "2"),
        ("/Ch", "Country", "Malta"),
        ("/Btn", "Consent", "/Yes"),
        ("/Btn", "Newsletter", "/Off"),
    )
    first = "Application of Ada Lovelace, page 12\nStreet: Große Allee 5\nChildren: 2\n"
    assert parse("a.pdf", data).pages == (first + "Country: Malta\nConsent: Yes", "next page")


def test_form_values_on_a_page_without_text_and_those_nobody_sees():
    assert parse("a.pdf", _form("", ("/Tx", "Name", "Ada"))).pages == ("Name: Ada", "next page")
    hidden = _form("words", ("/Tx", "Name", "Ada"), flags=2)
    assert parse("a.pdf", hidden).pages == ("words", "next page")


def test_form_values_count_as_text_and_have_an_end(rejected, monkeypatch):
    data = _form("words", *(("/Tx", f"f{n}", f"v{n}") for n in range(9)))
    monkeypatch.setattr(pdf, "MAX_ANNOTATIONS", 2)
    read = parse("a.pdf", data)
    assert read.pages[0] == "words\nf0: v0\nf1: v1"
    assert read.notes == ("form fields after page 1 were not read: there are too many",)
    monkeypatch.undo()
    monkeypatch.setattr(parsed, "MAX_CHARACTERS", 40)
    assert rejected("a.pdf", data) == "too_large"


@pytest.mark.parametrize("kind", [AssertionError, NotImplementedError, ArithmeticError])
def test_a_witness_that_fails_does_not_cost_the_text(monkeypatch, kind):
    def fail(self, *args, **kwargs):
        raise kind

    monkeypatch.setattr(pypdf.PageObject, "extract_text", fail)
    assert parse("a.pdf", _pdf("words of the page")).pages == ("words of the page",)
