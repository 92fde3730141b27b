"""Rows to figures. No model, no clock, no chance: the same rows give the same bytes.

`PER_CASE` metrics have a value for each case they apply to, and their mean is the figure.
`OVERALL` ones exist for a set only. A case that failed to run has no value anywhere: it is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eval.metrics import (
    abstention,
    auroc,
    average_precision,
    bleu,
    bootstrap,
    calibration,
    citations,
    contains,
    faithfulness,
    latency,
    ndcg,
    nuggets,
    perplexity,
    precision,
    recall,
    reciprocal_rank,
    risk_coverage,
    rouge,
    squad,
)
from eval.metrics.abstention import Abstention, Decision
from eval.metrics.bootstrap import Estimate
from eval.metrics.calibration import Judged
from eval.rows import Row
from rag_bot.abstain import NOT_ANSWERED
from rag_bot.cite import without_markers
from rag_bot.jsonable import jsonable

FORMAT = 1
Place = tuple[str, int | None]

_QUOTING = re.compile(r"The documents say: “(.*)”", re.DOTALL)
_NOT_ANSWERED = re.compile(re.escape(NOT_ANSWERED).replace(r"\{part\}", ".*"))


class Metric(NamedTuple):
    """A figure of a single case: None where it does not apply."""

    value: Callable[[Row], float | None]
    about: str
    higher_is_better: bool = True


class Overall(NamedTuple):
    """A figure of many cases together: None where there are none that it applies to.

    `counts` says whether it is about a case. Where a comparison must have it be so in both runs
    (`in_both`), what a case is worth depends on the case alone, and not on what was answered.
    """

    value: Callable[[Sequence[Fact]], float | None]
    counts: Callable[[Fact], bool]
    about: str
    higher_is_better: bool = True
    in_both: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """What `metrics.json` holds. `failed` cases could not be run, and are in no mean."""

    format: int
    cases: int
    failed: int
    metrics: Mapping[str, Estimate]
    slices: Mapping[str, Mapping[str, Estimate]]


# What a row says


def said(row: Row) -> str:
    """The answer's own words: without markers, and nothing for an abstention."""
    if row.abstained:
        return ""
    return "\n\n".join(quoted[1] if quoted else text for text, quoted in _paragraphs(row))


def in_own_words(row: Row) -> bool:
    """Whether an answer is the model's, and not a quotation that took its place."""
    return any(not quoted for _, quoted in _paragraphs(row))


def shown(row: Row) -> str:
    """All that a reader of an answer sees: its words, and the quotes under it."""
    return "\n".join([said(row), *(each.quote for each in row.citations)])


def _paragraphs(row: Row) -> list[tuple[str, re.Match[str] | None]]:
    """What is said without markers, each with its match if it is a quotation."""
    texts = without_markers(row.answer).strip().split("\n\n")
    return [(text, _QUOTING.fullmatch(text)) for text in texts if not _NOT_ANSWERED.fullmatch(text)]


def needed(row: Row) -> tuple[tuple[str, ...], ...]:
    """The facts that a right answer tells, each in its accepted wordings."""
    return row.case.nuggets or (row.case.references,)


def can_be_scored(row: Row) -> bool:
    """Whether a right answer is known: a reference, facts, or to abstain."""
    return bool(row.case.references or row.case.nuggets) or not row.case.answerable


def correct(row: Row) -> bool:
    """The answer holds a reference or all the facts of one, or the bot rightly gave none."""
    if not row.case.answerable:
        return row.abstained
    return not row.abstained and holds(said(row), row)


def holds(text: str, row: Row) -> bool:
    """Whether a text holds a reference, or all the facts of one."""
    if contains.contains(text, row.case.references):
        return True
    return nuggets.nugget_recall(text, row.case.nuggets) == 1


def cites_right_page(row: Row) -> bool | None:
    """Whether any citation names a relevant page; None for an answer without citations."""
    if not row.citations:
        return None
    return bool(_relevant(row) & set(_cited(row)))


def ranking(row: Row) -> list[Place]:
    """The pages found, best first, each once. Where any page of a document will do, documents."""
    return _places(row, [(hit.document, hit.page) for hit in row.ranking])


