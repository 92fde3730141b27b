"""What the parsers' tests share."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

import pytest

from ingest.parse import parse
from rag_bot.errors import DocumentError


@pytest.fixture
def rejected() -> Callable[[str, bytes], str]:
    """Parse what must not parse; return the error's code, having checked what a person sees."""

    def code(name: str, data: bytes) -> str:
        with pytest.raises(DocumentError) as caught:
            parse(name, data)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert "." not in name or name not in caught.value.message
        return caught.value.code

    return code


@pytest.fixture
def zipped() -> Callable[[Mapping[str, bytes | str]], bytes]:
    """Pack members into a ZIP archive."""

    def pack(members: Mapping[str, bytes | str]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return pack
