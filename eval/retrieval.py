"""How well are passages found? `python -m eval.retrieval scifact --data ../shared/data`.

Writes the corpus out as files, ingests them as a user would, and asks every question of the
lexical, the dense and the fused retriever, and has the reader read the fused one's best. Documents
are ranked by their best chunk. A follow-up is asked as the bot would complete it. Each retriever
is then held against the last one, case by case.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from statistics import mean, median
from time import perf_counter
from typing import NamedTuple

from eval import cases, datasets
from eval.corpus import indexed
from eval.metrics.bootstrap import Difference, Estimate, interval, paired
from eval.metrics.ndcg import ndcg
from eval.metrics.recall import recall
from eval.metrics.reciprocal_rank import reciprocal_rank
from rag_bot import config, read
from rag_bot.catalogue import Collection
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.index import Index
from rag_bot.rank import reranked
from rag_bot.read import Reader
from rag_bot.retrieve import retrieve
from rag_bot.rewrite import standalone
from rag_bot.types import Chunk, Source

DEPTH = 100
"""Chunks taken from each ranking before it is reduced to documents."""

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


def measure(dataset: datasets.Dataset, settings: Settings) -> Measured:
    """Every retriever over the cases that have an answer."""
    embedder = Embedder.from_settings(settings)
    reader = read.load(settings)
    columns: dict[str, Column] = {}
    groups = []
    asked = [case for case in dataset.cases if case.relevant]
    with indexed(dataset, settings, embedder) as (index, collection):
        names = {e.id: PurePath(e.source).name for e in index.catalogue.entries(collection)}
        for number, case in enumerate(asked, start=1):
            relevant = frozenset(ref.document for ref in case.relevant)
            groups.append(case.group or case.id)
            query = standalone(case.question, case.history)
            for retriever, (hits, seconds) in _rankings(
                query, index, collection, embedder, reader, names, settings
            ).items():
                ranking = list(dict.fromkeys(names[chunk.document_id] for chunk in hits))
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
    settings: Settings,
) -> dict[str, tuple[list[Chunk], float]]:
    start = perf_counter()
    lexical = index.lexical(collection, query, DEPTH)
    lexical_done = perf_counter()
    dense = index.dense(collection, embedder.encode([query])[0], DEPTH)
    dense_done = perf_counter()
    found = retrieve(index, embedder, collection, query, settings.retrieval, DEPTH)
    done = perf_counter()
    rankings = {
        "lexical": ([hit.chunk for hit in lexical], lexical_done - start),
        "dense": ([hit.chunk for hit in dense], dense_done - lexical_done),
        "hybrid": ([hit.chunk for hit in found.hits], done - dense_done),
    }
    if reader:
        sources = [
            Source(n, hit.chunk, names[hit.chunk.document_id], "", hit.score)
            for n, hit in enumerate(found.hits, start=1)
        ]
        ranked = reranked(query, sources, reader, settings.retrieval)
        rankings["read"] = ([each.chunk for each in ranked], perf_counter() - dense_done)
    return rankings


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
        asked = [case for case in dataset.cases if case.relevant]
        drawn = cases.sample(asked, options.limit, options.seed)
        measured = measure(replace(dataset, cases=tuple(drawn)), settings)
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


def _plain(
    table: Mapping[str, Mapping[str, Estimate | Difference]],
) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {metric: each._asdict() for metric, each in row.items()}
        for name, row in table.items()
    }


if __name__ == "__main__":
    sys.exit(main())
