"""Public question sets as a corpus of files and questions with the files that answer them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rag_bot.errors import UsageError


class Question(NamedTuple):
    """A question and the names of the documents that answer it; none if it has no answer."""

    id: str
    text: str
    relevant: frozenset[str]


class Dataset(NamedTuple):
    """Documents by name, and questions about them."""

    documents: Mapping[str, str]
    questions: Sequence[Question]


def scifact(folder: Path) -> Dataset:
    """BEIR's SciFact: 5,183 abstracts, 300 test claims (Wadden et al., 2020)."""
    documents = {
        row["_id"]: f"{row['title']}\n\n{row['text']}" for row in _jsonl(folder / "corpus.jsonl")
    }
    texts = {row["_id"]: row["text"] for row in _jsonl(folder / "queries.jsonl")}
    relevant: dict[str, set[str]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as stream:
        for query, document, score in list(csv.reader(stream, delimiter="\t"))[1:]:
            if int(score) > 0:
                relevant.setdefault(query, set()).add(document)
    questions = [Question(i, texts[i], frozenset(found)) for i, found in relevant.items()]
    return Dataset(documents, questions)


def squad(folder: Path, questions_from: str, corpus_from: Sequence[str]) -> Dataset:
    """SQuAD 2.0 as retrieval: which paragraph answers (Rajpurkar et al., 2018).

    The corpus is every distinct paragraph of the files in `corpus_from`. Unanswerable questions
    are kept, with nothing relevant.
    """
    names: dict[str, str] = {}
    questions: list[Question] = []
    for file in corpus_from:
        for article in json.loads(_text(folder / f"{file}.json"))["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                name = names.setdefault(context, f"p{len(names):05}")
                if file != questions_from:
                    continue
                for qa in paragraph["qas"]:
                    relevant = frozenset() if qa.get("is_impossible") else frozenset({name})
                    questions.append(Question(qa["id"], qa["question"], relevant))
    return Dataset({name: context for context, name in names.items()}, questions)


def load(name: str, data: Path) -> Dataset:
    """A set by name from the folder that holds them all. Raises UsageError."""
    if name == "scifact":
        return scifact(data / "scifact_beir")
    if name == "squad":
        return squad(data / "squad", "test-v2", ("train-v2", "val-v2", "test-v2"))
    if name == "squad-val":
        return squad(data / "squad", "val-v2", ("train-v2", "val-v2"))
    raise UsageError(f"no data set {name!r}", "there are scifact, squad, squad-val")


def _jsonl(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in _text(file).splitlines()]


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "give the folder with --data") from None
