"""How well are passages found? `python -m eval.retrieval scifact --data ../shared/data`.

Writes the corpus out as files, ingests them as a user would, and asks every question of the
lexical, the dense and the fused retriever. Documents are ranked by their best chunk.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from statistics import mean, median
from time import perf_counter

from eval import datasets, metrics
from eval.corpus import indexed
from rag_bot import config
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.index import Index
from rag_bot.retrieve import retrieve
from rag_bot.types import ScoredChunk

DEPTH = 100
"""Chunks taken from each ranking before it is reduced to documents."""

Table = dict[str, dict[str, float]]


def measure(dataset: datasets.Dataset, settings: Settings) -> Table:
    """Each retriever's metrics, meaned over the questions that have an answer."""
    embedder = Embedder.from_settings(settings)
    rows: dict[str, dict[str, list[float]]] = {}
    with indexed(dataset.documents, settings, embedder) as (index, collection):
        names = {e.id: PurePath(e.source).stem for e in index.catalogue.entries(collection)}
        for question in dataset.questions:
            if not question.relevant:
                continue
            for retriever, (hits, seconds) in _rankings(
                question.text, index, collection, embedder, settings
            ).items():
                ranking = list(dict.fromkeys(names[hit.chunk.document_id] for hit in hits))
                row = rows.setdefault(retriever, {})
                for metric, value in _scores(ranking, question.relevant).items():
                    row.setdefault(metric, []).append(value)
                row.setdefault("ms", []).append(1000 * seconds)
    return {
        retriever: {
            metric: median(values) if metric == "ms" else mean(values)
            for metric, values in row.items()
        }
        for retriever, row in rows.items()
    }


def _rankings(
    question: str, index: Index, collection: Collection, embedder: Embedder, settings: Settings
) -> dict[str, tuple[list[ScoredChunk], float]]:
    start = perf_counter()
    lexical = index.lexical(collection, question, DEPTH)
    lexical_done = perf_counter()
    dense = index.dense(collection, embedder.encode([question])[0], DEPTH)
    dense_done = perf_counter()
    found = retrieve(index, embedder, collection, question, settings.retrieval, DEPTH)
    done = perf_counter()
    return {
        "lexical": (lexical, lexical_done - start),
        "dense": (dense, dense_done - lexical_done),
        "hybrid": (found.hits, done - dense_done),
    }


def _scores(ranking: Sequence[str], relevant: frozenset[str]) -> dict[str, float]:
    return {
        "recall@1": metrics.recall(ranking, relevant, 1),
        "recall@5": metrics.recall(ranking, relevant, 5),
        "recall@10": metrics.recall(ranking, relevant, 10),
        "MRR@10": metrics.reciprocal_rank(ranking, relevant, 10),
        "nDCG@10": metrics.ndcg(ranking, relevant, 10),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table. Keeps the index under `--work` for the next run."""
    parser = argparse.ArgumentParser(prog="python -m eval.retrieval", description=__doc__)
    parser.add_argument("dataset", choices=("scifact", "squad", "squad-val"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rag-bot-eval"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        settings = config.load(flags={"data_dir": options.work / options.dataset}).settings
        table = measure(datasets.load(options.dataset, options.data), settings)
    except RagBotError as error:
        print(f"eval.retrieval: {error}", file=sys.stderr)
        return error.exit_status
    if options.json:
        print(json.dumps(table, indent=1))
        return 0
    metrics_shown = list(next(iter(table.values())))
    print(" " * 9 + "".join(f"{metric:>11}" for metric in metrics_shown))
    for retriever, row in table.items():
        print(f"{retriever:9}" + "".join(f"{row[metric]:11.4f}" for metric in metrics_shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
