"""Does the gate hold? `python -m eval.trial --work DIR`.

Five regressions are planted, each of which the gate must refuse, and ten harmless repeats made,
which it should let pass. All on the shipped cases, through the real pipeline.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval import bench, cases, gate, run
from eval.bench import Engines
from eval.rows import Row
from rag_bot import config, generate
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Vectors
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.generate import Generator
from rag_bot.loading import once
from rag_bot.read import Reader
from rag_bot.types import Answer, Event, Finished, Message, Reading

SEED = 4
WARM = 0.5
"""The temperature of the repeats that draw at random, and of the run they are held against."""


class Remembering:
    """A generator that writes each prompt's answer once: the same prompt is the same work."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._said: dict[tuple[Message, ...], list[str]] = {}
        self._whole: set[tuple[Message, ...]] = set()
        self.model_id = generator.model_id

    def count(self, text: str) -> int:
        return self._generator.count(text)

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        key = tuple(messages)
        said = self._said.setdefault(key, [])
        yield from said
        if key in self._whole:
            return
        # Whoever stopped early the last time may want more now.
        with contextlib.closing(self._generator.stream(messages)) as stream:  # type: ignore[type-var]
            for number, piece in enumerate(stream):
                if number >= len(said):
                    said.append(piece)
                    yield piece
        self._whole.add(key)


class Recalling:
    """A reader that reads each passage for each question once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[tuple[str, str, str], Reading] = {}
        self.model_id = reader.model_id

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        fresh = [each for each in passages if (question, *each) not in self._known]
        for each, reading in zip(fresh, self._reader.read(question, fresh), strict=True):
            self._known[question, *each] = reading
        return [self._known[question, *each] for each in passages]


class Blind(Remembering):
    """One that is shown no sources."""

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        *before, last = messages
        question = last.text.rpartition("\n\nQuestion: ")[2]
        return super().stream([*before, Message("user", f"Question: {question}")])


class Shuffled:
    """An embedder that gives a batch's vectors to the wrong texts; a single text keeps its own."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._embedder.encode(texts)
        return vectors[np.random.default_rng(SEED).permutation(len(vectors))]


class Shifted(Pipeline):
    """A pipeline whose markers point at the source behind the right one."""

    def answer(self, *asked: Any, **how: Any) -> Iterator[Event]:
        for event in super().answer(*asked, **how):
            yield Finished(_shifted(event.answer)) if isinstance(event, Finished) else event


class Trial(NamedTuple):
    """A run to be held against a baseline; `bad` ones must be refused."""

    name: str
    bad: bool
    baseline: str
    rows: Callable[[], list[Row]]
    answers: bool = False
    """Whether only answers show it."""


class Stage:
    """The shipped cases over the examples, run in one way after the other, each only once."""

    def __init__(self, settings: Settings, work: Path, limit: int | None, answers: bool) -> None:
        self.settings, self.work, self.limit, self.answers = settings, work, limit, answers
        self.golden = cases.read(bench.SHIPPED)
        self.files = sorted(each for each in bench.EXAMPLES.iterdir() if each.is_file())
        loaded = bench.engines(settings)
        self.embedder = loaded.embedder
        self.reader = once(lambda: Recalling(found) if (found := loaded.reader()) else None)
        self.generators: dict[tuple[float, int], Remembering] = {}

    def generator(self, settings: Settings, kind: type[Remembering] = Remembering) -> Generator:
        """The model under these settings; what it has said is remembered where it may be."""
        how = (settings.generation.temperature, settings.generation.seed)
        if kind is not Remembering:
            return kind(generate.load(settings))
        if how not in self.generators:
            self.generators[how] = Remembering(generate.load(settings))
        return self.generators[how]

    def rows(
        self,
        name: str,
        *,
        settings: Settings | None = None,
        files: Sequence[Path] | None = None,
        kind: type[Remembering] = Remembering,
        pipeline: type[Pipeline] = Pipeline,
        ingesting: Any = None,
    ) -> list[Row]:
        """One run's rows; those of an earlier, killed trial are gone on with."""
        settings = settings or self.settings
        folder = self.work / name
        files = self.files if files is None else files
        if ingesting is not None:
            first = Engines(ingesting, lambda: self.generator(settings))
            with bench.over(files, settings, first, bench.quiet, folder / "index"):
                pass
        loaded = Engines(self.embedder, lambda: self.generator(settings, kind), self.reader)
        with bench.over(files, settings, loaded, bench.quiet, folder / "index") as made:
            line = pipeline(settings, made.index, *loaded)
            plan = run.Plan(self.golden, self.limit, SEED, self.answers, check=False)
            for step in run.run(plan, line, settings.collection, folder / "run"):
                print(f"\r{name}: {step.done}/{step.total} ", end="", file=sys.stderr)
        print(file=sys.stderr)
        return run.read(folder / "run")[1]


