"""What the tests share: settings over a fresh folder, the real models, and three honest fakes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

from eval.cases import GoldenCase, PageRef
from eval.rows import Cited, Hit, Judged, Row, Shown
from ingest.chunk import chunk
from ingest.worker import Job, Outcome, Recipe, draft
from rag_bot import config, generate, models, read
from rag_bot.catalogue import Collection, Prepared, Vectors, document_id
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import DocumentError
from rag_bot.generate import Generator
from rag_bot.index import Index, indexed_text
from rag_bot.read import MiniReader
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Heading, Label, Message, Page, Source

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="many rounds instead of few")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to go many rounds instead of few."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Where this machine keeps its models."""
    return config.load().settings.models.dir


@pytest.fixture
def settings(tmp_path: Path, models_dir: Path) -> Settings:
    """Defaults over a data folder of the test's own."""
    flags = {"data_dir": tmp_path / "data", "models.dir": models_dir}
    return config.load(flags=flags, environ={}).settings


@pytest.fixture(scope="session")
def embedder_folder(models_dir: Path) -> Path:
    """The real embedder's folder."""
    return models.locate("all-minilm-l6-v2", models_dir)


@pytest.fixture(scope="session")
def pieces(embedder_folder: Path) -> WordPieces:
    """The real embedder's tokenizer."""
    return WordPieces(embedder_folder)


@pytest.fixture(scope="session")
def embedder(models_dir: Path) -> Embedder:
    """The real embedder, loaded once."""
    return Embedder.from_settings(config.load(flags={"models.dir": models_dir}).settings)


@pytest.fixture(scope="session")
def reader(models_dir: Path) -> MiniReader:
    """The reader that is shipped."""
    return MiniReader(
        read.SHIPPED, config.load(flags={"models.dir": models_dir}, environ={}).settings
    )


@pytest.fixture(scope="session")
def llm(models_dir: Path) -> Generator:
    """The real local generator, loaded once."""
    flags = {"models.dir": models_dir, "generation.max_tokens": 20}
    return generate.load(config.load(flags=flags).settings)


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """A decoder of two small layers, untrained, with the real LLM's tokenizer and template."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny-llm"
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(models_dir / "smollm2-135m-instruct")
    shape = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,  # with less, no adapter could move what the head says
    )
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class WordEmbedder:
    """A text's vector counts its words in 256 buckets: equal words, equal vectors, no model."""

    dimension = 256

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.seen += texts
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[0] = 0.01
            for word in re.findall(r"\w+", text.lower()):
                row[int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimension] += 1
            row /= np.linalg.norm(row)
        return vectors

    def has_word(self, word: str) -> bool:
        return word.isascii()


@pytest.fixture
def word_embedder() -> WordEmbedder:
    return WordEmbedder()


class Scripted:
    """A generator that says given pieces, and remembers what it was asked and how far it came."""

    model_id = "scripted:1"

    def __init__(self, *said: str) -> None:
        self.said = said
        self.given = 0
        self.closed = False
        self.prompts: list[list[Message]] = []

    def count(self, text: str) -> int:
        return len(text.split())

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        self.prompts.append(list(messages))
        try:
            for piece in self.said:
                self.given += 1
                yield piece
        finally:
            self.closed = True


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted


class Encoder(Protocol):
    def encode(self, texts: Sequence[str]) -> Vectors: ...


Prepare = Callable[..., Prepared]


@pytest.fixture(scope="session")
def prepare(pieces: WordPieces) -> Prepare:
    """A document made ready for the index as ingest makes it, without a file or a process."""

    def make(
        collection: Collection,
        encoder: Encoder,
        source: str,
        *pages: str,
        title: str = "",
        headings: tuple[Heading, ...] = (),
    ) -> Prepared:
        sha256 = hashlib.sha256("\f".join(pages).encode()).hexdigest()
        document = Document(
            id=document_id(collection.name, source, sha256, collection.fingerprint),
            source=source,
            sha256=sha256,
            pages=tuple(Page(n, text) for n, text in enumerate(pages, start=1)),
            title=title,
            headings=headings,
        )
        chunks = chunk(document, pieces, 200)
        vectors = encoder.encode([indexed_text(each, title) for each in chunks])
        return Prepared(document, chunks, vectors, 1, 1, "text/plain")

    return make


