"""May this adapter go live? Measured beside the one that is, on the same cases, and judged by code.

Three things must hold: no guarded metric is worse beyond its margin and chance (`eval.gate`), and
faithfulness and abstention, whatever the settings guard, not beyond their margin at all; the target
is better; and that by more than chance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval import bench, gate, run, score
from eval.cases import GoldenCase
from eval.compare import differences
from eval.gate import Guard
from eval.metrics.bootstrap import Difference
from eval.rows import Row
from eval.run import Plan, Step
from finetune import registry
from finetune.registry import Card
from rag_bot import adapters
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import fingerprint

ALWAYS = (Guard("faithfulness", 0.03), Guard("abstention_recall", 0.05))
"""Guarded whatever the settings say, and more strictly.

A loss need not be proved: few cases prove none, and what answers from nowhere must not go live on
the benefit of the doubt.
"""
SURE = 0.1
"""Two-sided p below which a gain is one: 5 % on the side that counts."""
FEWEST = 5
"""Cases that must have changed: of four that all got better, a sign test gives p .125.

The bootstrap never draws what it has not seen: of three it makes p .05.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluation found, in one line and in figures.

    `against` is the fingerprint of what was live in the candidate's place, `beside` that of the
    reader that an adapter was measured with, or the other way; `weights` that of the candidate.
    """

    passed: bool
    why: str
    target: str
    before: float
    after: float
    low: float
    high: float
    p: float
    cases: int
    golden_sha256: str
    against: str
    weights: str
    guards: tuple[gate.Finding, ...] = ()
    beside: str | None = None


def evaluate(
    candidate: Path, plan: Plan, pipeline: Pipeline, collection: str, work: Path
) -> Iterator[Step | Verdict]:
    """Ask every case twice, of what is live and of the candidate; the last event is the verdict.

    Rows are kept below `work`: a killed evaluation goes on, and the same live adapter is not asked
    the same cases again. Raises UsageError for a golden set without answerable cases.
    """
    if not any(case.answerable for case in plan.cases):
        raise UsageError(
            f"{plan.golden.path} has no answerable case", "give cases that have references"
        )
    settings = pipeline.settings
    known(settings.finetune.target)
    kind = registry.read(candidate).kind
    registry.check_live(settings, kind)
    other = registry.live(settings, registry.OTHER[kind])
    beside = adapters.fingerprint(other) if other else ""
    live = registry.live(settings, kind)
    against = adapters.fingerprint(live) if live else ""
    if against == adapters.fingerprint(candidate):
        raise UsageError(f"{candidate.name} is live: it is no better than itself", "name another")
    forms = {case.question: set(asked_by([case], pipeline)) for case in plan.cases}
    known_forms = set(registry.was_asked(candidate, set[str]().union(*forms.values())))
    learned = [question for question, its in forms.items() if its & known_forms]
    if learned:
        raise UsageError(
            f"{candidate.name} learned {len(learned)} of the cases, such as {learned[0]!r}",
            "judge by others, or train again with --judged-by",
        )
    rows = []
    others = _engines(settings, registry.OTHER[kind], other)
    for place in (live, candidate):
        asked = _with(pipeline, kind, place, others)
        held = asked.index.collection(collection, fingerprint(settings))
        entries = asked.index.catalogue.entries(held)
        record = dataclasses.asdict(run.describe(plan, asked, held, entries, None))
        # Another document, setting or version is another run: it must not stumble over the last.
        said = json.dumps([record, str(place and adapters.fingerprint(place))], sort_keys=True)
        folder = work / hashlib.sha256(said.encode()).hexdigest()[:16]
        yield from run.run(plan, asked, collection, folder)
        rows.append(run.read(folder)[1])
    guards = {guard.metric: guard for guard in gate.guards(settings.eval.guards)}
    for guard in ALWAYS:
        margin = min(guard.margin, guards.get(guard.metric, guard).margin)
        guards[guard.metric] = Guard(guard.metric, margin)
    yield judged(
        rows[0],
        rows[1],
        list(guards.values()),
        settings.finetune.target,
        golden_sha256=plan.golden.sha256,
        against=against,
        weights=adapters.fingerprint(candidate),
        beside=beside,
    )


def asked_by(golden: Iterable[GoldenCase], pipeline: Pipeline) -> Iterator[str]:
    """The questions of cases as they are put, and as the bot searches for them and learns them.

    That is without filters and slips of the finger, and of follow-ups with what they leave unsaid.
    """
    for case in golden:
        yield case.question
        yield pipeline.query(case.question, case.history)


def judged(
    before: Sequence[Row],
    after: Sequence[Row],
    guards: Sequence[Guard],
    target: str,
    *,
    golden_sha256: str = "",
    against: str = "",
    weights: str = "",
    beside: str | None = None,
) -> Verdict:
    """The verdict on two runs of the same cases."""
    findings = [_unproved(each) for each in gate.gate(before, after, guards)]
    findings.sort(key=lambda each: each.passed)
    first = {row.case.id: row for row in before}
    pairs = [(first[row.case.id], row) for row in after]
    pairs = [(a, b) for a, b in pairs if not (a.error or b.error)]
    difference = differences(pairs, names=[target]).get(target)
    means = [_mean(target, [pair[side] for pair in pairs]) for side in (0, 1)]
    why = _why(findings, difference, target, means, _changed(target, pairs))
    none = Difference(mean=0.0, low=0.0, high=0.0, p=1.0, n=0, standard_error=0.0)
    found = difference or none
    return Verdict(
        passed=not why,
        why=why,
        target=target,
        before=round(means[0], 4),
        after=round(means[1], 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        p=round(found.p, 4),
        cases=found.n,
        golden_sha256=golden_sha256,
        against=against,
        weights=weights,
        guards=tuple(findings),
        beside=beside,
    )


def known(target: str) -> None:
    """Refuse a target that is no metric. Raises UsageError."""
    if target not in score.PER_CASE and target not in score.OVERALL:
        raise UsageError(
            f"finetune.target: there is no metric {target!r}",
            "there are " + ", ".join(sorted([*score.PER_CASE, *score.OVERALL])),
        )


def keep(candidate: Path, verdict: Verdict) -> Card:
    """Write the verdict on the candidate's card."""
    card = registry.read(candidate)
    said: dict[str, Any] = dataclasses.asdict(verdict)
    card = replace(card, verdict=said)
    registry.write(candidate, card)
    return card


