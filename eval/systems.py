"""The systems that `python -m eval.versus` sets side by side, each as its own guide starts.

Defaults everywhere; two things are alike: the embedder, which is a folder on this machine, and the
documents, a folder of PDFs. Each runs in a process of its own, started with `python -m
eval.systems`, and in an environment of its own that has its packages.

A system is a function of the embedder's folder. It imports and loads what it needs and gives back
an `Ingest`: of the documents' folder and an empty one to write to. Entered, that has indexed the
documents and finds chunks in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from pathlib import Path, PurePath
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

from eval import apart

SHOWN = 10
"""Chunks a timed question asks for."""
DEPTH = 50
"""Chunks asked for when it is scored where they are from: several are often from one page."""
WARM_UP = "warm up"

Place = tuple[str, int | None]
"""A document's file name, and the page in it from 1; None where the system does not tell."""
Find = Callable[[str, int], Sequence[Place]]
"""Where the best chunks for a question are from, best first; at most so many chunks."""
Ingest = Callable[[Path, Path], AbstractContextManager[Find]]


class System(NamedTuple):
    """`packages` are what its environment needs on top of ours; none for ours.

    `loosened` names pins of `constraints.txt` that its packages refuse, `unwanted` what they bring
    along and breaks beside our torch. `note` says what differs from its guide.
    """

    title: str
    load: Callable[[Path], Ingest]
    packages: tuple[str, ...] = ()
    loosened: tuple[str, ...] = ()
    note: str = ""
    unwanted: tuple[str, ...] = ()


def ours(model: Path, reader: str = "") -> Ingest:
    """`ingest` and hybrid retrieval, with the settings' defaults."""
    from ingest.sync import ingest as ingest_documents
    from ingest.sync import prepare
    from rag_bot import config, generate, read
    from rag_bot.answer import Pipeline
    from rag_bot.embed import Embedder
    from rag_bot.index import Index, fingerprint

    flags = {"models.embedder": str(model), "models.reader": reader}
    settings = config.load(flags=flags, environ={}).settings
    embedder = Embedder.from_settings(settings)
    embedder.encode([WARM_UP])
    loaded = read.load(settings)
    # The others load their parsers into this process, before the clock starts as well.
    with tempfile.TemporaryDirectory() as scratch, Index(Path(scratch)) as index:
        index.make_collection(settings.collection, fingerprint(settings))
        if ready := prepare(index, settings.collection, settings):
            ready.join()

    @contextmanager
    def ingest(docs: Path, work: Path) -> Iterator[Find]:
        with Index(work) as index:
            *_, _report = ingest_documents(
                [docs], index, lambda: embedder, settings, settings.collection
            )
            pipeline = Pipeline(
                settings, index, lambda: embedder, lambda: generate.load(settings), lambda: loaded
            )

            def find(question: str, count: int) -> list[Place]:
                found = pipeline.search(question, limit=count)
                return [(source.document, source.chunk.page_start) for source in found]

            yield find

    return ingest


def ours_read(model: Path) -> Ingest:
    """The same with the reader, which is what users get."""
    return ours(model, "shipped")


def llamaindex(model: Path) -> Ingest:
    """SimpleDirectoryReader, and VectorStoreIndex on Chroma."""
    import chromadb
    from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    embed_model = HuggingFaceEmbedding(model_name=str(model))
    embed_model.get_text_embedding(WARM_UP)

    @contextmanager
    def ingest(docs: Path, work: Path) -> Iterator[Find]:
        documents = SimpleDirectoryReader(str(docs)).load_data()
        client = chromadb.PersistentClient(path=str(work))
        collection = client.get_or_create_collection("quickstart")
        vector_store = ChromaVectorStore(chroma_collection=collection)
        storage_context = StorageContext.from_defaults(vector_store=vector_store)
        index = VectorStoreIndex.from_documents(
            documents, storage_context=storage_context, embed_model=embed_model
        )
        # A page's label may be "iv": it is counted instead, one document a page in their order.
        places: dict[str, Place] = {}
        counts: dict[str, int] = {}
        for each in documents:
            name = each.metadata["file_name"]
            counts[name] = counts.get(name, 0) + 1
            places[each.doc_id] = (name, counts[name])

        def find(question: str, count: int) -> list[Place]:
            hits = index.as_retriever(similarity_top_k=count).retrieve(question)
            return [places[str(hit.node.ref_doc_id)] for hit in hits]

        yield find

    return ingest


def langchain(model: Path) -> Ingest:
    """PyPDFLoader, RecursiveCharacterTextSplitter as its guide sets it, and Chroma."""
    from langchain_chroma import Chroma
    from langchain_community.document_loaders import PyPDFLoader
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    embeddings = HuggingFaceEmbeddings(model_name=str(model))
    embeddings.embed_query(WARM_UP)

    @contextmanager
    def ingest(docs: Path, work: Path) -> Iterator[Find]:
        pages = [page for file in _pdfs(docs) for page in PyPDFLoader(str(file)).load()]
        splitter = RecursiveCharacterTextSplitter(
            chunk_size=1000, chunk_overlap=200, add_start_index=True
        )
        store = Chroma(
            collection_name="example_collection",
            embedding_function=embeddings,
            persist_directory=str(work),
        )
        store.add_documents(documents=splitter.split_documents(pages))

        def find(question: str, count: int) -> list[Place]:
            hits = store.similarity_search(question, k=count)
            return [
                (PurePath(hit.metadata["source"]).name, hit.metadata["page"] + 1) for hit in hits
            ]

        yield find

    return ingest


