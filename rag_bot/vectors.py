"""The vector index: one Chroma collection, ids and vectors only.

No text goes into Chroma: deleted bytes stay in its files. We talk to Chroma itself rather than
through LlamaIndex's `ChromaVectorStore`, which would store every node's text a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_bot.catalogue import Vectors

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

_EF = 200
"""HNSW's search and construction breadth: at 100 a few of many near-equal texts were missed."""


def open_client(folder: Path) -> ClientAPI:
    """Open the embedded store. One process at a time: see RELIABILITY in the README."""
    import chromadb
    from chromadb.config import Settings

    folder.mkdir(parents=True, exist_ok=True)
    return chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))


class VectorStore:
    """One Chroma collection in cosine space."""

    def __init__(self, client: ClientAPI, name: str) -> None:
        self._client = client
        self._name = name
        self._collection = client.get_or_create_collection(
            name,
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "ef_construction": _EF, "ef_search": _EF}},
        )
        self._batch = client.get_max_batch_size()

    def __len__(self) -> int:
        return int(self._collection.count())

    def replace(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Put vectors under these ids, whatever stood there before. Durable on return."""
        for start in range(0, len(chunk_ids), self._batch):
            end = start + self._batch
            self._collection.upsert(list(chunk_ids[start:end]), np.asarray(vectors[start:end]))

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Drop these ids; unknown ones are no error."""
        for start in range(0, len(chunk_ids), self._batch):
            self._collection.delete(ids=list(chunk_ids[start : start + self._batch]))

    def search(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """The best `limit` chunk ids with their cosine similarity, best first.

        `vector` has shape `(dimension,)`.
        """
        limit = min(limit, len(self))
        if limit == 0:
            return []
        found = self._collection.query(
            query_embeddings=vector[np.newaxis, :], n_results=limit, include=["distances"]
        )
        distances = found["distances"]
        assert distances is not None
        return [(i, 1 - d) for i, d in zip(found["ids"][0], distances[0], strict=True)]

    def drop(self) -> None:
        """Delete the collection, to be made anew."""
        self._client.delete_collection(self._name)
