"""How well are passages found, and by what? `python -m eval.retrieval scifact --data DIR`.

Writes the corpus out as files (or takes those of `--docs`), ingests them as a user would, and asks
every question of each part of the retrieval: the lexical and the dense index; both fused by ranks,
which is not what we do, and by scores; that with named documents moved up, which is the hybrid
ranking; and that read by the reader. Documents (pages, where the cases name them) are ranked by
their best chunk. A follow-up is asked as the bot would complete it. Each ranking is then held
against the last one, case by case.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from statistics import mean, median
from time import perf_counter
from typing import NamedTuple

from eval import cases, datasets
from eval.cases import GoldenCase
from eval.corpus import indexed, indexed_files
from eval.metrics.bootstrap import Difference, Estimate, interval, paired
from eval.metrics.ndcg import ndcg
from eval.metrics.recall import recall
from eval.metrics.reciprocal_rank import reciprocal_rank
from rag_bot import config, read
from rag_bot.catalogue import Collection
from rag_bot.config import Retrieval
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError, UsageError
from rag_bot.filler import bare, question_in
from rag_bot.index import Index
from rag_bot.rank import reranked
from rag_bot.read import Reader
from rag_bot.retrieve import fuse, retrieve
from rag_bot.rewrite import standalone
from rag_bot.types import Chunk, ScoredChunk, Source

DEPTH = 100
"""Chunks taken from each ranking before it is reduced to documents."""

Place = tuple[str, int | None]
"""A document's file name, and its page where pages are asked for."""
Column = dict[str, list[float]]
"""Values by metric, one a case."""


class Measured(NamedTuple):
    """Each retriever's values, in the order of the cases; `groups` names each case's cluster."""

    columns: Mapping[str, Column]
    groups: Sequence[str]

    def table(self) -> dict[str, dict[str, float]]:
        """Means over the cases; of the time, in milliseconds, the median."""
        return {
            retriever: {
                metric: median(values) if metric == "ms" else mean(values)
                for metric, values in column.items()
            }
            for retriever, column in self.columns.items()
        }

    def intervals(self) -> dict[str, dict[str, Estimate]]:
        """The means with their 95 % intervals, by the cluster bootstrap; none of the time."""
        return {
            retriever: {
                metric: estimate
                for metric, values in column.items()
                if metric != "ms" and (estimate := interval(values, self.groups))
            }
            for retriever, column in self.columns.items()
        }

    def against(self, last: str) -> dict[str, dict[str, Difference]]:
        """How much better `last` is than each other one, paired, per metric."""
        found: dict[str, dict[str, Difference]] = {}
        for retriever, column in self.columns.items():
            for metric, values in column.items():
                if retriever == last or metric == "ms":
                    continue
                difference = paired(values, self.columns[last][metric], self.groups)
                if difference:
                    found.setdefault(retriever, {})[metric] = difference
        return found


def measure(
    asked: Sequence[GoldenCase],
    index: Index,
    collection: Collection,
    embedder: Embedder,
    reader: Reader | None,
    settings: Retrieval,
) -> Measured:
    """Every retriever over the cases that have an answer.

    A ranking is of pages where the case names pages, else of documents.
    """
    columns: dict[str, Column] = {}
    groups = []
    asked = [case for case in asked if case.relevant]
    names = {e.id: PurePath(e.source).name for e in index.catalogue.entries(collection)}
    for number, case in enumerate(asked, start=1):
        relevant = frozenset((ref.document, ref.page) for ref in case.relevant)
        paged = all(page is not None for _, page in relevant)
        groups.append(case.group or case.id)
        query = standalone(question_in(case.question), case.history)
        for retriever, (hits, seconds) in _rankings(
            query, index, collection, embedder, reader, names, settings
        ).items():
            ranking = list(
                dict.fromkeys(
                    (names[chunk.document_id], chunk.page_start if paged else None)
                    for chunk in hits
                )
            )
            column = columns.setdefault(retriever, {})
            for metric, value in _scores(ranking, relevant).items():
                column.setdefault(metric, []).append(value)
            column.setdefault("ms", []).append(1000 * seconds)
        if sys.stderr.isatty():
            print(f"\rasking {number}/{len(asked)}", end="", file=sys.stderr)
    return Measured(columns, groups)


