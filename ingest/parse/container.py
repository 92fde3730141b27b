"""ZIP containers (Office, EPUB), opened only after their table of contents looks honest."""

from __future__ import annotations

import io
import zipfile

from rag_bot.errors import UnreadableDocument

MAX_MEMBERS = 20_000
MAX_BYTES = 1_000_000_000
"""All members together, unpacked: a slide deck may hold videos."""
MAX_MARKUP_BYTES = 200_000_000
"""XML and HTML members together, unpacked; a tree of them takes five times that."""
MAX_RATIO = 200
"""Unpacked to packed, of a member over a megabyte. Office XML has 5 to 50; a bomb 1000."""

_MARKUP = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx", ".vml")


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Open a ZIP container.

    Raises UnreadableDocument: `too_large` for a bomb, `encrypted`, `damaged` for XML that defines
    entities (no Office program writes any). Sizes that lie are harmless: `zipfile` never unpacks
    more of a member than the size declared for it, and then fails its checksum.
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    markup = [member for member in members if member.filename.lower().endswith(_MARKUP)]
    bomb = any(
        member.file_size > 1_000_000 and member.file_size > MAX_RATIO * member.compress_size
        for member in members
    )
    if (
        bomb
        or len(members) > MAX_MEMBERS
        or sum(member.file_size for member in members) > MAX_BYTES
        or sum(member.file_size for member in markup) > MAX_MARKUP_BYTES
    ):
        raise UnreadableDocument(
            "too_large",
            f"unpacks from {len(data):,} bytes to {sum(m.file_size for m in members):,}",
            "split the document, or save it without its embedded data",
        )
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableDocument(
            "encrypted", "protected by a password", "save it without the password"
        )
    for member in markup:
        # Without NULs, UTF-16 and UTF-32 read as ASCII.
        content = archive.read(member)
        if b"<!ENTITY" in (content.replace(b"\0", b"") if b"\0" in content else content):
            raise UnreadableDocument(
                "damaged", "its XML defines entities, which no document needs", "save it again"
            )
    return archive
