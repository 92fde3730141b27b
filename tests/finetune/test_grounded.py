import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from finetune import grounded
from finetune.examples import QAExample
from finetune.spans import Lesson
from rag_bot import prompt
from rag_bot.config import Settings
from rag_bot.read import MiniReader

PASSAGE = (
    "The ferry leaves at noon. It was built in 1932 by the Tarn yard because the old one sank."
)
WRONG = (
    "Tickets are sold on the quay.",
    "The bus takes an hour.",
    "Dogs travel for free.",
    "The museum is shut on Mondays.",
    "Bicycles go on deck.",
)


def lesson(question: str, answer: str | None, origin: str = "squad-v2") -> Lesson:
    start = PASSAGE.index(answer) if answer else 0
    span = (start, start + len(answer)) if answer else None
    return Lesson(question, PASSAGE, "Ferry", span, answer is not None, origin, WRONG)


def test_reasons_are_told_as_sentences_and_facts_in_words() -> None:
    assert grounded.worded(lesson("When was it built?", "in 1932")) == "in 1932"
    sentence = "It was built in 1932 by the Tarn yard because the old one sank."
    assert grounded.worded(lesson("Why was it built?", "the old one sank")) == sentence
    long = "built in 1932 by the Tarn yard because the old one"
    assert grounded.worded(lesson("What is said?", long)) == sentence


def test_the_shares_are_kept_and_what_does_not_fit_is_left_out() -> None:
    lessons = [lesson(f"Q{n}?", "noon", "squad-v1") for n in range(50)]
    lessons += [lesson(f"P{n}?", "noon", "policyqa") for n in range(3)]
    lessons += [replace(lessons[0], passage="x" * 2000), replace(lessons[0], wrong=WRONG[:1])]
    lessons.append(lesson("A claim.", None, "fever"))
    found = grounded.chosen(lessons, 100, seed=0)
    assert sum(each.origin == "squad-v1" for each in found) == 20
    assert sum(each.origin == "policyqa" for each in found) == 3
    assert len(found) == 23
    assert found == grounded.chosen(lessons, 100, seed=0)


def test_a_quarter_of_an_origin_asks_for_a_sentence() -> None:
    lessons = [lesson(f"When does ferry {n} leave?", "noon", "squad-v1") for n in range(90)]
    lessons += [lesson(f"Why does ferry {n} leave?", "noon", "squad-v1") for n in range(10)]
    found = grounded.chosen(lessons, 100, seed=0)
    assert (len(found), sum("Why" in each.question for each in found)) == (20, 5)


def test_the_marker_is_that_of_the_lesson_s_passage(
    settings: Settings, reader: MiniReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = [lesson(f"When does ferry {n} leave?", "noon") for n in range(20)]
    lessons += [lesson("When does it come back?", None)] * 2

    def made(removed: float, threshold: float = 0.0) -> list[grounded.QAExample]:
        monkeypatch.setattr(grounded, "REMOVED", removed)
        count = lambda text: len(text.split())  # noqa: E731
        headers = {PASSAGE: "Ferry"}
        asking = settings.retrieval.model_copy(update={"answerable": threshold})
        how = settings.model_copy(update={"retrieval": asking})
        return list(grounded.compose(lessons, headers, reader, count, how, 0))

    for each in made(0.0):
        assert 2 <= len(each.sources) <= 4
        if each.answerable:
            marker = int(each.answer.removeprefix("noon [").rstrip("]"))
            assert each.sources[marker - 1].text == PASSAGE
            assert each.sources[marker - 1].document == "Ferry"
        else:
            assert each.answer == prompt.NO_ANSWER
            assert PASSAGE in [source.text for source in each.sources]
    gone = [each for each in made(1.0) if each.kind == "removed"]
    assert len(gone) == 20
    assert all(PASSAGE not in [s.text for s in each.sources] for each in gone)
    assert all(each.answer == prompt.NO_ANSWER for each in gone)
    assert not made(0.0, threshold=1.0), "serving would ask no model"


def test_few_words_are_learned_from_with_a_sentence_among_them(coloured: list[QAExample]) -> None:
    base = replace(coloured[0], split="train", answerable=True)
    short = [replace(base, id=f"s{n}", answer="42 [1]") for n in range(40)]
    asked = [
        replace(base, id=f"a{n}", question="Why is it so?", answer="It is. [1]") for n in (1, 2)
    ]
    long = [replace(base, id=f"l{n}", answer=f"{'so ' * 12}it is. [1]") for n in range(9)]
    looked_at = [replace(base, id=f"v{n}", split="validation") for n in range(99)]
    found = grounded.few_words([*looked_at, *asked, *long, *short], 32)
    kinds = [each.id[0] for each in found]
    assert kinds[:60] == ["v"] * 60
    assert (kinds.count("s"), kinds.count("a"), kinds.count("l")) == (32, 2, 0)
    assert kinds[60:] != sorted(kinds[60:])


def test_a_packed_adapter_is_half_as_large_and_the_same(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    candidate = tmp_path / "candidate"
    candidate.mkdir()
    torch.manual_seed(0)
    save_file({"lora_A": torch.randn(64, 64)}, candidate / "adapter_model.safetensors")
    for name in ("adapter_config.json", "card.json", "loss.svg"):
        (candidate / name).write_text(json.dumps(random.random()))
    assert grounded.main(["--pack", str(candidate), "--out", str(tmp_path / "out")]) == 0
    first, second = (
        load_file(folder / "adapter_model.safetensors")["lora_A"]
        for folder in (candidate, tmp_path / "out")
    )
    assert second.dtype == torch.float16
    assert torch.allclose(first, second.float(), atol=2e-3)
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "card.json", "loss.svg",
    }  # fmt: skip
