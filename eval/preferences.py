"""Which of two runs do people prefer? Their judgements, and what follows from them.

A judgement is a line of JSON, written when it is made. Of the same rater on the same case the last
one counts.

The win rate of B is a mean over cases; each case is the mean over those who judged it, with 1 for
B, 0 for A and 1/2 for a tie, which is "both good" or "both bad". Without ties it is the mean over
what was decided. Intervals are bootstrapped over clusters of cases (`eval.metrics.bootstrap`).

Agreement is chance-corrected, over the four answers as they are, on the cases that all judged:

    kappa = (p_o - p_e) / (1 - p_e)

Of two raters p_o is the share of cases on which they agree, and p_e the sum over the answers of
the product of how often each gives it: Cohen, "A Coefficient of Agreement for Nominal Scales",
Educational and Psychological Measurement 20(1), 1960. Of n raters p_o is the share of pairs of
raters that agree, and p_e the sum over the answers of the square of how often anyone gives it:
Fleiss, "Measuring Nominal Scale Agreement Among Many Raters", Psychological Bulletin 76(5), 1971.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from eval.cases import GoldenCase
from eval.metrics import bootstrap
from eval.metrics.bootstrap import Estimate
from eval.rows import Row
from rag_bot.errors import UsageError

Run = Literal["a", "b"]
Preference = Literal["a", "b", "both_good", "both_bad"]
PREFERENCES: tuple[Preference, ...] = get_args(Preference)
_WORTH: dict[Preference, float] = {"a": 0.0, "b": 1.0, "both_good": 0.5, "both_bad": 0.5}
_Word = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rater said of a case, in terms of runs, whichever was shown left.

    The hashes are of both answers, as they were read. `time` is in POSIX seconds.
    """

    case: _Word
    rater: _Word
    preference: Preference
    left: Run
    a_sha256: str
    b_sha256: str
    time: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A case and what each run answered."""

    case: GoldenCase
    a: Row
    b: Row

    def judged(self, rater: str, preference: Preference, left: Run, time: float) -> Judgement:
        """What a rater says of it."""
        first, second = self.hashes
        return Judgement(self.case.id, rater, preference, left, first, second, time)

    @property
    def hashes(self) -> tuple[str, str]:
        """SHA-256 of both answers."""
        return _sha256(self.a.answer), _sha256(self.b.answer)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree on the `cases` that each of them judged.

    `observed` is the share of pairs of raters that agree; `cohen` is of two raters only. None
    where there is no such case, and a kappa where chance alone would make all agree.
    """

    raters: int
    cases: int
    observed: float | None
    cohen: float | None
    fleiss: float | None


@dataclass(frozen=True, slots=True)
class Preferences:
    """What people prefer.

    `win_rate` is B's, where a tie counts half; `decided` is B's without ties. `left` is how often
    the answer shown left was preferred, without ties: 1/2 if the place made no difference. Their
    `n` counts cases, `counts` and `by_rater` count judgements. None where nothing was judged, or
    decided.
    """

    cases: int
    judgements: int
    counts: Mapping[Preference, int]
    by_rater: Mapping[str, Mapping[Preference, int]]
    win_rate: Estimate | None
    decided: Estimate | None
    left: Estimate | None
    agreement: Agreement


# The file

_FORM = TypeAdapter(Judgement)