def _unproved(found: gate.Finding) -> gate.Finding:
    """The finding, which fails for any loss beyond the margin if it is of `ALWAYS`."""
    strict = found.metric in {guard.metric for guard in ALWAYS} and not found.said
    return replace(found, passed=found.passed and not (strict and found.loss > found.margin + 1e-9))


def _why(
    findings: Sequence[gate.Finding],
    difference: Difference | None,
    target: str,
    means: Sequence[float],
    changed: int,
) -> str:
    """Why it may not go live; nothing if it may."""
    always = {guard.metric for guard in ALWAYS}
    worst = next((each for each in findings if not each.passed), None)
    worst = worst or next((each for each in findings if each.said and each.metric in always), None)
    if worst and worst.passed:
        return f"{worst.metric} can't be measured on these cases"
    if worst:
        return str(worst)
    if difference is None:
        return f"{target} can't be measured on these cases"
    sign = 1 if score.higher_is_better(target) else -1
    if not sign * difference.mean > 0:
        return f"{target} is not better: {means[0]:.3f} before, {means[1]:.3f} now"
    if changed < FEWEST:
        return (
            f"{target} went from {means[0]:.3f} to {means[1]:.3f} by {changed} of"
            f" {difference.n} cases; fewer than {FEWEST} may be chance"
        )
    if difference.p >= SURE:
        return (
            f"{target} went from {means[0]:.3f} to {means[1]:.3f} on {difference.n} cases, which"
            f" may be chance (p {difference.p:.2f})"
        )
    return ""


def _changed(target: str, pairs: Sequence[tuple[Row, Row]]) -> int:
    """How many cases differ in the target; in what is of a set, all of them may."""
    if target not in score.PER_CASE:
        return len(pairs)
    value = score.PER_CASE[target].value
    return sum(value(before) != value(after) for before, after in pairs)


def _mean(target: str, rows: Sequence[Row]) -> float:
    if target in score.PER_CASE:
        values = [score.PER_CASE[target].value(row) for row in rows]
        told = [float(value) for value in values if value is not None]
        return sum(told) / len(told) if told else 0.0
    return float(score.OVERALL[target].value([score.fact(row) for row in rows]) or 0.0)


def _with(
    pipeline: Pipeline, kind: registry.Kind, place: Path | None, others: bench.Engines
) -> Pipeline:
    """The same pipeline with this adapter or reader, or without any, beside what `others` has."""
    settings = with_models(pipeline.settings, **{kind: str(place) if place else ""})
    ours = bench.engines(settings)
    generator, reader = (
        (others.generator, ours.reader) if kind == "reader" else (ours.generator, others.reader)
    )
    return Pipeline(settings, pipeline.index, pipeline.embedder, generator, reader)


def _engines(settings: Settings, kind: registry.Kind, place: Path | None) -> bench.Engines:
    """Those with this adapter or reader, by its place: what is promoted meanwhile changes none."""
    return bench.engines(with_models(settings, **{kind: str(place) if place else ""}))


def with_models(settings: Settings, **names: str) -> Settings:
    """The settings with other models."""
    models = settings.models.model_copy(update=names)
    return settings.model_copy(update={"models": models})