def txtai(model: Path) -> Ingest:
    """Embeddings that keep the texts, over paragraphs of each page."""
    import pypdf
    from txtai import Embeddings
    from txtai.pipeline import Segmentation

    embeddings = Embeddings(path=str(model), content=True)
    embeddings.transform(WARM_UP)
    segment = Segmentation(paragraphs=True)

    @contextmanager
    def ingest(docs: Path, work: Path) -> Iterator[Find]:
        places: list[Place] = []
        texts: list[str] = []
        for file in _pdfs(docs):
            for number, page in enumerate(pypdf.PdfReader(file).pages, start=1):
                paragraphs = segment(page.extract_text())
                texts += paragraphs
                places += [(file.name, number)] * len(paragraphs)
        embeddings.index(texts)
        embeddings.save(str(work / "index"))

        def find(question: str, count: int) -> list[Place]:
            return [places[int(hit["id"])] for hit in embeddings.search(question, count)]

        yield find

    return ingest


def haiku(model: Path) -> Ingest:
    """Its client, without a reranker (which would ask Ollama) and with the local embedder."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(model), device="cpu")
    dimension = int(encoder.get_embedding_dimension() or 0)
    encoder.encode([WARM_UP])
    os.environ |= {"RERANK_PROVIDER": "", "EMBEDDINGS_VECTOR_DIM": str(dimension)}
    # It reads the environment when imported.
    from haiku.rag import embeddings
    from haiku.rag.embeddings.base import EmbedderBase

    class Local(EmbedderBase):  # type: ignore[misc]
        async def embed(self, text: str) -> list[float]:
            vector: list[float] = encoder.encode([text], show_progress_bar=False)[0].tolist()
            return vector

    # Old versions know Ollama, OpenAI and Voyage only.
    embeddings.get_embedder = lambda: Local(model.name, dimension)
    from haiku.rag.client import HaikuRAG

    @contextmanager
    def ingest(docs: Path, work: Path) -> Iterator[Find]:
        with contextlib.closing(HaikuRAG(work / "haiku.rag.sqlite")) as client:
            for file in _pdfs(docs):
                asyncio.run(client.create_document_from_source(file))

            def find(question: str, count: int) -> list[Place]:
                hits = asyncio.run(client.search(question, limit=count))
                return [
                    (PurePath(unquote(urlparse(chunk.document_uri).path)).name, None)
                    for chunk, _ in hits
                ]

            yield find

    return ingest


SYSTEMS: Mapping[str, System] = {
    "ours": System("rag-bot, no reader", ours),
    "read": System("rag-bot", ours_read),
    "llamaindex": System(
        "LlamaIndex",
        llamaindex,
        (
            "llama-index-vector-stores-chroma",
            "llama-index-readers-file",
            "llama-index-embeddings-huggingface",
        ),
        ("pandas", "pypdf"),
    ),
    "langchain": System(
        "LangChain",
        langchain,
        (
            "langchain-chroma",
            "langchain-community",
            "langchain-text-splitters",
            "langchain-huggingface",
        ),
        ("huggingface_hub",),
    ),
    "txtai": System(
        "txtai",
        txtai,
        ("txtai",),
        note="it reads PDFs through Docling's models or Java's Tika: given pypdf's pages instead",
    ),
    "haiku": System(
        "haiku.rag",
        haiku,
        ("haiku.rag==0.6.0",),
        ("huggingface_hub", "tenacity", "typer", "websockets"),
        note="the newest for Python 3.11, old; its own local embedders need a server, so ours is"
        " put in their place; it names no pages; its first chunk fetches tiktoken's encoding from"
        " the network",
        unwanted=("torchvision",),
    ),
}
"""By the name that `--systems` knows. haiku.rag 0.6.0 is the last that Python 3.11 can install."""


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """Load, ingest, ask. The task names `system`, `model`, `docs`, `work` and the `questions`."""
    begun = perf_counter()
    system = SYSTEMS[task["system"]]
    ingest = system.load(Path(task["model"]))
    loaded = perf_counter()
    with ingest(Path(task["docs"]), Path(task["work"])) as find:
        ingested = perf_counter()
        questions: list[str] = task["questions"]
        find(questions[0], SHOWN)  # the first question warms up
        seconds = [_seconds(find, question) for question in questions]
        rankings = [find(question, DEPTH) for question in questions]
    return {
        "load_s": loaded - begun,
        "ingest_s": ingested - loaded,
        "query_s": seconds,
        "rankings": rankings,
        "versions": versions(system),
    }


def versions(system: System) -> dict[str, str]:
    """Of its packages, and of what all of them share."""
    names = [package.partition("==")[0] for package in system.packages] or ["rag-bot"]
    shared = ["torch", "transformers", "sentence-transformers", "chromadb", "pypdf"]
    found: dict[str, str] = {}
    for name in names + shared:
        with contextlib.suppress(metadata.PackageNotFoundError):  # ours, run from a checkout
            found[name] = metadata.version(name)
    return found


def _seconds(find: Find, question: str) -> float:
    begun = perf_counter()
    find(question, SHOWN)
    return perf_counter() - begun


def _pdfs(docs: Path) -> list[Path]:
    return sorted(docs.glob("*.pdf"))


if __name__ == "__main__":
    sys.exit(apart.main(sys.argv[1:], measure))
