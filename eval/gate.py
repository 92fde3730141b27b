"""The gate: may this index, prompt or model go live? Only if nothing guarded has got worse.

A guard is a metric and a margin. It fails when the 95 % interval of the paired loss lies wholly
beyond the margin: worse by more than is allowed, and not by chance. What is measured on few cases
can hide a loss; `detectable` says how large one must be to be seen four times in five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval import score
from eval.compare import differences
from eval.rows import Row
from eval.run import Record
from rag_bot.errors import UsageError

_POWER = 1.96 + 0.84
"""Standard errors between no difference and one that is seen at 95 % with 80 % power.

Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988.
"""
_FAILED = 0.02
"""So many more of the cases may fail to run before that alone closes the gate."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A metric, and how much worse it may become."""

    metric: str
    margin: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One guard's result. `loss` is positive where the run is worse, `low` and `high` its interval.

    `said` is why it could not be held against the guard; then the numbers mean nothing.
    """

    metric: str
    margin: float
    passed: bool
    loss: float = 0.0
    low: float = 0.0
    high: float = 0.0
    detectable: float = 0.0
    cases: int = 0
    said: str = ""

    def __str__(self) -> str:
        if self.said:
            return f"{self.metric}: {self.said}"
        return (
            f"{self.metric} is worse by {self.loss:.3f} ({self.low:.3f} to {self.high:.3f})"
            f" on {self.cases} cases; {self.margin:g} is allowed"
        )


def guards(lines: Sequence[str]) -> list[Guard]:
    """Read `eval.guards`: `"accuracy=0.03"` each. Raises UsageError."""
    found: list[Guard] = []
    for line in lines:
        metric, _, margin = (part.strip() for part in line.partition("="))
        known = score.PER_CASE.keys() | score.OVERALL.keys()
        if metric not in known:
            raise UsageError(
                f"eval.guards: there is no metric {metric!r}",
                "there are " + ", ".join(sorted(known)),
            )
        try:
            allowed = float(margin)
        except ValueError:
            allowed = math.nan
        if not 0 <= allowed < math.inf:
            raise UsageError(f"eval.guards: {line!r} has no margin", "write it as accuracy=0.03")
        found.append(Guard(metric, allowed))
    if not found:
        raise UsageError(
            "eval.guards is empty: nothing is guarded", "name a metric, or leave it out"
        )
    return found


def gate(
    baseline: Sequence[Row], run: Sequence[Row], wanted: Sequence[Guard], *, seed: int = 0
) -> list[Finding]:
    """Each guard's finding, the worst first. The gate is open if all have passed.

    It stays shut where nothing could be measured, or came out as no number.

    Raises UsageError when the runs are not of the same cases.
    """
    first = {row.case.id: row for row in baseline}
    second = {row.case.id: row for row in run}
    if first.keys() != second.keys():
        other = sorted(first.keys() ^ second.keys())[0]
        raise UsageError(
            f"the runs are not of the same cases: {other!r} is in one only",
            "run both over the same golden set with the same --limit and --seed",
        )
    if not first:
        raise UsageError("the runs have no rows", "run both once more: they go on")
    pairs = [(first[i], second[i]) for i in first if not (first[i].error or second[i].error)]
    found = differences(pairs, seed=seed, names=[guard.metric for guard in wanted])
    findings = [_completed(baseline, run)]
    for guard in wanted:
        difference = found.get(guard.metric)
        if difference is None:
            findings.append(_absent(guard, baseline, run))
            continue
        sign = -1 if score.higher_is_better(guard.metric) else 1
        low, high = sorted((sign * difference.low, sign * difference.high))
        findings.append(
            Finding(
                guard.metric,
                guard.margin,
                passed=low <= guard.margin,  # nor with NaN
                loss=sign * difference.mean,
                low=low,
                high=high,
                detectable=guard.margin + _POWER * difference.standard_error,
                cases=difference.n,
            )
        )
    if not found and all(each.passed for each in findings):
        said = "nothing that is guarded could be measured on a case that ran in both"
        findings.append(Finding("guards", 0.0, False, said=said))
    return sorted(findings, key=lambda each: (each.passed, each.margin - each.low))


def comparable(baseline: Record, run: Record) -> None:
    """Refuse runs that measured different things. Raises UsageError."""
    for name in ("golden_sha256", "limit", "seed", "answers"):
        was, now = getattr(baseline, name), getattr(run, name)
        if was != now:
            raise UsageError(
                f"the runs differ in {name}: {was!r} and {now!r}",
                "run both over the same golden set with the same options",
            )


def _completed(baseline: Sequence[Row], run: Sequence[Row]) -> Finding:
    before, after = (sum(bool(row.error) for row in rows) / len(rows) for rows in (baseline, run))
    passed = after - before <= _FAILED + 1e-9  # for what binary fractions lose
    said = "" if passed else f"{after:.0%} of the cases failed to run, {before:.0%} before"
    return Finding("completed", _FAILED, passed, loss=after - before, cases=len(run), said=said)


def _absent(guard: Guard, baseline: Sequence[Row], run: Sequence[Row]) -> Finding:
    """A metric that one run has and the other has not is a loss; that neither has, none."""
    has = [_exists(guard.metric, rows) for rows in (baseline, run)]
    if has[0] and not has[1]:
        return Finding(
            guard.metric, guard.margin, False, said="the run has nothing to measure it on"
        )
    return Finding(guard.metric, guard.margin, True, said="not measured: no case has it in both")


def _exists(metric: str, rows: Sequence[Row]) -> bool:
    whole = [row for row in rows if not row.error]
    if metric in score.PER_CASE:
        return any(score.PER_CASE[metric].value(row) is not None for row in whole)
    return score.OVERALL[metric].value([score.fact(row) for row in whole]) is not None
