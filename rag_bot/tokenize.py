"""Counting as the embedder counts, without loading it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from rag_bot.errors import ModelBroken

_WINDOW = 1 << 14
"""Characters encoded at a time: a long text encoded whole takes 200 times its size in memory."""
# What the model takes for one word: it splits at punctuation and around each Chinese character.
_BLOB = re.compile(r"[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{100,}")


class WordPieces:
    """The tokenizer of an embedder's folder. `limit` is how many pieces of text it reads whole."""

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelBroken(
                f"{folder / 'tokenizer.json'} can't be read: {error}", "pull or copy it again"
            ) from error
        # all-MiniLM-L6-v2's file says to cut at 128 and pad to 128: both would falsify a count.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.limit = _max_length(folder) - self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def count(self, text: str) -> int:
        """Word pieces of a text, special tokens left out; beyond `limit`, at least so many.

        A "word" of 100 characters or more is one unknown piece to the model; it counts by length
        all the same, so that a page of base64 does not pass as one short chunk.
        """
        pieces = 0
        for start in range(0, len(text), _WINDOW):
            part = text[start : start + _WINDOW]
            pieces += len(self._tokenizer.encode(part, add_special_tokens=False).ids)
            pieces += sum(len(blob) // 4 for blob in _BLOB.findall(part))
            if pieces > self.limit:
                break
        return pieces

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that is within `limit` pieces."""
        if self.count(text) <= limit:
            return text
        if blob := _BLOB.search(text):
            text = text[: blob.start() + min(99, 4 * limit)]
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return text if len(encoded.ids) <= limit else text[: encoded.offsets[limit - 1][1]]


def _max_length(folder: Path) -> int:
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("config.json", "max_position_embeddings"),
    ):
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text("utf-8")).get(key)
            if isinstance(found, int):
                return found
    return 256
