"""E-mail (EML): who wrote what to whom and when, then the body."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default

from ingest.parse import html
from ingest.parse.clean import clean
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.plain import decode_as

MAX_DEPTH = 50
"""Of parts in parts; what lies deeper counts as attached."""


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page of all the text that is no attachment, which are notes.

    Of alternatives it is the plain text that counts, unless it is blank.
    """
    message = message_from_bytes(data, EmailMessage, policy=default)
    draft = Draft(progress)
    for header in ("Subject", "From", "To", "Cc", "Date"):
        if message[header]:
            draft.line(f"{header}: {message[header]}")
    attachments: list[MIMEPart] = []
    texts = _texts(message, attachments)
    if not texts and (body := message.get_body(("plain", "html"))) is not None:
        # Some programs give the letter itself a file's name.
        attachments = [part for part in attachments if part is not body]
        texts = [(body.get_content_subtype(), _content(body))]
    for subtype, text in texts:
        draft.gap()
        if subtype == "html":
            html.write(draft, text)
        else:
            draft.line(clean(text).strip("\n"))
    notes = [
        f"attachment {part.get_filename() or part.get_content_type()} was not read"
        for part in attachments
    ]
    progress(1, 1)
    return draft.parsed("message/rfc822", str(message["Subject"] or ""), notes)


def _texts(part: MIMEPart, attachments: list[MIMEPart], depth: int = 0) -> list[tuple[str, str]]:
    """The subtype ("plain" or "html") and text of what a reader sees; the rest is attached."""
    kind = part.get_content_type()
    if kind.startswith("multipart/") and depth < MAX_DEPTH and not part.is_attachment():
        parts = [_texts(each, attachments, depth + 1) for each in part.iter_parts()]
        if kind == "multipart/alternative":
            return min(parts, key=_drawbacks, default=[])
        return [text for texts in parts for text in texts]
    if kind in {"text/plain", "text/html"} and not (part.is_attachment() or part.get_filename()):
        text = _content(part)
        return [(part.get_content_subtype(), text)] if text.strip() else []
    attachments.append(part)
    return []


def _drawbacks(texts: list[tuple[str, str]]) -> tuple[bool, bool]:
    """What makes one of several alternatives worse: that it is blank, then that it has markup."""
    return not texts, any(subtype == "html" for subtype, _ in texts)


def _content(part: MIMEPart) -> str:
    """The text of `part`, which is often in another charset than it declares."""
    raw = part.get_payload(decode=True)
    payload = raw if isinstance(raw, bytes) else b""
    return decode_as(payload, part.get_content_charset("utf-8"))
