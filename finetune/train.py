"""Training an adapter: QLoRA, LoRA, a soft prompt or a prefix, on answers or on preferences.

One loop reads top to bottom: examples to tokens, a look at memory and time, the model, steps with
checkpoints, the best adapter kept. A killed training goes on from its last checkpoint and draws
the same loss curve.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from eval import plots
from finetune import objective, tokens
from finetune.examples import FEWEST, QAExample
from finetune.tokens import Encoded
from rag_bot import adapters, generate, loading, models
from rag_bot.embed import precision
from rag_bot.errors import ModelBroken, Unavailable, UsageError

Method = Literal["qlora", "lora", "prompt", "prefix"]
RATES: dict[Method, float] = {"qlora": 2e-4, "lora": 2e-4, "prompt": 3e-2, "prefix": 1e-2}
"""Learning rates: the paper's for (Q)LoRA at this size, tried here for the others."""
CHECKPOINT = "checkpoint.pt"
LOSS, PLOT = "loss.jsonl", "loss.svg"
_SAVE_EVERY = 120
"""Seconds between checkpoints."""
_HOURS = 24.0
_LOOKED_AT = 64
"""Examples whose loss is looked at: a second pass over more would cost more than it tells."""
_GEMM = 1024
# PyTorch tells these apart by words alone.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_NOT_WRITTEN = re.compile(r"failed writing|No space left|write failed", re.IGNORECASE)
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter is trained.

    `rank` and `alpha` are LoRA's, on all linear layers (Hu et al., 2021; Dettmers et al., "QLoRA",
    2023); `virtual` counts the tokens of a soft prompt (Lester et al., 2021) or prefix (Li and
    Liang, 2021). `batch` counts tokens, padding included. `longest`: examples of more tokens are
    left out, and counted. Validation is measured `looks` times an epoch, and training ends when
    it has not been better `patience` times in a row. With `beta`, preferences are learned (DPO).
    """

    method: Method = "lora"
    seed: int = 0
    epochs: float = 1.0
    rate: float = 0.0
    rank: int = 16
    alpha: int = 32
    virtual: int = 20
    batch: int = 2048
    longest: int = 1536
    warmup: float = 0.05
    looks: int = 4
    patience: int = 2
    beta: float = 0.0

    @property
    def learning_rate(self) -> float:
        """The rate asked for, or the method's own (a tenth of it for preferences)."""
        return self.rate or RATES[self.method] / (10 if self.beta else 1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training takes, before it is begun."""

    tokens: int
    memory_gb: float
    free_gb: float
    hours: float

    def __str__(self) -> str:
        return (
            f"{self.tokens:,} tokens, about {self.hours * 60:.0f} minutes and"
            f" {self.memory_gb:.1f} of {self.free_gb:.1f} GB"
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """Event: the training begins, or goes on, at `step`; so many examples were too long."""

    folder: Path
    cost: Cost
    step: int
    steps: int
    too_long: int


@dataclass(frozen=True, slots=True)
class Step:
    """Event: one step's loss. `rate` are tokens a second, `left` seconds."""

    step: int
    steps: int
    loss: float
    rate: float
    left: float


@dataclass(frozen=True, slots=True)
class Look:
    """Event: the loss on validation after so many steps."""

    step: int
    loss: float
    best: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """Event, the last: where the best adapter lies, and its losses on validation.

    `seconds` are those of all attempts; `learned` the ids of the examples it was trained on.
    """

    folder: Path
    first: float
    best: float
    steps: int
    seconds: float
    peak_gb: float
    learned: frozenset[str] = frozenset()


Event = Begun | Step | Look | Trained


def train(
    taught: Sequence[QAExample],
    base: Path,
    recipe: Recipe,
    out: Path,
    *,
    begin: Path | None = None,
    device: str = "auto",
    hours: float = _HOURS,
) -> Iterator[Event]:
    """Train an adapter of the model in `base` into `out`.

    `begin` is an adapter to start from. Raises UsageError for too few examples, a training that
    would outlast `hours` or an `out` that holds another training; Unavailable for a device that
    is not there, too little memory or a full disk; ModelBroken for a model or adapter that can't
    be loaded.
    """
    with explained(out):
        yield from _trained(taught, base, recipe, out, begin, device, hours)


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Raise Unavailable, with the way out, where memory or the disk gives out while training."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        said = models.brief(error)
        resume = "try again"
        if (out / CHECKPOINT).is_file():
            resume += f" (`finetune train` goes on with --resume {out.name})"
        if isinstance(error, MemoryError) or _NO_MEMORY.search(said):
            raise Unavailable(
                f"memory ran out while training: {said}",
                f"take a smaller --batch, or free some and {resume}",
            ) from error
        if isinstance(error, OSError) or _NOT_WRITTEN.search(said):
            raise Unavailable(
                f"{out} can't be written: {said}", f"make room and {resume}"
            ) from error
        raise
    finally:
        (out / (CHECKPOINT + ".new")).unlink(missing_ok=True)


def _trained(
    taught: Sequence[QAExample],
    base: Path,
    recipe: Recipe,
    out: Path,
    begin: Path | None,
    device: str,
    hours: float,
) -> Iterator[Event]:
    import transformers

    torch.manual_seed(recipe.seed)
    transformers.utils.logging.disable_progress_bar()
    where = _device(device)
    tokenizer = generate.tokenizer(base)
    lessons, looked_at, too_long, learned = _encoded(tokenizer, taught, recipe)
    _refuse_hopeless(cost := estimate(base, lessons, looked_at, recipe, where), recipe, hours)
    model = _with_adapter(_base(base, recipe, where), recipe, begin)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)
    plan = _plan(lessons, recipe)
    loss_of = _objective(model, recipe, [*lessons, *looked_at])

    out.mkdir(parents=True, exist_ok=True)
    work = _Work(out, _identity(base, recipe, lessons, begin), model, optimizer)
    done = work.resume()
    yield Begun(out, cost, done, len(plan), too_long)
    every = max(1, math.ceil(len(plan) / max(1, round(recipe.looks * recipe.epochs))))
    begun = saved = time.monotonic()
    read = 0
    if not work.looks:
        yield work.look(0, _mean(model, loss_of, looked_at, recipe))
    for step in range(done, len(plan)):
        if work.waited >= recipe.patience:
            break
        # The rate rises over the first steps, then falls in a line to nothing.
        through = (step + 1) / len(plan)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(
                through / recipe.warmup, (1 - step / len(plan)) / (1 - recipe.warmup), 1
            )
        batch = [lessons[n] for n in plan[step]]
        model.train()
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        work.note(step + 1, loss.item())
        read += sum(each.length for each in batch)
        spent = time.monotonic() - begun
        left = spent / (step + 1 - done) * (len(plan) - step - 1)
        yield Step(step + 1, len(plan), loss.item(), read / spent, left)
        if (step + 1) % every == 0 or step + 1 == len(plan):
            yield work.look(step + 1, _mean(model, loss_of, looked_at, recipe))
        if time.monotonic() - saved > _SAVE_EVERY:
            work.save(step + 1, time.monotonic() - begun)
            saved = time.monotonic()
    first, best = work.finish(model)
    seconds = work.spent + time.monotonic() - begun
    yield Trained(out, first, best, work.steps, seconds, peak_gb(where), learned)


