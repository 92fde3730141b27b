"""Builds the binary example documents: PDF, DOCX, PPTX, XLSX and EPUB.

    python tests/build_examples.py [DIR]        (default: examples/)

The documents belong to one invented company, Tolvane Instruments. Everything named in them,
people, firms, places, products and addresses, is fictional. The text-like examples (Markdown,
HTML, CSV, JSONL, EML, TXT) are written by hand and lie in examples/ already.

The content is plain markup, read by parse():

    # heading     ## sub-heading     - bullet     | table | row |     ! warning box
    = page break (PDF)     > speaker note (slides)     blank line: next paragraph

A rebuild gives the same bytes: dates, identifiers and zip entries are fixed.
"""

from __future__ import annotations

import html
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import docx
import openpyxl
import pptx
from docx.shared import Cm as DocxCm
from docx.shared import Pt as DocxPt
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from pptx.util import Cm as PptxCm
from pptx.util import Pt as PptxPt

STAMP = datetime(2026, 4, 1, 9, 0, 0, tzinfo=UTC)
COMPANY = "Tolvane Instruments"
BLUE = (24, 66, 97)
GREY = (110, 110, 110)
PALE = (233, 240, 245)


# ---------------------------------------------------------------- markup


@dataclass
class Block:
    """One piece of a document: a heading, a paragraph, a list item, a table, a break."""

    kind: str
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)


MARKS = {"# ": "h1", "## ": "h2", "- ": "item", "! ": "warning", "> ": "note"}


def parse(markup: str) -> list[Block]:
    """Reads the markup; a line that opens with no mark continues the block above it."""
    blocks: list[Block] = []
    fresh = True
    for raw in markup.splitlines():
        line = raw.strip()
        if not line:
            fresh = True
        elif line == "=":
            blocks.append(Block("break"))
            fresh = True
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if fresh or blocks[-1].kind != "table":
                blocks.append(Block("table"))
            blocks[-1].rows.append(cells)
            fresh = False
        else:
            mark = next((m for m in MARKS if line.startswith(m)), "")
            if mark:
                blocks.append(Block(MARKS[mark], line[len(mark) :]))
            elif fresh:
                blocks.append(Block("p", line))
            else:
                blocks[-1].text += " " + line
            fresh = False
    return blocks


def is_number(cell: str) -> bool:
    """True for a table cell that reads better flush right."""
    return re.fullmatch(r"[-+]?[\d,.]+ ?%?", cell) is not None


# ---------------------------------------------------------------- PDF


