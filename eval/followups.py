"""Does completing a follow-up find more? `python -m eval.followups --data ../shared/data`.

Every turn of MT-RAG that has a passage, searched for in three ways over the pool of its passages:
the last question as it was asked, the user's whole history as one query, and what the bot makes
of it (`rag_bot.rewrite`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from statistics import mean

from eval import datasets
from eval.cases import GoldenCase
from eval.corpus import indexed
from eval.metrics.bootstrap import Difference, paired
from eval.metrics.recall import recall
from rag_bot import config
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.retrieve import retrieve
from rag_bot.rewrite import standalone

_DEPTH = 30


def history(case: GoldenCase) -> str:
    """All the user's questions, the last one at the end."""
    said = [message.text for message in case.history if message.role == "user"]
    return " ".join([*said, case.question])


FORMS: dict[str, Callable[[GoldenCase], str]] = {
    "raw": lambda case: case.question,
    "history": history,
    "rewritten": lambda case: standalone(case.question, case.history),
}


def measure(
    dataset: datasets.Dataset, settings: Settings, k: int = 5
) -> tuple[dict[str, list[float]], list[str]]:
    """Recall@k of each form over the turns that have a passage, and each turn's conversation."""
    embedder = Embedder.from_settings(settings)
    values: dict[str, list[float]] = {name: [] for name in FORMS}
    groups = []
    with indexed(dataset, settings, embedder) as (index, collection):
        names = {e.id: PurePath(e.source).name for e in index.catalogue.entries(collection)}
        for case in dataset.cases:
            relevant = frozenset(ref.document for ref in case.relevant)
            if not relevant:
                continue
            groups.append(case.group or case.id)
            for name, form in FORMS.items():
                found = retrieve(
                    index, embedder, collection, form(case), settings.retrieval, _DEPTH
                )
                ranking = list(dict.fromkeys(names[h.chunk.document_id] for h in found.hits))
                values[name].append(recall(ranking, relevant, k))
    return values, groups


def compared(values: dict[str, list[float]], groups: Sequence[str]) -> dict[str, Difference | None]:
    """How much more the rewritten question finds than each other form."""
    return {
        name: paired(values[name], values["rewritten"], groups)
        for name in values
        if name != "rewritten"
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print recall@5 of the three, and the differences with their intervals."""
    parser = argparse.ArgumentParser(prog="python -m eval.followups", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/rag-bot-eval"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        settings = config.load(flags={"data_dir": options.work / "mtrag"}).settings
        values, groups = measure(datasets.load("mtrag", options.data), settings)
    except RagBotError as error:
        print(f"eval.followups: {error}", file=sys.stderr)
        return error.exit_status
    differences = compared(values, groups)
    if options.json:
        plain = {name: each._asdict() if each else None for name, each in differences.items()}
        means = {name: mean(column) for name, column in values.items()}
        print(json.dumps({"recall@5": means, "rewritten against": plain}, indent=1))
        return 0
    print(f"{len(groups)} turns")
    for name, column in values.items():
        each = differences.get(name)
        line = f"{name:10} recall@5 {mean(column):.4f}"
        if each:
            line += f"   rewritten {each.mean:+.4f} [{each.low:+.4f}, {each.high:+.4f}]"
            line += f", p = {each.p:.3f}"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
