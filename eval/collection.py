"""Are all documents found that a question is about? `python -m eval.collection`.

Asks the questions about many documents (`data/collection.jsonl`) over `examples/`, and compares
the documents listed with those that a person found. No LLM is loaded.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from eval import bench, cases
from eval.cases import GoldenCase
from rag_bot import config, survey
from rag_bot.answer import Pipeline
from rag_bot.errors import RagBotError
from rag_bot.types import Answer, Finished

GOLDEN = Path(__file__).parent / "data" / "collection.jsonl"
COUNT = "count"
"""The tag of a case that asks for a number of documents."""
_GIVEN = re.compile(r"(?:At least )?(\d+) of ")


class Outcome(NamedTuple):
    """One case: the documents that should be listed, those that were, and the count `told`.

    `surveyed` says whether the question was taken for one about many documents.
    """

    case: GoldenCase
    surveyed: bool
    right: frozenset[str]
    listed: frozenset[str]
    told: int | None


def outcome(case: GoldenCase, answer: Answer | None) -> Outcome:
    """What an answer lists: nothing in an abstention, or where the question was not understood."""
    given = _GIVEN.match(answer.text) if answer else None
    return Outcome(
        case,
        answer is not None,
        frozenset(ref.document for ref in case.relevant),
        frozenset(cited.document for cited in answer.citations) if answer else frozenset(),
        int(given[1]) if given else None,
    )


def measured(outcomes: Sequence[Outcome]) -> dict[str, float | int]:
    """Precision, recall and F1 of the documents listed, and how many counts are right.

    `precision` and `recall` are over all documents of all answerable cases together; `F1` is their
    harmonic mean. `exact` counts the cases whose list is right to the document, `none_right` those
    that ask for what is not there and got an abstention.
    """
    asked = [each for each in outcomes if each.case.answerable]
    hits = sum(len(each.right & each.listed) for each in asked)
    listed = sum(len(each.listed) for each in asked)
    wanted = sum(len(each.right) for each in asked)
    counts = [each for each in asked if COUNT in each.case.tags]
    none = [each for each in outcomes if not each.case.answerable]
    return {
        "cases": len(outcomes),
        "surveyed": sum(each.surveyed for each in outcomes),
        "precision": hits / listed if listed else 0.0,
        "recall": hits / wanted if wanted else 0.0,
        "F1": 2 * hits / (listed + wanted) if listed + wanted else 0.0,
        "F1_by_case": mean(
            2 * len(each.right & each.listed) / (len(each.right) + len(each.listed))
            for each in asked
        )
        if asked
        else 0.0,
        "answerable": len(asked),
        "exact": sum(each.right == each.listed for each in asked),
        "counts": len(counts),
        "counts_right": sum(each.told == len(each.right) for each in counts),
        "none": len(none),
        "none_right": sum(each.surveyed and not each.listed for each in none),
    }


def ask(pipeline: Pipeline, case: GoldenCase) -> Answer | None:
    """The answer to a case, or None where it is not taken for one about many documents."""
    if survey.wanted(pipeline.query(case.question, case.history)) is None:
        return None
    *_, last = pipeline.answer(case.question, case.history)
    assert isinstance(last, Finished), "an answer ends with Finished"
    return last.answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; with `--each`, also what each case lacks and has too many."""
    parser = argparse.ArgumentParser(prog="python -m eval.collection", description=__doc__)
    parser.add_argument("--docs", type=Path, default=bench.EXAMPLES)
    parser.add_argument("--cases", type=Path, default=GOLDEN)
    parser.add_argument("--each", action="store_true", help="name what is missing and too much")
    options = parser.parse_args(arguments)
    try:
        settings = config.load().settings
        golden = cases.read(options.cases)
        loaded = bench.engines(settings)
        with bench.over([options.docs], settings, loaded, bench.quiet) as pipeline:
            pages = {name: len(texts) for name, texts in bench.pages(pipeline).items()}
            cases.check_places(golden, pages)
            outcomes = [outcome(case, ask(pipeline, case)) for case in golden.cases]
    except RagBotError as error:
        print(f"eval.collection: {error}", file=sys.stderr)
        return error.exit_status
    if options.each:
        for each in outcomes:
            print(f"{each.case.id}: missing {_names(each.right - each.listed)}; ", end="")
            print(f"too many {_names(each.listed - each.right)}")
    print(json.dumps(measured(outcomes), indent=1))
    return 0


def _names(documents: frozenset[str]) -> str:
    return ", ".join(sorted(documents)) or "none"


if __name__ == "__main__":
    sys.exit(main())