def _rankings(
    query: str,
    index: Index,
    collection: Collection,
    embedder: Embedder,
    reader: Reader | None,
    names: Mapping[str, str],
    settings: Retrieval,
) -> dict[str, tuple[list[Chunk], float]]:
    """Each part alone, then one more with each: `rrf` is what fusing by ranks would find."""
    start = perf_counter()
    lexical = index.lexical(collection, bare(query), DEPTH)
    lexical_done = perf_counter()
    dense = index.dense(collection, embedder.encode([query])[0], DEPTH)
    dense_done = perf_counter()
    combined = fuse(lexical, dense, settings.dense_weight, DEPTH)
    combined_done = perf_counter()
    found = retrieve(index, embedder, collection, query, settings, DEPTH)
    done = perf_counter()
    rankings = {
        "lexical": ([hit.chunk for hit in lexical], lexical_done - start),
        "dense": ([hit.chunk for hit in dense], dense_done - lexical_done),
        "rrf": (reciprocal_ranks([lexical, dense]), combined_done - start),
        "combined": ([hit.chunk for hit in combined], combined_done - start),
        "hybrid": ([hit.chunk for hit in found.hits], done - combined_done),
    }
    if reader:
        sources = [
            Source(n, hit.chunk, names[hit.chunk.document_id], "", hit.score)
            for n, hit in enumerate(found.hits, start=1)
        ]
        ranked = reranked(query, sources, reader, settings)
        rankings["read"] = ([each.chunk for each in ranked], perf_counter() - combined_done)
    return rankings


def reciprocal_ranks(rankings: Sequence[Sequence[ScoredChunk]], k: float = 10) -> list[Chunk]:
    """Reciprocal rank fusion: by the sum over rankings of `1 / (k + rank)`, rank from 1.

    What others use, to compare with (Cormack, Clarke & Büttcher, SIGIR 2009). Ties keep the order
    of first appearance.
    """
    scores: dict[str, float] = {}
    chunks: dict[str, Chunk] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            chunks[hit.chunk.id] = hit.chunk
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (k + rank)
    return [chunks[i] for i in sorted(scores, key=scores.__getitem__, reverse=True)]


def _scores(ranking: Sequence[Place], relevant: frozenset[Place]) -> dict[str, float]:
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
    sets = [name for name, public in datasets.SETS.items() if public.text]
    parser.add_argument("dataset", nargs="?", choices=sets)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cases", type=Path, help="golden cases, in place of a public set")
    parser.add_argument("--docs", type=Path, help="the documents that they are about")
    parser.add_argument("--work", type=Path, default=Path("/tmp/rag-bot-eval"))
    parser.add_argument("--limit", type=int, help="ask so many cases only, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        measured = _measured(options)
    except RagBotError as error:
        print(f"eval.retrieval: {error}", file=sys.stderr)
        return error.exit_status
    table, intervals = measured.table(), measured.intervals()
    last = list(table)[-1]
    compared = measured.against(last)
    if options.json:
        found = {
            "table": table,
            "intervals": _plain(intervals),
            f"{last} against": _plain(compared),
        }
        print(json.dumps(found, indent=1))
        return 0
    print(" " * 9 + "".join(f"{metric:>11}" for metric in table[last]))
    for retriever, row in table.items():
        print(f"{retriever:9}" + "".join(f"{row[metric]:11.4f}" for metric in table[last]))
    print("95 % intervals")
    for retriever, estimates in intervals.items():
        shown = (f"  {each.low:.3f}–{each.high:.3f}" for each in estimates.values())
        print(f"{retriever:9}" + "".join(shown))
    for retriever, differences in compared.items():
        for metric in ("recall@5", "nDCG@10"):
            each = differences[metric]
            print(
                f"{last} against {retriever}, {metric}: {each.mean:+.4f}"
                f" [{each.low:+.4f}, {each.high:+.4f}], p = {each.p:.3f}"
            )
    return 0


def _measured(options: argparse.Namespace) -> Measured:
    if bool(options.dataset) == bool(options.docs) or bool(options.docs) != bool(options.cases):
        raise UsageError("what is to be asked?", "name a set, or give --docs and --cases")
    work = options.work / (options.dataset or options.docs.resolve().name)
    settings = config.load(flags={"data_dir": work}).settings
    embedder = Embedder.from_settings(settings)
    if options.dataset:
        dataset = datasets.load(options.dataset, options.data)
        golden, opened = dataset.cases, indexed(dataset, settings, embedder)
    else:
        golden = cases.read(options.cases).cases
        opened = indexed_files([options.docs], settings, embedder)
    asked = [case for case in golden if case.relevant]
    drawn = cases.sample(asked, options.limit, options.seed)
    with opened as (index, collection):
        return measure(drawn, index, collection, embedder, read.load(settings), settings.retrieval)


def _plain(
    table: Mapping[str, Mapping[str, Estimate | Difference]],
) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {metric: each._asdict() for metric, each in row.items()}
        for name, row in table.items()
    }


if __name__ == "__main__":
    sys.exit(main())
