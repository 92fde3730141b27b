import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finetune import objective, tokens, train
from finetune.examples import QAExample
from finetune.tokens import Encoded
from finetune.train import Begun, Look, Recipe, Step, Trained
from rag_bot import generate
from rag_bot.errors import ModelBroken, Unavailable, UsageError
from rag_bot.prompt import NO_ANSWER
from rag_bot.types import Message

QUICK = Recipe(rate=1e-2, epochs=3, batch=1500, looks=1)


def run(
    taught: Sequence[QAExample], base: Path, recipe: Recipe, out: Path, **how: Any
) -> list[Any]:
    return list(train.train(taught, base, recipe, out, **how))


def curve(folder: Path, kind: str = "loss") -> list[float]:
    rows = [json.loads(line) for line in (folder / "loss.jsonl").open()]
    return [row[kind] for row in rows if kind in row]


# Tokens


def test_training_reads_the_bytes_that_serving_writes(
    tiny_llm: Path, coloured: list[QAExample]
) -> None:
    tokenizer = generate.tokenizer(tiny_llm)
    encoded = tokens.encode(tokenizer, coloured[0])
    how = {"max_tokens": 4}
    from rag_bot.config import Generation

    serving = generate.LocalChatModel(tiny_llm, torch.float32, Generation(**how))
    said = serving.render([generate._to_langchain(each) for each in coloured[0].messages])
    assert tokenizer.decode(encoded.prompt) == said
    assert tokenizer.decode(encoded.answer) == coloured[0].answer + tokenizer.eos_token
    assert tokenizer.decode(encoded.rejected) == coloured[0].rejected + tokenizer.eos_token


def test_a_model_without_a_chat_template_gets_plain_text(tiny_llm: Path) -> None:
    tokenizer = generate.tokenizer(tiny_llm)
    tokenizer.chat_template = None
    said = generate.render(tokenizer, [Message("system", "Be brief."), Message("user", "Who?")])
    assert said == "Be brief.\n\nWho?\n\nAnswer:"


def test_a_batch_holds_so_many_tokens_and_an_epoch_everything() -> None:
    lessons = [Encoded([1] * n, [2] * 5, []) for n in range(1, 200)]
    found = tokens.batches(lessons, 500, seed=1)
    assert sorted(n for batch in found for n in batch) == list(range(199))
    assert all(max(lessons[n].length for n in b) * len(b) <= 500 for b in found)
    assert found == tokens.batches(lessons, 500, seed=1)
    assert found != tokens.batches(lessons, 500, seed=2)
    assert tokens.batches([Encoded([1] * 900, [2], [])], 500, 0) == [[0]]


# Losses


def test_the_loss_is_that_of_the_answers_alone_whatever_the_padding(tiny_llm: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_llm)
    rows = [Encoded([5, 6, 7], [8, 9], []), Encoded([11, 12, 13, 14, 15, 16], [17, 18, 19], [])]
    with torch.inference_mode():
        together = objective.supervised(model, rows)
        told = 0.0
        for each in rows:
            ids = torch.tensor([each.prompt + each.answer])
            labels = ids.clone()
            labels[0, : len(each.prompt)] = -100
            told += model(input_ids=ids, labels=labels).loss.item() * len(each.answer)
    assert together.item() == pytest.approx(told / 5, abs=1e-5)


def test_preferences_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([(torch.tensor([-1.0]), torch.tensor([-4.0]))])
    monkeypatch.setattr(objective, "_both", lambda *_: next(said))
    # Chosen went up by 1, rejected down by 2: the margin is 3, times 0.5.
    loss = objective.preferences(None, [], [(-2.0, -2.0)], beta=0.5)
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-1.5))), abs=1e-6)


