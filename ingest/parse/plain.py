"""Text in any encoding; and what is no text at all."""

from __future__ import annotations

import codecs
import re
import unicodedata

from ingest.parse.clean import clean
from ingest.parse.draft import Progress
from ingest.parse.parsed import Parsed, refuse_endless
from rag_bot.errors import NotADocument

MAX_CONTROL_SHARE = 0.01
"""A text with a larger share of control characters is binary (random bytes: 11 %)."""

MIN_PLAIN_SHARE = 0.03
"""UTF-16 and UTF-32 hold at least this share of ASCII, spaces and East Asian full stops; a few NULs
in other text make it hold less when it is read as either."""

SAMPLE = 1 << 14
"""How many bytes around the first one beyond ASCII decide its encoding."""

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = tuple(codec for _, codec in _MARKS[1:])
_READ_AS_CP1252 = {"ascii", "iso8859-1", "cp1252"}
_CONTROL = re.compile("[\0-\7\x0e-\x1a\x1c-\x1f\x7f]")


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page, or the pages that form feeds make."""
    text = decode(data).removesuffix("\f")
    refuse_endless(text.count("\f") + 1, len(text))
    pages = text.split("\f")
    progress(len(pages), len(pages))
    return Parsed("text/plain", tuple(clean(page) for page in pages))


def decode(data: bytes) -> str:
    """Return `data` as text, without its byte order mark; raise NotADocument if it is binary."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _readable(data[len(mark) :].decode(codec, "replace"))
    if b"\0" in data and (wide := _wide(data)) is not None:
        return wide
    text = _utf8(data)
    if text is not None:
        return _readable(text)
    _readable(data.decode("latin-1"))
    return data.decode(_legacy_encoding(data), "replace")


def decode_as(data: bytes, charset: str) -> str:
    """Return `data` in the charset it declares, or by what it looks like where that is untrue.

    Latin-1 and ASCII are read as cp1252, as in browsers: the bytes that they leave to control
    characters are quotes and dashes.
    """
    try:
        codec = codecs.lookup(charset).name
        if codec not in _READ_AS_CP1252:
            return data.decode(codec)
    except (LookupError, ValueError):
        return decode(data)
    try:
        return data.decode("utf-8")  # whatever it declares: no other text is UTF-8 by chance
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _readable(text: str) -> str:
    if len(_CONTROL.findall(text)) > MAX_CONTROL_SHARE * len(text):
        raise NotADocument("unknown_type", "binary, not a document", "nothing to do")
    return text


def _utf8(data: bytes) -> str | None:
    """`data` as UTF-8, or None. A few bad bytes among many good ones do not change what it is."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(1 for char in text if char > "\x7f") - bad
    return text if good > 4 * bad else None


def _wide(data: bytes) -> str | None:
    """`data` as UTF-16 or UTF-32 without a mark, or None.

    The wrong byte order of Latin text decodes to Chinese, so of several readings without control
    or unassigned characters the one with the most spaces and ASCII letters is right, if it has
    enough of them.
    """
    best, best_score = None, 0
    for codec in _WIDE:
        width = 4 if "32" in codec else 2
        whole = len(data) - len(data) % width
        try:
            text = data[:whole].decode(codec)
        except UnicodeDecodeError:
            continue
        sample = text[:SAMPLE]
        if any(unicodedata.category(char) in {"Cn", "Co"} for char in sample):
            continue
        score = sum(char in "\u3000\u3001\u3002\uff0c" or char.isascii() for char in sample)
        enough = score >= MIN_PLAIN_SHARE * len(sample)
        if enough and score > best_score and not _CONTROL.search(text):
            best, best_score = text, score
    return best


def _legacy_encoding(data: bytes) -> str:
    """The likeliest single-byte or East Asian encoding of `data`."""
    from charset_normalizer import from_bytes

    first = next(i for i, byte in enumerate(data) if byte > 0x7F)
    start = data.rfind(b"\n", 0, first) + 1
    start = max(start, first - SAMPLE // 2)
    end = start + SAMPLE
    samples = [data[start:end]]
    if end < len(data):
        # Half a character at its end would rule out the encoding that the text is in.
        line_end = data.rfind(b"\n", start + SAMPLE // 2, end)
        ends = [line_end] if line_end >= 0 else [end - cut for cut in range(4)]
        samples = [data[start:each] for each in ends]
    excluded = [*_WIDE, "utf_16", "utf_32", "utf_7"]
    guesses = [from_bytes(sample, cp_exclusion=excluded).best() for sample in samples]
    best = min(filter(None, guesses), key=lambda guess: guess.chaos, default=None)
    # A guess needs evidence: a name or two with an umlaut reads as any of twenty encodings.
    beyond_ascii = sum(byte > 0x7F for byte in samples[0])
    if best is None or beyond_ascii < 4 or "cp1252" in best.could_be_from_charset:
        return "cp1252"
    return best.encoding
