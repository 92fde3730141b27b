"""Training the reader: MiniLM learns to rank, to point and to say that a passage does not tell.

    python -m finetune.reader --lessons LESSONS.jsonl --out FIRST
    python -m finetune.reader --lessons LESSONS.jsonl --out SECOND --round 2 --begin FIRST
    python -m finetune.reader --lessons LESSONS.jsonl --lessons WRITTEN.jsonl --out THIRD --round 3
        --begin SECOND

and so on, `ROUNDS` has them all.

Each step reads lessons with one wrong passage each. The word embeddings stay as they are, so the
shipped weights are the layers and the heads alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from eval import plots
from finetune import spans
from finetune.spans import Lesson
from rag_bot import config, encoder, loading, models, read
from rag_bot.digest import sha256_of
from rag_bot.embed import precision
from rag_bot.encoder import Batch, Logits, Network, Pairs
from rag_bot.errors import UsageError
from rag_bot.read import Calibration

MIX = {
    "squad-v2": 9300,
    "squad-v1": 3500,
    "squadshifts-wiki": 1500,
    "squadshifts-amazon": 500,
    "nq": 1000,
    "qed": 1200,
    "tatqa": 976,
    "policyqa": 700,
    "cpgqa": 400,
    "quoref": 300,
    "fairytales": 300,
    "fever": 1200,
    "fool-me-twice": 500,
    "check-covid": 1006,
}
"""Lessons of each origin at most."""
MIX_AGAIN = {
    "squad-v2": 9300,
    "squad-v1": 2500,
    "squadshifts-wiki": 1000,
    "squadshifts-amazon": 200,
    "nq": 500,
    "qed": 1200,
    "tatqa": 500,
    "policyqa": 300,
    "cpgqa": 200,
    "quoref": 100,
    "fairytales": 100,
    "fever": 500,
    "fool-me-twice": 200,
    "check-covid": 300,
}
"""The same for the second round, most of whose lessons are about what passages don't say."""
MIX_THIRD = {
    "squad-v2": 2400,
    "squad-v1": 300,
    "squadshifts-wiki": 150,
    "squadshifts-amazon": 100,
    "nq": 400,
    "qed": 300,
    "tatqa": 300,
    "policyqa": 100,
    "cpgqa": 100,
    "quoref": 0,
    "fairytales": 0,
    "fever": 100,
    "fool-me-twice": 50,
    "check-covid": 200,
}
"""Lest it is forgotten in the third round, which is about the documents of `finetune.written`."""
MIX_FOURTH = {
    "squad-v2": 8500,
    "squad-v1": 9000,
    "squadshifts-wiki": 4000,
    "squadshifts-amazon": 1200,
    "nq": 2300,
    "qed": 1200,
    "tatqa": 976,
    "policyqa": 1500,
    "cpgqa": 600,
    "quoref": 100,
    "fairytales": 600,
    "fever": 700,
    "fool-me-twice": 300,
    "check-covid": 400,
}
"""For the fourth round: the public sets again, with other wrong passages and near misses."""
MIX_FIFTH = MIX_THIRD | {"squad-v2": 4000, "squad-v1": 1500, "squadshifts-wiki": 500, "nq": 800}
"""Lest the fourth round is forgotten in the fifth, which is about documents again."""
CHECKPOINT = "checkpoint.pt"
LOSS = "loss.jsonl"
_SAVE_EVERY = 300
"""Seconds between checkpoints."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the reader is trained: once over the lessons, until `pairs` were read.

    Lessons of more than `longest` characters are left out. `wrong` is the share of lessons read
    with a wrong passage too, `removed` the share read with the answering sentence taken out of
    theirs, `twisted` the share asked something else that it does not answer, `headed` the share
    that keeps its header. An origin in `times` is read so many times, with other wrong passages.
    `batch` counts word pieces.
    """

    seed: int = 0
    pairs: int = 30_000
    longest: int = 1200
    rate: float = 1.5e-4
    warmup: float = 0.06
    decay: float = 0.01
    batch: int = 4096
    removed: float = 0.15
    wrong: float = 0.5
    twisted: float = 0.0
    headed: float = 0.5
    mix: Mapping[str, int] = field(default_factory=lambda: MIX)
    times: Mapping[str, int] = field(default_factory=dict)


