"""SQuAD's exact match and F1: by hand, and against the official script where it is at hand."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from eval.metrics.squad import exact_match, f1, normalize

SQUAD = Path(__file__).parents[4] / "shared/data/squad"


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Eiffel-Tower's\theight!", "eiffeltowers height"),
        ("an apple a day", "apple day"),
        ("Theory of another", "theory of another"),
        ("A", ""),
        ("$1.5 million", "15 million"),
        ("“Ünïcode” – stays", "“ünïcode” – stays"),
    ],
)
def test_normalising_drops_case_punctuation_and_articles(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


@pytest.mark.parametrize(
    ("answer", "references", "exact", "score"),
    [
        ("the Normans", ["Normans"], 1, 1),
        ("in France", ["France"], 0, 2 / 3),  # precision 1/2, recall 1
        ("10th century", ["10th and 11th centuries", "the 10th century"], 1, 1),
        ("rain rain", ["rain"], 0, 2 / 3),  # one of the two is shared
        ("blue green red", ["red blue"], 0, 4 / 5),  # precision 2/3, recall 1
        ("snow", ["rain"], 0, 0),
        ("", ["rain"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("rain", [], 0, 0),
        ("", ["."], 1, 1),  # a reference without a word is none
        ("rain", ["The", "rain"], 1, 1),
        ("", ["The", "rain"], 0, 0),
    ],
)
def test_exact_match_and_f1_worked_out_by_hand(
    answer: str, references: list[str], exact: float, score: float
) -> None:
    assert exact_match(answer, references) == exact
    assert f1(answer, references) == pytest.approx(score)


@pytest.mark.skipif(not SQUAD.exists(), reason="the public data is not here")
def test_answers_to_real_questions_score_as_the_official_script_scores_them() -> None:
    official = _official()
    dataset = json.loads((SQUAD / "val-v2.json").read_text("utf-8"))["data"]
    answers: dict[str, str] = {}
    references: dict[str, list[str]] = {}
    chance = random.Random(5)
    for article in dataset:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                references[question["id"]] = [each["text"] for each in question["answers"]]
                answers[question["id"]] = _answer(
                    chance, paragraph["context"], references[question["id"]]
                )
    exact, score = official.get_raw_scores(dataset, answers)
    assert len(exact) == len(references) > 1000
    assert {i: exact_match(answers[i], references[i]) for i in answers} == exact
    assert {i: f1(answers[i], references[i]) for i in answers} == pytest.approx(score, abs=1e-12)
    theirs = official.make_eval_dict(exact, score)
    ours = 100 * sum(f1(answers[i], references[i]) for i in answers) / len(answers)
    assert 20 < ours < 90
    assert ours == pytest.approx(theirs["f1"], abs=5e-5)


def _answer(chance: random.Random, context: str, references: list[str]) -> str:
    """What a bot might say: a reference, one with words around it, a stretch, or nothing."""
    words = context.split()
    start = chance.randrange(len(words))
    stretch = " ".join(words[start : start + chance.randint(1, 8)])
    right = chance.choice(references) if references else ""
    return chance.choice(["", stretch, right, f"It was the {right}.", f"{right.upper()} {stretch}"])


def _official() -> ModuleType:
    spec = importlib.util.spec_from_file_location("official", SQUAD / "evaluate-v2.0.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
