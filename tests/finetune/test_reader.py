import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune import reader
from finetune.reader import Drawn, Recipe
from finetune.spans import Lesson
from rag_bot.encoder import Logits, Pairs
from rag_bot.errors import UsageError

COLOURS = ("red", "green", "blue", "black", "white")
THINGS = ("car", "house", "tree", "door", "ship", "hat")
QUICK = Recipe(pairs=2400, rate=5e-3, batch=256, removed=0, wrong=0.5)


def lessons(count: int) -> list[Lesson]:
    chance = random.Random(0)
    found = []
    for _ in range(count):
        thing, other = chance.sample(THINGS, 2)
        colour = chance.choice(COLOURS)
        wrong = f"The {other} is {chance.choice(COLOURS)}."
        text = f"The {thing} is {colour}."
        start = text.index(colour)
        span = (start, start + len(colour))
        question = f"What is the {thing}?"
        found.append(Lesson(question, text, "", span, True, "toy", (wrong,)))
    return found


def curve(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "loss.jsonl").open()]


def test_it_learns_and_the_same_again_from_the_same_seed(tiny: Path, tmp_path: Path) -> None:
    for name in "ab":
        reader.train(lessons(600), {}, QUICK, tiny, tmp_path / name)
    losses = curve(tmp_path / "a")
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert f"in {len(losses)} steps" in (tmp_path / "a" / "loss.svg").read_text()
    assert losses == curve(tmp_path / "b")


def test_a_killed_training_goes_on_along_the_same_curve(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(QUICK, pairs=800)
    reader.train(lessons(600), {}, short, tiny, tmp_path / "whole")
    monkeypatch.setattr(reader, "_SAVE_EVERY", 0)
    stopped = iter(range(6))

    def killed(*arguments: object) -> torch.Tensor:
        step = next(stopped, None)
        if step is None:
            raise KeyboardInterrupt
        if step == 4:  # the last step before the kill has no checkpoint
            monkeypatch.setattr(reader, "_SAVE_EVERY", 3600)
        return whole(*arguments)  # type: ignore[arg-type]

    whole = reader.loss
    monkeypatch.setattr(reader, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        reader.train(lessons(600), {}, short, tiny, tmp_path / "killed")
    monkeypatch.setattr(reader, "loss", whole)
    (tmp_path / "killed" / reader.LOSS).write_text('{"step": 0, "lo')  # as a kill may leave it
    reader.train(lessons(600), {}, short, tiny, tmp_path / "killed")
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert not (tmp_path / "killed" / reader.CHECKPOINT).exists()
    weights = [tmp_path / name / "reader.safetensors" for name in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_recipe_does_not_go_on_from_a_checkpoint(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SAVE_EVERY", 0)
    monkeypatch.setattr(Path, "unlink", lambda *_args, **_how: None)
    reader.train(lessons(60), {}, replace(QUICK, pairs=100), tiny, tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        reader.train(lessons(60), {}, replace(QUICK, pairs=90), tiny, tmp_path)
    with pytest.raises(UsageError, match="other lessons"):
        reader.train(lessons(59), {}, replace(QUICK, pairs=100), tiny, tmp_path)


def test_the_loss_by_hand(embedder_folder: Path) -> None:
    """Two pieces of passage, all scores 0: ln 3 for each end of a span, ln 2 for a judgement."""
    pairs = Pairs(embedder_folder / "tokenizer.json")
    batch = pairs.encode([("what?", "", "red hat")])
    length = batch.ids.shape[1]
    flat = Logits(torch.zeros(1, length), torch.zeros(1, length), torch.zeros(1), torch.zeros(1))
    drawn = Drawn("what?", "", "red hat", (0, 3), True, True, True)
    assert reader.loss(flat, batch, [drawn]) == pytest.approx(math.log(3) + math.log(2))
    # A claim teaches ranking alone; where nothing is known, nothing is learned.
    claim = drawn._replace(span=None, points=False, answerable=None)
    assert reader.loss(flat, batch, [claim]) == pytest.approx(
        0.5 * float(torch.log(torch.tensor(2.0)))
    )
    assert reader.loss(flat, batch, [claim._replace(relevant=None)]) == 0


def test_a_wrong_passage_has_its_own_header_or_neither_has_one() -> None:
    each = replace(lessons(1)[0], header="Cars")
    headers = {each.wrong[0]: "Ships"}
    recipe = replace(QUICK, wrong=1.0)
    seen = set()
    for seed in range(20):
        (group,) = reader.draw([each], headers, replace(recipe, seed=seed))
        seen.add(tuple(drawn.header for drawn in group))
    assert seen == {("Cars", "Ships"), ("", "")}


def test_an_unanswerable_questions_own_passage_teaches_no_ranking() -> None:
    each = replace(lessons(1)[0], span=None, answerable=False)
    ((drawn,),) = reader.draw([each], {}, QUICK)
    assert (drawn.relevant, drawn.answerable, drawn.points) == (None, False, True)


def test_near_misses_are_as_many_as_the_recipe_says() -> None:
    text = "The hat is black. Ann Lee painted the tree first. It was a gift from Bob Ray."
    start = text.index("black")
    asked = "Which colour had the hat that Ann Lee painted first?"
    each = Lesson(asked, text, "", (start, start + 5), True, "toy", ("x",))
    recipe = replace(QUICK, wrong=0.4, removed=0.2, twisted=0.3)
    groups = reader.draw([each] * 2000, {}, recipe)
    seconds = [group[1] for group in groups if len(group) == 2]
    shares = {
        "wrong": sum(drawn.passage == "x" for drawn in seconds),
        "removed": sum(drawn.question == asked and drawn.passage != "x" for drawn in seconds),
        "twisted": sum(drawn.question != asked for drawn in seconds),
    }
    for name, share in shares.items():
        assert share / 2000 == pytest.approx(getattr(recipe, name), abs=0.04), name
    assert not any(drawn.answerable or drawn.span for drawn in seconds)


def test_a_second_round_starts_from_what_the_first_one_learned(tiny: Path, tmp_path: Path) -> None:
    reader.train(lessons(600), {}, QUICK, tiny, tmp_path / "first")
    again = replace(QUICK, pairs=200)
    reader.train(lessons(600), {}, again, tiny, tmp_path / "second", tmp_path / "first")
    assert curve(tmp_path / "second")[0] < 0.85 * curve(tmp_path / "first")[0]


def test_batches_hold_like_lengths_and_every_group_once() -> None:
    drawn = reader.draw(lessons(300), {}, QUICK)
    made = reader.batches(drawn, QUICK)
    assert sorted(map(str, (d for batch in made for d in batch))) == sorted(
        map(str, (d for group in drawn for d in group))
    )
    assert max(map(len, made)) > 4


def test_no_origin_has_more_than_its_share() -> None:
    kept = reader.mixed(lessons(50), {"toy": 7}, seed=0)
    assert len(kept) == 7
    assert kept == reader.mixed(lessons(50), {"toy": 7}, seed=0)
    assert len(reader.mixed(lessons(50), {}, seed=0)) == 50


def test_a_span_that_was_cut_off_is_not_learned(tiny: Path, embedder_folder: Path) -> None:
    pairs = Pairs(embedder_folder / "tokenizer.json")
    text = "word " * 600 + "red"
    batch = pairs.encode([("what?", "", text)])
    length = batch.ids.shape[1]
    flat = Logits(torch.zeros(1, length), torch.zeros(1, length), torch.zeros(1), torch.zeros(1))
    drawn = Drawn("what?", "", text, (len(text) - 3, len(text)), True, None, None)
    assert reader.loss(flat, batch, [drawn]) == 0


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