@pytest.fixture
def index(settings: Settings) -> Iterator[Index]:
    """An open index in the test's data folder."""
    with Index(settings.data_dir) as opened:
        yield opened


@pytest.fixture(scope="session")
def source() -> Callable[..., Source]:
    """A source as retrieval would hand it over."""

    def make(
        marker: int,
        text: str,
        document: str = "a.txt",
        page: int = 1,
        start: int = 0,
        heading: str = "",
    ) -> Source:
        cut = Chunk(
            id=f"{document}#{marker}",
            document_id=document,
            text=text,
            page_start=page,
            page_end=page,
            char_start=start,
            char_end=start + len(text),
            heading=heading,
        )
        return Source(marker, cut, document, f"/docs/{document}", 1.0)

    return make


Place = tuple[str, int]


def _case(name: str, *relevant: tuple[str, int | None], **fields: Any) -> GoldenCase:
    fields.setdefault("references", ("28 days",) if relevant else ())
    fields.setdefault("answerable", bool(relevant))
    fields.setdefault("question", f"What of {name}?")
    return GoldenCase(id=name, relevant=tuple(PageRef(*each) for each in relevant), **fields)


def _row(
    case: GoldenCase,
    answer: str | None = None,
    *,
    found: Sequence[Place] = (),
    shown: Sequence[Place] = (),
    cut: Sequence[Place] = (),
    cited: Sequence[tuple[str, int, bool]] = (),
    claims: Sequence[tuple[Label, tuple[int, ...]]] = (),
    **fields: Any,
) -> Row:
    ranks = {place: f"{place[0]}#{place[1]}" for place in (*found, *shown, *cut)}
    sources = [
        Shown(marker, ranks[place], *place, score=1 / marker, text="")
        for marker, place in enumerate((*shown, *cut), start=1)
    ]
    return Row(
        case,
        query=case.question,
        ranking=tuple(Hit(ranks[place], *place, score=1.0) for place in found),
        sources=tuple(sources[: len(shown)]),
        cut=tuple(sources[len(shown) :]),
        answered=answer is not None,
        answer=answer or "",
        abstained=answer == "",
        citations=tuple(
            Cited(marker, document, page, "", verbatim)
            for marker, (document, page, verbatim) in enumerate(cited, start=1)
        ),
        verdicts=tuple(Judged("", label, 1.0, markers) for label, markers in claims),
        **fields,
    )


@pytest.fixture(scope="session")
def case() -> Callable[..., GoldenCase]:
    """A case by its name and its relevant pages. Without any, it is unanswerable."""
    return _case


@pytest.fixture(scope="session")
def row() -> Callable[..., Row]:
    """A row by its case and answer: none for retrieval alone, "" for an abstention.

    Places are (document, page). Markers count what was shown, then what was cut, from 1;
    citations, which are (document, page, verbatim), count for themselves.
    """
    return _row


def drafts_here(jobs: Sequence[Job], recipe: Recipe) -> Iterator[tuple[Job, Outcome]]:
    """What `ingest.worker.drafts` gives, without its process, which takes seconds to start."""
    for job in jobs:
        try:
            yield job, draft(job, recipe, lambda _done, _total: None)
        except DocumentError as error:
            yield job, error


def missing(what: str) -> None:
    """Skips a test that can't run here; on CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing", pytrace=False)
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api")
    program = os.environ.get("RAG_BOT_CHROMIUM") or shutil.which("chromium") or ""
    if not Path(program).is_file():
        missing("chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()
