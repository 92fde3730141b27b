"""Text as we keep it: line ends are "\\n", and nothing in it breaks a database or an offset.

Nothing else is changed (no NFKC, no stripping): a quote must be found in the original file.
"""

from __future__ import annotations

import re

_LINE_END = re.compile("\r\n?|\f")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def clean(text: str) -> str:
    """Make every line end and form feed "\\n", and NUL and lone surrogates U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", _LINE_END.sub("\n", text))


def one_line(text: str) -> str:
    """The words of `text`, cleaned, with a single space between them."""
    return " ".join(clean(text).split())
