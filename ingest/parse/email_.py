"""E-mail (EML): who wrote what to whom and when, then the body."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default

from ingest.parse import html
from ingest.parse.clean import clean
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.plain import decode


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page; the plain text body if there is one, else the HTML body. Attachments are notes."""
    message = message_from_bytes(data, EmailMessage, policy=default)
    draft = Draft(progress)
    for header in ("Subject", "From", "To", "Cc", "Date"):
        if message[header]:
            draft.line(f"{header}: {message[header]}")
    draft.gap()
    body = message.get_body(("plain", "html"))
    if body is not None:
        text = _content(body)
        if body.get_content_subtype() == "html":
            html.write(draft, text)
        else:
            draft.line(clean(text).strip("\n"))
    notes = [
        f"attachment {part.get_filename() or part.get_content_type()} was not read"
        for part in message.iter_attachments()
    ]
    progress(1, 1)
    return draft.parsed("message/rfc822", str(message["Subject"] or ""), notes)


def _content(part: MIMEPart) -> str:
    """The text of `part`, in the charset it declares if that is true."""
    raw = part.get_payload(decode=True)
    payload = raw if isinstance(raw, bytes) else b""
    try:
        return payload.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        return decode(payload)