ROUNDS = {
    1: Recipe(pairs=22_000),
    2: Recipe(seed=1, pairs=20_000, rate=1e-4, wrong=0.3, removed=0.1, twisted=0.3, mix=MIX_AGAIN),
    3: Recipe(
        seed=2,
        pairs=26_000,
        rate=1e-4,
        wrong=0.45,
        twisted=0.15,
        mix=MIX_THIRD,
        times={"documents": 2},
    ),
    4: Recipe(
        seed=3, pairs=36_000, rate=1.2e-4, wrong=0.35, removed=0.1, twisted=0.2, mix=MIX_FOURTH
    ),
    5: Recipe(seed=4, pairs=34_000, rate=1e-4, wrong=0.45, twisted=0.15, mix=MIX_FIFTH),
}
"""The shipped reader's rounds: each starts from what the one before has learned."""


class Drawn(NamedTuple):
    """One pair to read, and what should be said of it. None is not learned."""

    question: str
    header: str
    passage: str
    span: tuple[int, int] | None
    points: bool
    answerable: bool | None
    relevant: bool | None


def mixed(lessons: Sequence[Lesson], most: Mapping[str, int], seed: int) -> list[Lesson]:
    """At most so many of each origin, drawn at random; of an origin not named, all."""
    shuffled = list(lessons)
    random.Random(seed).shuffle(shuffled)
    taken: Counter[str] = Counter()
    kept = []
    for lesson in shuffled:
        taken[lesson.origin] += 1
        if taken[lesson.origin] <= most.get(lesson.origin, len(lessons)):
            kept.append(lesson)
    return kept


def draw(
    lessons: Sequence[Lesson], headers: Mapping[str, str], recipe: Recipe
) -> list[list[Drawn]]:
    """One epoch, shuffled: for each lesson its passage, and perhaps a wrong one or a near miss.

    `headers` gives the header of every passage, the wrong ones too.
    """
    rng = random.Random(recipe.seed)
    groups = []
    for lesson in lessons:
        # All of a group or none: a header must not tell the right passage from the wrong one.
        headed = rng.random() < recipe.headed
        header = lesson.header if headed else ""
        # On an unanswerable question's own passage it is moot whether it is relevant.
        relevant = None if lesson.answerable is False else True
        points = lesson.answerable is not None
        group = [
            Drawn(
                lesson.question,
                header,
                lesson.passage,
                lesson.span,
                points,
                lesson.answerable,
                relevant,
            )
        ]
        if lesson.answerable is not False and lesson.wrong and rng.random() < recipe.wrong:
            # The first ones are the hardest.
            which = min(int(rng.expovariate(0.5)), len(lesson.wrong) - 1)
            wrong = lesson.wrong[which]
            about = headers.get(wrong, "") if headed else ""
            group.append(Drawn(lesson.question, about, wrong, None, True, False, False))
        elif lesson.answerable:
            near = _near_miss(lesson, recipe, rng)
            if near:
                group.append(Drawn(near.question, header, near.passage, None, True, False, None))
        groups.append(group)
    rng.shuffle(groups)
    return groups


def _near_miss(lesson: Lesson, recipe: Recipe, rng: random.Random) -> Lesson | None:
    """Of the lessons that are not read with a wrong passage, as many as the recipe says."""
    draw = rng.random() * (1 - recipe.wrong)
    if draw < recipe.removed:
        return spans.without_answer(lesson, rng)
    if draw < recipe.removed + recipe.twisted:
        return spans.twisted(lesson, rng)
    return None


def batches(groups: list[list[Drawn]], recipe: Recipe) -> list[list[Drawn]]:
    """Groups of like length together, so that little is spent on padding; in random order."""
    rng = random.Random(recipe.seed)
    found: list[list[Drawn]] = []
    window = 2048
    for start in range(0, len(groups), window):
        part = sorted(groups[start : start + window], key=_length)
        batch: list[Drawn] = []
        longest = 0
        for group in part:
            longest = max(longest, _length(group))
            if batch and longest // 4 * (len(batch) + len(group)) > recipe.batch:
                found.append(batch)
                batch, longest = [], _length(group)
            batch += group
        found.append(batch)
    rng.shuffle(found)
    return found


