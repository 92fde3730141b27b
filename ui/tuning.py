"""The commands `rag-bot finetune …`: examples, training, evaluation, promotion."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO

from ui import show
from ui.reach import DONE, IN_PART, load

if TYPE_CHECKING:
    from eval.cases import GoldenSet
    from eval.rows import Row
    from finetune.examples import QAExample
    from finetune.promotion import Verdict
    from finetune.registry import Card
    from finetune.train import Recipe
    from rag_bot.config import Settings


def make(options: argparse.Namespace) -> int:
    """`finetune examples`: training examples from the user's own documents."""
    from finetune import loop
    from rag_bot.errors import UsageError

    if options.out.exists():
        raise UsageError(f"{options.out} exists", "give another --out")
    if options.out.suffix.lower() != ".jsonl":
        raise UsageError(f"{options.out}: examples are JSON lines", "give --out FILE.jsonl")
    settings = load(options).settings
    wanted = loop.Wanted(count=options.count, by_model=options.by_model, seed=options.seed)
    judged = _judged(options.preferred, options.runs)
    with loop.over(options.docs, settings, _watch) as pipeline:
        _follow(
            loop.write_examples(
                pipeline,
                options.out,
                settings,
                wanted,
                _golden(options.cases),
                _golden(options.judged_by),
                judged,
            )
        )
    return DONE


def train(options: argparse.Namespace) -> int:
    """`finetune train`: an adapter from a file of examples."""
    from eval import bench
    from finetune import examples, loop, registry
    from rag_bot.errors import UsageError

    settings = load(options).settings
    taught = examples.read(options.examples)
    golden = _golden(options.judged_by)
    theirs = registry.collections(settings, [each.id for each in taught])
    with bench.ledger(settings) as ledger:
        gone = [each.source for name in theirs for each in ledger.forgotten(name)]
    examples.check(taught, {case.question for case in golden.cases} if golden else (), gone)
    place = None
    if options.resume:
        from rag_bot import adapters

        there = adapters.folder(settings)
        place = there / options.resume
        if place not in there.glob("*/") or "-reader" in place.name:
            raise UsageError(f"there is no training {options.resume!r}", f"look in {there}")
    _follow(
        loop.learn(
            taught,
            settings,
            _recipe(options, settings),
            begin=options.begin,
            place=place,
            device=options.device,
            hours=options.hours,
        )
    )
    return DONE


def evaluate(options: argparse.Namespace) -> int:
    """`finetune evaluate`: a candidate beside what is live, and the verdict."""
    from eval import bench, cases
    from eval.run import Plan
    from finetune import loop, registry
    from ui.evaluation import over

    settings = load(options).settings
    # A copy of documents must not bring back what was deleted.
    held = loop.over(options.docs, settings, _watch) if options.docs else over(options, settings)
    found = registry.entry(settings, options.candidate)
    golden = cases.read(options.cases or bench.SHIPPED)
    plan = Plan(golden, options.limit, options.seed)
    verdict: Verdict | None = None
    with held as pipeline:
        steps = loop.measure(found.card.id, plan, pipeline, settings)
        verdict = _follow(steps, out=sys.stderr if options.json else sys.stdout)
    assert verdict is not None, "an evaluation ends with its verdict"
    if options.json:
        show.print_json({"id": found.card.id, "verdict": verdict})
    return DONE if verdict.passed else IN_PART


def promote(options: argparse.Namespace) -> int:
    """`finetune promote`: let a candidate answer that its evaluation allows."""
    from finetune import registry

    settings = load(options).settings
    name = registry.entry(settings, options.candidate).card.id
    card = registry.promote(settings, name)
    print(f"{card.id} is live")
    return DONE


def rollback(options: argparse.Namespace) -> int:
    """`finetune rollback`: back to what answered before."""
    from finetune import registry

    settings = load(options).settings
    kind: registry.Kind = "reader" if options.reader else "adapter"
    left, live = registry.rollback(settings, kind)
    default = "the shipped reader" if options.reader else _default(settings)
    print(f"{left} is not live any more; {live or default} is")
    return DONE


def candidates(options: argparse.Namespace) -> int:
    """`finetune list`: the candidates, and which one is live."""
    from finetune import registry

    settings = load(options).settings
    entries = registry.entries(settings)
    if options.json:
        show.print_json(
            {
                "live": {each.card.kind: each.card.id for each in entries if each.live},
                "candidates": [
                    {"card": each.card, "state": each.state, "lost": each.lost} for each in entries
                ],
            }
        )
        return DONE
    if not any(each.live and each.card.kind == "adapter" for each in entries):
        print(f"live: {_default(settings)}")
    for each in entries:
        card = each.card
        flag = "  learned from a document deleted since: train again" if each.lost else ""
        print(
            f"{card.id}  {each.state}  {card.recipe.get('method', card.kind)} on {card.base},"
            f" {sum(card.kinds.values())} examples, loss {card.validation[0]} → "
            f"{card.validation[1]}, {card.minutes:g} min{flag}"
        )
        if card.verdict:
            print(f"    {_said(card)}")
    return DONE


