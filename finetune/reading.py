"""How well does the reader read? EM, F1 and answerability on gold paragraphs.

    python -m finetune.reading --reader DIR --data ../shared/data

settles calibration and threshold on SQuAD's `val-v2` (and writes them to the reader's card with
`--settle`), then measures `test-v2` with `--test`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from eval.metrics.auroc import auroc
from eval.metrics.squad import exact_match, f1
from finetune.spans import Lesson, squad_form
from rag_bot import config, read
from rag_bot.encoder import packed
from rag_bot.read import Calibration, MiniReader
from rag_bot.sentences import sentences
from rag_bot.types import Reading


class Asked(NamedTuple):
    """A question with its paragraph, all its reference answers, and what the reader said."""

    lesson: Lesson
    references: tuple[str, ...]
    reading: Reading

    @property
    def said(self) -> str:
        return self.lesson.passage[self.reading.start : self.reading.end]


def ask(reader: MiniReader, file: Path, batch: int = 256) -> list[Asked]:
    """Every question of a SQuAD file over its own paragraph."""
    references = _references(file)
    lessons = list(squad_form(file, "squad"))
    found = []
    for start in range(0, len(lessons), batch):
        part = lessons[start : start + batch]
        readings = reader.read_pairs([(each.question, "", each.passage) for each in part])
        for lesson, reading in zip(part, readings, strict=True):
            found.append(Asked(lesson, references[lesson.passage, lesson.question], reading))
        print(f"\r{len(found)}/{len(lessons)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def _references(file: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    return {
        (paragraph["context"], qa["question"]): tuple(each["text"] for each in qa["answers"])
        for article in json.loads(file.read_text("utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }


def settle(asked: Sequence[Asked], judges: Sequence[float]) -> Calibration:
    """Platt scaling of the judge's logit and the span's log-odds."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(
        [[judge, each.reading.span] for judge, each in zip(judges, asked, strict=True)],
        [each.lesson.answerable for each in asked],
    )
    judge, span = fitted.coef_[0]
    return Calibration(round(judge, 4), round(span, 4), round(float(fitted.intercept_[0]), 4))


def scores(asked: Sequence[Asked], threshold: float) -> dict[str, float]:
    """SQuAD 2.0's measures: below the threshold nothing is said."""
    told = [each.said if each.reading.answerable >= threshold else "" for each in asked]
    answerable = [each for each in asked if each.lesson.answerable]
    withheld = [
        (bool(each.lesson.answerable), each.reading.answerable < threshold) for each in asked
    ]
    return {
        "EM": mean(exact_match(t, each.references) for t, each in zip(told, asked, strict=True)),
        "F1": mean(f1(t, each.references) for t, each in zip(told, asked, strict=True)),
        "answerable EM, never abstaining": mean(
            exact_match(each.said, each.references) for each in answerable
        ),
        "answerable F1, never abstaining": mean(
            f1(each.said, each.references) for each in answerable
        ),
        "always abstaining": mean(not each.lesson.answerable for each in asked),
        "answerability AUROC": auroc(
            [each.reading.answerable for each in asked], [there for there, _ in withheld]
        )
        or 0.0,
        "abstains of unanswerable": mean(kept for there, kept in withheld if not there),
        "abstains of answerable": mean(kept for there, kept in withheld if there),
        "quote holds the answer": mean(
            any(ref in quoted(each) for ref in each.references) for each in answerable
        ),
        "threshold": threshold,
    }


def quoted(each: Asked) -> str:
    """The sentences that the span lies in."""
    start, end = each.reading.start, each.reading.end
    text = each.lesson.passage
    return " ".join(text[a:b] for a, b in sentences(text) if a < end and start < b)


def best_threshold(asked: Sequence[Asked]) -> float:
    """Where overall F1 is highest."""
    return max(
        (n / 100 for n in range(2, 99, 2)), key=lambda threshold: scores(asked, threshold)["F1"]
    )


def pack(folder: Path, out: Path) -> None:
    """Write a reader with int8 matrices; its card is copied."""
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(packed(load_file(folder / read.WEIGHTS)), out / read.WEIGHTS)
    shutil.copy(folder / read.CARD, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m finetune.reading", description=__doc__)
    parser.add_argument("--reader", type=Path, default=read.SHIPPED)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--settle", action="store_true", help="fit on val-v2 and write the card")
    parser.add_argument("--pack", type=Path, help="write the reader there as int8, half the size")
    parser.add_argument("--test", action="store_true", help="measure test-v2 too")
    options = parser.parse_args(arguments)
    if options.pack:
        pack(options.reader, options.pack)
        return 0
    reader = MiniReader(options.reader, config.load().settings)
    card_file = options.reader / read.CARD
    card = json.loads(card_file.read_text("utf-8"))
    figures = {}
    squad = options.data / "squad"
    if options.settle:
        reader.calibration = Calibration()
        asked = ask(reader, squad / "val-v2.json")
        judges = [_logit(each.reading.answerable) for each in asked]
        reader.calibration = settle(asked, judges)
        asked = [
            each._replace(
                reading=replace(
                    each.reading, answerable=reader.calibration(judge, each.reading.span)
                )
            )
            for each, judge in zip(asked, judges, strict=True)
        ]
        card |= {
            "calibration": asdict(reader.calibration),
            "threshold": best_threshold(asked),
        }
        figures["val-v2"] = scores(asked, card["threshold"])
        card_file.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    if options.test:
        figures["test-v2"] = scores(ask(reader, squad / "test-v2.json"), card["threshold"])
    print(json.dumps(figures, indent=1))
    return 0


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


if __name__ == "__main__":
    sys.exit(main())
