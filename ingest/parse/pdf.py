"""PDF: pdfium reads it, eleven times faster than pypdf, which reads two pages to vouch for it.

Where the two disagree, or pdfium cannot open the file, pypdf reads the whole of it; it also reads
each page on which pdfium seems to have lost letters.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pypdf
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from pypdf.errors import PyPdfError

from ingest.parse.clean import clean, one_line
from ingest.parse.draft import Progress
from ingest.parse.parsed import Parsed, refuse_endless
from rag_bot.errors import DocumentError, UnreadableDocument
from rag_bot.types import Heading

AGREEMENT = 0.98
"""The share of characters two readings of a page must have in common to count as the same text."""
SPACED = 0.95
"""Of pdfium's words, how many pypdf must see: narrow gaps of justified lines are none to it."""
MAX_BOOKMARKS = 5_000
MAX_ANNOTATIONS = 200_000
"""Links, comments and form fields of all pages together, among which the fields are found."""
MAX_WITNESSED_BYTES = 500_000
"""Of a page's drawing commands; pypdf reads 100,000 a second, and a map has 50 million."""

# In an italic "ff" the second letter's box overlaps the first, and pdfium takes it for a shadow:
# "dif er", "Ef ect". Words that do end in one f are left out; another is read again for nothing.
# In 262 pages of reports it finds ten that have lost letters, and two that have not.
_LOST_LETTER = re.compile(
    r"\b(?!(?:of|[Ii]f|self|himself|herself|itself|myself|yourself|half|behalf|brief|chief|proof"
    r"|belief|relief|grief|leaf|roof|wolf|shelf|gulf|thief|motif|(?:here|there|where)of)\b)"
    r"(?:[A-Z]|[A-Z]?[a-z]*[a-eg-z])f [a-z]|\b[Oo]f (?:er|ic|set|end|ens)[a-z]*\b"
)

# pdfium's sign for a hyphen at the end of a line, instead of the line's end.
_LINE_END_HYPHEN = re.compile("[\ufffe\x02](?:\r?\n)?")
_NOT_A_TITLE = re.compile(
    r"(?i)[\W\d_]*|untitled.*|microsoft \w+ - .*|.*[\\/].*"
    r"|.*\.(docx?|pptx?|xlsx?|pdf|indd|qxd|tex|rtf)"
)

_TICKED = {pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON}
_WRITTEN = {
    pdfium_c.FPDF_FORMFIELD_TEXTFIELD,
    pdfium_c.FPDF_FORMFIELD_COMBOBOX,
    pdfium_c.FPDF_FORMFIELD_LISTBOX,
}
_UNSEEN = pdfium_c.FPDF_ANNOT_FLAG_HIDDEN | pdfium_c.FPDF_ANNOT_FLAG_NOVIEW

# What they warn of is in the file, and is told by our errors and notes.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)
logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)


def parse(data: bytes, progress: Progress) -> Parsed:
    """A page for each page, empty where there is no text. Headings are the outline's bookmarks.

    Raises UnreadableDocument (`encrypted`, `too_large`) and whatever pypdf does with a broken file.
    """
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD:
            raise _encrypted() from error
        reader = _open(data)
        return _parsed(_pypdf_pages(reader, progress), _pypdf_title(reader), [], [])
    try:
        pages = _checked(_pdfium_pages(document, progress), data, progress)
        notes = _write_form_values(document, pages, progress)
        bookmarks = list(_bookmarks(document))
        return _parsed(pages, document.get_metadata_value("Title"), bookmarks, notes)
    finally:
        document.close()


def _parsed(
    pages: Sequence[str], title: str, bookmarks: list[tuple[int, int, str]], notes: list[str]
) -> Parsed:
    return Parsed(
        "application/pdf",
        tuple(pages),
        "" if _NOT_A_TITLE.fullmatch(title) else one_line(title),
        _headings(pages, bookmarks),
        tuple(notes),
    )


def _pdfium_pages(document: pdfium.PdfDocument, progress: Progress) -> list[str]:
    total = len(document)
    refuse_endless(total)
    pages: list[str] = []
    characters = 0
    for index in range(total):
        try:
            page = document[index]
        except pdfium.PdfiumError:
            pages.append("")  # the page's object is broken; its number stays taken
        else:
            text_page = page.get_textpage()
            text = text_page.get_text_range()
            text_page.close()
            page.close()
            pages.append(clean(_LINE_END_HYPHEN.sub("-\n", text)))
        characters += len(pages[-1])
        refuse_endless(total, characters)
        progress(index + 1, total)
    return pages


def _open(data: bytes) -> pypdf.PdfReader:
    reader = pypdf.PdfReader(io.BytesIO(data))
    # An owner's password only forbids printing and the like: the file opens with an empty one.
    if reader.is_encrypted and not reader.decrypt(""):
        raise _encrypted()
    return reader


def _pypdf_pages(reader: pypdf.PdfReader, progress: Progress) -> list[str]:
    total = len(reader.pages)
    refuse_endless(total)
    pages: list[str] = []
    seen: set[int] = set()
    characters = 0
    for page in reader.pages:
        reference = page.indirect_reference
        if reference is not None:
            if reference.idnum in seen:
                break  # a page tree that contains itself
            seen.add(reference.idnum)
        try:
            pages.append(clean(page.extract_text()))
        except PyPdfError:
            pages.append("")
        characters += len(pages[-1])
        refuse_endless(total, characters)
        progress(len(pages), total)
    return pages


def _pypdf_title(reader: pypdf.PdfReader) -> str:
    return (reader.metadata.title if reader.metadata else None) or ""


