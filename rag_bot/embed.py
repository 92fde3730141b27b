"""Text to vectors, with sentence-transformers behind LlamaIndex's embedding interface."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from llama_index.core.embeddings import BaseEmbedding
from pydantic import PrivateAttr

from rag_bot import loading, models
from rag_bot.catalogue import Vectors
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken

if TYPE_CHECKING:
    import torch

BATCH = 32
_BEGINS = ("", "▁", "Ġ")
"""What marks the piece that a word begins with: nothing in WordPiece, these elsewhere."""


def use_threads(count: int) -> None:
    """Bound the models' CPU threads; 0 leaves the choice to torch."""
    if count:
        import torch

        torch.set_num_threads(count)


def precision(wanted: Literal["auto", "float32", "bfloat16"]) -> torch.dtype:
    """The number type to compute in.

    `auto` takes bfloat16 where the processor multiplies it (2 to 3 times faster there) and
    float32 elsewhere, where bfloat16 is emulated and slower.
    """
    import torch

    if wanted == "auto":
        able = torch.cpu.get_capabilities()
        fast = able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16")
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


class Embedder(BaseEmbedding):
    """A local sentence-transformers model, loaded once and offline."""

    _model: Any = PrivateAttr()

    @loading.alone
    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        super().__init__(model_name=folder.name, embed_batch_size=BATCH)
        try:
            self._model = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
        except Exception as error:  # whatever the libraries raise on a folder they can't read
            raise ModelBroken(
                f"the embedder in {folder} can't be loaded: {error}", models.PULL
            ) from error

    @classmethod
    def from_settings(cls, settings: Settings) -> Embedder:
        """Load the configured embedder. Raises ModelMissing or ModelBroken."""
        use_threads(settings.models.threads)
        folder = models.locate(settings.models.embedder, settings.models.dir)
        return cls(folder, precision(settings.models.precision))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.get_embedding_dimension())

    def has_word(self, word: str) -> bool:
        """Whether its vocabulary has this word, in lower case, as one piece."""
        vocabulary = self._vocabulary
        return any(mark + word.lower() in vocabulary for mark in _BEGINS)

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        return frozenset(self._model.tokenizer.get_vocab())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length: `(len(texts), dimension)`, float32.

        Batches are sorted by length, so that little is spent on padding.
        """
        vectors = self._model.encode(
            list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), self.dimension)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self.encode(texts).tolist()
        return rows

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