class Pdf(FPDF):
    """A4 pages with a footer; the core Helvetica font, so Latin-1 characters only."""

    def __init__(self, footer_text: str) -> None:
        super().__init__(format="A4")
        self.footer_text = footer_text
        self.set_margins(24, 24, 24)
        self.set_auto_page_break(True, margin=24)

    def footer(self) -> None:
        self.set_y(-16)
        self.set_font("helvetica", size=8.5)
        self.set_text_color(*GREY)
        self.cell(110, 5, self.footer_text)
        self.cell(0, 5, f"Page {self.page_no()} of {{nb}}", align="R")
        self.set_text_color(0, 0, 0)

    def room(self, height: float) -> None:
        """Goes to the next page unless this much height is left on the page."""
        if self.will_page_break(height):
            self.add_page()

    def lines(self, text: str) -> list[str]:
        """The lines a paragraph breaks into, in the font that is set."""
        broken = self.multi_cell(0, 6.1, text, align="L", dry_run=True, output="LINES")
        assert isinstance(broken, list)
        return broken

    def write_block(self, text: str, height: float = 6.1, after: float = 2.8) -> None:
        self.multi_cell(0, height, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(after)

    def heading(self, text: str, level: int) -> None:
        self.room(26 if level == 0 else 20)
        self.ln(3.5 if level == 0 else 2)
        self.set_font("helvetica", "B", 16 if level == 0 else 12)
        self.set_text_color(*BLUE)
        self.start_section(text, level=level)
        self.write_block(text, 7 if level == 0 else 6, 1.8 if level == 0 else 0.8)
        self.set_text_color(0, 0, 0)

    def item(self, text: str) -> None:
        self.set_font("helvetica", size=11)
        self.room(6)
        left = self.l_margin
        self.set_x(left + 2)
        self.cell(4, 6.1, "-")
        self.set_left_margin(left + 6)
        self.write_block(text, after=1)
        self.set_left_margin(left)
        self.set_x(left)

    def warning(self, text: str) -> None:
        self.set_font("helvetica", "B", 11)
        self.set_fill_color(253, 240, 222)
        self.set_draw_color(214, 137, 32)
        self.room(18)
        self.ln(1.5)
        self.multi_cell(
            0,
            6,
            text,
            border=1,
            fill=True,
            padding=2,
            align="L",
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
        self.ln(3)

    def grid(self, rows: list[list[str]]) -> None:
        self.set_font("helvetica", size=10)
        self.set_draw_color(170, 185, 196)
        self.set_fill_color(255, 255, 255)
        wide = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        right = [all(is_number(row[n]) for row in rows[1:]) for n in range(len(rows[0]))]
        if len(rows) < 14:
            self.room(8.6 * len(rows))
        with self.table(
            col_widths=[max(10, min(w, 46)) for w in wide],
            text_align=["RIGHT" if r else "LEFT" for r in right],
            headings_style=FontFace(emphasis="BOLD", color=(255, 255, 255), fill_color=BLUE),
            cell_fill_color=PALE,
            cell_fill_mode="EVEN_ROWS",
            borders_layout=TableBordersLayout.ALL,
            line_height=5.6,
            padding=1.4,
            v_align="TOP",
        ) as table:
            for row in rows:
                line = table.row()
                for cell in row:
                    line.cell(cell)
        self.ln(4)


def build_pdf(path: Path, title: str, subtitle: str, markup: str) -> None:
    pdf = Pdf(f"{COMPANY} - {title}")
    pdf.set_title(title)
    pdf.set_author(COMPANY)
    pdf.set_subject(subtitle)
    pdf.set_lang("en-GB")
    pdf.set_creator("tests/build_examples.py")
    pdf.set_creation_date(STAMP)
    pdf.add_page()
    pdf.set_fill_color(*BLUE)
    pdf.rect(0, 0, 210, 14, style="F")
    pdf.set_font("helvetica", "B", 23)
    pdf.set_text_color(*BLUE)
    pdf.write_block(title, 10, 1)
    pdf.set_font("helvetica", size=11)
    pdf.set_text_color(*GREY)
    pdf.write_block(subtitle, 5.6, 3)
    pdf.set_text_color(0, 0, 0)
    for block in parse(markup):
        if block.kind == "break":
            pdf.add_page()
        elif block.kind in ("h1", "h2"):
            pdf.heading(block.text, 0 if block.kind == "h1" else 1)
        elif block.kind == "item":
            pdf.item(block.text)
        elif block.kind == "warning":
            pdf.warning(block.text)
        elif block.kind == "table":
            pdf.grid(block.rows)
        else:
            pdf.set_font("helvetica", size=11)
            pdf.room(6.1 * len(pdf.lines(block.text)))
            pdf.write_block(block.text)
    pdf.output(str(path))


# ---------------------------------------------------------------- DOCX, PPTX, XLSX, EPUB


def fix_zip(data: bytes, path: Path) -> None:
    """Writes an Office file again with fixed dates, in its own order of entries."""
    stamp = STAMP.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            if name == "docProps/core.xml":
                body = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp, body)
            put(new, name, body)


def put(archive: zipfile.ZipFile, name: str, body: bytes, packed: bool = True) -> None:
    entry = zipfile.ZipInfo(name, date_time=(2026, 4, 1, 9, 0, 0))
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    archive.writestr(entry, body)


def build_docx(path: Path, title: str, subtitle: str, markup: str) -> None:
    document = docx.Document()
    core = document.core_properties
    core.title, core.subject, core.author = title, subtitle, COMPANY
    core.created = core.modified = STAMP.replace(tzinfo=None)
    core.last_modified_by, core.comments, core.language = COMPANY, "", "en-GB"
    style = document.styles["Normal"]
    style.font.name, style.font.size = "Calibri", DocxPt(11)
    section = document.sections[0]
    section.page_width, section.page_height = DocxCm(21), DocxCm(29.7)
    section.footer.paragraphs[0].text = f"{COMPANY} - {title}"
    document.add_heading(title, level=0)
    document.add_paragraph(subtitle)
    for block in parse(markup):
        if block.kind in ("h1", "h2"):
            document.add_heading(block.text, level=1 if block.kind == "h1" else 2)
        elif block.kind == "item":
            document.add_paragraph(block.text, style="List Bullet")
        elif block.kind == "warning":
            document.add_paragraph().add_run(block.text).bold = True
        elif block.kind == "break":
            document.add_page_break()  # type: ignore[no-untyped-call]
        elif block.kind == "table":
            table = document.add_table(rows=0, cols=len(block.rows[0]), style="Light Grid Accent 1")
            for number, row in enumerate(block.rows):
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    run = cell.paragraphs[0].add_run(text)
                    run.bold = number == 0
            document.add_paragraph()
        else:
            document.add_paragraph(block.text)
    buffer = io.BytesIO()
    document.save(buffer)
    fix_zip(buffer.getvalue(), path)


def build_pptx(path: Path, title: str, markup: str) -> None:
    deck = pptx.Presentation()
    deck.slide_width, deck.slide_height = PptxCm(33.86), PptxCm(19.05)
    core = deck.core_properties
    core.title, core.author, core.last_modified_by = title, COMPANY, COMPANY
    core.created = core.modified = STAMP.replace(tzinfo=None)
    slides: list[list[Block]] = []
    for block in parse(markup):
        if block.kind == "h1":
            slides.append([])
        slides[-1].append(block)
    for number, blocks in enumerate(slides):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        heading = slide.shapes.title
        assert heading is not None
        heading.left, heading.top = PptxCm(1.8), PptxCm(1.0)
        heading.width, heading.height = PptxCm(30), PptxCm(2.4)
        heading.text_frame.text = blocks[0].text
        heading.text_frame.paragraphs[0].font.size = PptxPt(40 if number == 0 else 32)
        heading.text_frame.paragraphs[0].font.bold = True
        top = 4.0
        lines = [b.text for b in blocks if b.kind in ("p", "item")]
        tables = [b.rows for b in blocks if b.kind == "table"]
        notes = [b.text for b in blocks if b.kind == "note"]
        for rows in tables:
            shape = slide.shapes.add_table(
                len(rows), len(rows[0]), PptxCm(1.8), PptxCm(top), PptxCm(30), PptxCm(len(rows))
            )
            for r, row in enumerate(rows):
                for c, text in enumerate(row):
                    cell = shape.table.cell(r, c)
                    cell.text_frame.text = text
                    cell.text_frame.paragraphs[0].font.size = PptxPt(16)
            top += len(rows) * 1.1 + 0.8
        if lines:
            box = slide.shapes.add_textbox(PptxCm(1.8), PptxCm(top), PptxCm(30), PptxCm(3))
            box.text_frame.word_wrap = True
            for n, text in enumerate(lines):
                frame = box.text_frame
                paragraph = frame.paragraphs[0] if n == 0 else frame.add_paragraph()
                paragraph.text = text
                paragraph.font.size = PptxPt(20)
                paragraph.space_after = PptxPt(8)
        if notes:
            frame_notes = slide.notes_slide.notes_text_frame
            assert frame_notes is not None
            frame_notes.text = "\n".join(notes)
    buffer = io.BytesIO()
    deck.save(buffer)
    fix_zip(buffer.getvalue(), path)


Cell = str | int | float | None


def build_xlsx(path: Path, title: str, sheets: dict[str, list[list[Cell]]]) -> None:
    """One sheet per entry; the first row is a title, the header is the first row of all text."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    book.properties.title, book.properties.creator = title, COMPANY
    book.properties.created = STAMP.replace(tzinfo=None)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        header = next(n for n, row in enumerate(rows, 1) if len(row) > 2)
        for n, row in enumerate(rows, 1):
            sheet.append(row)
            for cell in sheet[n]:
                if n == 1:
                    cell.font = Font(bold=True, size=13)
                elif n == header:
                    cell.font = Font(bold=True, color="FFFFFF")
                    cell.fill = PatternFill("solid", fgColor="184261")
                elif row and str(row[0]).startswith("Total"):
                    cell.font = Font(bold=True)
                if isinstance(cell.value, int | float):
                    cell.number_format = "#,##0"
                elif len(row) > 2:
                    cell.alignment = Alignment(wrap_text=True, vertical="top")
        table = rows[header - 1 :]
        for column in range(len(rows[header - 1])):
            longest = max(len(str(row[column])) for row in table if len(row) > column)
            sheet.column_dimensions[get_column_letter(column + 1)].width = min(longest + 3, 52)
        sheet.freeze_panes = f"A{header + 1}"
    buffer = io.BytesIO()
    book.save(buffer)
    fix_zip(buffer.getvalue(), path)


def xhtml(title: str, blocks: list[Block]) -> str:
    out = []
    for kind, group in runs(blocks):
        if kind == "item":
            lines = "".join(f"<li>{html.escape(b.text)}</li>\n" for b in group)
            out.append(f"<ul>\n{lines}</ul>")
        elif kind == "table":
            for block in group:
                out.append("<table>")
                for n, row in enumerate(block.rows):
                    tag = "th" if n == 0 else "td"
                    cells = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row)
                    out.append(f"<tr>{cells}</tr>")
                out.append("</table>")
        else:
            tag = {"h1": "h1", "h2": "h2", "warning": "blockquote"}.get(kind, "p")
            for block in group:
                inner = html.escape(block.text)
                out.append(f"<{tag}>{f'<p>{inner}</p>' if kind == 'warning' else inner}</{tag}>")
    body = "\n".join(out)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">\n'
        f"<head><title>{html.escape(title)}</title></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def runs(blocks: list[Block]) -> Iterator[tuple[str, list[Block]]]:
    """Neighbouring blocks of one kind, together."""
    start = 0
    for n in range(1, len(blocks) + 1):
        if n == len(blocks) or blocks[n].kind != blocks[start].kind:
            yield blocks[start].kind, blocks[start:n]
            start = n


def build_epub(path: Path, title: str, markup: str) -> None:
    chapters: list[list[Block]] = []
    for block in parse(markup):
        if block.kind == "h1":
            chapters.append([])
        chapters[-1].append(block)
    names = [f"chapter{n}.xhtml" for n in range(1, len(chapters) + 1)]
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>\n'
        for n, name in enumerate(names, 1)
    )
    spine = "".join(f'<itemref idref="c{n}"/>\n' for n in range(1, len(names) + 1))
    links = "".join(
        f'<li><a href="{name}">{html.escape(chapter[0].text)}</a></li>\n'
        for name, chapter in zip(names, chapters, strict=True)
    )
    package = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">\n'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
        '<dc:identifier id="id">urn:tolvane:field-installation-guide:3</dc:identifier>\n'
        f"<dc:title>{html.escape(title)}</dc:title>\n<dc:language>en</dc:language>\n"
        f"<dc:creator>{COMPANY}</dc:creator>\n"
        f'<meta property="dcterms:modified">{STAMP:%Y-%m-%dT%H:%M:%SZ}</meta>\n</metadata>\n'
        '<manifest>\n<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" '
        f'properties="nav"/>\n{items}</manifest>\n<spine>\n{spine}</spine>\n</package>\n'
    )
    nav = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" '
        'xmlns:epub="http://www.idpf.org/2007/ops">\n'
        f"<head><title>{html.escape(title)}</title></head>\n"
        f'<body><nav epub:type="toc"><h1>Contents</h1><ol>\n{links}</ol></nav></body>\n</html>\n'
    )
    container = (
        '<?xml version="1.0"?>\n<container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container">\n<rootfiles><rootfile '
        'full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>\n'
        "</container>\n"
    )
    with zipfile.ZipFile(path, "w") as book:
        put(book, "mimetype", b"application/epub+zip", packed=False)
        put(book, "META-INF/container.xml", container.encode())
        put(book, "OEBPS/content.opf", package.encode())
        put(book, "OEBPS/nav.xhtml", nav.encode())
        for name, chapter in zip(names, chapters, strict=True):
            put(book, f"OEBPS/{name}", xhtml(chapter[0].text, chapter).encode())


# ---------------------------------------------------------------- content: employee handbook

HANDBOOK = """
# 1 About this handbook

This handbook sets out the working rules of Tolvane Instruments ("the company"). Version 7 takes
effect on 1 January 2026 and replaces version 6 of 1 February 2024. It applies to all employees,
apprentices and interns. It does not apply to consultants, whose terms stand in their own
agreements.

The owner of the handbook is Maud Pellinack, Head of People. Questions go to people@tolvane.example
or to room 1.14. Changes are decided by the management team; changes to pay-related figures need a
decision of the board. A change is announced by e-mail at least 14 days before it takes effect.

Where an individual employment contract gives an employee more than this handbook, the contract
counts. Where the handbook gives more, the handbook counts.

## 1.1 Definitions

- "Line manager" means the person named as such in the staff directory.
- "Department head" means the head of Engineering, Production, Sales, Support or Finance.
- "Working day" means Monday to Friday, except public holidays in Kessmouth.
- "Years of service" means completed years since the first day of the current employment. Time
  spent as an apprentice counts; time spent as an intern does not.

## 1.2 Our departments

Production and Stores is led by Bram Ollerdyke, Engineering by Dr Kavia Renduro, Sales by Sunniva
Calderquist, Support and Calibration by Teo Farrowin, and Finance by Oswin Tadlock. The managing
director is Ilse Marrenby.

=
# 2 Starting work

## 2.1 Probation

The probation period is six months. For fixed-term contracts shorter than 12 months it is three
months. Two review talks are held: one after 6 weeks and one no later than 4 weeks before probation
ends. Probation can be extended once, by at most two months, and only after a sickness absence of
more than 20 working days.

## 2.2 Notice periods

During probation either side may give two weeks' notice. After probation the periods in the table
apply to both sides. Notice must be given in writing on paper; e-mail is not enough.

| Years of service | Notice period |
| less than 2 | 4 weeks to the 15th or the end of a month |
| 2 to 4 | 1 month to the end of a month |
| 5 to 9 | 2 months to the end of a month |
| 10 and more | 3 months to the end of a month |

## 2.3 Equipment and access

New employees receive a laptop, an access badge and, in Production and in the calibration
laboratory, safety shoes and an antistatic coat. A lost badge must be reported within 24 hours; the
first replacement is free, each further one costs EUR 15. All equipment is to be returned on the
last working day.

## 2.4 Buddy

Every new employee is given a buddy from another department for the first 90 days. Buddies may
spend up to two working hours per week on this task.

=
# 3 Working time

## 3.1 Hours

The full-time week is 37.5 hours. Core time, when everyone is reachable, runs from 10:00 to 15:00.
Outside core time employees arrange their hours freely between 06:30 and 19:30. In Production the
early shift runs from 06:30 to 14:30 and the late shift from 11:00 to 19:00.

A break of 30 minutes is taken after at most six hours of work, and of 45 minutes in total if the
day is longer than nine hours. Nobody works more than ten hours in a day.

## 3.2 Flexitime account

Plus and minus hours are kept in a flexitime account. The account may hold at most 40 plus hours or
15 minus hours. Up to three whole days per quarter can be taken off from plus hours, with the
consent of the line manager. Hours above 40 lapse at the end of the quarter unless the department
head has ordered them.

## 3.3 Overtime

Overtime is work ordered in writing by the department head. It is paid at 125 % of the hourly wage
on working days and Saturdays and at 150 % on Sundays and public holidays. Instead of pay an
employee may choose time off at the same rate, to be taken within six months.

## 3.4 Remote work

Employees may work remotely up to two days a week after the first three months. Jobs that need the
workshop, the stores or the calibration laboratory cannot be done remotely. Working from another
country is allowed for at most 15 working days per calendar year and needs the consent of the Head
of People at least four weeks ahead. The company pays a one-time allowance of EUR 250 for a home
desk or chair; the allowance is repaid in full if the employee leaves within 12 months.

## 3.5 On-call duty

Support staff take part in the on-call rota from 18:00 to 07:00 and on weekends. The allowance is
EUR 40 per working-day night and EUR 75 per weekend day or public holiday. A call must be answered
within 30 minutes. Time spent on a call counts as working time, with a minimum of half an hour.

=
# 4 Leave

## 4.1 Annual leave

The leave year is the calendar year. Entitlement depends on completed years of service on 1 January
and is given in the table for a five-day week. Part-time employees receive a proportional share,
rounded up to the next half day.

| Years of service | Annual leave (working days) | Of which must be taken in one block |
| less than 2 | 25 | 10 |
| 2 to 4 | 26 | 10 |
| 5 to 9 | 28 | 10 |
| 10 to 14 | 30 | 10 |
| 15 and more | 32 | 15 |

In the first calendar year one twelfth of the entitlement is earned per full month of employment.
Employees with a recognised severe disability receive five additional days.

## 4.2 Requesting leave

Leave is requested in the staff portal. Requests for one to four days are made at least one week
ahead, longer ones at least four weeks ahead. The line manager answers within five working days; a
request that is not answered in that time counts as approved. The works shutdown from 24 to 31
December uses three days of leave.

## 4.3 Carry-over

Up to five days may be carried into the next year and must be taken by 31 March. After parental
leave, or after sickness of more than six weeks, up to ten days may be carried over, to be taken by
30 September. Days beyond this lapse; they are not paid out except when employment ends.

=
## 4.4 Special leave

| Occasion | Paid days |
| Own wedding or civil partnership | 2 |
| Birth of a child (partner) | 2 |
| Death of a partner, parent or child | 4 |
| Death of a sibling or grandparent | 2 |
| Moving house for work reasons | 1 |
| Voluntary service (lifeboat, fire brigade) | 5 |

## 4.5 Sickness

Sickness is reported by telephone or message to the line manager before 09:00 on the first day. A
doctor's certificate is needed from the fourth calendar day. The department head may ask for it
from the first day after three short absences within six months.

Pay continues in full for six weeks. From the seventh week to the end of week 26 the company pays
70 % of the salary, less any sick pay from an insurer. After an absence of more than six weeks the
employee is offered a step-by-step return plan.

## 4.6 Parental leave

The parent who gives birth or adopts receives 18 weeks of leave at full pay. The other parent
receives six weeks at full pay, which can be taken in up to three parts within the first year.
Parental leave is announced at least ten weeks before it begins. Unpaid parental leave is possible
until the child's third birthday.

## 4.7 Sabbatical

After seven years of service an employee may take an unpaid sabbatical of one to six months, once
in seven years. It is requested nine months ahead. At most two employees may be on sabbatical at
the same time.

=
# 5 Pay and benefits

## 5.1 Payday

Salaries are paid on the 27th of the month, or on the working day before. The December salary is
paid on 20 December. Salary reviews take place in March and take effect on 1 April.

## 5.2 Pension

The company pays 5 % of gross salary into the pension fund from the first day after probation. In
addition it matches the employee's own contributions one for one, up to a further 3 %.

## 5.3 Other benefits

- Bicycle leasing for bicycles up to a list price of EUR 2,500.
- Staff discount of 35 % on list prices, for at most two products per calendar year. Products
  bought at staff discount may not be resold within 24 months.
- A canteen subsidy of EUR 3.20 per working day on site.
- An eye test every two years and up to EUR 120 for screen glasses.

## 5.4 Profit share

If the operating profit of the company reaches 10 % of revenue, every employee with at least 12
months of service on 31 December receives a profit share of EUR 900, paid with the April salary.
Part-time employees receive a proportional share.

=
# 6 Travel and expenses

## 6.1 Booking

Travel is booked through the Finance office. Rail is preferred; flights are allowed when the train
journey is longer than six hours each way. Second class is used, except on journeys longer than
four hours, when first class may be booked.

## 6.2 Limits

| Item | Limit |
| Hotel, per night with breakfast | EUR 135 |
| Hotel in a capital city, per night with breakfast | EUR 170 |
| Daily allowance, absence of more than 8 hours | EUR 19 |
| Daily allowance, absence of 24 hours | EUR 38 |
| Private car, per kilometre | EUR 0.42 |
| Business meal with customers, per person | EUR 55 |

If breakfast is included in the hotel price, EUR 7 is taken off the daily allowance. Alcohol is not
refunded, except at business meals with customers.

## 6.3 Claims and approval

Claims are handed in within 60 days of the end of the trip, with receipts. A claim without a receipt
is accepted up to EUR 20. Claims above EUR 500 need the approval of the department head, claims
above EUR 2,000 that of the finance director as well. Nobody approves their own claim.

## 6.4 Company cars

Two pool cars and one van can be booked in the staff portal. Private use is not allowed. Fines are
paid by the driver. Damage is reported to Finance the same day; the driver bears an excess of at
most EUR 300, and only in cases of gross negligence.

# 7 Training

Each employee has a training budget of EUR 1,200 and three training days per year. Unused amounts
lapse at the end of the year. For courses above EUR 3,000 a repayment agreement is signed: the cost
is repaid in full if the employee leaves within 12 months, and by half within 24 months.

=
# 8 Health and safety

## 8.1 General

The safety officer is Nell Bracegarth. Accidents and near misses are entered in the accident book in
the stores on the same day. First-aiders are listed at every exit; there are four of them. A fire
drill is held twice a year, in April and in October. The assembly point is the slipway on Lantern
Quay.

## 8.2 Work at height

Work on masts, roofs and ladders above 2 metres is done by two people, both with the height safety
course of the last 36 months. It stops when the mean wind speed at working height reaches 10 m/s or
when thunder is heard.

## 8.3 Batteries

Lithium battery packs are charged only on the marked benches in room 0.07 and never unattended
overnight. A pack that has been dropped, is swollen or is warmer than 60 °C is moved to the sand box
outside the east door, if this can be done without danger, and the safety officer is called.

## 8.4 Laboratory

Eating and drinking are not allowed in the calibration laboratory. The pressure chamber is operated
only by staff on the list at its door.

# 9 Conduct

## 9.1 Gifts

Gifts up to a value of EUR 40 per giver and year may be accepted. Anything above is declined or
handed to Maud Pellinack for the yearly raffle. Cash is never accepted.

## 9.2 Second jobs

A second job needs written consent. Consent is given unless the job is with a competitor, takes
more than 10 hours a week or harms rest periods.

## 9.3 Dogs

Dogs are allowed in the office on Fridays, if all persons in the room agree. They are not allowed in
Production, in the stores or in the laboratory.

## 9.4 Alcohol and drugs

Nobody works under the influence of alcohol or drugs. In Production, at height and at the wheel the
limit is zero.

=
# 10 Complaints and discipline

## 10.1 Complaints

A complaint is first raised with the line manager. If it is not settled within ten working days, it
can be put in writing to the Head of People, who answers within 15 working days. The last instance
is the managing director.

## 10.2 Reporting wrongdoing

Wrongdoing can be reported, also without giving a name, to the outside ombudsperson, Advocate
Philippa Strand-Hollis, at ombuds@strandhollis.example. Reports are acknowledged within seven days.
No one may be put at a disadvantage for a report made in good faith.

## 10.3 Discipline

The steps are a talk, a written warning, a final warning and dismissal. A written warning is removed
from the file after 24 months without a further case. Theft, violence and deliberate damage to
safety equipment can lead to dismissal without earlier steps.

# 11 Leaving

On leaving, employees receive a reference within 20 working days. Unused leave is paid out with the
last salary. Company data is deleted from private devices, and the employee confirms this in
writing. An exit talk with the Head of People is offered, but is voluntary.

# 12 Version history

| Version | In effect from | Main changes |
| 5 | 1 March 2022 | Remote work introduced, one day a week |
| 6 | 1 February 2024 | Remote work two days a week; bicycle leasing |
| 7 | 1 January 2026 | Leave for 15 and more years raised from 31 to 32 days; profit share |
"""

# ---------------------------------------------------------------- content: product manual

MANUAL = """
# 1 About this manual

This manual describes the Stormkeep 400 field weather station, article numbers SK-400 and SK-400C.
Edition C, March 2026, applies to firmware 4.2 and later and replaces edition B of June 2024. Read
chapter 2 before unpacking.

The Stormkeep 400 measures wind speed and direction, air temperature, relative humidity, air
pressure, rainfall and solar radiation. It stores the readings and sends them by cellular radio or
through a Stormkeep Link G2 gateway. The SK-400C is the same station with the Coastal Kit CK-01
fitted at the factory.

## 1.1 Scope of delivery

- Station head with wind sensor WS-31 and radiation shield RS-22
- Logger box with main board MB-40 and battery pack BP-12
- Rain gauge RG-14 with bird spikes
- Solar panel SP-20 with bracket
- Mast clamp MK-03, for masts of 40 to 60 mm diameter
- Sensor cable CB-10, 10 m
- Hex keys 4 mm and 5 mm, desiccant bag, calibration certificate

The mast is not included.

## 1.2 Intended use

The station is intended for unattended outdoor measurement on land. It is not intended for use on
vehicles or ships, in explosive atmospheres, or as the only source of data for decisions on which
human life depends.

=
# 2 Safety

! WARNING: Danger of death from overhead lines. Keep a distance of at least 10 m between the raised
mast and any power line.

- Do not work on the mast in a thunderstorm or when the mean wind speed is above 10 m/s.
- The mast must be earthed with a copper conductor of at least 16 mm² cross-section.
- The battery pack BP-12 contains lithium iron phosphate cells. Do not open, short-circuit or heat
  it above 60 °C. Charge it only in the station or with the charger CH-2.
- Do not look closely at the sun when aligning the radiation sensor.
- Disconnect the solar panel before disconnecting the battery. The other order can damage the main
  board.

! CAUTION: The wind sensor heater can reach 70 °C. Let it cool for 10 minutes before touching it.

=
# 3 Specifications

| Quantity | Range | Accuracy | Resolution |
| Wind speed | 0 to 75 m/s | ±0.3 m/s up to 15 m/s, ±2 % above | 0.1 m/s |
| Wind direction | 0 to 360° | ±3° | 1° |
| Air temperature | -40 to +60 °C | ±0.2 °C | 0.01 °C |
| Relative humidity | 0 to 100 % | ±2 % (10 to 90 %), ±3 % otherwise | 0.1 % |
| Air pressure | 500 to 1100 hPa | ±0.3 hPa | 0.1 hPa |
| Rainfall | 0 to 300 mm/h | ±3 % up to 50 mm/h, ±5 % above | 0.2 mm |
| Solar radiation | 0 to 1500 W/m² | ±5 % | 1 W/m² |

## 3.1 General data

| Property | Value |
| Operating temperature | -35 to +55 °C |
| Survival wind speed | 90 m/s |
| Protection class | IP66 (logger box), IP65 (station head) |
| Mass without mast | 6.8 kg |
| Power consumption, average | 0.9 W without heater, 14 W with heater |
| Battery | BP-12, 12.8 V, 12 Ah |
| Running time without sun | 7 days at 20 °C, heater off |
| Solar panel | 20 W |
| Memory | 4 GB, about 10 years at one reading per minute |
| Sampling | wind every 0.25 s, other quantities every 10 s |
| Sending interval | 1 to 60 minutes, 10 minutes as delivered |
| Radio | cellular LTE-M and NB-IoT; 868 MHz to the Link G2, up to 4 km in free sight |
| Interfaces | RS-485 (Modbus RTU), SDI-12, USB-C for service |

The factory calibration is valid for 24 months from the date on the certificate.

=
# 4 Installation

A full account of site choice, foundations and earthing is given in the Field Installation Guide.
The short form is:

- Fix the mast clamp MK-03 and tighten its four screws to 8 Nm.
- Turn the arrow on the station head to geographic north, within 2°.
- Mount the rain gauge level, with its rim 1.0 m above the ground, at least 1.5 m from the mast.
- Fit the solar panel facing the equator. Use a tilt of latitude plus 15°.
- Connect the cables: S1 wind, S2 temperature and humidity, S3 rain, S4 radiation.
- Connect the battery first, then the solar panel.

## 4.1 First start

Press the key on the logger box for three seconds. The status light blinks blue while the station
searches for a network, which can take up to five minutes, and turns green when the first data set
has been sent. A self-test follows; it lasts 90 seconds.

## 4.2 Configuration

Connect a phone with the app Stormkeep Setup over Bluetooth. The pairing code is printed inside the
lid of the logger box. The code is locked for 15 minutes after five wrong entries. Set the station
name, the altitude in metres, the time zone and the sending interval.

## 4.3 Status light

| Light | Meaning |
| Green, one flash every 10 s | Normal operation |
| Blue, blinking | Searching for network |
| Yellow, two flashes | Battery below 25 % |
| Red, steady | Error; see chapter 6 |
| White, pulsing | Firmware update in progress; do not disconnect |

## 4.4 Heater

The wind sensor heater switches on below +3 °C if the relative humidity is above 85 %. It needs an
external 24 V supply of at least 2 A. On battery power alone the heater stays off.

=
# 5 Maintenance

| Interval | Task |
| every month, April to October | Clear leaves and bird droppings from the rain gauge |
| every 6 months | Clean the radiation sensor with water and a soft cloth |
| every 12 months | Replace the desiccant DS-05; check screws and earthing |
| every 24 months | Replace the bearing set SB-07; recalibrate |
| every 48 months | Replace the temperature and humidity cartridge TH-09 |
| every 5 years or 1,500 cycles | Replace the battery pack BP-12 |

At sites less than 1 km from the sea the bearing set is replaced every 12 months. Record every task
in the maintenance log; the log is asked for in warranty cases.

## 5.1 Replacing the bearing set

- Switch the station off and pull plug S1.
- Loosen the 4 mm grub screw and lift off the wind cup rotor.
- Press out both bearings with the plastic tool of the set. Do not use metal tools.
- Press in the new bearings until they click, fit the rotor, and tighten the grub screw to 1.2 Nm.
- Spin the rotor by hand: it must turn for at least 12 seconds.

## 5.2 Cleaning

Do not use a pressure washer, alcohol or solvents. The radiation shield may be washed in the
dishwasher at up to 50 °C.

## 5.3 Firmware update

Updates are offered in the app. The battery must hold at least 40 % charge. An update lasts about
six minutes; measured data is kept. Going back to an earlier version is possible once, within 30
days.

## 5.4 Storage

Store the station dry, at -20 to +45 °C. Charge the battery to about 50 % before storage and again
every six months.

=
# 6 Error codes

The code is shown in the app and sent with the data. If a code appears again after the remedy, note
the serial number and contact Support.

| Code | Meaning | Remedy |
| E01 | Wind sensor gives no signal | Check plug S1; replace WS-31 if the code stays |
| E02 | Wind sensor rotor blocked | Remove ice or dirt; replace bearing set SB-07 |
| E03 | Temperature reading out of range | Check plug S2; replace cartridge TH-09 |
| E04 | Humidity above 100 % for 24 hours | Dry the cartridge for 12 hours at 40 °C, else replace |
| E05 | Pressure sensor fault | Replace barometer module BR-03 |
| E06 | Rain gauge tips more than 30 times per minute | Level the gauge; check for vibration |
| E07 | Battery voltage below 11.2 V | Charge for 24 hours; check solar panel and shade |
| E08 | Battery temperature above 60 °C | Switch off, disconnect panel, let cool; call Support |
| E09 | No network for 6 hours | Check antenna and SIM; move to a place with better signal |
| E10 | Memory card write error | Restart; if it returns, replace main board MB-40 |
| E11 | Clock not set | Wait for network time or set it in the app |
| E12 | Tilt of station head above 5° | Realign the mast; run the level check in the app |
| E13 | Moisture in logger box | Replace desiccant DS-05; check seal and cable glands |
| E14 | Firmware check failed | Repeat the update with USB-C; do not switch off |

## 6.1 Reset

Press the key for 12 seconds to restart the station; data and settings are kept. Press the key for
30 seconds with the lid open to return to factory settings; settings are lost, data is kept.

=
# 7 Data and connection

Readings are stored in the station in coordinated universal time. The app exports them as CSV, with
one line per sending interval, giving mean, minimum and maximum. Over Modbus RTU the station answers
on address 17 at 19,200 baud, 8 data bits, even parity, 1 stop bit, as delivered.

| Register | Quantity | Unit and scale |
| 100 | Wind speed, mean | 0.1 m/s |
| 101 | Wind speed, gust (3 s) | 0.1 m/s |
| 102 | Wind direction | 1° |
| 110 | Air temperature | 0.01 °C, signed |
| 111 | Relative humidity | 0.1 % |
| 112 | Air pressure | 0.1 hPa |
| 120 | Rainfall since midnight | 0.2 mm |
| 130 | Battery voltage | 0.01 V |

One Link G2 gateway serves up to 24 stations. Without network the station keeps the data and sends
it later, the newest first.

# 8 Disposal and contact

Batteries and electronics do not belong in household waste. Stations can be sent back free of charge
for recycling; the battery must be removed and packed separately.

Support: support@tolvane.example, telephone extension 330, Monday to Friday 08:00 to 17:00. The
warranty conditions are in a separate document, "Warranty and Returns Policy".
"""

# ---------------------------------------------------------------- content: office lease

LEASE = """
This lease is made on 8 March 2021 between Quillon Harbour Estates, 2 Ropewalk Yard, Kessmouth ("the
Landlord"), represented by Edmund Quillon, and Tolvane Instruments, then of 19 Saltpan Lane,
Kessmouth ("the Tenant"), represented by Ilse Marrenby.

# 1 Premises

1.1 The Landlord lets to the Tenant the building known as Unit 7, Lantern Quay, Kessmouth ("the
Premises"), with a lettable area of 1,240 m², made up of 610 m² of workshop, 480 m² of offices and
150 m² of stores.

1.2 The lease includes twelve parking spaces, numbered 31 to 42, two of which the Tenant may fit
with charging points at its own cost.

1.3 The Tenant may use the slipway and the quayside as ways of access and as a fire assembly point,
but may not store goods there.

1.4 The state of the Premises at handover is recorded in the schedule of condition signed by both
parties on 30 March 2021, which forms part of this lease.

# 2 Permitted use

2.1 The Premises may be used for the making, testing, storage and sale of measuring instruments, and
for offices belonging to that business. Any other use needs the Landlord's written consent.

2.2 The Tenant may store up to 400 kg of lithium batteries, in a room with a fire resistance of at
least 90 minutes. A larger quantity needs the written consent of the Landlord and of the Landlord's
insurer.

2.3 Noisy work, above 55 dB(A) measured at the boundary, is allowed from 07:00 to 19:00 on working
days only.

=
# 3 Term

3.1 The lease begins on 1 April 2021 and runs for ten years, to 31 March 2031.

3.2 The Tenant may end the lease early on 31 March 2027 ("the Break Date") by giving at least nine
months' notice in writing. No compensation is due if all rent has been paid by the Break Date.

3.3 The Tenant may extend the lease once, by five years, on the same terms except the rent, by
notice in writing not later than 12 months before the end of the term. If the parties do not agree
on the rent within three months, it is set by a surveyor named by the Kessmouth Chamber of Trade.

3.4 The Landlord has no right to end the lease early, except under clause 12.

# 4 Rent

4.1 The rent is EUR 9,900 per month (EUR 118,800 per year), payable in advance on the first working
day of each month.

4.2 On 1 April of each year, for the first time on 1 April 2022, the rent changes by the same
percentage as the consumer price index over the calendar year before, but by no more than 3 % in any
one year. The rent does not fall below the amount in clause 4.1.

4.3 If a payment is more than ten days late, interest runs from the due date at four percentage
points above the base rate of the Kessmouth Mutual Bank.

4.4 The Tenant may set off a claim against the rent only if the claim is undisputed or has been
decided by a court.

4.5 All sums in this lease are without value added tax, which is added at the rate in force.

# 5 Service charge

5.1 The Tenant pays a service charge of EUR 14.20 per m² of lettable area and year, in four equal
instalments on 1 January, 1 April, 1 July and 1 October.

5.2 The service charge covers cleaning and lighting of the common parts, snow clearing, quay wall
upkeep, refuse collection and the porter. It does not cover electricity, water, heating and
telephone, which the Tenant pays to the suppliers.

5.3 The Landlord gives an account by 30 June for the year before. A difference is settled within 30
days of the account. An increase of more than 5 % from one year to the next needs to be justified by
invoices.

# 6 Deposit

6.1 The Tenant pays a deposit of EUR 29,700, equal to three months' rent, before handover. It is
kept in a separate account; the interest belongs to the Tenant.

6.2 The deposit is paid back within 60 days of the end of the lease, less undisputed claims of the
Landlord.

# 7 Repairs

7.1 The Landlord keeps the roof, the outer walls, the quay wall, the foundations and the lift in
good repair, and begins urgent repairs within 48 hours of being told.

7.2 The Tenant keeps the inside of the Premises in good repair and bears repairs of up to EUR 600 in
each case and EUR 4,000 per year in total.

7.3 The Tenant has the heating serviced once a year and the sprinklers every two years, and hands
the reports to the Landlord.

7.4 The inside is repainted by the Tenant every six years, and in the last year of the term.

# 8 Alterations and signs

8.1 Structural alterations need the Landlord's written consent. Consent may not be refused for
partitions, cabling and laboratory fittings that can be removed without damage.

8.2 The Tenant may put up one sign of up to 3 m² on the front wall.

8.3 The Tenant may keep up to six test masts of at most 4 m height on the flat roof. The total load
must not be above 150 kg per mast. A structural report is handed to the Landlord before the first
mast is raised and again every five years.

8.4 At the end of the lease the Tenant removes alterations if the Landlord asks for it at least four
months before the end.

# 9 Insurance and liability

9.1 The Landlord insures the building against fire, storm, flood and tap water. The Tenant refunds
62 % of the premium, which is the share of the Premises in the building.

9.2 The Tenant insures its own goods and keeps public liability insurance of at least EUR 3,000,000
per event. Proof is given each January.

9.3 If the Premises cannot be used because of insured damage, no rent is due for that time. If use
is not restored within nine months, either party may end the lease with one month's notice.

# 10 Subletting

10.1 Subletting of up to 25 % of the area is allowed after written notice to the Landlord.
Subletting of more needs consent, which may be refused only for good reason.

10.2 The lease may be passed to a company that buys the whole business of the Tenant, if that
company has equity of at least EUR 500,000.

# 11 Access

11.1 The Landlord may enter the Premises on working days after notice of at least 48 hours, and
without notice in an emergency. Visitors to the calibration laboratory are accompanied.

11.2 In the last nine months of the term the Landlord may show the Premises to interested parties,
at most twice a week.

# 12 Ending for cause

12.1 The Landlord may end the lease without notice if the Tenant is in arrears by more than two
months' rent and does not pay within 14 days of a written reminder.

12.2 Either party may end the lease without notice for a serious breach that is not put right within
30 days of a written warning.

# 13 Handing back

13.1 The Premises are handed back swept clean, with all keys. The Tenant was given 26 keys and four
gate transmitters. A missing key is charged at EUR 45, a missing transmitter at EUR 80.

13.2 If the Tenant stays after the end of the lease, it pays 150 % of the last rent for that time.

# 14 Notices

14.1 Notices under this lease must be in writing and signed. A notice sent by registered post counts
as received on the third working day after posting. E-mail is enough for notices under clause 11.1
only.

# 15 General

15.1 Changes to this lease must be in writing and signed by both parties. They are numbered as
amendments.

15.2 Should one clause be invalid, the others remain in force.

15.3 Disputes are first taken to the mediator of the Kessmouth Chamber of Trade. If no settlement is
reached within 60 days, the court at Kessmouth decides.

# Signatures

Kessmouth, 8 March 2021

| For the Landlord | For the Tenant |
| Edmund Quillon, Quillon Harbour Estates | Ilse Marrenby, Tolvane Instruments |

# Schedule: areas

| Part | Floor | Area in m² |
| Workshop | ground | 610 |
| Stores | ground | 150 |
| Calibration laboratory | first | 120 |
| Offices | first | 360 |
| Total |  | 1,240 |
"""

# ---------------------------------------------------------------- content: annual report

REPORT = """
# 1 The year in brief

- Revenue rose by 10.1 % to EUR 6,840,000 (2024: EUR 6,210,000).
- Operating profit was EUR 847,000, which is 12.4 % of revenue (2024: EUR 680,000, 11.0 %).
- We sold 1,180 Stormkeep 400 stations, 135 more than in the year before.
- On 31 December 2025 we employed 40 people (2024: 38).
- A new calibration chamber went into service on 22 September 2025.
- We delivered our 25,000th instrument, a Stormkeep 200, to the Crossfell Orchards cooperative.

## 1.1 Letter from the managing director

Dear members,

2025 was the year in which our export business grew up. For the first time, more than two fifths of
our revenue came from outside the home market. Germany and Austria alone grew by almost a quarter,
because three regional flood services chose the Stormkeep 400 in public tenders.

Not everything went well. The launch of firmware 4.2, planned for May, came only in October, and we
lost an order of 60 stations to a competitor because of it. We have drawn lessons from this: release
tests now begin ten weeks before the announced date.

My thanks go to all colleagues, and to Harold Sprague-Lunn, who retired on 30 June 2025 after
sixteen years as our first employee.

Ilse Marrenby, managing director

=
# 2 Business review

## 2.1 Revenue per region

The table shows revenue in thousands of euros. The home market is made up of the Northern coast and
of Inland and Highlands.

| Region | 2025 | 2024 | Change |
| Northern coast | 2,410 | 2,305 | +4.6 % |
| Inland and Highlands | 1,515 | 1,480 | +2.4 % |
| Germany and Austria | 1,230 | 985 | +24.9 % |
| France and Belgium | 905 | 760 | +19.1 % |
| Nordic countries | 520 | 455 | +14.3 % |
| Rest of world | 260 | 225 | +15.6 % |
| Total | 6,840 | 6,210 | +10.1 % |

The export share was 42.6 % (2024: 39.0 %). The French branch in Port-Lanvec, opened on 3 February
2025, has three sales partners and no employees of its own.

## 2.2 Units sold

| Product | 2025 | 2024 |
| Stormkeep 400 | 1,180 | 1,045 |
| Stormkeep 200 | 2,260 | 2,140 |
| Stormkeep Link G2 | 640 | 510 |
| Tarn 10 water level logger | 415 | 398 |

## 2.3 Customers

Our largest customer, the Aldermoor Water Board, accounted for 8.3 % of revenue. The ten largest
customers together accounted for 34 %. In the customer survey of October 2025, 212 customers took
part; 91 % would recommend us (2023: 87 %). The most frequent wish was a longer battery warranty.

## 2.4 Quality

Of all stations delivered, 1.7 % came back within the first year (2024: 2.3 %). The most frequent
cause was moisture in the logger box, with 38 % of all returns. The seal was changed in series from
serial number 25-3100 on.

=
# 3 Financial statements

## 3.1 Income statement

Figures in thousands of euros.

| Item | 2025 | 2024 |
| Revenue | 6,840 | 6,210 |
| Cost of sales | -3,420 | -3,167 |
| Gross profit | 3,420 | 3,043 |
| Research and development | -962 | -840 |
| Sales and marketing | -745 | -702 |
| Administration | -866 | -821 |
| Operating profit | 847 | 680 |
| Finance costs | -47 | -55 |
| Profit before tax | 800 | 625 |
| Tax | -176 | -138 |
| Net profit | 624 | 487 |

## 3.2 Balance sheet

Figures in thousands of euros, on 31 December.

| Item | 2025 | 2024 |
| Machines and equipment | 1,140 | 1,065 |
| Inventories | 985 | 1,040 |
| Trade receivables | 870 | 815 |
| Cash | 1,120 | 905 |
| Total assets | 4,115 | 3,825 |
| Equity | 2,645 | 2,171 |
| Bank loan | 540 | 660 |
| Provisions for warranty | 190 | 175 |
| Trade payables and other | 740 | 819 |
| Total equity and liabilities | 4,115 | 3,825 |

=
## 3.3 Notes

Note 1. Revenue is recorded when goods are handed to the carrier. Subscriptions to the data cloud
are spread evenly over their term.

Note 2. The bank loan of originally EUR 900,000 was taken from the Kessmouth Mutual Bank in January
2023. It bears interest at 3.9 %, fixed until 30 June 2028, and is repaid at EUR 120,000 per year.

Note 3. Development costs are not capitalised.

Note 4. The warranty provision is 2.8 % of revenue (2024: 2.8 %).

Note 5. Capital expenditure was EUR 318,000, of which EUR 214,000 went into the calibration chamber.

Note 6. The fee of the auditor, Pargeter and Loom, was EUR 19,500. The audit opinion of 6 March 2026
has no qualification.

Note 7. After the end of the year, on 14 January 2026, a battery pack overheated in the charging
room. Nobody was hurt. The damage has no material effect on these statements.

Note 8. A dividend of EUR 150,000 for 2024 was paid on 28 April 2025.

=
# 4 People

## 4.1 Employees per department

| Department | 31 December 2025 | 31 December 2024 |
| Production and Stores | 14 | 14 |
| Engineering | 9 | 8 |
| Sales and Marketing | 6 | 6 |
| Support and Calibration | 5 | 4 |
| Finance and Administration | 4 | 4 |
| Management | 2 | 2 |
| Total | 40 | 38 |

Average length of service was 7.4 years. The share of women was 45 % overall and 50 % among
department heads and management. Sickness absence was 3.1 % of working time (2024: 3.8 %). There
were two reportable accidents, both cuts to the hand in Production.

## 4.2 Apprentices

We train two electronics technicians. Both passed their intermediate examination in November 2025.

# 5 Environment

| Measure | 2025 | 2024 |
| Electricity used (MWh) | 212 | 226 |
| Of which own solar power (MWh) | 58 | 31 |
| Waste (tonnes) | 14.6 | 15.9 |
| Stations taken back for recycling | 143 | 96 |

A second solar array of 38 kW was put on the roof in March 2025. By the end of 2027 we want to
deliver all products without plastic foam packing; at the end of 2025 the share was 64 %.

=
# 6 Governance

The board has five members: Rosalind Quaverley (chair), Henrik Stoddle, Ilse Marrenby, Oswin
Tadlock and Nell Bracegarth (elected by the employees). It met five times in 2025, with an
attendance of 96 %. The chair receives EUR 18,000 per year and Henrik Stoddle EUR 12,000; the other
members receive no fee. The term of office of Henrik Stoddle ends at the general meeting of 2027.

# 7 Risks

- Single source: battery packs come from one supplier, Ferrolith Zellen. A second source is to be
  approved by the end of 2026.
- Currency: 6 % of revenue is billed in currencies other than the euro. It is not hedged.
- Components: stock of the radio module covers 22 weeks of production.
- Cyber attack: an outside penetration test in August 2025 found two serious weaknesses; both were
  closed within nine days.

# 8 Outlook for 2026

We expect revenue between EUR 7.2 million and EUR 7.5 million and an operating margin of at least
12 %. Firmware 5.0 for the Stormkeep 400 is planned for September 2026. The Tarn 20, a water level
logger with radar sensor, is in development; no launch date has been set.

The board adopted this report on 18 March 2026.
"""

# ---------------------------------------------------------------- content: Word documents

WARRANTY = """
# 1 Scope

This policy applies to all products delivered by Tolvane Instruments from 1 January 2026. For
earlier deliveries the policy of 1 May 2023 continues to apply. It comes on top of rights given by
law. For deliveries of the French branch the Conditions générales de vente apply first.

# 2 Warranty periods

The period begins on the day of delivery to the first user.

| Product group | Standard | If registered within 60 days |
| Stormkeep 400 and Stormkeep 200 stations | 24 months | 36 months |
| Stormkeep Link G2 gateway | 24 months | 24 months |
| Tarn 10 water level logger | 24 months | 36 months |
| Soil probe SP-5 | 12 months | 18 months |
| Spare parts bought separately | 12 months | 12 months |
| Battery pack BP-12 | 12 months or 500 charge cycles, whichever comes first | no extension |

A repair or replacement does not start a new period. A repaired part is covered for the rest of the
period, but for at least six months.

# 3 Conditions

- The product was installed as described in its manual.
- The maintenance in the manual was done on time and is shown in the maintenance log. If the bearing
  set SB-07 was not replaced at the interval in the manual, there is no warranty on the wind sensor.
- Sites less than 200 m from the shoreline need the Coastal Kit CK-01. Without it, corrosion is not
  covered.
- The seal on the logger box is not broken. Opening the outer lid to change the battery or the
  desiccant does not break the seal.

# 4 What is not covered

- Wear: bearings, desiccant, bird spikes, filters.
- Direct lightning strikes, and surges at sites whose earthing is not documented.
- Damage by animals, vandalism or theft.
- Use with batteries or chargers of other makers.
- Loss of data, and costs of cranes, lifting platforms or travel.

# 5 Making a claim

A claim is made within 30 days of noticing the fault, by e-mail to returns@tolvane.example, with the
serial number, a description and a photograph. Support answers within two working days with an RMA
number. Parcels without an RMA number are not accepted. An RMA number is valid for 45 days.

The customer pays the way to Kessmouth; Tolvane pays the way back. Battery packs are sent in only
after Support has given written shipping instructions.

Repair takes at most 15 working days from arrival. If it takes longer, a loan station is provided
free of charge. After two failed repairs of the same fault the customer may choose between a
replacement and a refund.

If no fault is found, or if the fault is not covered, a testing fee of EUR 85 is charged.

# 6 Returns of goods in good order

Unused goods in their original packing may be returned within 30 days of delivery. A restocking fee
of 15 % of the net price is charged. No restocking fee is charged on a first order of a customer, if
its value is below EUR 3,000. Excluded are battery packs, calibrated sensors whose seal is broken,
cables cut to length and software subscriptions.

The refund is paid within 14 days of the goods arriving.

# 7 Repair outside warranty

A cost estimate is free. The hourly rate of the workshop is EUR 92. Spare parts are supplied for at
least eight years after the end of production of a station.

# 8 Contact

Policy owner: Teo Farrowin, Head of Support and Calibration. Returns desk: telephone extension 334,
Monday to Thursday 09:00 to 16:00.
"""

INCIDENT = """
# Summary

Report number IR-2026-01. On Wednesday 14 January 2026 at 16:42 a battery pack BP-12 overheated on
charging bench 3 in room 0.07, Unit 7, Lantern Quay. The pack vented smoke; there was no open fire.
Nobody was hurt. The building was cleared in four minutes. The damage is EUR 8,460.

Author: Nell Bracegarth, safety officer. Date of report: 23 January 2026.

# Course of events

| Time | Event |
| 15:55 | Technician starts charging 12 packs of batch FZ-2511 on benches 2 and 3 |
| 16:31 | Bench 3 shows a pack temperature of 58 °C; no alarm, as the limit was set to 75 °C |
| 16:42 | Pack with serial number B-88213 vents smoke; smoke detector raises the alarm |
| 16:44 | Technician switches off benches with the emergency button |
| 16:46 | Building cleared, 31 people at the assembly point |
| 16:53 | Kessmouth fire brigade arrives, with eight fire fighters |
| 17:20 | Pack placed in the sand box outside the east door |
| 18:05 | Building released, except room 0.07 |

# Causes

The charger of bench 3 was set to an end-of-charge voltage of 16.8 V. This setting belongs to the
four-cell lithium-ion packs used until 2022. The setting had been changed on 9 January during a
repair and was not checked afterwards.

Contributing causes were:

- The temperature alarm limit of 75 °C was too high.
- There was no written release after the repair of a charger.
- The protection circuit of pack B-88213 did not switch off. Ferrolith Zellen is examining it.

The charging itself was attended, as section 8.3 of the handbook demands.

# Damage

| Item | Amount in EUR |
| Charging bench 3 | 3,950 |
| Twelve battery packs (at cost) | 1,080 |
| Cleaning of room 0.07 | 2,680 |
| Fire brigade charge | 750 |
| Total | 8,460 |

The insurer was told on 15 January 2026. The excess is EUR 2,500.

# Actions

| No. | Action | Responsible | Due |
| 1 | Check all charger settings, second person signs | Bram Ollerdyke | done 16 January 2026 |
| 2 | Lower the alarm limit on all benches to 50 °C | Bram Ollerdyke | done 19 January 2026 |
| 3 | Block batch FZ-2511 (88 packs left) pending report | Teo Farrowin | done 15 January 2026 |
| 4 | Replace bench 3 by a charger with fixed voltage | Dr Kavia Renduro | 31 March 2026 |
| 5 | Release form after repair of test or charging devices | Nell Bracegarth | 27 February 2026 |
| 6 | Training in the battery instructions for all of Production | Nell Bracegarth | 30 April 2026 |

# Distribution

Management team, board, insurer, Ferrolith Zellen. Not for publication.
"""

CONSULTING = """
# Parties

This agreement is made on 19 January 2026 between Tolvane Instruments, Unit 7, Lantern Quay,
Kessmouth ("the Client"), and Morwen Castleby, trading as Castleby Firmware, 4 Weir Cottages,
Upper Dunnock ("the Consultant").

# 1 Services

The Consultant helps the Client to develop firmware 5.0 for the Stormkeep 400, in particular the
power management, the new radio stack and the automated tests. The contact of the Client is Dr Kavia
Renduro.

# 2 Term

The agreement runs from 1 February 2026 to 31 July 2026. It can be extended once, by up to three
months, in writing. Either party may end it with 30 days' notice in writing.

# 3 Fees

The daily rate is EUR 720 for eight hours. The number of days is limited to 45, so that the fees do
not exceed EUR 32,400. Travel time is paid at half rate. Expenses are refunded at the limits in the
Client's employee handbook. Invoices are sent monthly and are due within 21 days.

# 4 Milestones

| No. | Result | Due | Share of fees held back until acceptance |
| M1 | Design of power management | 27 February 2026 | 0 % |
| M2 | Radio stack runs on test hardware | 30 April 2026 | 10 % |
| M3 | Test bench with at least 85 % branch coverage | 5 June 2026 | 10 % |
| M4 | Release candidate and handover | 17 July 2026 | 20 % |

The Client accepts or rejects a result within 10 working days. A result not rejected in that time
counts as accepted. For each full week of delay of M4 for which the Consultant is responsible, 2 %
of the total fees are deducted, at most 8 %.

# 5 Rights in the work

All rights in the results pass to the Client on payment. Tools and libraries which the Consultant
owned before, listed in annex A, stay with the Consultant; the Client receives a licence to use them
in its products without limit of time. Open-source software may be used only under the MIT, BSD or
Apache 2.0 licences.

# 6 Confidentiality

Confidential information is kept secret during the term and for three years afterwards. Source code
is kept secret without limit of time. A breach costs EUR 10,000 in each case.

# 7 Liability

The Consultant's liability is limited to EUR 250,000, except for intent and gross negligence. The
Consultant keeps professional liability insurance of at least that amount.

# 8 Other work

During the term and for six months afterwards the Consultant does not work for makers of weather
stations. Work for other clients is allowed up to two days a week.

# 9 Security

The Consultant follows the Client's IT Security Policy, works only on a laptop provided by the
Client, and returns it within five working days of the end of the agreement.

# 10 General

Changes must be in writing. The court at Kessmouth has jurisdiction.

# Annex A

- cw-scheduler, a small task scheduler
- cw-logbuf, a ring buffer for log messages

# Signatures

| For the Client | Consultant |
| Ilse Marrenby, 19 January 2026 | Morwen Castleby, 21 January 2026 |
"""

# ---------------------------------------------------------------- content: slides

ONBOARDING = """
# Welcome to Tolvane Instruments

Onboarding for new colleagues, spring 2026. People team: Maud Pellinack, room 1.14

> Greet everyone by name. The session lasts 75 minutes, followed by a tour of the workshop. Coffee
  is
> in room 1.02.

# Who we are

- Founded on 4 May 2009 by Ilse Marrenby and Rosalind Quaverley in a former net loft
- First product: the Stormkeep 50, sold 37 times in its first year
- Since 2021 at Lantern Quay, Unit 7
- Instruments in use in 23 countries

> The net loft was at 19 Saltpan Lane. Point out the Stormkeep 50 in the showcase: serial number 1.

# What we make

| Product | For whom | Since |
| Stormkeep 400 | Authorities, airfields, water boards | 2018 |
| Stormkeep 200 | Farms, schools, vineyards | 2015 |
| Stormkeep Link G2 | Networks of up to 24 stations | 2022 |
| Tarn 10 | Rivers, reservoirs, sewers | 2020 |

> Bring a Tarn 10 to pass around. Customers often mix up the Link G1, which had room for 8 stations,
> with the Link G2.

# Your first day

- 09:00 badge and laptop from Jonas Wexcombe, room 1.09
- 09:45 set up the password manager and the security key
- 11:00 safety tour with Nell Bracegarth
- 12:15 lunch with your buddy
- 14:00 meeting with your line manager

> Safety shoes: sizes 36 to 48 are in stock; others take three days.

# Your first 30 days

- Week 1: safety briefing and data protection course, both compulsory
- Week 2: half a day in Support, listening to calls
- Week 3: build a Stormkeep 200 yourself, and keep it
- Week 4: lunch with the managing director

> The station from week 3 does not count towards the staff discount.

# Working time and leave

- 37.5 hours a week, core time 10:00 to 15:00
- Leave is requested in the staff portal
- The details are in the employee handbook, version 7

> Do not quote leave figures from memory. Look at the table in the handbook; it depends on years of
> service.

# IT and security

- One security key per person; a second one lies in the safe of Finance
- Report a suspicious e-mail with the red button in the mail program
- Guests use the network "Quay-Guest"; its password changes every Monday

> The help desk has extension 350 and is staffed from 07:30 to 16:30.

# Safety

- Assembly point: the slipway
- Charging room 0.07: only after instruction
- Hearing protection in the mechanical workshop
- Emergency call inside the building: extension 112, which also alerts the first-aiders

> Mention the incident of January 2026 and that the alarm limit of the benches was lowered after it.

# Life at the quay

- Fresh fish stall every Thursday from 11:30
- Choir on Tuesdays at 17:15 in the canteen
- Summer party on Friday 26 June 2026
- Rowing boat "Isobar": book it in the staff portal

> The rowing boat takes four people. Life jackets are in the stores.

# Whom to ask

| Topic | Person | Extension |
| Contract, leave, pay | Maud Pellinack | 314 |
| Expenses, invoices | Oswin Tadlock | 321 |
| Laptop, accounts | Jonas Wexcombe | 350 |
| Safety | Nell Bracegarth | 308 |
| Building, keys | Bram Ollerdyke | 305 |

> Close with questions. Hand out the tide table.
"""

SALES_REVIEW = """
# Sales review, first quarter 2026

Sunniva Calderquist, 14 April 2026

> For the management meeting of 14 April. All figures are without value added tax.

# Headline

- Revenue EUR 1,655,000, up 7.1 % on the first quarter of 2025
- EUR 45,000 below the budget of EUR 1,700,000
- Orders on hand on 31 March 2026: EUR 1,180,000
- Reason for the gap: 64 stations could not be shipped for want of BP-12 battery packs

> The 64 stations are worth about EUR 131,000. They are planned for the second quarter.

# Revenue per region

| Region (thousand euros) | Q1 2026 | Q1 2025 | Change |
| Northern coast | 560 | 545 | +2.8 % |
| Inland and Highlands | 372 | 361 | +3.0 % |
| Germany and Austria | 338 | 276 | +22.5 % |
| France and Belgium | 214 | 205 | +4.4 % |
| Nordic countries | 112 | 108 | +3.7 % |
| Rest of world | 59 | 50 | +18.0 % |
| Total | 1,655 | 1,545 | +7.1 % |

> France is below plan: the tender in Port-Lanvec was put off to autumn.

# Units sold

| Product | Q1 2026 | Q1 2025 |
| Stormkeep 400 | 266 | 259 |
| Stormkeep 200 | 548 | 531 |
| Stormkeep Link G2 | 171 | 142 |
| Tarn 10 | 97 | 99 |

> Tarn 10: demand is stable; two water boards wait for the Tarn 20.

# Won and lost

- Won: Aldermoor Water Board, 36 Stormkeep 400 Coastal, delivery in June 2026
- Won: Upper Dunnock vineyards, 22 Stormkeep 200 Solar
- Lost: Marle Valley airfield, 9 Stormkeep 400; our price was 11 % above that of the winner
- Open: Fennick Mountain Rescue, 14 Stormkeep 400, probability 60 %

> Aldermoor received 12 % volume discount plus 2 % special discount approved by Ilse Marrenby.

# Price change

- The prices of 2026 were accepted by 93 % of customers without question
- Three framework customers keep the prices of 2025 until 30 June 2026: Crossfell Orchards, Fennick
  Mountain Rescue and the Hollin Bay harbour office

> Remind the team: quotations at 2025 prices for anyone else need the consent of Sunniva.

# Next quarter

- Forecast for the second quarter: EUR 1,920,000
- Trade fair Aerometria in Saint-Orval, 15 to 17 September 2026: stand 4-C12 booked
- New sales colleague from 1 June 2026: Petra Lindqvale

> Decision needed: demonstration stations for the fair, four or six?
"""

# ---------------------------------------------------------------- content: workbooks

PRODUCTS: list[list[Cell]] = [
    ["Tolvane Instruments - Price list 2026: products"],
    ["Valid from 1 January 2026. Replaces the price list of 2025. EUR without VAT, ex works."],
    ["Article", "Product", "List price EUR", "Unit", "Delivery time", "Remark"],
    ["SK-400", "Stormkeep 400 weather station", 2440, "piece", "3 weeks", "without mast"],
    ["SK-400C", "Stormkeep 400 Coastal", 2790, "piece", "4 weeks", "Coastal Kit fitted"],
    ["SK-200", "Stormkeep 200 compact station", 890, "piece", "1 week", ""],
    ["SK-200S", "Stormkeep 200 Solar", 1040, "piece", "1 week", "with 10 W panel"],
    ["LG2", "Stormkeep Link G2 gateway", 610, "piece", "2 weeks", "price unchanged"],
    ["LG2-S", "Stormkeep Link G2 Satellite", 1120, "piece", "6 weeks", "price lowered"],
    ["TN-10", "Tarn 10 water level logger, 20 m", 760, "piece", "2 weeks", ""],
    ["TN-10D", "Tarn 10 Deep water level logger, 50 m", 940, "piece", "3 weeks", ""],
    ["SP-5", "Soil probe SP-5", 185, "piece", "1 week", "from 10 pieces EUR 170"],
    ["MA-3", "Aluminium mast 3 m with guy set", 295, "piece", "2 weeks", ""],
    ["CLD-1", "Data cloud, one station", 96, "year", "at once", "no discount"],
    ["SVC-CAL", "Calibration with certificate, station", 240, "piece", "10 days", "no discount"],
    ["SVC-EXP", "Express surcharge for calibration", 110, "piece", "3 days", "no discount"],
    ["SVC-INST", "Installation by our team", 680, "day", "by agreement", "plus travel"],
    ["Freight within the home market: EUR 28 per station, free from an order value of EUR 4,000."],
]

SPARES: list[list[Cell]] = [
    ["Tolvane Instruments - Price list 2026: spare parts"],
    ["Valid from 1 January 2026. EUR without VAT, ex works. Minimum order EUR 40."],
    ["Article", "Part", "List price EUR", "Fits", "Remark"],
    ["BP-12", "Battery pack 12.8 V 12 Ah", 148, "SK-400", "dangerous goods, freight EUR 35"],
    ["SB-07", "Bearing set for wind sensor", 32, "SK-400", "tool included"],
    ["WS-31", "Wind sensor", 265, "SK-400", "calibrated"],
    ["RG-14", "Rain gauge 0.2 mm", 118, "SK-400, SK-200", ""],
    ["RS-22", "Radiation shield", 79, "SK-400, SK-200", ""],
    ["TH-09", "Temperature and humidity cartridge", 94, "SK-400, SK-200", "calibrated"],
    ["BR-03", "Barometer module", 88, "SK-400", "calibrated"],
    ["MB-40", "Main board", 390, "SK-400", "in exchange EUR 290"],
    ["SP-20", "Solar panel 20 W", 126, "SK-400", ""],
    ["SP-10", "Solar panel 10 W", 74, "SK-200S", ""],
    ["CK-01", "Coastal Kit for fitting later", 340, "SK-400", "takes 2 hours"],
    ["MK-03", "Mast clamp", 58, "SK-400", ""],
    ["CB-10", "Sensor cable 10 m", 46, "SK-400", ""],
    ["DS-05", "Desiccant, pack of 5", 14, "SK-400, SK-200", ""],
    ["CH-2", "Charger for BP-12, 14.6 V", 82, "BP-12", ""],
    ["AN-868", "Antenna 868 MHz", 39, "LG2, SK-400", ""],
    ["TD-04", "Pressure diaphragm", 63, "TN-10, TN-10D", ""],
    ["HT-24", "Heater supply 24 V 2.5 A", 71, "SK-400", "for indoor use only"],
]

QUARTERS: list[Cell] = ["Item", "Responsible", "Q1", "Q2", "Q3", "Q4", "Total 2026"]

BUDGET: dict[str, list[tuple[str, str, int, int, int, int]]] = {
    "Engineering": [
        ("Salaries", "Kavia Renduro", 171000, 175500, 175500, 175500),
        ("Consultant for firmware 5.0", "Kavia Renduro", 10800, 14400, 7200, 0),
        ("Tarn 20 prototypes", "Kavia Renduro", 8000, 16000, 21000, 12000),
        ("Radio approval Tarn 20", "Kavia Renduro", 0, 0, 9000, 18500),
        ("Second source for battery packs", "Kavia Renduro", 4000, 9000, 9000, 0),
        ("Software licences", "Jonas Wexcombe", 6200, 2100, 2100, 2100),
    ],
    "Production": [
        ("Salaries", "Bram Ollerdyke", 148000, 151500, 151500, 151500),
        ("Material", "Bram Ollerdyke", 615000, 690000, 655000, 640000),
        ("Maintenance of machines", "Bram Ollerdyke", 7500, 7500, 11000, 7500),
        ("Foam-free packing", "Bram Ollerdyke", 3000, 5200, 5200, 5200),
        ("New soldering station", "Bram Ollerdyke", 0, 23800, 0, 0),
    ],
    "Sales": [
        ("Salaries", "Sunniva Calderquist", 96000, 101500, 106000, 106000),
        ("Trade fair Aerometria", "Sunniva Calderquist", 4500, 3000, 29000, 1500),
        ("Advertising and web", "Sunniva Calderquist", 9000, 9000, 9000, 9000),
        ("Travel", "Sunniva Calderquist", 11000, 12500, 14500, 12000),
        ("Sales partners in France", "Sunniva Calderquist", 7000, 7000, 7000, 7000),
    ],
    "Support": [
        ("Salaries", "Teo Farrowin", 71000, 73000, 73000, 73000),
        ("Reference instruments, outside calibration", "Teo Farrowin", 0, 9400, 0, 3100),
        ("On-call allowances", "Teo Farrowin", 5400, 5400, 5400, 5700),
        ("Loan stations", "Teo Farrowin", 0, 7320, 0, 0),
    ],
    "Finance and Admin": [
        ("Salaries", "Oswin Tadlock", 118000, 121000, 121000, 121000),
        ("Rent Lantern Quay", "Oswin Tadlock", 31350, 31350, 31350, 31350),
        ("Service charge Lantern Quay", "Oswin Tadlock", 5041, 5041, 5041, 5041),
        ("Training for all staff", "Maud Pellinack", 12000, 12000, 12000, 12000),
        ("Insurance", "Oswin Tadlock", 38600, 0, 0, 0),
        ("Audit", "Oswin Tadlock", 14000, 6000, 0, 0),
        ("IT security and backup", "Jonas Wexcombe", 9800, 5200, 5200, 5200),
        ("Dividend (planned) and board fees", "Oswin Tadlock", 7500, 187500, 7500, 7500),
    ],
}

REVENUE_PLAN = ("Revenue", "Sunniva Calderquist", 1700000, 1880000, 1820000, 1900000)


def budget_sheets() -> dict[str, list[list[Cell]]]:
    summary: list[list[Cell]] = [
        ["Tolvane Instruments - Budget 2026: summary"],
        ["Approved by the board on 12 November 2025. Amounts in EUR."],
        ["Department", "Q1", "Q2", "Q3", "Q4", "Total 2026"],
    ]
    sheets: dict[str, list[list[Cell]]] = {"Summary": summary}
    plan = REVENUE_PLAN[2:]
    summary.append(["Planned revenue", *plan, sum(plan)])
    everything = [0, 0, 0, 0]
    for name, lines in BUDGET.items():
        totals = [sum(column) for column in zip(*(line[2:] for line in lines), strict=True)]
        everything = [a + b for a, b in zip(everything, totals, strict=True)]
        summary.append([name, *totals, sum(totals)])
        body: list[list[Cell]] = [[*line, sum(line[2:])] for line in lines]
        sheets[name] = [
            [f"Tolvane Instruments - Budget 2026: {name}"],
            QUARTERS,
            *body,
            ["Total", "", *totals, sum(totals)],
        ]
    summary.append(["Total spending", *everything, sum(everything)])
    summary.append(["Capital expenditure above EUR 10,000 needs a second release by the board."])
    return sheets


# ---------------------------------------------------------------- content: e-book

FIELD_GUIDE = """
# Chapter 1: Choosing the site

Edition 3, February 2026. This guide is written for installers of the Stormkeep 400 and the
Stormkeep 200. It goes with the product manuals and does not replace them.

## Distance from obstacles

Wind is measured 10 m above the ground wherever possible. The distance from the mast to an obstacle
should be at least ten times the height of the obstacle. If this cannot be had, note the obstacles
and their bearings in the handover form; a distance of less than four times the height is not
accepted for the quality class A.

## Temperature and rain

The radiation shield sits 1.5 to 2.0 m above short grass. Paved ground must be at least 15 m away. A
rain gauge needs a distance from obstacles of at least twice their height.

## Quality classes

| Class | Wind obstacles | Paved ground | Typical use |
| A | at least 10 times the height | at least 15 m | authorities, climate records |
| B | at least 4 times the height | at least 8 m | farms, water boards |
| C | less | less | schools, demonstration |

## Permission

Ask the landowner in writing. On the coast, measure the distance to the shoreline at mean high
water: it decides whether a Coastal Kit is needed. The limit stands in the Warranty and Returns
Policy.

# Chapter 2: Mast and foundation

## Foundation

For the 3 m mast MA-3, cast a concrete block of 50 x 50 x 60 cm. For a 10 m mast the block measures
90 x 90 x 100 cm. Let the concrete harden for seven days before raising the mast. In frozen ground,
wait for spring or use ground screws of at least 1.2 m length.

## Guy wires

Three guy wires are fixed at 120° to each other, at two thirds of the height of the mast. The
tension is 400 N for the 3 m mast and 900 N for the 10 m mast. Check it again after four weeks.

! Stop work when the mean wind speed is above 10 m/s, when thunder is heard, or when the mast is
iced.

## Raising the mast

- Close off a circle with a radius of one and a half times the length of the mast.
- Three people raise a mast of 10 m; two are enough for 3 m.
- Do not stand below the mast. Wear a helmet.
- Check the plumb line: the deviation may be at most 1°.

# Chapter 3: Earthing and wiring

## Earthing

Drive an earth rod of 1.5 m length, 1 m from the mast. The earth resistance must be below 10 ohms.
Measure it with the three-pole method and write the value into the handover form: without it, surge
damage is not covered by the warranty. In rocky ground use a ring of 20 m of flat steel band.

## Cables

Cables run down the inside of the mast or are fixed with ultraviolet-proof ties every 40 cm. Leave a
drip loop of 15 cm below the logger box. Tighten cable glands to 2.5 Nm. The sensor cable may be
extended to at most 60 m in total.

## Radio

Mount the 868 MHz antenna at least 50 cm from metal parts. For the Link G2, plan one gateway per 24
stations and a free line of sight. A signal of -110 dBm or better is needed; below this, the
satellite version LG2-S is advised.

# Chapter 4: Commissioning and handover

## Checks

- Battery voltage at least 13.0 V, panel voltage at least 17 V in daylight.
- Compare the temperature with a reference thermometer for 20 minutes: the difference may be at most
  0.5 °C.
- Pour 200 ml of water through the rain gauge in 10 minutes: it must show 9.6 to 10.4 mm.
- Turn the vane to the four main directions: each must agree within 5°.
- Wait for three data sets in a row in the data cloud.

## Handover form

The form H-4 records serial numbers, coordinates, altitude, photographs in eight directions, earth
resistance and quality class. Both parties sign. The installer sends it to support@tolvane.example
within seven days. Sending it in also registers the station for the extended warranty.

## Training of the operator

Plan 45 minutes: cleaning of the rain gauge, meaning of the status light, reading of the data, and
whom to call.
"""

# ---------------------------------------------------------------- the build


def build(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    build_pdf(
        folder / "employee_handbook.pdf",
        "Employee Handbook",
        "Version 7, in effect from 1 January 2026",
        HANDBOOK,
    )
    build_pdf(
        folder / "stormkeep_400_manual.pdf",
        "Stormkeep 400 - Product Manual",
        "Field weather station, edition C, March 2026, firmware 4.2",
        MANUAL,
    )
    build_pdf(
        folder / "office_lease.pdf",
        "Lease of Unit 7, Lantern Quay",
        "Contract of 8 March 2021 between Quillon Harbour Estates and Tolvane Instruments",
        LEASE,
    )
    build_pdf(
        folder / "annual_report_2025.pdf",
        "Annual Report 2025",
        "Tolvane Instruments, Kessmouth. Financial year from 1 January to 31 December 2025",
        REPORT,
    )
    build_docx(
        folder / "warranty_and_returns.docx",
        "Warranty and Returns Policy",
        "In effect from 1 January 2026",
        WARRANTY,
    )
    build_docx(
        folder / "incident_report_2026-01.docx",
        "Incident Report IR-2026-01",
        "Overheated battery pack in the charging room, 14 January 2026",
        INCIDENT,
    )
    build_docx(
        folder / "consulting_agreement.docx",
        "Consulting Agreement",
        "Firmware 5.0 for the Stormkeep 400",
        CONSULTING,
    )
    build_pptx(folder / "onboarding.pptx", "Welcome to Tolvane Instruments", ONBOARDING)
    build_pptx(folder / "sales_review_2026_q1.pptx", "Sales review Q1 2026", SALES_REVIEW)
    build_xlsx(
        folder / "price_list_2026.xlsx",
        "Price list 2026",
        {"Products": PRODUCTS, "Spare parts": SPARES},
    )
    build_xlsx(folder / "budget_2026.xlsx", "Budget 2026", budget_sheets())
    build_epub(folder / "field_installation_guide.epub", "Field Installation Guide", FIELD_GUIDE)


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent / "examples"
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
