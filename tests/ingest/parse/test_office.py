"""DOCX, PPTX, XLSX, EPUB and the ZIP container they share."""

import copy
import datetime
import io
import re
import zipfile

import docx
import openpyxl
import pptx
import pytest
from docx.enum.text import WD_BREAK
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml.parser import parse_xml
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
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


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
M = "http://schemas.openxmlformats.org/officeDocument/2006/math"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def test_docx_notes_headers_and_footers():
    document = docx.Document()
    document.add_paragraph("body")
    for kind in ("footnote", "endnote"):
        note = f"<w:{kind}><w:p><w:r><w:t>the {kind}</w:t></w:r></w:p></w:{kind}>"
        mark = note.replace(f"<w:{kind}>", f'<w:{kind} w:type="separator">', 1)
        xml = f'<w:{kind}s xmlns:w="{W}">{mark}{note}</w:{kind}s>'
        place = PackURI(f"/word/{kind}s.xml")
        part = Part(place, "application/xml", xml.encode(), document.part.package)
        document.part.relate_to(part, f"{R}/{kind}s")
    first, second = document.sections[0], document.add_section()
    for section in (first, second):
        section.header.is_linked_to_previous = False
        section.header.paragraphs[0].text = "Contract 4711"
        section.header.paragraphs[0].style = "Heading 1"
    cells = first.footer.add_table(1, 2, Inches(4)).rows[0].cells
    cells[0].text, cells[1].text = "Rev", "7"
    parsed = parse("a.docx", _saved(document))
    assert parsed.pages[0].split("\n") == [
        *["body", "", "Footnotes:", "the footnote", "", "Endnotes:", "the endnote", ""],
        *["Headers and footers:", "Contract 4711", "Rev | 7"],
    ]
    assert parsed.headings == ()


def test_docx_equations_and_text_boxes_in_cells():
    document = docx.Document()
    run = "<m:r><m:t>{}</m:t></m:r>"
    half = f"<m:f><m:num>{run.format(1)}</m:num><m:den>{run.format(2)}</m:den></m:f>"
    power = f"<m:sSup><m:e>{run.format('c')}</m:e><m:sup>{run.format(2)}</m:sup></m:sSup>"
    math = f'<m:oMath xmlns:m="{M}">{run.format("E=")}{half}{run.format("m")}{power}</m:oMath>'
    document.add_paragraph("so ")._p.append(parse_xml(math))
    document.element.body.insert(1, parse_xml(math))
    cell = document.add_table(1, 1).cell(0, 0)
    cell.text = "cell"
    box = f'<w:pict xmlns:w="{W}"><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p>'
    cell.paragraphs[0].runs[0]._r.append(parse_xml(f"{box}</w:txbxContent></w:pict>"))
    read = parse("a.docx", _saved(document))
    assert read.pages == ("so E=1/2mc^2\nE=1/2mc^2\ncell\nboxed",)


def _framed(shape):
    """Put a shape where PowerPoint puts those that older versions cannot show."""
    xml = (
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/'
        '2006"><mc:Choice Requires="a14"/><mc:Fallback/></mc:AlternateContent>'
    )
    wrapper = parse_xml(xml)
    shape._element.addprevious(wrapper)
    wrapper[1].append(copy.deepcopy(shape._element))
    wrapper[0].append(shape._element)


def test_pptx_shapes_that_need_a_newer_powerpoint():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "The title"
    _framed(slide.shapes.title)
    box = slide.shapes.add_textbox(0, Inches(3), Inches(2), Inches(1))
    box.text_frame.text = "with a formula"
    group = slide.shapes.add_group_shape()
    inside = group.shapes.add_textbox(0, Inches(4), Inches(2), Inches(1))
    inside.text_frame.text = "grouped"
    _framed(inside)
    _framed(box)
    ink = slide.shapes.add_textbox(0, Inches(6), Inches(2), Inches(1))
    _framed(ink)
    ink._element.tag = ink._element.tag.replace("}sp", "}contentPart")
    parsed = parse("a.pptx", _saved(deck))
    assert parsed.pages == ("The title\nwith a formula\ngrouped",)
    assert [h.text for h in parsed.headings] == ["The title"]


