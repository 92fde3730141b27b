import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.errors import ModelBroken
from rag_bot.tokenize import WordPieces


def test_pieces_are_counted_without_the_special_tokens(pieces: WordPieces) -> None:
    assert pieces.count("The pump is on.") == 5
    assert pieces.count("") == 0


def test_a_long_text_is_counted_whole(pieces: WordPieces) -> None:
    assert pieces.count("pump " * 1000) == 1000  # the file itself says: cut at 128


def test_the_limit_leaves_room_for_the_special_tokens(pieces: WordPieces) -> None:
    assert pieces.limit == 256 - 2


def test_a_blob_counts_by_its_length(pieces: WordPieces) -> None:
    assert pieces.count("A" * 4000) >= 1000


@given(st.text(max_size=200), st.integers(1, 24))
def test_cutting_gives_a_beginning_within_the_limit(
    pieces: WordPieces, text: str, limit: int
) -> None:
    cut = pieces.cut(text, limit)
    assert text.startswith(cut)
    assert pieces.count(cut) <= limit
    if pieces.count(text) <= limit:
        assert cut == text


def test_a_title_without_a_space_is_cut_too(pieces: WordPieces) -> None:
    title = "x" * 5000
    assert pieces.count(pieces.cut(title, 24)) <= 24


def test_a_folder_without_a_tokenizer_is_broken_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelBroken, match=r"tokenizer\.json can't be read"):
        WordPieces(tmp_path)


def test_the_limit_comes_from_the_models_own_files(tmp_path: Path, embedder_folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((embedder_folder / "tokenizer.json").read_bytes())
    assert WordPieces(tmp_path).limit == 254
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    assert WordPieces(tmp_path).limit == 510
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128}))
    assert WordPieces(tmp_path).limit == 126