def trials(stage: Stage) -> list[Trial]:
    """The fifteen, and how each is made."""
    base = stage.settings
    order = random.Random(SEED)
    kept = sorted(order.sample(stage.files, len(stage.files) * 2 // 3))

    def planted(name: str, *, answers: bool = False, **how: Any) -> Trial:
        return Trial(name, True, "baseline", lambda: stage.rows(name, **how), answers)

    def harmless(name: str, baseline: str = "baseline", **how: Any) -> Trial:
        answers = baseline != "baseline"
        return Trial(name, False, baseline, lambda: stage.rows(name, **how), answers)

    def shuffled() -> list[Path]:
        return order.sample(stage.files, len(stage.files))

    return [
        planted("top_k 1", settings=with_(base, retrieval={"top_k": 1})),
        planted("shuffled vectors", ingesting=lambda: Shuffled(stage.embedder())),
        planted("no sources in the prompt", answers=True, kind=Blind),
        planted("a third of the documents missing", files=kept),
        planted("markers shifted", answers=True, pipeline=Shifted),
        *(harmless(f"document order {n}", files=shuffled()) for n in (1, 2, 3)),
        *(
            harmless(f"batches of {n}", settings=with_(base, ingest={"batch_chunks": n}))
            for n in (7, 50, 2000)
        ),
        *(harmless(f"sampling seed {n}", "sampling", settings=warm(base, n)) for n in (1, 2, 3, 4)),
    ]


def with_(settings: Settings, **sections: dict[str, Any]) -> Settings:
    """The settings with some values replaced."""
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=values)
            for name, values in sections.items()
        }
    )


def warm(settings: Settings, seed: int) -> Settings:
    """The settings of a run that draws its words at random."""
    return with_(settings, generation={"temperature": WARM, "seed": seed})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each of the fifteen. Status 1 if the gate fails one of its two promises."""
    parser = argparse.ArgumentParser(prog="python -m eval.trial", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--limit", type=int, metavar="N", help="so many cases (default: all)")
    parser.add_argument(
        "--retrieval-only", action="store_true", help="only what shows without a model: minutes"
    )
    options = parser.parse_args(arguments)
    try:
        settings = config.load().settings
        answers = not options.retrieval_only
        stage = Stage(settings, options.work, options.limit, answers)
        guards = gate.guards(settings.eval.guards)
        baselines = {"baseline": stage.rows("baseline")}
        if answers:
            baselines["sampling"] = stage.rows("sampling", settings=warm(settings, 0))
        made = [trial for trial in trials(stage) if answers or not trial.answers]
        caught = passed = 0
        shown: list[dict[str, Any]] = []
        for trial in made:
            findings = gate.gate(baselines[trial.baseline], trial.rows(), guards)
            refused = [each for each in findings if not each.passed]
            caught += trial.bad and bool(refused)
            passed += not trial.bad and not refused
            said = "; ".join(map(str, refused)) or "passed"
            print(f"{'planted' if trial.bad else 'harmless':8} {trial.name:34} {said}", flush=True)
            shown.append(
                {"name": trial.name, "planted": trial.bad, "refused": list(map(str, refused))}
            )
    except RagBotError as error:
        print(f"eval.trial: {error}", file=sys.stderr)
        return error.exit_status
    bad = sum(trial.bad for trial in made)
    good = len(made) - bad
    print(f"{caught} of {bad} planted regressions refused, {passed} of {good} harmless ones passed")
    (options.work / "trial.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False))
    return 0 if caught == bad and passed >= 0.9 * good else 1


def _shifted(answer: Answer) -> Answer:
    moved = []
    for cited in answer.citations:
        place = next(n for n, each in enumerate(answer.sources) if each.marker == cited.marker)
        source = answer.sources[(place + 1) % len(answer.sources)]
        moved.append(
            replace(
                cited,
                marker=source.marker,
                document_id=source.chunk.document_id,
                document=source.document,
                page=source.chunk.page_start,
            )
        )
    return replace(answer, citations=tuple(moved))


if __name__ == "__main__":
    sys.exit(main())