def _chart_deck(data, kind):
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    chart = slide.shapes.add_chart(kind, 0, 0, Inches(5), Inches(5), data).chart
    return deck, chart


def test_pptx_charts_are_lines():
    data = CategoryChartData()
    data.categories = ["Q1", "007"]
    data.add_series("Tea", (4.3, 0.1 + 0.2))
    data.add_series("Oil", (None, 0.25), number_format="0%")
    deck, chart = _chart_deck(data, XL_CHART_TYPE.COLUMN_CLUSTERED)
    chart.has_title = True
    chart.chart_title.text_frame.text = "Sales"
    chart.value_axis.axis_title.text_frame.text = "in million EUR"
    assert parse("a.pptx", _saved(deck)).pages == (
        "Sales\nin million EUR\nQ1 | Tea: 4.3\n007 | Tea: 0.3 | Oil: 25%",
    )


def test_pptx_charts_of_dates_levels_and_points():
    dates = CategoryChartData()
    dates.categories = [datetime.date(2024, 5, 1), datetime.date(2024, 6, 1)]
    dates.add_series("Tea", (1, 2))
    deck, _ = _chart_deck(dates, XL_CHART_TYPE.LINE)
    data = _saved(deck)
    assert parse("a.pptx", data).pages == ("2024-05-01 | Tea: 1\n2024-06-01 | Tea: 2",)
    member = next(n for n in zipfile.ZipFile(io.BytesIO(data)).namelist() if "charts/chart" in n)
    mac = _edited(data, member, lambda xml: xml.replace('date1904 val="0"', 'date1904 val="1"'))
    assert parse("a.pptx", mac).pages[0].startswith("2028-05-02")
    levels = CategoryChartData()
    year = levels.add_category("2024")
    year.add_sub_category("H1")
    year.add_sub_category("H2")
    levels.add_series("Tea", (1, 2))
    deck, _ = _chart_deck(levels, XL_CHART_TYPE.BAR_CLUSTERED)
    assert parse("a.pptx", _saved(deck)).pages == ("2024 H1 | Tea: 1\nH2 | Tea: 2",)
    points = XyChartData()
    for name, x in (("A", 1.5), ("B", 2.5)):
        points.add_series(name).add_data_point(x, 7)
    deck, _ = _chart_deck(points, XL_CHART_TYPE.XY_SCATTER)
    assert parse("a.pptx", _saved(deck)).pages == ("1.5 | A: 7\n2.5 | B: 7",)


def test_pptx_smartart_is_text_and_one_that_is_missing_is_none():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    a, dgm = (f"http://schemas.openxmlformats.org/drawingml/2006/{x}" for x in ("main", "diagram"))
    points = "".join(
        f"<dgm:pt><dgm:t><a:p><a:r><a:t>{step}</a:t></a:r><a:r><a:t>!</a:t></a:r></a:p></dgm:t>"
        "</dgm:pt>"
        for step in ("Plan", "Build")
    )
    model = f'<dgm:dataModel xmlns:dgm="{dgm}" xmlns:a="{a}"><dgm:ptLst>{points}</dgm:ptLst>'
    blob = f"{model}</dgm:dataModel>".encode()
    part = pptx.opc.package.Part(
        PackURI("/ppt/diagrams/data1.xml"), "application/xml", slide.part.package, blob
    )
    relation = slide.part.relate_to(part, f"{R}/diagramData")
    frame = slide.shapes.add_table(1, 1, 0, 0, Inches(1), Inches(1))._element
    data = frame.graphic.graphicData
    data.clear()
    data.set("uri", dgm)
    data.append(parse_xml(f'<dgm:relIds xmlns:dgm="{dgm}" xmlns:r="{R}" r:dm="{relation}"/>'))
    slide.shapes.add_textbox(0, Inches(2), 1, 1).text_frame.text = "below"
    assert parse("a.pptx", _saved(deck)).pages == ("Plan!\nBuild!\nbelow",)
    data[0].set(f"{{{R}}}dm", "rId99")
    assert parse("a.pptx", _saved(deck)).pages == ("below",)
