"""DOCX, PPTX, XLSX, EPUB and the ZIP container they share."""

import datetime
import io
import re
import zipfile

import docx
import openpyxl
import pptx
import pytest
from docx.enum.text import WD_BREAK
from pptx.util import Inches

from ingest.parse import container, parse, xlsx
from rag_bot.errors import UnreadableDocument


def _saved(document):
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _edited(data, member, edit):
    """The container with one member's text changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, edit(content.decode()) if name == member else content)
    return buffer.getvalue()


def _letter():
    document = docx.Document()
    document.core_properties.title = "Terms"
    document.add_heading("Refunds", 1)
    document.add_paragraph("Within 30 days.")
    document.add_heading("Digital goods", 2)
    document.add_paragraph("none", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Item", "Price", "Tea", "5"], strict=True):
        cell.text = text
    inner = table.cell(1, 1).add_table(1, 2)
    inner.cell(0, 0).text, inner.cell(0, 1).text = "in", "side"
    document.add_paragraph("after").add_run().add_break(WD_BREAK.PAGE)
    document.add_paragraph("second page")
    return document


def test_docx_in_document_order():
    parsed = parse("a", _saved(_letter()))
    assert parsed.title == "Terms"
    assert parsed.pages == (
        "Refunds\nWithin 30 days.\nDigital goods\n- none\nItem | Price\nTea | 5\nin | side\nafter",
        "second page",
    )
    text = "\f".join(parsed.pages)
    assert [(h.level, h.text) for h in parsed.headings] == [(1, "Refunds"), (2, "Digital goods")]
    assert all(text.startswith(h.text, h.char_start) for h in parsed.headings)


def test_docx_localised_styles_insertions_and_deletions():
    def edit(xml):
        if "<w:styles" in xml:
            return xml.replace('w:styleId="Heading1"', 'w:styleId="berschrift1"')
        xml = xml.replace('w:val="Heading1"', 'w:val="berschrift1"')
        return xml.replace(
            "<w:r><w:t>Within 30 days.</w:t></w:r>",
            "<w:ins><w:r><w:t>Within </w:t></w:r></w:ins><w:del><w:r><w:delText>3</w:delText></w:r>"
            "</w:del><w:sdt><w:sdtContent><w:r><w:lastRenderedPageBreak/><w:t>9 days.</w:t></w:r>"
            "</w:sdtContent></w:sdt>",
        )

    data = _edited(_saved(_letter()), "word/styles.xml", edit)
    parsed = parse("a.docx", _edited(data, "word/document.xml", edit))
    assert parsed.pages[0] == "Refunds\nWithin"
    assert parsed.pages[1].startswith("9 days.\nDigital goods")
    assert parsed.headings[0].text == "Refunds"


def test_pptx_slides_in_reading_order():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    low = slide.shapes.add_textbox(0, Inches(5), Inches(2), Inches(1))
    low.text_frame.text = "below"
    group = slide.shapes.add_group_shape()
    inside = group.shapes.add_textbox(0, Inches(4), Inches(2), Inches(1))
    inside.text_frame.text = "grouped"
    table = slide.shapes.add_table(1, 2, 0, Inches(3), Inches(2), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    slide.shapes.title.text = "The title"
    slide.notes_slide.notes_text_frame.text = "say this"
    deck.slides.add_slide(deck.slide_layouts[6])
    parsed = parse("a.pptx", _saved(deck))
    assert parsed.pages == ("The title\na | b\ngrouped\nbelow\nNotes:\nsay this", "")
    assert [(h.char_start, h.level, h.text) for h in parsed.headings] == [(0, 1, "The title")]


def _book():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Sales"
    sheet.append(["Item", "Date", "Amount", "Paid", "Rate"])
    sheet.append(["Tea", datetime.datetime(2024, 5, 1), 3.0, True, 0.25])
    sheet.append(["Oil", datetime.datetime(2024, 5, 1, 9, 30), 0.1 + 0.2, None, 1])
    sheet["E2"].number_format = "0%"
    book.create_sheet("Empty")
    raw = book.create_sheet("Raw")
    raw.append([1, 2])
    raw.append([3, "=cmd()"])
    return book


def test_xlsx_rows_are_records():
    parsed = parse("a.xlsx", _saved(_book()))
    assert parsed.pages == (
        "Sales\nItem: Tea | Date: 2024-05-01 | Amount: 3 | Paid: TRUE | Rate: 25%\n"
        "Item: Oil | Date: 2024-05-01 09:30:00 | Amount: 0.3 | Rate: 1",
        "",
        "Raw\n1 | 2\n3",
    )
    assert [h.text for h in parsed.headings] == ["Sales", "Raw"]
    assert parsed.blank_pages == (2,)


def test_xlsx_with_a_wrong_dimension_is_read_whole():
    data = _saved(_book())
    wrong = _edited(
        data, "xl/worksheets/sheet1.xml", lambda xml: re.sub(r'ref="A1:E3"', 'ref="A1"', xml)
    )
    assert wrong != data
    assert parse("a.xlsx", wrong).pages == parse("a.xlsx", data).pages


@pytest.mark.parametrize("limit", ["MAX_CELLS", "MAX_PLACES", "MAX_ROWS"])
def test_xlsx_without_end(rejected, monkeypatch, limit):
    monkeypatch.setattr(xlsx, limit, 2)
    assert rejected("a.xlsx", _saved(_book())) == "too_large"


OPF = """<package xmlns="http://www.idpf.org/2007/opf"><metadata
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A Book</dc:title></metadata><manifest>
<item id="b" href="b%20b.xhtml"/><item id="a" href="a.xhtml"/><item id="x" href="gone.xhtml"/>
</manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="x"/></spine></package>"""
BOOK = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container><rootfiles><rootfile full-path="O/p.opf"/>'
    "</rootfiles></container>",
    "O/p.opf": OPF,
    "O/b b.xhtml": "<html><body><h1>Two</h1></body></html>",
    "O/a.xhtml": '<?xml version="1.0" encoding="utf-8"?><html><body><h1>Öne</h1>x</body></html>',
}


def test_epub_chapters_in_spine_order(zipped):
    parsed = parse("a.epub", zipped(BOOK))
    assert parsed.title == "A Book"
    assert parsed.pages == ("Öne\n\nx", "Two", "")
    assert [(h.char_start, h.text) for h in parsed.headings] == [(0, "Öne"), (7, "Two")]
    assert parsed.notes == ("chapter 3 is missing from the file",)


def test_epub_with_drm(rejected, zipped):
    lock = '<encryption><CipherReference URI="O/a.xhtml"/></encryption>'
    assert rejected("a.epub", zipped({**BOOK, "META-INF/encryption.xml": lock})) == "encrypted"
    font = lock.replace("a.xhtml", "font.otf")
    assert parse("a.epub", zipped({**BOOK, "META-INF/encryption.xml": font})).title == "A Book"


def test_a_bomb_is_not_unpacked(rejected, zipped):
    bomb = zipped({"word/document.xml": b"<a>" + bytes(300_000_000)})
    assert len(bomb) < 400_000
    assert rejected("a.docx", bomb) == "too_large"


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_BYTES", "MAX_MARKUP_BYTES"])
def test_each_limit_of_a_container(rejected, monkeypatch, limit):
    monkeypatch.setattr(container, limit, 3)
    assert rejected("a.docx", _saved(_letter())) == "too_large"


def test_a_member_that_lies_about_its_size(rejected, zipped):
    data = bytearray(zipped({"word/document.xml": b"<a>" + b"b" * 900_000, "z": "z"}))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    assert rejected("a.docx", bytes(data)) == "damaged"


def _why(name, data):
    with pytest.raises(UnreadableDocument) as caught:
        parse(name, data)
    return caught.value.message


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;">'
    '<!ENTITY c SYSTEM "file:///etc/passwd">]>'
)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("a.docx", "word/document.xml"),
        ("a.xlsx", "xl/worksheets/sheet1.xml"),
        ("a.pptx", "ppt/presentation.xml"),
    ],
)
def test_entities_are_refused(rejected, name, member):
    whole = {
        "a.docx": lambda: _saved(_letter()),
        "a.xlsx": lambda: _saved(_book()),
        "a.pptx": lambda: _saved(pptx.Presentation()),
    }[name]()

    def with_entities(xml):
        return re.sub(r"^(<\?xml.*?\?>\s*)?", lambda found: found[0] + LAUGHS, xml, count=1)

    assert rejected(name, _edited(whole, member, with_entities)) == "damaged"

    def in_utf_16(xml):
        return re.sub(r"^<\?xml.*?\?>", "", with_entities(xml)).encode("utf-16")

    assert "entities" in _why(name, _edited(whole, member, in_utf_16))


def test_members_outside_the_container_are_not_written(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("a.epub", zipped({**BOOK, "../../evil.txt": "x"})).title == "A Book"
    assert list(tmp_path.iterdir()) == []


def test_a_cut_container(rejected):
    assert rejected("a.docx", _saved(_letter())[:-500]) == "damaged"
