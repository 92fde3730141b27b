"""The judge: asked once, remembered, and believed only when it says yes or no."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.cases import GoldenCase
from eval.judge import Judge


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "judged.jsonl"


@pytest.fixture
def asked(case: Callable[..., GoldenCase]) -> GoldenCase:
    return case("a", ("x.txt", 1), references=("28 days", "four weeks"), question="How long?")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (["Yes"], True),
        ([" **y", "es**, it does."], True),
        (['"YES"'], True),
        (["no"], False),
        (["No, it says 9."], False),
        (["'No.'"], False),
        (["Perhaps."], None),
        (["The answer is yes."], None),
        ([], None),
    ],
)
def test_only_yes_or_no_is_a_verdict(
    scripted: Any, file: Path, asked: GoldenCase, reply: list[str], right: bool | None
) -> None:
    assert Judge(scripted(*reply), file).right(asked, "28 days", False) is right


@pytest.mark.parametrize("reply", ["Not sure.", "Nothing was given.", "Yesterday"])
def test_a_word_that_begins_like_one_is_no_verdict(
    scripted: Any, file: Path, asked: GoldenCase, reply: str
) -> None:
    assert Judge(scripted(reply), file).right(asked, "28 days", False) is None


def test_it_is_shown_question_reference_and_answer(
    scripted: Any, file: Path, asked: GoldenCase
) -> None:
    model = scripted("yes")
    Judge(model, file).right(asked, "They get 28 days. [1]", False)
    ((message,),) = model.prompts
    assert message.role == "user"
    assert "Question: How long?\n" in message.text
    assert "Right answer: 28 days / four weeks\n" in message.text
    assert "Given answer: They get 28 days. [1]\n" in message.text


def test_an_abstention_and_an_unanswerable_case_read_alike(
    scripted: Any, file: Path, case: Callable[..., GoldenCase]
) -> None:
    model = scripted("yes")
    Judge(model, file).right(case("u"), "The documents do not answer this.", True)
    said = model.prompts[0][0].text
    none = "(the documents do not answer this question)"
    assert f"Right answer: {none}\nGiven answer: {none}\n" in said


def test_the_same_is_asked_once_and_never_again(
    scripted: Any, file: Path, asked: GoldenCase
) -> None:
    model = scripted("yes")
    judge = Judge(model, file)
    assert judge.right(asked, "28 days", False) is judge.right(asked, "28 days", False) is True
    assert len(model.prompts) == 1
    later = scripted("no")
    assert Judge(later, file).right(asked, "28 days", False) is True
    assert later.prompts == []


def test_no_verdict_is_remembered_too(scripted: Any, file: Path, asked: GoldenCase) -> None:
    assert Judge(scripted("Perhaps."), file).right(asked, "28 days", False) is None
    later = scripted("yes")
    assert Judge(later, file).right(asked, "28 days", False) is None
    assert later.prompts == []


def test_another_answer_or_model_is_asked_anew(
    scripted: Any, file: Path, asked: GoldenCase
) -> None:
    first = scripted("yes")
    judge = Judge(first, file)
    judge.right(asked, "28 days", False)
    judge.right(asked, "9 days", False)
    judge.right(asked, "28 days", True)
    assert len(first.prompts) == 3
    other = scripted("no")
    other.model_id = "scripted:2"
    assert Judge(other, file).right(asked, "28 days", False) is False
    assert Judge(other, file).model_id == "scripted:2"
    assert len(file.read_text("utf-8").splitlines()) == 4


def test_what_it_said_is_kept_as_lines(scripted: Any, file: Path, asked: GoldenCase) -> None:
    Judge(scripted("yes"), file).right(asked, "28 days", False)
    (said,) = map(json.loads, file.read_text("utf-8").splitlines())
    assert said["right"] is True
    assert len(said["key"]) == 64


def test_a_line_that_a_kill_cut_short_costs_that_verdict_alone(
    scripted: Any, file: Path, asked: GoldenCase
) -> None:
    Judge(scripted("yes"), file).right(asked, "28 days", False)
    Judge(scripted("no"), file).right(asked, "9 days", False)
    file.write_text(file.read_text("utf-8")[:-20], "utf-8")
    model = scripted("no")
    judge = Judge(model, file)
    assert judge.right(asked, "28 days", False) is True
    assert judge.right(asked, "9 days", False) is False
    assert len(model.prompts) == 1
    again = scripted("yes")
    assert Judge(again, file).right(asked, "9 days", False) is False
    assert again.prompts == []
