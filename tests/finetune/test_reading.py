"""SQuAD's measures of four readings, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finetune import reading
from finetune.reading import Asked
from finetune.spans import Lesson
from rag_bot.types import Reading

TEXT = "The mill stands by the river. It was built in 1852. It burned down."


def asked(said: str, references: tuple[str, ...], answerable: float) -> Asked:
    start = TEXT.index(said)
    span = (start, start + len(said))
    lesson = Lesson("?", TEXT, "", span if references else None, bool(references), "x")
    return Asked(lesson, references, Reading(0.0, answerable, *span, 0.0))


FOUR = [
    asked("1852", ("1852", "in 1852"), 0.9),
    asked("the river", ("by the river",), 0.6),
    asked("mill", ("burned down",), 0.1),
    asked("mill", (), 0.3),
]


def test_measures_by_hand() -> None:
    """Said: "1852" (right), "the river" (1 of 2 words: F1 2/3), nothing twice (wrong, right)."""
    found = reading.scores(FOUR, threshold=0.5)
    assert found["EM"] == 0.5
    assert found["F1"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert found["answerable F1, never abstaining"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["answerable EM, never abstaining"] == pytest.approx(1 / 3)
    assert found["always abstaining"] == 0.25
    assert found["abstains of unanswerable"] == 1
    assert found["abstains of answerable"] == pytest.approx(1 / 3)
    # of the three pairs of an answerable and the unanswerable one, two are in order
    assert found["answerability AUROC"] == pytest.approx(2 / 3)
    assert found["quote holds the answer"] == pytest.approx(2 / 3)


def test_a_quote_is_whole_sentences() -> None:
    assert reading.quoted(FOUR[0]) == "It was built in 1852."
    over = replace(FOUR[0].reading, start=TEXT.index("river"))
    assert reading.quoted(FOUR[0]._replace(reading=over)) == (
        "The mill stands by the river. It was built in 1852."
    )


def test_the_best_threshold_gives_the_highest_f1() -> None:
    """Between the unanswerable one (0.3) and the second answerable one (0.6)."""
    assert 0.3 < reading.best_threshold(FOUR) <= 0.6


def test_calibration_follows_the_judge() -> None:
    judges = [2.0, 1.0, -1.0, -2.0]
    told = [replace(each.lesson, answerable=n < 2) for n, each in enumerate(FOUR)]
    fitted = reading.settle(
        [each._replace(lesson=lesson) for each, lesson in zip(FOUR, told, strict=True)], judges
    )
    assert fitted(2.0, 0.0) > 0.5 > fitted(-2.0, 0.0)


def test_packing_keeps_the_card(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder, out = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    save_file({"w": torch.ones(4, 4, dtype=torch.float16)}, folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({"base": "x"}))
    reading.pack(folder, out)
    assert json.loads((out / "reader.json").read_text()) == {"base": "x"}
    assert load_file(out / "reader.safetensors")["w"].dtype == torch.int8


def test_packing_may_keep_some_of_the_round_before(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from rag_bot.encoder import unpacked

    before, after = tmp_path / "a", tmp_path / "b"
    for folder, value in ((before, 1.0), (after, 2.0)):
        folder.mkdir()
        save_file(
            {"w": torch.full((4, 4), value, dtype=torch.float16)}, folder / "reader.safetensors"
        )
        (folder / "reader.json").write_text("{}")
    reading.pack(after, tmp_path / "c", before, 0.75)
    mean = unpacked(load_file(tmp_path / "c" / "reader.safetensors"))["w"]
    assert torch.allclose(mean, torch.full((4, 4), 1.75), atol=0.01)