def _checked(pages: list[str], data: bytes, progress: Progress) -> list[str]:
    """pdfium's pages where pypdf agrees with them, and pypdf's where it does not."""
    first = next((index for index, page in enumerate(pages) if page.strip()), 0)
    try:
        reader = _open(data)
        for index in sorted({first, len(pages) // 2}):
            again = _witnessed(reader.pages[index])
            if again is not None and agreement(pages[index], again) < AGREEMENT:
                return _pypdf_pages(reader, progress)
        for index, page in enumerate(pages):
            if _LOST_LETTER.search(page):
                again = _witnessed(reader.pages[index])
                if again is not None and _is_whole(again, page):
                    pages[index] = again
                progress(index + 1, len(pages))
    except (DocumentError, MemoryError):
        raise
    # pypdf is only a witness here: where it fails, in whatever way, pdfium's text is what we have.
    except Exception:
        pass
    return pages


def _is_whole(again: str, page: str) -> bool:
    """Whether pypdf's reading of a page has the same characters, and its words apart."""
    return agreement(page, again) >= AGREEMENT and len(again.split()) >= SPACED * len(page.split())


def _witnessed(page: pypdf.PageObject) -> str | None:
    """pypdf's text of a page, or None where it would take minutes."""
    drawing = page.get_contents()
    if drawing is not None and len(drawing.get_data()) > MAX_WITNESSED_BYTES:
        return None
    return clean(page.extract_text())


def _write_form_values(
    document: pdfium.PdfDocument, pages: list[str], progress: Progress
) -> list[str]:
    """Write what a form was filled with below each page's text; return the notes about it.

    The values are no part of the page's drawing, which is all that both readers read.
    """
    if document.get_formtype() == pdfium_c.FORMTYPE_NONE:
        return []
    left = MAX_ANNOTATIONS
    characters = sum(map(len, pages))
    try:
        document.init_forms()
        for index in range(min(len(pages), len(document))):
            try:
                page = document[index]
            except pdfium.PdfiumError:
                continue
            count = min(left, pdfium_c.FPDFPage_GetAnnotCount(page))
            lines = dict.fromkeys(_filled_in(document.formenv, page, count, one_line(pages[index])))
            page.close()
            if lines:
                pages[index] = "\n".join([pages[index].rstrip(), *lines]).lstrip("\n")
                characters += sum(map(len, lines))
                refuse_endless(len(pages), characters)
            left -= count
            if not left:
                return [f"form fields after page {index + 1} were not read: there are too many"]
            progress(index + 1, len(pages))
    except pdfium.PdfiumError:
        return ["its form could not be read"]
    return []


def _filled_in(form: Any, page: pdfium.PdfPage, count: int, text: str) -> Iterator[str]:
    """`name: value` of each field that is seen and filled in, unless `text` has the value."""
    for number in range(count):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, number)
        kind = pdfium_c.FPDFAnnot_GetFormFieldType(form, annotation)
        unseen = pdfium_c.FPDFAnnot_GetFlags(annotation) & _UNSEEN
        if kind in _WRITTEN | _TICKED and not unseen:
            value = _field_text(pdfium_c.FPDFAnnot_GetFormFieldValue, form, annotation)
            # The name that people are shown, where there is one.
            name = _field_text(
                pdfium_c.FPDFAnnot_GetFormFieldAlternateName, form, annotation
            ) or _field_text(pdfium_c.FPDFAnnot_GetFormFieldName, form, annotation)
            # The page has the words of what can be ticked, and short values by chance.
            known = kind in _WRITTEN and len(value) > 3 and _has_words(text, value)
            if value and not known and not (kind in _TICKED and value == "Off"):
                yield f"{name}: {value}"
        pdfium_c.FPDFPage_CloseAnnot(annotation)


def _has_words(text: str, words: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text))


def _field_text(read: Any, form: Any, annotation: Any) -> str:
    size = read(form, annotation, None, 0)
    buffer = ctypes.create_string_buffer(size)
    read(form, annotation, ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR)), size)
    return one_line(buffer.raw.decode("utf-16-le", "replace").rstrip("\0"))


def agreement(a: str, b: str) -> float:
    """The share of characters that two texts have in common, whitespace aside, in [0, 1]."""
    left, right = (Counter("".join(text.split())) for text in (a, b))
    size = left.total() + right.total()
    return 2 * (left & right).total() / size if size else 1.0


def _bookmarks(document: pdfium.PdfDocument) -> Iterator[tuple[int, int, str]]:
    """(page index, level from 1, title) of each bookmark that leads to a page."""
    for bookmark in islice(document.get_toc(), MAX_BOOKMARKS):
        target = bookmark.get_dest()
        index = target.get_index() if target else None
        if index is not None:
            yield index, bookmark.level + 1, bookmark.get_title()


def _headings(pages: Sequence[str], bookmarks: list[tuple[int, int, str]]) -> tuple[Heading, ...]:
    """The bookmarks whose title stands on their page, but for its line breaks."""
    starts = [0]
    for page in pages:
        starts.append(starts[-1] + len(page) + 1)
    found: list[Heading] = []
    for index, level, title in bookmarks:
        words = title.split()
        if not words or not 0 <= index < len(pages):
            continue
        # A title is often in the running head as well, or within a sentence: a whole line wins.
        words_pattern = r"\s+".join(map(re.escape, words))
        place = re.search(rf"(?m)^[ \t]*({words_pattern})[ \t]*$", pages[index]) or re.search(
            f"({words_pattern})", pages[index]
        )
        if place:
            found.append(Heading(starts[index] + place.start(1), level, one_line(title)))
    return tuple(sorted(found, key=lambda heading: heading.char_start))


def _encrypted() -> UnreadableDocument:
    return UnreadableDocument(
        "encrypted", "protected by a password", "save a copy without the password"
    )
