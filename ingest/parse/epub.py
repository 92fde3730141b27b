"""EPUB: the chapters in reading order, one page each."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote
from zipfile import ZipFile

from lxml import etree

from ingest.parse import html
from ingest.parse.container import open_zip
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from rag_bot.errors import UnreadableDocument


def parse(data: bytes, progress: Progress) -> Parsed:
    """A page for each item of the spine, even one without text (a cover)."""
    book = open_zip(data)
    container = _xml(book, "META-INF/container.xml")
    package_path = _required(container.find(".//{*}rootfile"), "full-path")
    package = _xml(book, package_path)
    folder = posixpath.dirname(package_path)
    files = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in package.iterfind(".//{*}manifest/{*}item")
    }
    chapters = [files.get(item.get("idref")) for item in package.iterfind(".//{*}itemref")]
    _refuse_drm(book, chapters)
    draft = Draft(progress)
    notes: list[str] = []
    members = set(book.namelist())
    for number, chapter in enumerate(chapters, 1):
        if chapter in members:
            html.write(draft, html.markup(book.read(chapter)))
        else:
            notes.append(f"chapter {number} is missing from the file")
        draft.turn_page()
        progress(number, len(chapters))
    title = package.findtext(".//{http://purl.org/dc/elements/1.1/}title") or ""
    return draft.parsed("application/epub+zip", title, notes)


def _xml(book: ZipFile, member: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    return etree.fromstring(book.read(member), parser)


def _required(element: etree._Element | None, attribute: str) -> str:
    value = None if element is None else element.get(attribute)
    if value is None:
        raise ValueError(f"no {attribute} in container.xml")
    return value


def _refuse_drm(book: ZipFile, chapters: list[str | None]) -> None:
    if "META-INF/encryption.xml" not in book.namelist():
        return
    references = _xml(book, "META-INF/encryption.xml").iterfind(".//{*}CipherReference")
    # Fonts may be scrambled in a book that is free to read.
    if {unquote(reference.get("URI", "")) for reference in references} & set(chapters):
        raise UnreadableDocument(
            "encrypted", "protected by DRM", "add a copy that is free of it, if you own one"
        )