def read(path: Path) -> list[Judgement]:
    """The judgements of a file, in order. A last line that a kill cut short is left out.

    Raises UsageError that names the file, and the line of a bad one.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} can't be read: {error}", "`rag-bot eval judge-ui` makes such a file"
        ) from None
    found: list[Judgement] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_FORM.validate_json(line, strict=True))
        except ValidationError as error:
            if number == len(lines):  # only whole lines end with a line feed
                break
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where}: {first['msg']}" if where else first["msg"]
            raise UsageError(f"{path}, line {number}: {what}", "mend or remove that line") from None
    return found


def append(path: Path, judgement: Judgement) -> None:
    """Add a judgement as a line. What a kill left of the line before is removed. Raises OSError."""
    line = json.dumps(asdict(judgement), ensure_ascii=False) + "\n"
    with path.open("a+b") as stream:
        stream.seek(0)
        before = stream.read()
        whole = before.rfind(b"\n") + 1
        try:
            _FORM.validate_json(before[whole:], strict=True)
        except ValidationError:
            stream.truncate(whole)
        else:
            line = "\n" + line
        stream.write(line.encode())


# What is to be judged


def pairs(
    a: Iterable[Row], b: Iterable[Row], *, limit: int | None = None, seed: int = 0
) -> list[Pair]:
    """The cases on which two runs differ, in an order drawn by `seed`; so many of them.

    Both ran, on the same question, and their answers differ by more than white space. All raters
    get one order, and a smaller limit its beginning, so that whoever stops early has judged a fair
    draw, and the same cases as the others.
    """
    second = {row.case.id: row for row in b if row.answered and not row.error}
    found = [
        Pair(row.case, row, other)
        for row in a
        if row.answered
        and not row.error
        and (other := second.get(row.case.id))
        and (row.case.question, row.case.history) == (other.case.question, other.case.history)
        and row.answer.split() != other.answer.split()
    ]
    random.Random(seed).shuffle(found)
    return found[:limit]


def to_judge(found: Iterable[Pair], done: Iterable[Judgement], rater: str) -> list[Pair]:
    """What a rater has not judged yet."""
    judged = {each.case for each in done if each.rater == rater}
    return [pair for pair in found if pair.case.id not in judged]


def check_same(path: Path, found: Iterable[Pair], done: Iterable[Judgement]) -> None:
    """The judgements of a file are about these answers. Raises UsageError if not."""
    hashes = {pair.case.id: pair.hashes for pair in found}
    for each in done:
        if hashes.get(each.case) != (each.a_sha256, each.b_sha256):
            raise UsageError(
                f"{path} holds judgements of other answers: see the case {each.case!r}",
                "give the two runs it was made with, in their order, or another --out",
            )


def left(case_id: str, rater: str, seed: int) -> Run:
    """Which run a rater sees on the left: as if by a coin, and the same every time."""
    drawn = hashlib.sha256(json.dumps([seed, rater, case_id]).encode()).digest()
    return "b" if drawn[0] % 2 else "a"


# What follows


def preferred(found: Iterable[Pair], judgements: Iterable[Judgement]) -> list[tuple[Row, Row]]:
    """The better and the worse row of each case of which all who judged it say the same."""
    said: dict[str, dict[str, Preference]] = {}
    for each in judgements:
        said.setdefault(each.case, {})[each.rater] = each.preference
    rows: list[tuple[Row, Row]] = []
    for pair in found:
        match sorted(set(said.get(pair.case.id, {}).values())):
            case ["a"]:
                rows.append((pair.a, pair.b))
            case ["b"]:
                rows.append((pair.b, pair.a))
    return rows


def report(
    judgements: Iterable[Judgement], clusters: Mapping[str, str] | None = None, *, seed: int = 0
) -> Preferences:
    """What people prefer. `clusters` names what a case is resampled with, by its id.

    A case that it does not name, or without it any case, is a cluster of its own.
    """
    kept = list({(each.case, each.rater): each for each in judgements}.values())
    decided = [each for each in kept if each.preference in ("a", "b")]

    def share(values: Iterable[tuple[str, float]]) -> Estimate | None:
        by_case: dict[str, list[float]] = {}
        for case, value in values:
            by_case.setdefault(case, []).append(value)
        cases = sorted(by_case)  # the order of judging must not change the interval
        names = [(clusters or {}).get(case, case) for case in cases]
        return bootstrap.interval([fmean(by_case[case]) for case in cases], names, seed=seed)

    return Preferences(
        cases=len({each.case for each in kept}),
        judgements=len(kept),
        counts=_counts(kept),
        by_rater={
            rater: _counts(each for each in kept if each.rater == rater)
            for rater in sorted({each.rater for each in kept})
        },
        win_rate=share((each.case, _WORTH[each.preference]) for each in kept),
        decided=share((each.case, _WORTH[each.preference]) for each in decided),
        left=share((each.case, float(each.preference == each.left)) for each in decided),
        agreement=_agreement(kept),
    )


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Of two raters' answers to the same cases. At most 1; 0 is what chance would give.

    None without cases, or where both give one and the same answer always.
    """
    if not first:
        return None
    observed = fmean(x == y for x, y in zip(first, second, strict=True))
    ours, theirs = Counter(first), Counter(second)
    expected = sum(ours[answer] * theirs[answer] for answer in ours) / len(first) ** 2
    return _kappa(observed, expected)