def _length(group: list[Drawn]) -> int:
    longest = max(len(d.question) + len(d.header) + len(d.passage) for d in group)
    return min(longest, 4 * encoder.MAX_PIECES)


def loss(logits: Logits, batch: Batch, drawn: Sequence[Drawn]) -> Tensor:
    """Cross-entropy of the span's ends (piece 0: no answer), and of both judgements."""
    starts, ends, known = [], [], []
    for row, each in enumerate(drawn):
        place = _pieces(batch, row, each.span) if each.span else (0, 0)
        known.append(each.points and place is not None)
        starts.append(place[0] if place else 0)
        ends.append(place[1] if place else 0)
    allowed = batch.inside.clone()
    allowed[:, 0] = True
    shut = torch.finfo(torch.float32).min
    total = torch.zeros(())
    mask = torch.tensor(known)
    if mask.any():
        for scores, gold in ((logits.starts, starts), (logits.ends, ends)):
            total = total + 0.5 * functional.cross_entropy(
                scores.masked_fill(~allowed, shut)[mask], torch.tensor(gold)[mask]
            )
    for scores, labels in (
        (logits.answerable, [each.answerable for each in drawn]),
        (logits.relevance, [each.relevant for each in drawn]),
    ):
        rows = [n for n, label in enumerate(labels) if label is not None]
        if rows:
            gold_labels = torch.tensor([float(bool(labels[n])) for n in rows])
            total = total + 0.5 * functional.binary_cross_entropy_with_logits(
                scores[rows], gold_labels
            )
    return total


def _pieces(batch: Batch, row: int, span: tuple[int, int]) -> tuple[int, int] | None:
    """First and last piece of a span of characters, or None where it was cut off."""
    hit = [
        n
        for n, (start, end) in enumerate(batch.offsets[row])
        if end > start and start < span[1] and span[0] < end
    ]
    return (hit[0], hit[-1]) if hit and batch.offsets[row][hit[-1]][1] >= span[1] else None


