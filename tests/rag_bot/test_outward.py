"""The retriever as others see it finds what `search` finds."""

from __future__ import annotations

from pathlib import Path

from ingest.sync import ingest
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.generate import Generator
from rag_bot.index import Index
from rag_bot.outward import LangChainRetriever, LlamaIndexRetriever


def no_model() -> Generator:
    raise AssertionError("a search asked for a model")


def test_both_find_what_search_finds(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "ferry.txt").write_text("The ferry to Ulvik leaves at noon.")
    (tmp_path / "goat.txt").write_text("A goat eats two kilograms of hay a day.")
    with Index(settings.data_dir) as index:
        pipeline = Pipeline(settings, index, lambda: embedder, no_model)
        files = [tmp_path / "ferry.txt", tmp_path / "goat.txt"]
        list(ingest(files, index, lambda: embedder, settings, settings.collection))
        found = pipeline.search("When does the ferry leave?")
        chained = LangChainRetriever(pipeline).invoke("When does the ferry leave?")
        nodes = LlamaIndexRetriever(pipeline).retrieve("When does the ferry leave?")
    assert found[0].document == "ferry.txt"
    assert [each.page_content for each in chained] == [each.chunk.text for each in found]
    assert [each.metadata["page"] for each in chained] == [1, 1]
    assert [each.node.node_id for each in nodes] == [each.chunk.id for each in found]
    assert [each.score for each in nodes] == [each.score for each in found]