# Training


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix", "qlora"])
def test_each_method_learns_and_leaves_an_adapter(
    method: train.Method, tiny_llm: Path, coloured: list[QAExample], tmp_path: Path
) -> None:
    rate = {"prompt": 0.3, "prefix": 0.3}.get(method, 1e-2)
    recipe = replace(QUICK, method=method, rate=rate)
    events = run(coloured, tiny_llm, recipe, tmp_path / "out")
    losses = curve(tmp_path / "out")
    assert sum(losses[-4:]) < 0.85 * sum(losses[:4])
    trained = events[-1]
    assert isinstance(trained, Trained)
    assert trained.best < 0.85 * trained.first
    assert isinstance(events[0], Begun)
    assert [e.step for e in events if isinstance(e, Step)] == list(range(1, len(losses) + 1))
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "loss.jsonl",
        "loss.svg",
    }


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_look_at_the_loss_changes_no_gradient(method: train.Method, tiny_llm: Path) -> None:
    # It can fail on processors with AVX-512 bf16 alone.
    recipe = replace(QUICK, method=method)
    base = train._base(tiny_llm, recipe, torch.device("cpu"))
    model = train._with_adapter(base, recipe, begin=None)
    ids = torch.arange(5, 25)[None]

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model.train()(input_ids=ids, labels=ids).loss.backward()
        found = [each.grad for name, each in model.named_parameters() if "lora_B" in name]
        return [each.clone() for each in found if each is not None]

    before = gradients()
    with torch.no_grad():
        model.eval()(input_ids=ids)
    for was, now in zip(before, gradients(), strict=True):
        torch.testing.assert_close(now, was, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_training_goes_on_along_the_same_curve(
    tiny_llm: Path,
    coloured: list[QAExample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dropout: float,
) -> None:
    tiny_llm = shutil.copytree(tiny_llm, tmp_path / "llm")
    settings = json.loads((tiny_llm / "config.json").read_text())
    (tiny_llm / "config.json").write_text(json.dumps(settings | {"attention_dropout": dropout}))
    run(coloured, tiny_llm, QUICK, tmp_path / "whole")
    monkeypatch.setattr(train, "_SAVE_EVERY", 0)
    for event in train.train(coloured, tiny_llm, QUICK, tmp_path / "killed"):
        if isinstance(event, Step) and event.step == 7:
            break  # the seventh step was not saved yet, as after a power cut
    again = run(coloured, tiny_llm, QUICK, tmp_path / "killed")
    assert isinstance(again[0], Begun)
    assert again[0].step == 6
    for kind in ("loss", "validation"):
        assert curve(tmp_path / "killed", kind) == curve(tmp_path / "whole", kind)
    name = "adapter_model.safetensors"
    whole, killed = ((tmp_path / each / name).read_bytes() for each in ("whole", "killed"))
    assert whole == killed


def test_dropout_is_for_learning_not_for_looking(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path
) -> None:
    tiny_llm = shutil.copytree(tiny_llm, tmp_path / "llm")
    settings = json.loads((tiny_llm / "config.json").read_text())
    (tiny_llm / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.5}))
    still = replace(QUICK, rate=1e-12, epochs=2)
    events = run(coloured, tiny_llm, still, tmp_path / "out")
    looks = {round(event.loss, 4) for event in events if isinstance(event, Look)}
    assert len(looks) == 1


def test_a_checkpoint_that_was_cut_short_is_one_line(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / train.CHECKPOINT).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ModelBroken, match=r"checkpoint\.pt can't be read") as caught:
        run(coloured, tiny_llm, QUICK, out)
    assert "\n" not in str(caught.value)


def test_the_best_adapter_is_kept_and_training_ends_when_it_gets_no_better(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path
) -> None:
    mad = replace(QUICK, rate=5.0, epochs=20, patience=2)
    events = run(coloured, tiny_llm, mad, tmp_path / "out")
    looks = [event for event in events if isinstance(event, Look)]
    assert not any(look.best for look in looks[-2:])
    assert events[-1].best == min(look.loss for look in looks)
    assert events[-1].steps < events[0].steps


def test_preferences_are_learned_from_an_adapter_on(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path
) -> None:
    run(coloured, tiny_llm, QUICK, tmp_path / "first")
    recipe = replace(QUICK, beta=0.5, rate=1e-2, epochs=2)
    events = run(coloured, tiny_llm, recipe, tmp_path / "then", begin=tmp_path / "first")
    assert events[-1].first == pytest.approx(math.log(2), abs=1e-4)  # nothing is preferred yet
    assert events[-1].best < 0.5


