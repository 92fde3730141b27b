"""What would each relevance floor cost? `python -m eval.floor [--split squad-val]`.

Development data only: the written documents held out, their questions with and without an answer,
and as many about something else (the shipped cases, about `examples/`). Or SQuAD's `val-v2`, with
questions of `train-v2`'s other articles as those about something else.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from statistics import mean

from eval import bench, cases, datasets
from eval.cases import GoldenCase
from eval.corpus import indexed
from rag_bot import config, read
from rag_bot.abstain import answerable, evidence
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.rank import reranked
from rag_bot.retrieve import retrieve
from rag_bot.types import Source

QUESTIONS = 500
SEED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, for each floor, how often the bot would abstain rightly and wrongly."""
    parser = argparse.ArgumentParser(prog="python -m eval.floor", description=__doc__)
    parser.add_argument("--split", choices=("held-out", "squad-val"), default="held-out")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rag-bot-eval"))
    options = parser.parse_args(arguments)
    try:
        settings = config.load(flags={"data_dir": options.work / options.split}).settings
        if options.split == "held-out":
            home = datasets.load(options.split, options.data)
            foreign: Sequence[GoldenCase] = cases.read(bench.SHIPPED).cases
        else:
            home = datasets.squad(options.data / "squad", "val-v2", ("val-v2",))
            foreign = datasets.squad(options.data / "squad", "train-v2", ("train-v2",)).cases
    except RagBotError as error:
        print(f"eval.floor: {error}", file=sys.stderr)
        return error.exit_status
    pick = random.Random(SEED)
    asked = {
        kind: pick.sample(of, min(len(of), QUESTIONS))
        for kind, of in (
            ("answerable", [case for case in home.cases if case.answerable]),
            ("near miss", [case for case in home.cases if not case.answerable]),
            ("foreign", foreign),
        )
    }
    embedder = Embedder.from_settings(settings)
    reader = read.load(settings)
    depth = max(settings.retrieval.top_k, settings.retrieval.read)
    floors: dict[str, list[float]] = {}
    readings: dict[str, list[float]] = {}
    with indexed(home, settings, embedder) as (index, collection):
        names = {e.id: PurePath(e.source).name for e in index.catalogue.entries(collection)}
        for kind, of in asked.items():
            for case in of:
                found = retrieve(
                    index, embedder, collection, case.question, settings.retrieval, depth
                )
                sources: Sequence[Source] = [
                    Source(rank, hit.chunk, names[hit.chunk.document_id], "", hit.score)
                    for rank, hit in enumerate(found.hits, start=1)
                ]
                if reader:
                    sources = reranked(case.question, sources, reader, settings.retrieval)
                shown = sources[: settings.retrieval.top_k]
                floors.setdefault(kind, []).append(evidence(case.question, shown, found.cosine))
                readings.setdefault(kind, []).append(answerable(shown) or 0.0)
    _show("retrieval.floor", floors, range(30, 72, 3))
    if reader:
        _show("retrieval.answerable", readings, range(2, 98, 4))
    return 0


def _show(setting: str, scores: Mapping[str, Sequence[float]], percents: Iterable[int]) -> None:
    print(f"{setting:20}" + "".join(f"{kind:>14}" for kind in scores) + "   (share abstained)")
    for percent in percents:
        floor = percent / 100
        shares = (mean(score < floor for score in values) for values in scores.values())
        print(f"{floor:20.2f}" + "".join(f"{share:14.3f}" for share in shares))


if __name__ == "__main__":
    sys.exit(main())