def run(options: argparse.Namespace) -> int:
    """`finetune loop`: all of it, and promote or refuse."""
    from finetune import loop
    from finetune.feedback import least_sure

    settings = load(options).settings
    wanted = loop.Wanted(
        recipe=_recipe(options, settings),
        count=options.count,
        cases=options.cases_count,
        by_model=options.by_model,
        seed=options.seed,
        hours=options.hours,
    )
    made: list[QAExample] = []
    card = _follow(
        loop.loop(options.docs, settings, wanted, _watch, _golden(options.cases)), made=made
    )
    unsure = least_sure(made, options.unsure)
    if unsure:
        print("\nthe reader was least sure of these; ask them and correct the answers:")
        for sure, question in unsure:
            print(f"  {sure:.2f}  {show.short(question, 90)}")
    return _ended(settings, card)


def run_reader(options: argparse.Namespace) -> int:
    """`finetune reader`: train the reader on documents, and promote or refuse."""
    from finetune import loop

    settings = load(options).settings
    wanted = loop.Wanted(count=options.count, cases=options.cases_count, seed=options.seed)
    card = _follow(
        loop.learn_reader(options.docs, settings, wanted, _watch, _golden(options.cases))
    )
    return _ended(settings, card)


def export(options: argparse.Namespace) -> int:
    """`finetune export`: the LLM with an adapter in its weights."""
    from finetune import export as exports
    from finetune import registry
    from rag_bot import adapters
    from rag_bot.errors import UsageError

    settings = load(options).settings
    if options.candidate:
        found = registry.entry(settings, options.candidate)
        folder = found.folder
        if found.card.kind == "reader":
            raise UsageError(f"{folder.name} is a reader, no part of the LLM", "name an adapter")
    else:
        live = adapters.located(settings)
        if live is None:
            raise UsageError("no adapter is live", "name a candidate")
        folder = live
    if registry.lost(settings, folder):
        raise UsageError(
            f"{folder.name} learned from a document that was deleted", "train another without it"
        )
    exports.merge(settings, folder, options.out)
    llm = PurePath(settings.models.llm).name
    print(f"{options.out} holds {llm} with {folder.name}, as bf16 safetensors")
    return DONE


def _ended(settings: Settings, card: Card) -> int:
    from finetune import registry

    live = registry.entry(settings, card.id).live
    print(f"\n{card.id}: {'live' if live else 'not promoted'}")
    return DONE if live else IN_PART


def _recipe(options: argparse.Namespace, settings: Settings) -> Recipe:
    from finetune.train import Recipe

    dpo = options.method == "dpo"
    method = settings.finetune.method if dpo or not options.method else options.method
    asked = {
        # Preferences change weights, which a soft prompt or a prefix has none of.
        "method": "lora" if dpo and method not in ("lora", "qlora") else method,
        "seed": options.seed,
        "epochs": options.epochs,
        "rate": options.rate,
        "rank": options.rank,
        "alpha": options.rank and 2 * options.rank,
        "batch": options.batch,
        "longest": options.longest,
        "beta": getattr(options, "beta", None) or (0.1 if dpo else None),
    }
    return Recipe(**{key: value for key, value in asked.items() if value is not None})


def _judged(file: Path | None, runs: Sequence[Path] | None) -> list[tuple[Row, Row]]:
    """What people preferred, and what to: of what `eval judge-ui` wrote about two runs."""
    from eval import preferences, run
    from rag_bot.errors import UsageError

    if (file is None) != (runs is None):
        raise UsageError("--preferred and --runs belong together", "give both, or neither")
    if file is None or runs is None:
        return []
    first, second = (run.read(each)[1] for each in runs)
    judgements = preferences.read(file)
    found = preferences.pairs(first, second)
    # A deletion takes a case out of the runs, not out of what was said of it.
    there = {pair.case.id for pair in found}
    judgements = [each for each in judgements if each.case in there]
    if not judgements:
        raise UsageError(f"{file} says nothing of these runs", "give the runs that were judged")
    preferences.check_same(file, found, judgements)
    return preferences.preferred(found, judgements)


def _golden(file: Path | None) -> GoldenSet | None:
    from eval import cases

    return cases.read(file) if file else None