def test_what_can_not_work_is_refused_before_it_begins(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: type[Exception], said: str, **how: Any) -> None:
        taught, recipe = how.pop("taught", coloured), how.pop("recipe", QUICK)
        with pytest.raises(error, match=said):
            run(taught, tiny_llm, recipe, tmp_path / "out", **how)

    refused(UsageError, "3 examples to train on", taught=coloured[3:6])
    refused(UsageError, "too long", recipe=replace(QUICK, longest=40))
    refused(UsageError, "about .* hours here", hours=0.0)
    plain = [replace(each, rejected="") for each in coloured]
    refused(UsageError, "0 examples with a rejected", taught=plain, recipe=replace(QUICK, beta=0.1))
    with monkeypatch.context() as poor:
        poor.setattr(train, "_free_gb", lambda _: 0.1)
        refused(Unavailable, "0.1 GB are free")
    if not torch.cuda.is_available():
        refused(Unavailable, "no CUDA device", device="cuda")
    (tmp_path / "bad").mkdir()
    refused(ModelBroken, "holds no adapter_model", begin=tmp_path / "bad")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory ran"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory ran out"),
        (OSError(28, "No space left on device"), "can't be written"),
        (RuntimeError("PytorchStreamWriter failed writing file data/7"), "can't be written"),
    ],
)
def test_what_gives_out_while_training_is_one_line_and_the_checkpoint_is_kept(
    error: Exception,
    said: str,
    tiny_llm: Path,
    coloured: list[QAExample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "mine"
    monkeypatch.setattr(train, "_SAVE_EVERY", -1)

    def fails(*_: object) -> None:
        if (out / train.CHECKPOINT).exists():
            (out / (train.CHECKPOINT + ".new")).write_text("half")
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", fails)
        with pytest.raises(Unavailable, match=said) as caught:
            run(coloured, tiny_llm, QUICK, out)
    assert "--resume mine" in str(caught.value)
    assert [each.name for each in out.iterdir()] == [train.CHECKPOINT]
    assert isinstance(run(coloured, tiny_llm, QUICK, out)[-1], Trained)


def test_another_error_is_not_explained_away(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), train.explained(tmp_path):
        raise RuntimeError("shape mismatch")


def test_a_container_may_take_less_than_the_machine_has(tmp_path: Path) -> None:
    new, old, mine = tmp_path / "new", tmp_path / "old", tmp_path / "cgroup"
    service = new / "user.slice" / "job.service"
    service.mkdir(parents=True)
    for place, most, used, cached in ((service, "max", 3000, 0), (service.parent, 8000, 5000, 700)):
        (place / "memory.max").write_text(f"{most}\n")
        (place / "memory.current").write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
    mine.write_text("0::/user.slice/job.service\n")
    assert train._allowed(new, mine) == 3700
    (old / "memory").mkdir(parents=True)
    (old / "memory" / "memory.limit_in_bytes").write_text("4000")
    (old / "memory" / "memory.usage_in_bytes").write_text("4500")
    (old / "memory" / "memory.stat").write_text("total_inactive_file 100\n")
    mine.write_text("9:name=systemd:/\n4:memory:/docker/0a1b\n")
    assert train._allowed(old, mine) == 0
    assert train._allowed(tmp_path / "none", tmp_path / "none") == math.inf
    assert train._free_gb(torch.device("cpu")) > 0


def test_what_is_looked_at_is_drawn_from_all_kinds(
    tiny_llm: Path, coloured: list[QAExample]
) -> None:
    """A file has the examples of one kind after those of another."""
    ordered = sorted(coloured * 3, key=lambda each: not each.answerable)
    held = [replace(each, split="validation") for each in ordered]
    tokenizer = generate.tokenizer(tiny_llm)
    _, looked_at, *_ = train._encoded(tokenizer, [*coloured, *held], QUICK)
    nothing = [each for each in looked_at if NO_ANSWER in tokenizer.decode(each.answer)]
    assert len(looked_at) == train._LOOKED_AT
    assert len(nothing) >= train._LOOKED_AT // 10


def test_another_training_is_not_continued_nor_overwritten(
    tiny_llm: Path, coloured: list[QAExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_SAVE_EVERY", 0)
    for event in train.train(coloured, tiny_llm, QUICK, tmp_path / "out"):
        if isinstance(event, Step) and event.step == 2:
            break
    with pytest.raises(UsageError, match="another training"):
        run(coloured, tiny_llm, replace(QUICK, seed=1), tmp_path / "out")
    run(coloured, tiny_llm, QUICK, tmp_path / "out")
    with pytest.raises(UsageError, match="holds an adapter"):
        run(coloured, tiny_llm, QUICK, tmp_path / "out")
