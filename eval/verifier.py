"""How good is the verifier, on whose word faithfulness rests? `python -m eval.verifier ragtruth`.

RAGTruth (Niu et al., ACL 2024), question answering, test: is any claim of an answer not in its
passages? WiCE (Kamoi et al., EMNLP 2023): is a claim wholly supported by a web page? Beside the
figures stand what calling everything unsupported would score, and the share of new words.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.metrics.auroc import auroc
from eval.metrics.bootstrap import interval_of
from rag_bot import config
from rag_bot.cite import Claim
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError, UsageError
from rag_bot.sentences import sentences
from rag_bot.types import Chunk, Source
from rag_bot.verify import SUPPORTED, Verifier
from rag_bot.words import content

SETS = {
    "ragtruth": "ragtruth_qa_test/ragtruth_qa_test.jsonl",
    "wice-dev": "wice/claim_dev.jsonl",
    "wice": "wice/claim_test.jsonl",
}


class Task(NamedTuple):
    """Claims made about passages, and whether any of them is not borne out."""

    group: str
    question: str
    passages: Sequence[str]
    claims: Sequence[str]
    unsupported: bool


class Judgement(NamedTuple):
    """`doubt` is 1 minus the least score of a claim, `novelty` the share of new words."""

    group: str
    unsupported: bool
    flagged: bool
    doubt: float
    novelty: float


def tasks(name: str, data: Path) -> Iterator[Task]:
    """A set's tasks. Raises UsageError where its file is not."""
    file = data / SETS[name]
    if not file.is_file():
        raise UsageError(f"{file} is not there", "give the folder with --data")
    for line in file.read_text("utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if name == "ragtruth":
            passages = re.split(r"(?:^|\n\s*)passage \d+:", row["passages"])[1:]
            text = row["response"]
            claims = [text[span.start : span.end] for span in sentences(text)]
            yield Task(row["source_id"], row["question"], passages, claims, bool(row["labels"]))
        else:
            group = str(row["meta"].get("claim_title", row["claim"]))
            whole = ["\n".join(row["evidence"])]
            yield Task(group, "", whole, [row["claim"]], row["label"] != "supported")


def judged(task: Task, embedder: Embedder) -> Judgement:
    """What the verifier says of a task's claims."""
    sources = [
        Source(n, Chunk(str(n), "d", text, 1, 1, 0, len(text)), "d", "d", 0.0)
        for n, text in enumerate(task.passages, start=1)
    ]
    verifier = Verifier(task.question, sources, embedder)
    scores = [verifier.check(Claim("", claim, ())).score for claim in task.claims]
    known = content(" ".join(task.passages))
    new = [len((words := content(claim)) - known) / max(1, len(words)) for claim in task.claims]
    least = min(scores, default=1.0)
    return Judgement(
        task.group, task.unsupported, least < SUPPORTED, 1 - least, max(new, default=0.0)
    )


def figures(found: Sequence[Judgement]) -> dict[str, Any]:
    """AUROC and F1 of finding the unsupported, with 95 % intervals over sources."""
    groups = [each.group for each in found]
    share = sum(each.unsupported for each in found) / len(found)

    def area(score: str) -> Any:
        return interval_of(
            lambda cases: auroc(
                [getattr(each, score) for each in cases], [each.unsupported for each in cases]
            ),
            found,
            groups,
        )

    return {
        "claims": len(found),
        "unsupported": round(share, 4),
        "AUROC": area("doubt"),
        "F1": interval_of(f1, found, groups),
        "precision": _ratio(found, "flagged"),
        "recall": _ratio(found, "unsupported"),
        "F1 of calling all unsupported": round(2 * share / (1 + share), 4),
        "AUROC of new words": area("novelty"),
    }


def f1(found: Sequence[Judgement]) -> float | None:
    """Of the unsupported among those that the verifier flagged."""
    right = sum(each.flagged and each.unsupported for each in found)
    marked = sum(each.flagged for each in found) + sum(each.unsupported for each in found)
    return 2 * right / marked if marked else None


def _ratio(found: Sequence[Judgement], of: str) -> float | None:
    those = [each for each in found if getattr(each, of)]
    return sum(each.flagged and each.unsupported for each in those) / len(those) if those else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m eval.verifier", description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args(arguments)
    try:
        embedder = Embedder.from_settings(config.load().settings)
        found = [judged(task, embedder) for task in tasks(options.set, options.data)]
    except RagBotError as error:
        print(f"eval.verifier: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(figures(found), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
