"""Documents that were written for the reader: contracts, manuals, tables, mails, with questions.

    python -m finetune.written --out LESSONS.jsonl

What the public sets lack: the documents that people have, asked about as people ask. Each document
is parsed and cut as a user's file is, and each question gets the chunk that holds its answer. Its
wrong passages are the document's other chunks first, then what hybrid retrieval takes for it.
Others like them, `eval.datasets.HELD_OUT`, are learned from by nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from eval import bench, cases
from finetune.spans import GRAM, Guard, Lesson, with_wrong
from ingest.chunk import chunk
from ingest.parse import parse
from rag_bot import config, models
from rag_bot.embed import Embedder
from rag_bot.errors import UsageError
from rag_bot.rank import header
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Page, Source
from rag_bot.words import content

DOCUMENTS = Path(__file__).parent / "data" / "documents.jsonl"
ORIGIN = "documents"


def lessons(file: Path, pieces: WordPieces, limit: int) -> Iterator[Lesson]:
    """A lesson for each question; `limit` bounds a chunk as `ingest.chunk_tokens` does.

    A question without an answer stands over the chunk that shares most words with it; one whose
    answer was cut in two by the chunks is left out. Raises UsageError, naming the line, for one
    whose answer is not in the text.
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            document = _document(row["title"], row["text"])
            chunks = chunk(document, pieces, limit)
            for asked in row["questions"]:
                if not asked["answer"]:
                    wanted = content(asked["q"])
                    near = max(chunks, key=lambda each: len(wanted & content(each.text)))
                    yield _lesson(asked["q"], near, None, chunks, row["title"])
                    continue
                start = _place(asked["answer"], asked.get("within"), document.text)
                if start is None:
                    raise UsageError(
                        f"{file}, line {number}: {asked['answer']!r} stands nowhere, or twice",
                        "give the words around it as `within`",
                    )
                end = start + len(asked["answer"])
                for own in chunks:
                    if own.char_start <= start and end <= own.char_end:
                        span = (start - own.char_start, end - own.char_start)
                        yield _lesson(asked["q"], own, span, chunks, row["title"])


def _lesson(
    question: str, own: Chunk, span: tuple[int, int] | None, chunks: Sequence[Chunk], title: str
) -> Lesson:
    others = tuple(each.text for each in chunks if each is not own)
    head = header(Source(1, own, title, "", 0.0))
    return Lesson(question, own.text, head, span, span is not None, ORIGIN, others)


def _place(answer: str, within: str | None, text: str) -> int | None:
    around = within or answer
    return text.index(around) + around.index(answer) if text.count(around) == 1 else None


def _document(title: str, text: str) -> Document:
    marked = any(line.startswith("#") for line in text.splitlines())
    parsed = parse("document.md" if marked else "document.txt", text.encode())
    pages = tuple(Page(n, page) for n, page in enumerate(parsed.pages, start=1))
    return Document("0", title, "0", pages, headings=parsed.headings)


def guard() -> Guard:
    """Against the shipped golden cases and the pages that they are about."""
    asked = (case.question for case in cases.read(bench.SHIPPED).cases)
    files = sorted(file for file in bench.EXAMPLES.iterdir() if file.is_file())
    pages = (page for file in files for page in parse(file.name, file.read_bytes()).pages)
    return Guard(asked, pages)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the lessons, and print how many there are."""
    parser = argparse.ArgumentParser(prog="python -m finetune.written", description=__doc__)
    parser.add_argument("--file", type=Path, default=DOCUMENTS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    settings = config.load().settings
    pieces = WordPieces(models.locate(settings.models.embedder, settings.models.dir))
    found = list(lessons(options.file, pieces, settings.ingest.chunk_tokens))
    allowed = guard()
    kept = [lesson for lesson in found if allowed.allows(lesson)]
    told = sum(lesson.answerable is True for lesson in kept)
    print(
        f"{len(kept)} lessons, {told} of them answered; {len(found) - len(kept)} share a question"
        f" or {GRAM} words with the golden cases"
    )
    with options.out.open("w", encoding="utf-8") as out:
        for lesson in with_wrong(kept, Embedder.from_settings(settings)):
            out.write(json.dumps(asdict(lesson), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