def _default(settings: Settings) -> str:
    from rag_bot import adapters
    from rag_bot.errors import ModelMissing

    try:
        live = adapters.located(settings)
    except ModelMissing:
        return "no model: `rag-bot models pull` fetches it"
    if live is None:
        return f"{PurePath(settings.models.llm).name} without an adapter"
    return "the shipped adapter" if live == adapters.SHIPPED else str(live)


def _said(card: Card) -> str:
    verdict = card.verdict
    change = f"{verdict['target']} {verdict['before']:.3f} → {verdict['after']:.3f}"
    return change if verdict["passed"] else f"refused: {verdict['why']}"


def _watch(events: Any) -> Any:
    return show.watch(events, quiet=False)


def _follow(
    events: Iterable[Any], made: list[QAExample] | None = None, out: TextIO | None = None
) -> Any:
    """Show how far it is, on standard error; what is done, on `out`. Returns the last event.

    `made` takes the examples that were made on the way.
    """
    with contextlib.redirect_stdout(out or sys.stdout):
        return _shown(events, made)


def _shown(events: Iterable[Any], made: list[QAExample] | None) -> Any:
    from eval.run import Step as Asked
    from finetune import train
    from finetune.loop import Progress, Written
    from finetune.promotion import Verdict
    from finetune.registry import Card

    bar = _Bar()
    event = None
    for event in events:
        match event:
            case Progress():
                bar.at("making examples", event.done, event.total, f"{event.made} made")
            case Written():
                bar.end()
                if made is not None:
                    made += event.examples
                counts = _count(event.examples)
                print(
                    f"{len(event.examples)} examples ({counts}) in {event.file};"
                    f" look at {event.file.with_suffix('.html').name}"
                )
                if event.without:
                    print(f"{event.without} questions were left out: their answer was not shown")
                if event.unheard:
                    print(
                        f"{event.unheard} answers that people judged were left out: their documents"
                        " are for testing or gone, no one source bears them out, or models are"
                        " judged by their question"
                    )
            case train.Begun():
                going_on = f", from step {event.step}" * bool(event.step)
                print(f"training {event.folder.name}: {event.cost}{going_on}")
                if event.too_long:
                    print(f"{event.too_long} examples were left out: too long (--longest)")
            case train.Step():
                left = show.duration(event.left)
                detail = f"loss {event.loss:.3f}, {event.rate:.0f} tokens/s, {left} left"
                bar.at("training", event.step, event.steps, detail)
            case train.Look():
                bar.end()
                best = "" if event.best else " (not better)"
                print(f"after step {event.step}: loss on validation {event.loss:.4f}{best}")
            case train.Trained():
                bar.end()
                print(
                    f"trained in {show.duration(event.seconds)}, {event.peak_gb:.1f} GB at most:"
                    f" loss on validation {event.first:.4f} → {event.best:.4f}"
                )
            case Asked():
                bar.at("asking", event.done, event.total, show.short(event.row.case.question, 50))
            case Verdict():
                bar.end()
                _print_verdict(event)
            case Card():
                if not event.verdict:
                    print(f"candidate {event.id}")
    bar.end()
    return event


def _count(examples: Any) -> str:
    splits = {
        name: sum(each.split == name for each in examples)
        for name in dict.fromkeys(each.split for each in examples)
    }
    nothing = sum(not each.answerable for each in examples)
    return ", ".join(f"{n} {name}" for name, n in splits.items()) + f", {nothing} unanswerable"


def _print_verdict(verdict: Verdict) -> None:
    print(
        f"{verdict.target}: {verdict.before:.3f} live, {verdict.after:.3f} now"
        f" ({verdict.low:+.3f} to {verdict.high:+.3f}, p {verdict.p:.3f}, {verdict.cases} cases)"
    )
    for guard in verdict.guards:
        mark = "" if guard.passed else "  ✗"
        what = (
            guard.said or f"loss {guard.loss:+.3f} on {guard.cases} cases, {guard.margin:g} allowed"
        )
        print(f"  {guard.metric:20} {what}{mark}")
    print("passed: it may go live" if verdict.passed else f"refused: {verdict.why}")


class _Bar:
    """One line of progress on a terminal; a line every tenth of the way elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False
        self._told = ("", -1)

    def at(self, what: str, done: int, total: int, detail: str) -> None:
        if self._terminal:
            print(f"\r\x1b[K{what} {done}/{total}, {detail}", end="", file=sys.stderr, flush=True)
            self._open = True
            return
        tenth = 10 * done // max(1, total)
        if self._told != (what, tenth):
            self._told = (what, tenth)
            print(f"{what} {done}/{total}, {detail}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._open = False
