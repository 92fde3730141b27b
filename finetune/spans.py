"""Questions with the words that answer them: what the reader learns from.

    python -m finetune.spans --data ../shared/data --out LESSONS.jsonl

reads the training sets of `../shared/EVAL.md`, drops what overlaps with anything we measure on,
and gives each question passages that are close and wrong, found by our own hybrid retrieval.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval import datasets
from eval.metrics.squad import normalize
from rag_bot import config
from rag_bot.embed import Embedder
from rag_bot.lexical import Lexical
from rag_bot.sentences import sentences

GRAM = 13
"""Words in a row that two texts share only if one was copied (Brown et al., "GPT-3", 2020)."""
HARD = 8
"""Wrong passages kept for a question."""
_TOP = 30
_RRF_K = 5

MEASURED = ("squad", "squad-val", "scifact", "2wiki", "musique", "hotpotqa", "clapnq", "mtrag")
"""What the reader is judged by: nothing of it may be learned."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question, a passage that is about it, and where the answer stands in that passage.

    `span` is a pair of offsets into `passage`; None where the passage does not say, or where the
    question is a claim and the whole passage bears on it. `wrong` are passages that look right.
    """

    question: str
    passage: str
    header: str
    span: tuple[int, int] | None
    answerable: bool | None
    origin: str
    wrong: tuple[str, ...] = ()


def squad_form(file: Path, origin: str, headed: bool = True) -> Iterator[Lesson]:
    """A file in SQuAD's form, 1.1 or 2.0; of several answers, the one given most often."""
    for article in json.loads(file.read_text("utf-8"))["data"]:
        paragraphs = article["paragraphs"]
        header = str(article.get("title", "")).replace("_", " ") if headed else ""
        for paragraph in paragraphs if isinstance(paragraphs, list) else [paragraphs]:
            context = paragraph["context"]
            for qa in paragraph["qas"]:
                if qa.get("is_impossible"):
                    yield Lesson(qa["question"], context, header, None, False, origin)
                    continue
                counted = Counter((a["answer_start"], a["text"]) for a in qa["answers"])
                if not counted:
                    continue
                start, text = counted.most_common(1)[0][0]
                if context[start : start + len(text)] == text:
                    span = (start, start + len(text))
                    yield Lesson(qa["question"], context, header, span, True, origin)


def located(
    question: str, passage: str, answers: Iterable[str], header: str, origin: str
) -> Iterator[Lesson]:
    """A lesson whose answer is given as text: its one place in the passage, or none at all."""
    for answer in answers:
        found = [m.span() for m in re.finditer(re.escape(answer), passage, re.IGNORECASE)]
        if answer.strip() and len(found) == 1:
            yield Lesson(question, passage, header, found[0], True, origin)
            return


def contexts_800(file: Path) -> Iterator[Lesson]:
    for entry in json.loads(file.read_text("utf-8")):
        for pair in entry["qas"]:
            yield from located(pair["question"], entry["context"], [pair["answer"]], "", "squad-v1")


def natural(file: Path) -> Iterator[Lesson]:
    for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines():
        row = json.loads(line)
        passage = row["ctxs"][0]
        yield from located(row["question"], passage["text"], row["answers"], passage["title"], "nq")


def qed(file: Path) -> Iterator[Lesson]:
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        given = row["annotation"]
        asked, passage, header = row["question_text"], row["paragraph_text"], row["title_text"]
        if given["explanation_type"] == "none":
            yield Lesson(asked, passage, header, None, False, "qed")
        elif given.get("answer"):
            place = given["answer"][0]["paragraph_reference"]
            span = (place["start"], place["end"])
            if passage[span[0] : span[1]] == place["string"]:
                yield Lesson(asked, passage, header, span, True, "qed")


def quoref(file: Path) -> Iterator[Lesson]:
    for row in json.loads(file.read_text("utf-8"))["Instances"]:
        passage, _, question = row["input"].removeprefix("Passage: ").rpartition("Question:")
        answers = [answer.rstrip(".") for answer in row["output"]]
        yield from located(question.strip(), passage.strip(), answers, "", "quoref")


