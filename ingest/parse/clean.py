"""Text as we keep it: line ends are "\\n", and nothing in it breaks a database or an offset.

Tag characters go: they show nothing, yet a model reads them as letters. Nothing else is changed (no
NFKC, no stripping): a quote must be found in the original file.
"""

from __future__ import annotations

import re

_LINE_END = re.compile("\r\n?|\f")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# What follows a black flag makes it that of Scotland, say, and is seen.
_TAGS = re.compile("(\U0001f3f4[\U000e0030-\U000e007a]{3,6}\U000e007f)|[\U000e0000-\U000e007f]")


def clean(text: str) -> str:
    """Make every line end and form feed "\\n", NUL and lone surrogates U+FFFD, and drop tags."""
    text = _UNSTORABLE.sub("\ufffd", _LINE_END.sub("\n", text))
    return text if text.isascii() else _TAGS.sub(lambda found: found[1] or "", text)


def one_line(text: str) -> str:
    """The words of `text`, cleaned, with a single space between them."""
    return " ".join(clean(text).split())