def fleiss_kappa(cases: Sequence[Sequence[str]]) -> float | None:
    """Of the answers to each case by as many raters, two or more, in any order.

    None without cases, or where there is one and the same answer always.
    """
    observed = _pairs_agreeing(cases)
    if observed is None:
        return None
    given = Counter(chain.from_iterable(cases))
    expected = sum(count**2 for count in given.values()) / given.total() ** 2
    return _kappa(observed, expected)


def lines(found: Preferences) -> list[str]:
    """The report as text."""
    if not found.judgements:
        return ["nothing has been judged yet"]
    said = [
        f"{found.judgements} judgements of {_number(found.cases, 'case')}"
        f" by {_number(len(found.by_rater), 'rater')}",
        _line("B is preferred, a tie counts half", found.win_rate),
        _line("B is preferred, without ties", found.decided),
        _line("the left one is preferred, without ties", found.left),
        "",
        f"{'':20}" + "".join(f"{name.replace('_', ' '):>10}" for name in _TITLES),
        *(_row(rater, counts) for rater, counts in found.by_rater.items()),
    ]
    if len(found.by_rater) < 2:
        return said
    said += [_row("all", found.counts), ""]
    agreement = found.agreement
    if agreement.observed is None:
        return [*said, "agreement: no case has been judged by all"]
    kappas = [("Cohen's kappa", agreement.cohen)] if agreement.raters == 2 else []
    kappas.append(("Fleiss' kappa", agreement.fleiss))
    named = "".join(
        f", {name} {'undefined' if value is None else f'{value:.2f}'}" for name, value in kappas
    )
    judged = f"on the {_number(agreement.cases, 'case')} judged by all"
    return [*said, f"agreement {judged}: {agreement.observed:.0%}{named}"]


_TITLES = ("A better", "B better", *PREFERENCES[2:])


def _agreement(kept: Sequence[Judgement]) -> Agreement:
    by_case: dict[str, dict[str, str]] = {}
    for each in kept:
        by_case.setdefault(each.case, {})[each.rater] = each.preference
    raters = sorted({each.rater for each in kept})
    cases = [
        [said[name] for name in raters] for said in by_case.values() if len(said) == len(raters)
    ]
    if len(raters) < 2:
        return Agreement(len(raters), len(cases), None, None, None)
    two = len(raters) == 2
    return Agreement(
        raters=len(raters),
        cases=len(cases),
        observed=_pairs_agreeing(cases),
        cohen=cohen_kappa([said[0] for said in cases], [said[1] for said in cases])
        if two
        else None,
        fleiss=fleiss_kappa(cases),
    )


def _pairs_agreeing(cases: Sequence[Sequence[str]]) -> float | None:
    """The mean share of a case's pairs of raters that agree."""
    if not cases:
        return None
    return fmean(
        sum(count * (count - 1) for count in Counter(said).values()) / (len(said) * (len(said) - 1))
        for said in cases
    )


def _kappa(observed: float, expected: float) -> float | None:
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _counts(judgements: Iterable[Judgement]) -> dict[Preference, int]:
    counted = Counter(each.preference for each in judgements)
    return {preference: counted[preference] for preference in PREFERENCES}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _line(what: str, share: Estimate | None) -> str:
    if share is None:
        return f"{what:40} no case was decided"
    return f"{what:40} {share.mean:6.1%}  {share.low:.1%} to {share.high:.1%}, n = {share.n}"


def _row(name: str, counts: Mapping[Preference, int]) -> str:
    return f"{name:20.20}" + "".join(f"{counts[each]:10}" for each in PREFERENCES)