def estimate(
    base: Path,
    lessons: Sequence[Encoded],
    looked_at: Sequence[Encoded],
    recipe: Recipe,
    device: torch.device,
) -> Cost:
    """What the training will take: from the model's size, and how fast this machine multiplies.

    Time counts four operations a parameter and token (two forward, two back through frozen
    weights), memory the weights, what the layers keep for the way back, and the answers' logits.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(base, local_files_only=True)
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors")) // 2
    bytes_each: float = precision("auto").itemsize
    if recipe.method == "qlora":
        # A CPU unpacks what it multiplies: beside the packed weights they are there whole.
        bytes_each = 0.6 if device.type == "cuda" else bytes_each + 0.6
    hidden, layers = config.hidden_size, config.num_hidden_layers
    longest = max(each.length for each in lessons)
    rows = max(1, recipe.batch // longest)
    answer = max(len(each.answer) for each in lessons) + longest // 3
    # About 34 values of the width of a layer are kept of each token (Korthikanti et al., 2022).
    activations = max(recipe.batch, longest) * layers * hidden * 34 * 4
    logits = rows * answer * config.vocab_size * 4 * 3
    memory = weights * bytes_each + activations + logits + 0.5e9
    count = sum(each.length for each in lessons)
    again = 2 if recipe.beta else 1  # the reference is read before
    work = 4 * weights * (count * recipe.epochs + count * (again - 1))
    work += 2 * weights * sum(each.length for each in looked_at) * (recipe.looks * recipe.epochs)
    # Of what one large product takes, small layers reach about a third.
    return Cost(
        round(count * recipe.epochs),
        memory / 1e9,
        _free_gb(device),
        work / (_speed(device) / 3) / 3600,
    )


def _refuse_hopeless(cost: Cost, recipe: Recipe, hours: float) -> None:
    if cost.memory_gb > cost.free_gb:
        raise Unavailable(
            f"training would take {cost.memory_gb:.1f} GB, and {cost.free_gb:.1f} GB are free",
            "take a smaller --batch, fewer --longest tokens, or, on a GPU, --method qlora",
        )
    if cost.hours > hours:
        raise UsageError(
            f"training would take about {cost.hours:.0f} hours here",
            f"allow it with --hours {math.ceil(cost.hours)}, or take fewer --epochs or examples",
        )


def _encoded(
    tokenizer: Any, taught: Sequence[QAExample], recipe: Recipe
) -> tuple[list[Encoded], list[Encoded], int, frozenset[str]]:
    """What is learned, what is looked at, how many were too long, and the ids of the learned."""
    if recipe.beta:
        taught = [each for each in taught if each.rejected]
    found: dict[str, list[Encoded]] = {"train": [], "validation": [], "test": []}
    too_long = 0
    learned = set()
    for each in taught:
        encoded = tokens.encode(tokenizer, each)
        if not recipe.beta:
            encoded = encoded._replace(rejected=[])
        if each.split != "test" and len(encoded.prompt) + len(encoded.answer) > recipe.longest:
            too_long += 1
        else:
            found[each.split].append(encoded)
            learned |= {each.id} if each.split == "train" else set()
    lessons = found["train"]
    if len(lessons) < FEWEST:
        what = "examples with a rejected answer" if recipe.beta else "examples to train on"
        raise UsageError(
            f"{len(lessons)} {what}" + (f", {too_long} were too long" if too_long else ""),
            f"at least {FEWEST} are needed: `rag-bot finetune examples` makes them",
        )
    # Without documents to hold back, the loss is looked at on some of what is learned. Drawn, for
    # those that come first are all of one kind.
    held = found["validation"]
    some = min(len(held) or max(FEWEST, len(lessons) // 10), _LOOKED_AT)
    return (
        lessons,
        random.Random(recipe.seed).sample(held or lessons, some),
        too_long,
        frozenset(learned),
    )


def _plan(lessons: Sequence[Encoded], recipe: Recipe) -> list[list[int]]:
    """The batches of all epochs; the last one may be a part."""
    planned: list[list[int]] = []
    whole = math.ceil(recipe.epochs)
    for epoch in range(whole):
        planned += tokens.batches(lessons, recipe.batch, recipe.seed * 1000 + epoch)
    return planned[: max(1, round(len(planned) * recipe.epochs / whole))]


def _objective(
    model: Any, recipe: Recipe, lessons: Sequence[Encoded]
) -> Callable[[Sequence[Encoded]], torch.Tensor]:
    if not recipe.beta:
        return lambda batch: objective.supervised(model, batch)
    model.eval()
    before: dict[int, tuple[float, float]] = {}
    for batch in tokens.batches(lessons, recipe.batch, 0):
        asked = [lessons[n] for n in batch]
        found = objective.reference(model, asked)
        before |= {id(each): pair for each, pair in zip(asked, found, strict=True)}
    return lambda batch: objective.preferences(
        model, batch, [before[id(each)] for each in batch], recipe.beta
    )


def _mean(
    model: Any,
    loss_of: Callable[[Sequence[Encoded]], torch.Tensor],
    looked_at: Sequence[Encoded],
    how: Recipe,
) -> float:
    model.eval()  # a base model's dropout is for learning
    total = 0.0
    with torch.inference_mode():
        for batch in tokens.batches(looked_at, how.batch, 0):
            total += loss_of([looked_at[n] for n in batch]).item() * len(batch)
    return total / len(looked_at)


class _Work:
    """What is written while training: losses, checkpoints, the best adapter so far."""

    def __init__(self, out: Path, identity: str, model: Any, optimizer: Any) -> None:
        self._out = out
        self._identity = identity
        self._model = model
        self._optimizer = optimizer
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._best: dict[str, torch.Tensor] = {}
        self.steps = 0
        self.spent = 0.0
        self.losses: list[tuple[int, float]] = []
        self.looks: list[tuple[int, float]] = []
        self.waited = 0

    def note(self, step: int, loss: float) -> None:
        self.steps = step
        self.losses.append((step, loss))

    def look(self, step: int, loss: float) -> Look:
        """Keep the adapter if its loss on validation is the least so far."""
        best = not self.looks or loss < min(each for _, each in self.looks)
        self.looks.append((step, loss))
        self.waited = 0 if best else self.waited + 1
        if best:
            self._best = {n: p.detach().clone() for n, p in self._trained.items()}
        return Look(step, loss, best)

    def save(self, step: int, seconds: float) -> None:
        """Write a checkpoint, so many seconds after this attempt began."""
        new = self._out / (CHECKPOINT + ".new")
        torch.save(
            {
                "identity": self._identity,
                "adapter": {n: p.detach() for n, p in self._trained.items()},
                "best": self._best,
                "optimizer": self._optimizer.state_dict(),
                "losses": self.losses,
                "looks": self.looks,
                "waited": self.waited,
                "step": step,
                "spent": self.spent + seconds,
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all(),
            },
            new,
        )
        new.replace(self._out / CHECKPOINT)

    def resume(self) -> int:
        """Go on from a checkpoint of the same training, if there is one. Returns steps done."""
        file = self._out / CHECKPOINT
        if not file.is_file():
            if (self._out / models.ADAPTER).exists():
                raise UsageError(
                    f"{self._out} holds an adapter that is trained", "train anew, without --resume"
                )
            return 0
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the library raises on a file that is cut short
            raise ModelBroken(
                f"{file} can't be read: {models.brief(error)}", "train anew, without --resume"
            ) from None
        if saved["identity"] != self._identity:
            raise UsageError(
                f"{file} is of another training",
                "give the same file, options and --begin, or train anew, without --resume",
            )
        with torch.no_grad():
            for name, value in saved["adapter"].items():
                self._trained[name].copy_(value)
        self._optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        if len(saved["random_cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved["random_cuda"])
        self._best = saved["best"]
        self.losses = [tuple(each) for each in saved["losses"]]
        self.looks = [tuple(each) for each in saved["looks"]]
        self.waited = int(saved["waited"])
        self.steps, self.spent = int(saved["step"]), float(saved["spent"])
        return self.steps

    def finish(self, model: Any) -> tuple[float, float]:
        """Write the best adapter, the losses and their plot. Returns the first and best look."""
        with torch.no_grad():
            for name, value in self._best.items():
                self._trained[name].copy_(value)
        lines = [{"step": step, "loss": round(loss, 4)} for step, loss in self.losses]
        lines += [{"step": step, "validation": round(loss, 4)} for step, loss in self.looks]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self._out / LOSS).write_text(text, "utf-8")
        curves = {"loss": [loss for _, loss in self.losses]}
        (self._out / PLOT).write_text(plots.losses("training", curves), "utf-8")
        # A model card of the library's own would have nothing to say.
        model.save_pretrained(self._out, safe_serialization=True)
        (self._out / "README.md").unlink(missing_ok=True)
        (self._out / CHECKPOINT).unlink(missing_ok=True)
        found = [loss for _, loss in self.looks]
        return found[0], min(found)


@loading.alone
def _base(folder: Path, recipe: Recipe, device: torch.device) -> Any:
    import transformers

    dtype = precision("auto") if device.type == "cpu" else torch.bfloat16
    how: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    if recipe.method == "qlora":
        if not importlib.util.find_spec("bitsandbytes"):
            raise Unavailable("QLoRA needs bitsandbytes", "pip install bitsandbytes, or use lora")
        how["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        how["device_map"] = {"": device}
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, **how)
    except Exception as error:  # whatever the library raises on a folder it can't read
        raise ModelBroken(f"the LLM in {folder} can't be loaded: {error}", models.PULL) from error
    if recipe.method != "qlora":
        return model.to(device)
    for module in model.modules():
        # On a CPU with bf16, bitsandbytes 0.50 packs the weights when the loss is first looked at
        # without training, and packed weights hand no gradient on: it would go around them.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def continuing(recipe: Recipe, begin: Path) -> Recipe:
    """The recipe with the rank of the LoRA that it goes on from; as it is if that is none."""
    import peft

    found = _config(begin)
    if not isinstance(found, peft.LoraConfig):
        return recipe
    return dataclasses.replace(recipe, rank=found.r, alpha=found.lora_alpha)


def _config(adapter: Path) -> Any:
    import peft

    models.check_adapter(adapter)
    try:
        return peft.PeftConfig.from_pretrained(str(adapter))
    except Exception as error:  # whatever the library raises on a kind that it does not know
        raise ModelBroken(
            f"{adapter} is no adapter of this PEFT: {models.brief(error)}", "check --begin"
        ) from None


def _with_adapter(model: Any, recipe: Recipe, begin: Path | None) -> Any:
    import peft

    if recipe.method == "qlora":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if begin:
        config = _config(begin)
        if recipe.method not in ("lora", "qlora"):
            raise UsageError(
                f"method {recipe.method!r} can't go on from {begin}",
                "leave out --begin, or take lora or qlora",
            )
        if config.peft_type != peft.PeftType.LORA:
            raise UsageError(
                f"{begin} is no LoRA: a soft prompt or a prefix can't learn on", "leave out --begin"
            )
        try:
            return peft.PeftModel.from_pretrained(
                model, str(begin), is_trainable=True, local_files_only=True
            )
        except Exception as error:  # whatever the library raises on an adapter that does not fit
            raise ModelBroken(
                f"the adapter in {begin} does not fit the LLM: {models.brief(error)}",
                "check --begin",
            ) from error
    how: peft.PeftConfig
    match recipe.method:
        case "qlora" | "lora":
            how = peft.LoraConfig(
                r=recipe.rank,
                lora_alpha=recipe.alpha,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
        case "prompt":
            how = peft.PromptTuningConfig(num_virtual_tokens=recipe.virtual, task_type="CAUSAL_LM")
        case "prefix":
            how = peft.PrefixTuningConfig(num_virtual_tokens=recipe.virtual, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, how)


def _identity(base: Path, recipe: Recipe, lessons: Sequence[Encoded], begin: Path | None) -> str:
    """The same for the same training and no other."""
    said = {
        "format": 3,  # what a checkpoint holds
        "base": models.fingerprint(base),
        "recipe": dataclasses.asdict(recipe),
        "lessons": hashlib.sha256(json.dumps(lessons).encode()).hexdigest(),
        "begin": adapters.fingerprint(begin) if begin else "",
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


# The machine


def _device(wanted: str) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise Unavailable("there is no CUDA device here", "use --device cpu")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _speed(device: torch.device) -> float:
    """Operations a second of one large matrix product, as the model would compute it."""
    dtype = precision("auto") if device.type == "cpu" else torch.bfloat16
    a = torch.ones(_GEMM, _GEMM, dtype=dtype, device=device)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        (a @ a).sum().item()
        times.append(time.perf_counter() - begun)
    return float(2 * _GEMM**3 / min(times))


def _free_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e9
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = dict(line.split(":", 1) for line in lines)
        free = int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: what the machine has, less what others need
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.7 / 1e9
    return min(free, _allowed(_CGROUPS, Path("/proc/self/cgroup"))) / 1e9


def _allowed(mounted: Path, mine: Path) -> float:
    """Bytes that a container or service of limited memory may still take; infinite without limit.

    What the control groups say that the process is in, of version 2 or 1; cached files don't count.
    """
    try:
        lines = [line.split(":", 2)[1:] for line in mine.read_text("ascii").splitlines()]
        within = {name: path.strip("/") for name, path in lines}
    except (OSError, ValueError):
        within = {}
    new = (mounted, within.get(""), "memory.max", "memory.current", "inactive_file")
    old = (
        *(mounted / "memory", within.get("memory")),
        *("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    left = [math.inf]
    for root, path, most, used, cached in (new, old):
        # In a container its own group is mounted as the root, whatever the path says.
        for place in (root / (path or ""), *(root / (path or "")).parents):
            if not place.is_relative_to(root):
                break
            try:
                stat = dict(line.split() for line in (place / "memory.stat").open(encoding="ascii"))
                limit, taken = (int((place / name).read_text()) for name in (most, used))
            except (OSError, ValueError):  # "max", or nothing of the kind
                continue
            left.append(max(0, limit - taken + int(stat.get(cached, 0))))
    return min(left)


def peak_gb(device: torch.device | None = None) -> float:
    """The most memory that was taken so far, on the device or else by this process."""
    import resource

    if device and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
