"""Two runs of the same cases: is one really better?

Cases are paired by their id, and the difference of each metric is bootstrapped over clusters of
cases (`eval.metrics.bootstrap`): what both runs find hard does not blur it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval import score
from eval.metrics import bootstrap
from eval.metrics.bootstrap import Difference
from eval.rows import Row
from eval.run import Record
from rag_bot.config import flatten
from rag_bot.errors import UsageError


@dataclass(frozen=True, slots=True)
class Changed:
    """A case that one run has right and the other has not."""

    id: str
    question: str
    before: str
    after: str
    better: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metrics` are B minus A. `unpaired` cases are in one of the runs only, `failed` in either."""

    cases: int
    unpaired: int
    failed_before: int
    failed_after: int
    metrics: Mapping[str, Difference]
    changed: tuple[Changed, ...]


def compare(before: Sequence[Row], after: Sequence[Row], *, seed: int = 0) -> Comparison:
    """B against A. Raises UsageError when they share no case."""
    first = {row.case.id: row for row in before}
    second = {row.case.id: row for row in after}
    shared = [i for i in first if i in second]
    if not shared:
        raise UsageError(
            "the two runs have no case in common", "compare runs of the same golden set"
        )
    failed_before = sum(bool(first[i].error) for i in shared)
    failed_after = sum(bool(second[i].error) for i in shared)
    pairs = [(first[i], second[i]) for i in shared if not (first[i].error or second[i].error)]
    return Comparison(
        cases=len(shared),
        unpaired=len(first) + len(second) - 2 * len(shared),
        failed_before=failed_before,
        failed_after=failed_after,
        metrics=differences(pairs, seed=seed),
        changed=tuple(_changed(a, b) for a, b in pairs if _right(a) != _right(b)),
    )


def differences(
    pairs: Sequence[tuple[Row, Row]], *, seed: int = 0, names: Sequence[str] | None = None
) -> dict[str, Difference]:
    """Each metric's paired difference, of those that both rows of some pair have."""
    clusters = [a.case.cluster for a, _ in pairs]
    found: dict[str, Difference] = {}
    for name, metric in score.PER_CASE.items():
        if names is not None and name not in names:
            continue
        first, second = ([metric.value(pair[side]) for pair in pairs] for side in (0, 1))
        difference = bootstrap.paired(first, second, clusters, seed=seed)
        if difference is not None:
            found[name] = difference
    facts = [[score.fact(pair[side]) for pair in pairs] for side in (0, 1)]
    for name, overall in score.OVERALL.items():
        if names is not None and name not in names:
            continue
        difference = bootstrap.paired_of(
            overall.value,
            facts[0],
            facts[1],
            clusters,
            counts=overall.counts,
            in_both=overall.in_both,
            seed=seed,
        )
        if difference is not None:
            found[name] = difference
    return found


def settings_changed(before: Record, after: Record) -> dict[str, tuple[Any, Any]]:
    """What differs between two runs' settings, models and documents, by name."""
    first, second = (
        dict(
            flatten(
                {
                    **record.settings,
                    "model": record.models,
                    "corpus": record.corpus,
                    "commit": record.commit,
                }
            )
        )
        for record in (before, after)
    )
    keys = dict.fromkeys([*first, *second])
    return {
        key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)
    }


def _right(row: Row) -> bool:
    if row.answered:
        return score.correct(row)
    return score.PER_CASE["recall@5"].value(row) == 1.0


def _changed(a: Row, b: Row) -> Changed:
    return Changed(a.case.id, a.case.question, _shown(a), _shown(b), _right(b))


def _shown(row: Row) -> str:
    if row.answered:
        return row.answer
    return ", ".join(f"{source.document} {source.page}" for source in row.sources)
