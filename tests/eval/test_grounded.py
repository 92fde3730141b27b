import json
from pathlib import Path

import pytest

from eval import grounded
from eval.grounded import Asked, Row
from rag_bot import prompt
from rag_bot.types import Chunk, Source
from tests.conftest import Scripted


def test_words_are_taken_without_markers_and_stars() -> None:
    assert grounded.said("**1066** [2].") == ("1066.", (2,))
    assert grounded.said("In [1] Rome. It rained. [3]") == ("In Rome. It rained.", (1, 3))
    assert grounded.said("The documents do not say") == ("", ())
    assert grounded.said("") == ("", ())


def test_scores_by_hand() -> None:
    rows = [
        Row("a", "x", ("1066",), "1066", (2,), 2),  # right, and its marker
        Row("b", "x", ("in Rome",), "Rome Italy", (1,), 2),  # F1 1/2, another marker
        Row("c", "y", ("noon",), "", (), 1),  # abstains falsely
        Row("d", "y", (), "", (), 0),  # abstains rightly
        Row("e", "z", (), "1932", (1,), 0),
    ]
    found = {name: round(mean, 4) for name, (mean, _, _) in grounded.scores(rows).items()}
    assert found == {
        "EM": 0.4,
        "F1": 0.5,
        "EM answerable": 0.3333,
        "F1 answerable": 0.5,
        "abstains rightly": 0.5,
        "abstains falsely": 0.3333,
        "marker right": 0.5,
    }


def asked(name: str, probability: float) -> Asked:
    chunk = Chunk("c", "d", "It was in 1066.", 1, 1, 0, 15)
    source = Source(1, chunk, "d", "", 1.0)
    return Asked(name, "g", "When?", ("1066",), (source,), 1, probability, "in 1066")


def test_a_killed_run_goes_on_and_an_unlikely_question_is_not_answered(tmp_path: Path) -> None:
    both = [asked("a", 0.9), asked("b", 0.1)]
    model = Scripted("1066 [1]")
    file = tmp_path / "adapter.jsonl"
    rows = grounded.rows_of("adapter", both, model, file, threshold=0.5)
    assert [(row.words, row.markers) for row in rows] == [("1066", (1,)), ("", ())]
    assert len(model.prompts) == 1
    again = Scripted("1099 [1]")
    rows = grounded.rows_of("adapter", both, again, file, threshold=0.05)
    assert [row.words for row in rows] == ["1066", "1099"]
    assert len(again.prompts) == 1
    again.model_id = "scripted:2"
    rows = grounded.rows_of("adapter", both, again, file, threshold=0.5)
    assert [row.words for row in rows] == ["1099", ""], "another model's words are not its own"
    reader = grounded.rows_of("reader", both, None, tmp_path / "reader.jsonl", threshold=0.5)
    assert [row.words for row in reader] == ["in 1066", ""]


@pytest.mark.parametrize("lost", [1, 9, 60])
def test_a_line_that_a_kill_cut_short_is_asked_again(tmp_path: Path, lost: int) -> None:
    """Of the last line, its line feed alone may be lost, or more."""
    both = [asked("a", 0.9), asked("b", 0.9)]
    file = tmp_path / "adapter.jsonl"
    grounded.rows_of("adapter", both, Scripted("Zürich [1]"), file, threshold=0.5)
    whole = file.read_bytes()
    file.write_bytes(whole[:-lost])
    again = Scripted("Zürich [1]")
    rows = grounded.rows_of("adapter", both, again, file, threshold=0.5)
    assert [row.words for row in rows] == ["Zürich", "Zürich"]
    assert len(again.prompts) == (lost > 1)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


def test_every_line_is_on_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "adapter.jsonl"
    seen: list[list[str]] = []
    dumps = json.dumps

    def dumped(row: object) -> str:
        seen.append(file.read_text("utf-8").splitlines())
        return dumps(row)

    monkeypatch.setattr("eval.grounded.json.dumps", dumped)
    monkeypatch.setattr(grounded, "prompt_hash", lambda messages: "")
    both = [asked("a", 0.9), asked("b", 0.9)]
    grounded.rows_of("adapter", both, Scripted("1066 [1]"), file, threshold=0.5)
    assert [len(each) for each in seen] == [0, 1]


def test_in_use_the_readers_words_stand_where_the_model_declines(tmp_path: Path) -> None:
    both = [asked("a", 0.9), asked("b", 0.1)]
    file = tmp_path / "adapter.jsonl"
    declining = Scripted(prompt.NO_ANSWER)
    assert [r.words for r in grounded.rows_of("adapter", both, declining, file, 0.5)] == ["", ""]
    rows = grounded.rows_of("use", both, declining, file, 0.5)
    assert [row.words for row in rows] == ["in 1066", ""]
    silent = grounded.rows_of("silent", both, None, tmp_path / "silent.jsonl", 0.5)
    assert [row.words for row in silent] == ["", ""]


def test_systems_are_held_against_each_other_question_by_question() -> None:
    better = [Row("a", "x", ("1066",), "1066", (), 1), Row("b", "y", (), "", (), 0)]
    worse = [Row("a", "x", ("1066",), "in 1066", (), 1), Row("b", "y", (), "", (), 0)]
    gains = grounded.against(better, worse)
    assert {name: each.mean for name, each in gains.items() if each} == pytest.approx(
        {"EM": 1 / 2, "F1": (1 - 2 / 3) / 2}
    )


def test_worked_examples_come_before_the_question() -> None:
    plain, worked = (grounded.messages(asked("a", 0.5), hard) for hard in (False, True))
    assert plain == prompt.build("When?", asked("a", 0.5).sources)
    assert [worked[0], worked[-1]] == plain
    assert [each.role for each in worked[1:-1]] == ["user", "assistant"] * 2
    assert worked[4].text == prompt.NO_ANSWER


def test_each_question_knows_its_own_paragraph(tmp_path: Path) -> None:
    qas = [{"id": "1", "question": "Q?"}, {"id": "2", "question": "R?"}]
    data = {"data": [{"paragraphs": [{"context": "C.", "qas": qas}]}]}
    (tmp_path / "v2.json").write_text(json.dumps(data))
    assert grounded.paragraphs(tmp_path / "v2.json") == {"1": "C.", "2": "C."}
