"""How well are passages found? `python -m eval.retrieval scifact --data ../shared/data`.

Writes the corpus out as files, ingests them as a user would, and asks every question of the
lexical, the dense and the fused retriever. Documents are ranked by their best chunk. A follow-up
is asked as the bot would complete it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from statistics import mean, median
from time import perf_counter

from eval import cases, datasets
from eval.corpus import indexed
from eval.metrics.ndcg import ndcg
from eval.metrics.recall import recall
from eval.metrics.reciprocal_rank import reciprocal_rank
from rag_bot import config
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.index import Index
from rag_bot.retrieve import retrieve
from rag_bot.rewrite import standalone
from rag_bot.types import ScoredChunk

DEPTH = 100
"""Chunks taken from each ranking before it is reduced to documents."""

Table = dict[str, dict[str, float]]


def measure(dataset: datasets.Dataset, settings: Settings) -> Table:
    """Each retriever's metrics, meaned over the cases that have an answer."""
    embedder = Embedder.from_settings(settings)
    rows: dict[str, dict[str, list[float]]] = {}
    with indexed(dataset, settings, embedder) as (index, collection):
        names = {e.id: PurePath(e.source).name for e in index.catalogue.entries(collection)}
        for case in dataset.cases:
            relevant = frozenset(ref.document for ref in case.relevant)
            if not relevant:
                continue
            for retriever, (hits, seconds) in _rankings(
                standalone(case.question, case.history), index, collection, embedder, settings
            ).items():
                ranking = list(dict.fromkeys(names[hit.chunk.document_id] for hit in hits))
                row = rows.setdefault(retriever, {})
                for metric, value in _scores(ranking, relevant).items():
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
        "recall@1": recall(ranking, relevant, 1),
        "recall@5": recall(ranking, relevant, 5),
        "recall@10": recall(ranking, relevant, 10),
        "MRR@10": reciprocal_rank(ranking, relevant, 10),
        "nDCG@10": ndcg(ranking, relevant, 10),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table. Keeps the index under `--work` for the next run."""
    parser = argparse.ArgumentParser(prog="python -m eval.retrieval", description=__doc__)
    parser.add_argument(
        "dataset", choices=[name for name, public in datasets.SETS.items() if public.text]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rag-bot-eval"))
    parser.add_argument("--limit", type=int, help="ask so many cases only, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        settings = config.load(flags={"data_dir": options.work / options.dataset}).settings
        dataset = datasets.load(options.dataset, options.data)
        drawn = cases.sample(dataset.cases, options.limit, options.seed)
        table = measure(replace(dataset, cases=tuple(drawn)), settings)
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