def train(
    lessons: Sequence[Lesson],
    headers: Mapping[str, str],
    recipe: Recipe,
    folder: Path,
    out: Path,
    begin: Path | None = None,
) -> None:
    """Train on top of the embedder in `folder`; the rate rises, then falls to nothing.

    `begin` is the folder of a reader to start from. Writes weights, card, `loss.jsonl`
    and its plot to `out`. A killed training goes on from its last checkpoint, on the same curve.
    """
    import transformers
    from safetensors.torch import load_file, save_file

    torch.manual_seed(recipe.seed)
    pairs = Pairs(folder / "tokenizer.json")
    transformers.utils.logging.set_verbosity_error()
    # No dropout: nothing is read twice, and drawing it takes a CPU longer than the layers do.
    with loading.LOCK:
        network = start(
            transformers.AutoModel.from_pretrained(
                folder,
                add_pooling_layer=False,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
    if begin:
        network.load_state_dict(encoder.unpacked(load_file(begin / read.WEIGHTS)), strict=False)
    optimizer = _optimizer(network, recipe)
    planned = _enough(batches(draw(lessons, headers, recipe), recipe), recipe.pairs)
    out.mkdir(parents=True, exist_ok=True)
    same = _identity(recipe, planned, begin)
    curve = _resume(out / CHECKPOINT, network, optimizer, same)
    first = len(curve)
    network.train()
    # The weights stay float32: only where the processor multiplies bfloat16 it takes half the time.
    fast = precision("auto") == torch.bfloat16
    begun = saved = time.monotonic()
    seen = 0
    with (out / LOSS).open("w") as log:
        log.writelines(f"{_noted(step, value)}\n" for step, value in enumerate(curve))
        for step, drawn in enumerate(planned[first:], start=first):
            through = step / len(planned)
            for group in optimizer.param_groups:
                group["lr"] = (
                    recipe.rate * min((step + 1) / len(planned) / recipe.warmup, 1) * (1 - through)
                )
            batch = pairs.encode([(d.question, d.header, d.passage) for d in drawn])
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = network(batch)
            value = loss(logits, batch, drawn)
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += len(drawn)
            curve.append(round(value.item(), 4))
            log.write(f"{_noted(step, curve[-1])}\n")
            spent = time.monotonic() - begun
            left = spent / (step + 1 - first) * (len(planned) - step - 1)
            print(
                f"\r{step + 1}/{len(planned)} steps, {seen / spent:.1f} pairs/s,"
                f" loss {value.item():.3f}, {left / 60:.0f} min left ",
                end="",
                file=sys.stderr,
                flush=True,
            )
            if time.monotonic() - saved > _SAVE_EVERY:
                _save(out / CHECKPOINT, network, optimizer, same, curve)
                saved = time.monotonic()
    print(file=sys.stderr)
    (out / "loss.svg").write_text(plots.losses("reader", {"loss": curve}), "utf-8")
    save_file(
        {
            name: value.detach().to(torch.float16).contiguous()
            for name, value in network.named_parameters()
            if value.requires_grad
        },
        out / read.WEIGHTS,
    )
    card = {"base": folder.name, "calibration": asdict(Calibration()), "recipe": asdict(recipe)}
    (out / read.CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    (out / CHECKPOINT).unlink(missing_ok=True)


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=recipe.rate,
    )


def _enough(planned: list[list[Drawn]], pairs: int) -> list[list[Drawn]]:
    """The leading batches that make so many pairs."""
    total = 0
    for n, batch in enumerate(planned):
        total += len(batch)
        if total >= pairs:
            return planned[: n + 1]
    return planned


def _noted(step: int, value: float) -> str:
    return json.dumps({"step": step, "loss": value})


def _identity(recipe: Recipe, planned: Sequence[Sequence[Drawn]], begin: Path | None) -> str:
    """Of the recipe, what is learned in which order, and the weights that it begins with."""
    found = hashlib.sha256(json.dumps(asdict(recipe)).encode())
    for batch in planned:
        found.update(repr(batch).encode())
    found.update(sha256_of(begin / read.WEIGHTS).encode() if begin else b"")
    return found.hexdigest()


def _save(
    file: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    same: str,
    curve: Sequence[float],
) -> None:
    new = file.with_suffix(".new")
    torch.save(
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "same": same,
            "curve": list(curve),
        },
        new,
    )
    new.replace(file)


def _resume(
    file: Path, network: Network, optimizer: torch.optim.Optimizer, same: str
) -> list[float]:
    """Load a checkpoint of the same training, if there is one. Returns its curve, step by step."""
    if not file.is_file():
        return []
    saved = torch.load(file, weights_only=True)
    if saved.get("same") != same:
        raise UsageError(
            f"{file} was made by another recipe, from other lessons or another beginning",
            "give another --out, or delete that file",
        )
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return list(saved["curve"])


def start(bert: torch.nn.Module) -> Network:
    """A network whose word embeddings stay as they are."""
    network = Network(bert, bert.config.hidden_size)  # type: ignore[union-attr, arg-type]
    network.encoder.embeddings.requires_grad_(False)
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    """Train once."""
    parser = argparse.ArgumentParser(prog="python -m finetune.reader", description=__doc__)
    parser.add_argument("--lessons", type=Path, required=True, action="append")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--round", type=int, choices=sorted(ROUNDS), default=1, dest="turn")
    parser.add_argument("--begin", type=Path, help="a reader's folder to start from")
    parser.add_argument("--seed", type=int, help="another than the round's own")
    parser.add_argument("--pairs", type=int, help="another number than the round's own")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = config.load().settings
    folder = models.locate(settings.models.embedder, settings.models.dir)
    recipe = ROUNDS[options.turn]
    recipe = replace(
        recipe,
        seed=recipe.seed if options.seed is None else options.seed,
        pairs=options.pairs or recipe.pairs,
    )
    lessons = [lesson for file in options.lessons for lesson in spans.read(file)]
    headers = {lesson.passage: lesson.header for lesson in lessons}
    short = [lesson for lesson in lessons if len(lesson.passage) <= recipe.longest]
    once = mixed(short, recipe.mix, recipe.seed)
    kept = [lesson for lesson in once for _ in range(recipe.times.get(lesson.origin, 1))]
    train(kept, headers, recipe, folder, options.out, options.begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