def tatqa(file: Path) -> Iterator[Lesson]:
    for report in json.loads(file.read_text("utf-8")):
        texts = {str(p["order"]): p["text"] for p in report["paragraphs"]}
        table = "\n".join(" | ".join(row) for row in report["table"]["table"])
        for asked in report["questions"]:
            if asked["answer_type"] != "span":
                continue
            if asked["answer_from"] == "text":
                for order in asked["rel_paragraphs"]:
                    yield from located(
                        asked["question"], texts.get(order, ""), asked["answer"], "", "tatqa"
                    )
            elif asked["answer_from"] == "table":
                yield from located(asked["question"], table, asked["answer"], "", "tatqa")


def fairytales(folder: Path) -> Iterator[Lesson]:
    for file in sorted(folder.glob("questions/*/*-questions.csv")):
        name = file.name.removesuffix("-questions.csv")
        story = folder / "section-stories" / file.parent.name / f"{name}-story.csv"
        if not story.is_file():
            continue
        with story.open(encoding="utf-8") as lines:
            parts = {row["section"]: row["text"] for row in csv.DictReader(lines)}
        with file.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if row.get("cor_section") in parts:
                    yield from located(
                        row["question"],
                        parts[row["cor_section"]],
                        [row["answer1"].rstrip(".")],
                        name.replace("-", " "),
                        "fairytales",
                    )


def claims(rows: Iterable[tuple[str, str, str]], origin: str) -> Iterator[Lesson]:
    """Claims with the passage that bears on them: they teach ranking alone."""
    for claim, evidence, header in rows:
        yield Lesson(claim, evidence, header, None, None, origin)


def _fever(file: Path) -> Iterator[tuple[str, str, str]]:
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield row["claim"], row["evidence"][0], ""


def _fool_me_twice(file: Path) -> Iterator[tuple[str, str, str]]:
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield row["text"], " ".join(each["text"] for each in row["gold_evidence"]), ""


def _check_covid(folder: Path) -> Iterator[tuple[str, str, str]]:
    papers = {}
    for line in (folder / "corpus.json").read_text("utf-8").splitlines():
        paper = json.loads(line)
        papers[paper["cord_id"]] = (" ".join(paper["abstract"]), paper["title"])
    for line in (folder / "Check-COVID_all.json").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["cord_id"] in papers and row["label"] != "NOTENOUGHINFO":
            yield row["claim"], *papers[row["cord_id"]]


def gather(data: Path) -> list[Lesson]:
    """Every lesson of the training sets under `data`, each question and passage once."""
    train = data / "train"
    readers: Sequence[Callable[[], Iterator[Lesson]]] = (
        lambda: squad_form(data / "squad/train-v2.json", "squad-v2"),
        lambda: squad_form(data / "squad/train-v1.json", "squad-v1"),
        lambda: squad_form(train / "squad_v20_train_10articles/train-v2.0.json", "squad-v2"),
        lambda: squad_form(train / "squad_v11_train_44articles/test-v1.1.json", "squad-v1"),
        lambda: contexts_800(train / "squad_v11_train_800contexts/train.json"),
        lambda: squad_form(train / "squadshifts/new_wiki_v1.0.json", "squadshifts-wiki"),
        lambda: squad_form(train / "squadshifts/amazon_reviews_v1.0.json", "squadshifts-amazon"),
        lambda: squad_form(data / "policyqa/dev.json", "policyqa"),
        lambda: squad_form(data / "policyqa/test.json", "policyqa"),
        lambda: squad_form(train / "cpgqa/cpgQA-v1.0.json", "cpgqa"),
        lambda: natural(train / "nq_open_oracle/nq-open-oracle.jsonl.gz"),
        lambda: qed(train / "qed/qed-dev.jsonlines"),
        lambda: quoref(train / "quoref_superni/train.json"),
        lambda: tatqa(train / "tatqa/tatqa_dataset_dev.json"),
        lambda: tatqa(train / "tatqa/tatqa_dataset_test_gold.json"),
        lambda: fairytales(train / "fairytaleqa/data-by-train-split"),
        lambda: claims(_fever(train / "fever_athnlp/validation.jsonl"), "fever"),
        lambda: claims(_fool_me_twice(train / "fool_me_twice/dev.jsonl"), "fool-me-twice"),
        lambda: claims(_check_covid(train / "check_covid"), "check-covid"),
    )
    found: dict[tuple[str, str], Lesson] = {}
    for read in readers:
        for lesson in read():
            found.setdefault((normalize(lesson.question), lesson.passage), lesson)
    return list(found.values())


