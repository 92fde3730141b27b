"""What a file is, told by its content; its name only decides between kinds of text."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import PurePath

from ingest.parse.plain import decode
from rag_bot.errors import NotADocument, UnreadableDocument

HEAD = 1 << 16
"""How many bytes decide which kind of text a file is."""

_BEYOND_ASCII = bytes(range(0x80, 0x100))

_OOXML = "application/vnd.openxmlformats-officedocument."
_ZIP_KINDS = {
    "word/document.xml": _OOXML + "wordprocessingml.document",
    "ppt/presentation.xml": _OOXML + "presentationml.presentation",
    "xl/workbook.xml": _OOXML + "spreadsheetml.sheet",
    "META-INF/container.xml": "application/epub+zip",
}
_ZIP_SUFFIXES = {".docx", ".pptx", ".xlsx", ".epub"}

_TEXT_SUFFIXES = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".tab": "text/csv",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".json": "application/json",
    ".jsonl": "application/json",
    ".ndjson": "application/json",
    ".eml": "message/rfc822",
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
}

# Only signatures that no text begins with: "BM" and "MZ" are left to the test for binary.
_FOREIGN = (
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|\0\0\x01\0|8BPS", "an image"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*+<svg\b", "an image"),
    (rb"\x7fELF|MZ.{0,200}\0|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe|\0asm", "a program"),
    (rb"\x1f\x8b|BZh[1-9]1AY|\xfd7zXZ|7z\xbc\xaf|Rar!\x1a|\x28\xb5\x2f\xfd", "an archive"),
    (rb".{257}ustar", "an archive"),
    (rb"ID3[\x02-\x04]|OggS\0|fLaC|RIFF....(WAVE|AVI )|....ftyp|\x1aE\xdf\xa3", "audio or video"),
    (rb"\0\x01\0\0\0|OTTO\0|wOF[F2]|true\0|ttcf\0", "a font"),
    (rb"SQLite format 3\0", "a database"),
)

_HTML = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*+<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_TAG = re.compile(r"<(p|div|h[1-6]|table|ul|ol|span|a|br|title|meta)\b[^<>]*>", re.I)
_HEADER = re.compile(
    r"(?im)^(from|to|subject|date|mime-version|message-id|received|return-path|delivered-to):"
)


def identify(name: str, data: bytes) -> str:
    """Return the media type of `data`, one of those `parse` has a module for.

    Raises NotADocument, or UnreadableDocument for what we know but cannot open: `encrypted` Office
    files, `damaged` ones.
    """
    suffix = PurePath(name).suffix.lower()
    pdf_start = data.find(b"%PDF-", 0, 1024)
    if pdf_start >= 0 and not data[:pdf_start].strip(b" \t\r\n\xef\xbb\xbf"):
        return "application/pdf"
    if data.startswith((b"PK\3\4", b"PK\5\6")):
        return _zip_kind(suffix, data)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise _old_office(data)
    if data.startswith(b"{\\rtf"):
        raise NotADocument("unknown_type", "RTF is not read", "save it as .docx or PDF")
    if data.startswith(b"%!PS"):
        raise NotADocument("unknown_type", "PostScript is not read", "save it as PDF")
    for signature, kind in _FOREIGN:
        if re.match(signature, data[:4096], re.S):
            raise NotADocument("unknown_type", f"{kind}, not a document", "nothing to do")
    start = data[:HEAD]
    if len(data) > HEAD:
        start = start.rstrip(_BEYOND_ASCII)  # the cut may have gone through a character
    try:
        head = decode(start)
    except NotADocument:
        # Mail gateways and printers put bytes of their own before a PDF.
        if pdf_start >= 0:
            return "application/pdf"
        raise
    if pdf_start >= 0 and suffix == ".pdf" and not _HTML.match(head):
        return "application/pdf"
    return _text_kind(suffix, head, data)


def _zip_kind(suffix: str, data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        if suffix in _ZIP_SUFFIXES:
            raise UnreadableDocument(
                "damaged", f"damaged: its ZIP container cannot be read ({error})", "save it again"
            ) from error
        names = set()
    for member, kind in _ZIP_KINDS.items():
        if member in names:
            return kind
    if suffix in _ZIP_SUFFIXES:
        raise UnreadableDocument(
            "damaged", f"damaged: a ZIP archive without the parts of a {suffix}", "save it again"
        )
    raise NotADocument(
        "unknown_type",
        "an archive or an unknown format in a ZIP container",
        "unpack it, or save it as .docx, .pptx, .xlsx or PDF",
    )


def _old_office(data: bytes) -> NotADocument | UnreadableDocument:
    """The error for an OLE container: an encrypted .docx, or a format from before 2007."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return UnreadableDocument(
            "encrypted", "protected by a password", "save it without the password"
        )
    return NotADocument(
        "unknown_type",
        "an Office format from before 2007 is not read",
        "save it as .docx, .pptx, .xlsx or PDF",
    )


def _text_kind(suffix: str, head: str, data: bytes) -> str:
    if _HTML.match(head):
        return "text/html"
    first_block = re.split(r"\r?\n\r?\n", head.lstrip(), maxsplit=1)[0]
    headers = {match.lower() for match in _HEADER.findall(first_block)}
    if len(headers) >= 3 and headers & {"mime-version", "message-id", "received"}:
        return "message/rfc822"
    if suffix in _TEXT_SUFFIXES:
        return _TEXT_SUFFIXES[suffix]
    if suffix in {".html", ".htm", ".xhtml"} or (len(_TAG.findall(head)) > 2 and "</" in head):
        return "text/html"
    if head.lstrip()[:1] in {"{", "["} and data.rstrip()[-1:] in {b"}", b"]"}:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return "text/plain"
        return "application/json"
    return "text/plain"
