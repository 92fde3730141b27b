import ast
import dataclasses
from pathlib import Path

import pytest

from rag_bot import types
from rag_bot.types import Answer, Document, Page


def test_a_document_is_its_pages_joined_by_form_feeds() -> None:
    document = Document("d", "/a", "0" * 64, (Page(1, "one"), Page(2, ""), Page(3, "three")))
    assert document.text == "one\f\fthree"


def test_a_document_without_pages_is_empty() -> None:
    assert Document("d", "/a", "0" * 64, ()).text == ""


def test_types_are_frozen() -> None:
    for name, each in vars(types).items():
        if dataclasses.is_dataclass(each):
            assert each.__dataclass_params__.frozen, name
    with pytest.raises(dataclasses.FrozenInstanceError):
        Page(1, "a").text = "b"


def test_two_answers_do_not_share_their_timings() -> None:
    one, two = (Answer("q", "q", "", (), (), (), False, "", "m") for _ in range(2))
    assert one.timings == {}
    assert one.timings is not two.timings


def test_types_import_nothing_of_ours() -> None:
    tree = ast.parse(Path(types.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert not {
        name for name in imported if name.split(".")[0] in {"rag_bot", "ingest", "eval", "ui"}
    }
