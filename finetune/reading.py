"""How well does the reader read? EM, F1 and answerability on the passage that a question is about.

    python -m finetune.reading --reader DIR --data ../shared/data

measures SQuAD's `val-v2` and the held-out written documents. `--settle` first fits calibration on
both and threshold on `val-v2`, and writes them to the reader's card; `--test` adds `test-v2` and
the written documents by which nothing was chosen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch

from eval import datasets
from eval.metrics.auroc import auroc
from eval.metrics.squad import exact_match, f1
from finetune import written
from finetune.spans import Lesson, squad_form
from rag_bot import config, models, read
from rag_bot.config import Settings
from rag_bot.encoder import packed, unpacked
from rag_bot.read import Calibration, MiniReader
from rag_bot.sentences import sentences
from rag_bot.tokenize import WordPieces
from rag_bot.types import Reading, log_odds


class Asked(NamedTuple):
    """A question with its paragraph, all its reference answers, and what the reader said."""

    lesson: Lesson
    references: tuple[str, ...]
    reading: Reading

    @property
    def said(self) -> str:
        return self.lesson.passage[self.reading.start : self.reading.end]


Question = tuple[Lesson, tuple[str, ...]]
"""A question over its passage, and all its reference answers."""


def ask(reader: MiniReader, questions: Sequence[Question], batch: int = 256) -> list[Asked]:
    """Every question over its own passage."""
    found: list[Asked] = []
    for start in range(0, len(questions), batch):
        part = questions[start : start + batch]
        readings = reader.read_pairs(
            [(each.question, each.header, each.passage) for each, _ in part]
        )
        found += [
            Asked(lesson, references, reading)
            for (lesson, references), reading in zip(part, readings, strict=True)
        ]
        print(f"\r{len(found)}/{len(questions)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def squad(file: Path) -> list[Question]:
    """The questions of a SQuAD file, over paragraphs without their titles."""
    references = {
        (paragraph["context"], qa["question"]): tuple(each["text"] for each in qa["answers"])
        for article in json.loads(file.read_text("utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    return [
        (lesson, references[lesson.passage, lesson.question])
        for lesson in squad_form(file, "squad", headed=False)
    ]


def documents(settings: Settings, file: Path) -> list[Question]:
    """The questions of written documents, over their chunks."""
    pieces = WordPieces(models.locate(settings.models.embedder, settings.models.dir))
    return [
        (lesson, (lesson.passage[slice(*lesson.span)],) if lesson.span else ())
        for lesson in written.lessons(file, pieces, settings.ingest.chunk_tokens)
    ]


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


def pack(folder: Path, out: Path, before: Path | None = None, share: float = 1.0) -> None:
    """Write a reader with int8 matrices; its card is copied.

    With `before`, its weights are the mean of that reader's and, by `share`, its own: what the last
    round taught, with less of what it made forget (Wortsman et al., "WiSE-FT", 2022).
    """
    from safetensors.torch import load_file, save_file

    weights = unpacked(load_file(folder / read.WEIGHTS))
    if before:
        known = unpacked(load_file(before / read.WEIGHTS))
        weights = {name: torch.lerp(known[name], value, share) for name, value in weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(packed(weights), out / read.WEIGHTS)
    shutil.copy(folder / read.CARD, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m finetune.reading", description=__doc__)
    parser.add_argument("--reader", type=Path, default=read.SHIPPED)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--settle", action="store_true", help="fit, and write the card")
    parser.add_argument("--pack", type=Path, help="write the reader there as int8, half the size")
    parser.add_argument("--before", type=Path, help="pack the mean with this reader's weights")
    parser.add_argument("--share", type=float, default=1.0, help="what --reader counts in that")
    parser.add_argument("--test", action="store_true", help="measure what nothing was chosen by")
    options = parser.parse_args(arguments)
    if options.pack:
        pack(options.reader, options.pack, options.before, options.share)
        return 0
    settings = config.load().settings
    reader = MiniReader(options.reader, settings)
    card_file = options.reader / read.CARD
    card = json.loads(card_file.read_text("utf-8"))
    folder = options.data / "squad"
    questions = {
        "val-v2": squad(folder / "val-v2.json"),
        "held out": documents(settings, datasets.HELD_OUT),
    }
    if options.settle:
        reader.calibration = Calibration()
    asked = {name: ask(reader, each) for name, each in questions.items()}
    if options.settle:
        flat = [each for part in asked.values() for each in part]
        judges = [log_odds(each.reading.answerable) for each in flat]
        reader.calibration = settle(flat, judges)
        asked = {name: [calibrated(each, reader) for each in part] for name, part in asked.items()}
        card |= {
            "calibration": asdict(reader.calibration),
            "threshold": best_threshold(asked["val-v2"]),
        }
        card_file.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    if options.test:
        asked["test-v2"] = ask(reader, squad(folder / "test-v2.json"))
        asked["unseen"] = ask(reader, documents(settings, datasets.UNSEEN))
    figures = {name: scores(part, card["threshold"]) for name, part in asked.items()}
    print(json.dumps(figures, indent=1))
    return 0


def calibrated(asked: Asked, reader: MiniReader) -> Asked:
    """The same, its raw probability told as the reader's calibration has it."""
    reading = asked.reading
    probability = reader.calibration(log_odds(reading.answerable), reading.span)
    return asked._replace(reading=replace(reading, answerable=probability))


if __name__ == "__main__":
    sys.exit(main())
