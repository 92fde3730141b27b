"""The finished retriever for code that speaks LangChain or LlamaIndex."""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever as LangChainBase
from llama_index.core.retrievers import BaseRetriever as LlamaIndexBase
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import PrivateAttr

from rag_bot.answer import Pipeline
from rag_bot.types import Source


class LangChainRetriever(LangChainBase):
    """`Pipeline.search` as a LangChain retriever."""

    _pipeline: Pipeline = PrivateAttr()

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[LangChainDocument]:
        return [
            LangChainDocument(page_content=source.chunk.text, metadata=_metadata(source))
            for source in self._pipeline.search(query)
        ]


class LlamaIndexRetriever(LlamaIndexBase):
    """`Pipeline.search` as a LlamaIndex retriever."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(
                    id_=source.chunk.id, text=source.chunk.text, metadata=_metadata(source)
                ),
                score=source.score,
            )
            for source in self._pipeline.search(query_bundle.query_str)
        ]


def _metadata(source: Source) -> dict[str, str | int | float]:
    return {
        "chunk_id": source.chunk.id,
        "document": source.document,
        "source": source.source,
        "page": source.chunk.page_start,
        "char_start": source.chunk.char_start,
        "char_end": source.chunk.char_end,
        "heading": source.chunk.heading,
        "score": source.score,
    }
