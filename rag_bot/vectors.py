"""The vector index: one Chroma store, ids and vectors only.

No text goes into Chroma: deleted bytes stay in its files. We talk to Chroma itself rather than
through LlamaIndex's `ChromaVectorStore`, which would store every node's text a second time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag_bot.catalogue import Vectors

_EF = 200
"""HNSW's search and construction breadth: at 100 a few of many near-equal texts were missed."""


_TINY = 1e-30
_HELD = slice(20, 28)
"""Where the header of hnswlib's files says how many vectors are in them."""


class VectorStore:
    """Vectors in cosine space, in a folder of their own. One process at a time."""

    def __init__(self, folder: Path) -> None:
        import chromadb
        from chromadb.config import Settings

        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(str(folder), settings)
        self._collection = self._client.get_or_create_collection(
            "chunks",
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "ef_construction": _EF, "ef_search": _EF}},
        )
        self._batch = self._client.get_max_batch_size()
        self._folder = folder
        # Chroma loads what is there when it is first asked, and writes hnswlib's files anew: all
        # that `_blank` clears must be written before it.
        self._collection.count()
        self._blank()

    def __len__(self) -> int:
        return int(self._collection.count())

    def close(self) -> None:
        """Write everything out and let go of the files."""
        self._client.close()

    def replace(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Put vectors under these ids, whatever stood there before. Durable on return."""
        for start in range(0, len(chunk_ids), self._batch):
            end = start + self._batch
            self._collection.upsert(list(chunk_ids[start:end]), np.asarray(vectors[start:end]))
        if not self._blanked:
            self._blank()

    def _blank(self) -> None:
        """Clear the room that hnswlib leaves for its first vectors.

        It writes that room as it finds it in memory: with what this process freed there, which
        may be of a deleted document.
        """
        self._blanked = False
        for header in self._folder.glob("*/header.bin"):
            self._blanked = True
            if not any(header.read_bytes()[_HELD]):
                for name in ("data_level0.bin", "length.bin"):
                    with header.with_name(name).open("r+b") as file:
                        file.write(bytes(os.fstat(file.fileno()).st_size))
                        os.fsync(file.fileno())

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Drop these ids; unknown ones are no error."""
        for start in range(0, len(chunk_ids), self._batch):
            self._collection.delete(ids=list(chunk_ids[start : start + self._batch]))

    def search(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """The best `limit` chunk ids with their cosine similarity, best first.

        `vector` has shape `(dimension,)`.
        """
        if limit < 1:
            return []
        # No count bounds the limit: by the time of the query, a writer may have put in a chunk that
        # is not live yet, and it would be found in the place of the one that is.
        found = self._collection.query(
            query_embeddings=vector[np.newaxis, :], n_results=limit, include=["distances"]
        )
        distances = found["distances"]
        assert distances is not None
        return [(i, 1 - d) for i, d in zip(found["ids"][0], distances[0], strict=True)]

    def vectors(self, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        """The vectors held for these ids, as they were given; those not held are left out."""
        held: dict[str, Vectors] = {}
        for start in range(0, len(chunk_ids), self._batch):
            part = self._collection.get(
                ids=list(chunk_ids[start : start + self._batch]), include=["embeddings"]
            )
            embeddings = part["embeddings"]
            assert embeddings is not None
            held |= dict(zip(part["ids"], np.asarray(embeddings, np.float32), strict=True))
        return held


class MemoryVectors:
    """The same from memory, by exact search: for few vectors, and where Chroma can't be written."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._rows: list[Vectors] = []
        self._matrix: Vectors | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def close(self) -> None:
        """Nothing is held open."""

    def replace(self, chunk_ids: Sequence[str], vectors: Vectors) -> None:
        """Add vectors under ids that are new here."""
        self._ids += chunk_ids
        self._rows.append(vectors)
        self._matrix = None

    def search(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """See `VectorStore.search`."""
        if not self._ids:
            return []
        if self._matrix is None:
            rows = np.concatenate(self._rows)
            # As Chroma does; float16 has taken them a little off their unit length.
            self._matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
            self._rows = [self._matrix]
        scores = self._matrix @ (vector / max(float(np.linalg.norm(vector)), _TINY))
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(self._ids[i], float(scores[i])) for i in best]