class Guard:
    """Says whether a lesson overlaps with what is measured."""

    def __init__(self, questions: Iterable[str], texts: Iterable[str]) -> None:
        self._questions = {normalize(question) for question in questions}
        self._grams = {gram for text in texts for gram in _grams(text)}

    @classmethod
    def of(cls, data: Path) -> Guard:
        """From every set in `MEASURED`."""
        loaded = [datasets.load(name, data) for name in MEASURED]
        asked = {case.question for each in loaded for case in each.cases}
        # The corpora of SQuAD hold the paragraphs of its training split too.
        ours = {lesson.passage for lesson in squad_form(data / "squad/train-v2.json", "")}
        texts = {text for each in loaded for text in each.documents.values()}
        return cls(asked, texts - ours)

    def allows(self, lesson: Lesson) -> bool:
        """Whether neither the question nor 13 words in a row of the passage are measured on."""
        return normalize(lesson.question) not in self._questions and self._grams.isdisjoint(
            _grams(lesson.passage)
        )


def _grams(text: str) -> Iterator[int]:
    words = re.findall(r"\w+", text.casefold())
    for n in range(len(words) - GRAM + 1):
        yield hash(tuple(words[n : n + GRAM]))


def with_wrong(lessons: Sequence[Lesson], embedder: Embedder) -> list[Lesson]:
    """Each lesson with passages that hybrid retrieval ranks high and that don't hold its answer."""
    passages = list(dict.fromkeys(lesson.passage for lesson in lessons))
    print(f"embedding {len(passages)} passages", file=sys.stderr)
    vectors = embedder.encode([p[:2000] for p in passages])
    asked = embedder.encode([lesson.question for lesson in lessons])
    lexical = Lexical(None)
    ids = [str(n) for n in range(len(passages))]
    lexical.replace(ids, ids, passages)
    done = []
    for n, lesson in enumerate(lessons):
        dense = np.argpartition(-(vectors @ asked[n]), _TOP)[:_TOP]
        dense = dense[np.argsort(-(vectors[dense] @ asked[n]))]
        scores: dict[int, float] = {}
        for ranking in ([int(i) for i, _ in lexical.search(lesson.question, _TOP)], dense.tolist()):
            for rank, which in enumerate(ranking, start=1):
                scores[which] = scores.get(which, 0.0) + 1 / (_RRF_K + rank)
        said = lesson.passage[slice(*lesson.span)].casefold() if lesson.span else ""
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)
        # What a lesson brought along stays first: the other parts of its own document.
        close = dict.fromkeys([*lesson.wrong, *(passages[which] for which in ranked)])
        wrong = [
            each
            for each in close
            if each != lesson.passage and not (said and said in each.casefold())
        ]
        done.append(replace(lesson, wrong=tuple(wrong[:HARD])))
        if n % 2000 == 0:
            print(f"\rsearching {n}/{len(lessons)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return done


def without_answer(lesson: Lesson, rng: random.Random) -> Lesson | None:
    """The same question where the sentence that answers it was taken out: a near miss."""
    if lesson.span is None:
        return None
    start, end = lesson.span
    said = lesson.passage[start:end].casefold()
    kept = [
        lesson.passage[a:b] for a, b in sentences(lesson.passage) if not (a < end and start < b)
    ]
    rest = " ".join(kept).strip()
    if len(kept) < 2 or said in rest.casefold():
        return None
    return replace(lesson, passage=rest, span=None, answerable=False)


def twisted(lesson: Lesson, rng: random.Random) -> Lesson | None:
    """Another question on the same passage, which it does not answer: a near miss.

    A name or a number is exchanged for a close one, a word for its opposite, or a "not" comes in
    (Jia and Liang, "Adversarial Examples", 2017, section 3; Rajpurkar et al., 2018, table 3).
    None where nothing can be exchanged.
    """
    if lesson.span is None:
        return None
    asked, said = lesson.question, lesson.passage[slice(*lesson.span)]
    made = []
    for pattern in (_NAME, _NUMBER):
        own = [m for m in pattern.finditer(asked) if m[0].casefold() in lesson.passage.casefold()]
        source = lesson.passage if rng.random() < 0.5 or not lesson.wrong else lesson.wrong[0]
        close = sorted(
            {
                m[0]
                for m in pattern.finditer(source)
                if m[0] not in asked and m[0] not in said and said not in m[0]
            }
        )
        if own and close:
            match, other = rng.choice(own), rng.choice(close)
            made.append(asked[: match.start()] + other + asked[match.end() :])
    words = [m for m in re.finditer(r"[a-z]+", asked) if m[0] in _OPPOSITE]
    if words:
        match = rng.choice(words)
        made.append(asked[: match.start()] + _OPPOSITE[match[0]] + asked[match.end() :])
    # A "not" fits most questions: seldom, or "not" alone would come to mean "no answer".
    negated = _VERB.sub(r"\g<0> not", asked, count=1)
    if negated != asked and " not " not in asked and rng.random() < 0.15:
        made.append(negated)
    if not made:
        return None
    return replace(lesson, question=rng.choice(made), span=None, answerable=False)


_NAME = re.compile(r"(?<=[\w,;:(] )[A-Z][\w'’-]+(?: (?:of |the )?[A-Z][\w'’-]+)*")
_NUMBER = re.compile(r"\b\d[\d.,]*\d\b|\b\d\b")
_VERB = re.compile(r"\b(?:is|are|was|were|can|could|must|may|should|will|would|did|does|do)\b")
_PAIRS = """
first last, most least, before after, highest lowest, largest smallest, biggest smallest, more
less, increase decrease, increased decreased, north south, east west, northern southern, eastern
western, oldest youngest, older younger, begin end, began ended, earliest latest, earlier later,
allowed forbidden, minimum maximum, always never, with without, win lose, won lost, opened closed,
buy sell, bought sold, higher lower, longer shorter, longest shortest, public private, male
female, men women, major minor, strong weak, upper lower, inside outside, above below, rise fall,
rose fell, join leave, joined left, support oppose, supported opposed, success failure, positive
negative, best worst, import export, legal illegal, start finish, started finished, accept reject,
accepted rejected, include exclude, internal external, same different, early late, new old, rich
poor, common rare
"""
_OPPOSITE = {
    word: other
    for pair in _PAIRS.replace("\n", " ").split(",")
    for word, other in (pair.split(), pair.split()[::-1])
}


def read(file: Path) -> list[Lesson]:
    """Lessons that `main` wrote."""
    found = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row: Mapping[str, Any] = json.loads(line)
            span = tuple(row["span"]) if row["span"] else None
            found.append(Lesson(**{**row, "span": span, "wrong": tuple(row["wrong"])}))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the lessons, and print how many came from where."""
    parser = argparse.ArgumentParser(prog="python -m finetune.spans", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    guard = Guard.of(options.data)
    lessons = gather(options.data)
    kept = [lesson for lesson in lessons if guard.allows(lesson)]
    counts = Counter((lesson.origin, str(lesson.answerable)) for lesson in kept)
    print(f"{len(lessons)} lessons, {len(lessons) - len(kept)} overlap with what is measured")
    for (origin, answerable), count in sorted(counts.items()):
        print(f"{count:7} {origin:20} answerable: {answerable}")
    lessons = with_wrong(kept, Embedder.from_settings(config.load().settings))
    with options.out.open("w", encoding="utf-8") as out:
        for lesson in lessons:
            out.write(json.dumps(asdict(lesson), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