def _relevant(row: Row) -> set[Place]:
    return {(ref.document, ref.page) for ref in row.case.relevant}


def _cited(row: Row) -> list[Place]:
    return _places(row, [(each.document, each.page) for each in row.citations])


def _places(row: Row, found: Sequence[tuple[str, int]]) -> list[Place]:
    whole = {ref.document for ref in row.case.relevant if ref.page is None}
    return list(
        dict.fromkeys((document, None if document in whole else page) for document, page in found)
    )


# Metrics of a case


def _searched(measure: Callable[[Sequence[Place], set[Place]], float]) -> Callable[..., Any]:
    """For cases with something to find."""
    return lambda row: measure(ranking(row), _relevant(row)) if row.case.relevant else None


def _asked(measure: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    """For cases that were answered or abstained on."""
    return lambda row: measure(row) if row.answered else None


def _keyed(measure: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    """For cases whose right answer is known: a reference, or to abstain."""
    return _asked(
        lambda row: measure(row) if row.case.references or not row.case.answerable else None
    )


def _answerable(measure: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    return _asked(lambda row: measure(row) if row.case.answerable else None)


def _referenced(measure: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    """For answerable cases with a reference."""
    return _answerable(lambda row: measure(row) if row.case.references else None)


def _compared(
    measure: Callable[[str, Sequence[str]], float | None],
) -> Callable[[Row], float | None]:
    """Of what was said, against the references."""
    return _referenced(lambda row: measure(said(row), row.case.references))


def _stated(measure: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    """For answers that claim something."""
    return _asked(lambda row: None if row.abstained else measure(row))


def _cited_pages(measure: Callable[..., float | None]) -> Callable[[Row], float | None]:
    return _stated(lambda row: measure(_cited(row), _relevant(row)) if row.case.relevant else None)


def _judged(row: Row) -> float | None:
    return None if row.judged_right is None else float(row.judged_right)


PER_CASE: dict[str, Metric] = {
    "recall@1": Metric(_searched(lambda r, g: recall.recall(r, g, 1)), "pages found first"),
    "recall@5": Metric(_searched(lambda r, g: recall.recall(r, g, 5)), "pages in the first 5"),
    "recall@10": Metric(_searched(lambda r, g: recall.recall(r, g, 10)), "in the first 10"),
    "recall@100": Metric(_searched(lambda r, g: recall.recall(r, g, 100)), "in the first 100"),
    "precision@5": Metric(
        _searched(lambda r, g: precision.precision(r, g, 5)), "right ones of the first 5"
    ),
    "MRR@10": Metric(
        _searched(lambda r, g: reciprocal_rank.reciprocal_rank(r, g, 10)),
        "1 / rank of the first right page",
    ),
    "nDCG@10": Metric(_searched(lambda r, g: ndcg.ndcg(r, g, 10)), "discounted gain"),
    "MAP@100": Metric(
        _searched(lambda r, g: average_precision.average_precision(r, g, 100)),
        "mean of the precisions at right pages",
    ),
    "source_recall": Metric(
        lambda row: (
            recall.recall(
                _places(row, [(each.document, each.page) for each in row.sources]),
                _relevant(row),
                max(1, len(row.sources)),
            )
            if row.case.relevant
            else None
        ),
        "right pages that the model was shown",
    ),
    "accuracy": Metric(
        _keyed(lambda row: float(correct(row))), "answers that hold a reference, right abstentions"
    ),
    "accuracy_answerable": Metric(
        _referenced(lambda row: float(holds(said(row), row))),
        "the same, of answerable questions",
    ),
    "accuracy_with_quotes": Metric(
        _referenced(lambda row: float(holds(shown(row), row))),
        "the answer or a quote under it holds a reference, answerable questions",
    ),
    "nugget_recall": Metric(
        _referenced(lambda row: nuggets.nugget_recall(shown(row), needed(row))),
        "facts of a right answer that the answer or a quote under it holds",
    ),
    "exact_match": Metric(
        _keyed(lambda row: squad.exact_match(said(row), row.case.references)), "SQuAD's EM"
    ),
    "F1": Metric(_keyed(lambda row: squad.f1(said(row), row.case.references)), "SQuAD's F1"),
    "exact_match_answerable": Metric(_compared(squad.exact_match), "EM, answerable questions"),
    "F1_answerable": Metric(_compared(squad.f1), "F1, answerable questions"),
    "ROUGE-L": Metric(_compared(rouge.rouge_l), "longest common subsequence, F1"),
    "BLEU": Metric(_compared(bleu.bleu), "sentence BLEU, in [0, 1]"),
    "judge_accuracy": Metric(_asked(_judged), "right in the judge model's eyes"),
    "abstention_recall": Metric(
        _asked(lambda row: None if row.case.answerable else float(row.abstained)),
        "abstentions of the unanswerable",
    ),
    "false_abstention": Metric(
        _answerable(lambda row: float(row.abstained)), "abstentions of the answerable", False
    ),
    "own_words": Metric(
        _stated(lambda row: float(in_own_words(row))), "answers that are not a quotation alone"
    ),
    "faithfulness": Metric(
        _stated(
            lambda row: faithfulness.faithfulness(
                [each.label == "supported" for each in row.verdicts]
            )
        ),
        "claims that their source supports",
    ),
    "citation_recall": Metric(
        _stated(
            lambda row: citations.citation_recall(
                [len(each.markers) * (each.label == "supported") for each in row.verdicts]
            )
        ),
        "claims with a citation that supports them",
    ),
    "citation_precision": Metric(
        _stated(
            lambda row: citations.citation_precision(
                [each.label == "supported" for each in row.verdicts for _ in each.markers]
            )
        ),
        "citations that support their claim",
    ),
    "page_precision": Metric(_cited_pages(citations.page_precision), "right ones of cited pages"),
    "page_recall": Metric(_cited_pages(citations.page_recall), "cited ones of right pages"),
    "markers_resolved": Metric(
        _stated(
            lambda row: citations.resolved(
                [*(each.marker for each in row.citations), *row.unresolved],
                {each.marker for each in row.sources},
            )
        ),
        "markers that name a source",
    ),
    "quotes_verbatim": Metric(
        _stated(lambda row: citations.verbatim([each.verbatim for each in row.citations])),
        "quotes that stand on their page letter for letter",
    ),
}


# Metrics of a set


class Fact(NamedTuple):
    """What a set's metrics need to know of a case, worked out once and drawn many times."""

    answered: bool
    abstained: bool
    answerable: bool
    scored: bool
    correct: bool
    confidence: float
    nll: float | None


def fact(row: Row) -> Fact:
    """Of a row that did not fail."""
    return Fact(
        row.answered,
        row.abstained,
        row.case.answerable,
        row.answered and can_be_scored(row),
        row.answered and correct(row),
        row.confidence,
        row.reference_nll,
    )


def selective(facts: Sequence[Fact]) -> list[risk_coverage.Case]:
    """What risk and coverage are computed from."""
    return [
        risk_coverage.Case(each.confidence, each.correct, not each.abstained)
        for each in facts
        if each.scored
    ]


def committed(facts: Sequence[Fact]) -> list[Judged]:
    """Of the answers given, the confidence and whether it was right to be."""
    return [Judged(each.confidence, each.correct) for each in facts if _committed(each)]


def _committed(each: Fact) -> bool:
    return each.scored and not each.abstained


def _abstention(facts: Sequence[Fact]) -> Abstention:
    asked = (Decision(each.answerable, each.abstained) for each in facts if each.answered)
    return abstention.abstention(asked)


def _confidence_auroc(facts: Sequence[Fact]) -> float | None:
    given = committed(facts)
    return auroc.auroc([each.confidence for each in given], [each.correct for each in given])


def _perplexity(facts: Sequence[Fact]) -> float | None:
    return perplexity.perplexity([each.nll for each in facts if each.nll is not None])


OVERALL: dict[str, Overall] = {
    # Not of each case: in which cases there are abstentions is what it is about.
    "abstention_precision": Overall(
        lambda facts: _abstention(facts).precision,
        lambda each: each.answered and each.abstained,
        "unanswerable of the abstentions",
    ),
    "abstention_F1": Overall(
        lambda facts: _abstention(facts).f1,
        lambda each: each.answered,
        "of precision and recall of abstaining",
    ),
    "AURC": Overall(
        lambda facts: risk_coverage.aurc(selective(facts)),
        lambda each: each.scored,
        "area under the risk–coverage curve",
        False,
    ),
    "coverage@80": Overall(
        lambda facts: risk_coverage.coverage_at(selective(facts), 0.8),
        lambda each: each.scored,
        "largest share answered with 80 % right",
    ),
    "coverage@90": Overall(
        lambda facts: risk_coverage.coverage_at(selective(facts), 0.9),
        lambda each: each.scored,
        "largest share answered with 90 % right",
    ),
    "ECE": Overall(
        lambda facts: calibration.ece(committed(facts)),
        _committed,
        "expected calibration error",
        False,
    ),
    "Brier": Overall(
        lambda facts: calibration.brier(committed(facts)),
        _committed,
        "squared error of the confidence",
        False,
    ),
    "confidence_AUROC": Overall(_confidence_auroc, _committed, "right answers are the surer ones"),
    "perplexity": Overall(
        _perplexity,
        lambda each: each.nll is not None,
        "of the reference answers",
        False,
        in_both=True,
    ),
}

SLICED = (
    "recall@5", "source_recall", "accuracy", "nugget_recall", "false_abstention", "page_precision"
)  # fmt: skip
"""What is told apart by tag."""


def higher_is_better(name: str) -> bool:
    """Whether more of a metric is better. Raises KeyError for an unknown one."""
    return (PER_CASE.get(name) or OVERALL[name]).higher_is_better


def scores(rows: Sequence[Row], *, seed: int = 0) -> Scores:
    """All metrics that apply, with 95 % intervals over clusters of cases."""
    whole = [row for row in rows if not row.error]
    tags = sorted({tag for row in whole for tag in row.case.tags})
    return Scores(
        format=FORMAT,
        cases=len(rows),
        failed=len(rows) - len(whole),
        metrics=_per_case(whole, PER_CASE, seed) | _overall(whole, seed),
        slices={
            tag: _per_case([row for row in whole if tag in row.case.tags], SLICED, seed)
            for tag in tags
        },
    )


def timings(rows: Sequence[Row]) -> dict[str, Any]:
    """What `timings.json` holds: seconds by stage, tokens a second, cases a second.

    A stage is measured on the cases that reached it.
    """
    stages: dict[str, list[float]] = {}
    for row in rows:
        for stage, seconds in row.timings.items():
            stages.setdefault(stage, []).append(seconds)
    written = [row for row in rows if row.tokens and row.timings.get("generate")]
    seconds = sum(row.timings["generate"] for row in written)
    return {
        "stages": {
            stage: each._asdict()
            for stage, values in stages.items()
            if (each := latency.latency(values)) is not None
        },
        "tokens": sum(row.tokens for row in written),
        "tokens_per_second": sum(row.tokens for row in written) / seconds if seconds else None,
        "seconds": sum(stages.get("total", [])),
    }


def to_json(found: Scores) -> str:
    """The text of `metrics.json`."""
    return json.dumps(_rounded(jsonable(found)), indent=1, sort_keys=True) + "\n"


def _per_case(rows: Sequence[Row], names: Any, seed: int) -> dict[str, Estimate]:
    clusters = [row.case.cluster for row in rows]
    found: dict[str, Estimate] = {}
    for name in names:
        values = [PER_CASE[name].value(row) for row in rows]
        estimate = bootstrap.interval(values, clusters, seed=seed)
        if estimate is not None:
            found[name] = estimate
    return found


def _overall(rows: Sequence[Row], seed: int) -> dict[str, Estimate]:
    clusters = [row.case.cluster for row in rows]
    facts = [fact(row) for row in rows]
    found: dict[str, Estimate] = {}
    for name, metric in OVERALL.items():
        estimate = bootstrap.interval_of(
            metric.value, facts, clusters, counts=metric.counts, seed=seed
        )
        if estimate is not None:
            found[name] = estimate
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return value
