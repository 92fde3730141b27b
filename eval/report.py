"""A run as people read it: one HTML page with everything, and a short Markdown file.

The page loads nothing and works from a file. Documents are hostile: whatever they and the model
said is escaped, and the page's policy runs no script but its own, named by its hash. The same rows
give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval import failures, plots, score
from eval.metrics.bootstrap import Estimate
from eval.rows import Row, Shown
from eval.run import Record
from eval.score import Scores
from rag_bot.config import flatten

HTML, MARKDOWN = "report.html", "report.md"
DATA = Path(__file__).parent / "data"


class Outcome(StrEnum):
    """How a case went. The last three are of runs that search only. The value is what is shown."""

    RIGHT = "right"
    WRONG = "wrong"
    RIGHTLY_ABSTAINED = "abstained, rightly"
    WRONGLY_ABSTAINED = "abstained, wrongly"
    NOT_SCORED = "not scored: no reference"
    FAILED = "failed"
    FOUND = "found"
    MISSED = "missed"
    NOTHING_TO_FIND = "nothing to find"


class Group(NamedTuple):
    """Metrics that answer one question, each with what it says in plain words."""

    title: str
    about: str
    metrics: Mapping[str, str]


GROUPS = (
    Group(
        "Retrieval",
        "Are the pages that hold the answer found, before any word is written?",
        {
            "recall@1": "of the pages that a case needs, the share that was found first",
            "recall@5": "of the pages that a case needs, the share among the first 5 found",
            "recall@10": "the same among the first 10",
            "recall@100": "the same among the first 100: what no reranking could bring back",
            "precision@5": "of the first 5 pages found, the share that the case needs;"
            " with one page to find it is 0.2 at best",
            "MRR@10": "1 / rank of the first right page: 1 is first, 0.5 second; 0 below the 10th",
            "nDCG@10": "how high up the right pages are: 1 if nothing stands above them",
            "MAP@100": "at each right page, the share of right ones so far; the mean of these",
            "source_recall": "of the pages that a case needs, the share that the model was shown",
        },
    ),
    Group(
        "Answers",
        "Are the answers right? Most of these compare words with a reference answer, and a right"
        " answer in other words loses there.",
        {
            "accuracy": "the answer holds a reference answer, or the bot rightly gave none",
            "accuracy_answerable": "the same, of questions that the documents answer",
            "accuracy_with_quotes": "the same, counting the quotes shown under the answer",
            "nugget_recall": "of the facts that a right answer needs, the share that stands in the"
            " answer or a quote under it",
            "exact_match": "the answer is a reference answer and nothing else (SQuAD's rules);"
            " an abstention is right where there is no answer",
            "F1": "words shared with the nearest reference answer (SQuAD's rules): long sentences"
            " lose",
            "exact_match_answerable": "exact match, of questions that the documents answer",
            "F1_answerable": "F1, of questions that the documents answer",
            "ROUGE-L": "the longest run of words in common with a reference, gaps allowed",
            "BLEU": "short sequences of words in common with a reference",
            "judge_accuracy": "right in the eyes of the judge model",
            "perplexity": "how surprised the model is by the reference answer; 1 is not at all",
        },
    ),
    Group(
        "Abstention and confidence",
        "Does the bot stay silent when the documents don't say, and know which of its answers to"
        " doubt?",
        {
            "abstention_recall": "of the questions without an answer, the share it abstained from",
            "abstention_precision": "of its abstentions, the share that was right",
            "abstention_F1": "the two together: their harmonic mean",
            "false_abstention": "of the questions with an answer, the share it abstained from",
            "AURC": "mean share of wrong answers, over all thresholds of confidence",
            "coverage@80": "the most cases it can answer with 80 % of the answers right",
            "coverage@90": "the same with 90 % right",
            "ECE": "how far the confidence is from the share of right answers",
            "Brier": "squared distance of the confidence from 1 (right) or 0 (wrong)",
            "confidence_AUROC": "of a right and a wrong answer, how often the right one is surer;"
            " 0.5 is chance",
        },
    ),
    Group(
        "Proof",
        "Do the sources bear the answers out, and do the citations lead to the right pages?",
        {
            "own_words": "of the answers, the share in the model's words; the rest are quotations"
            " that took their place",
            "faithfulness": "of an answer's claims, the share that a source bears out",
            "citation_recall": "of an answer's claims, the share with a citation that bears it out",
            "citation_precision": "of the citations, the share that bears its claim out",
            "page_precision": "of the cited pages, the share that the case needs",
            "page_recall": "of the pages that the case needs, the share that is cited",
            "markers_resolved": "of the markers written, the share that names a source",
            "quotes_verbatim": "of the quotes, the share that stands on its page letter for letter",
        },
    ),
)
HEADLINES = (
    *("recall@5", "source_recall", "accuracy", "faithfulness"),
    *("page_precision", "abstention_recall"),
)
"""What is shown large."""

NOTE = (
    "n is the number of cases that a figure is about. The interval says how far chance reaches: if"
    " whole documents were drawn again at random, with their questions, 95 in 100 such sets would"
    " give a figure inside it. Differences smaller than that may be nothing."
)


class Source(NamedTuple):
    """A source as the page shows it: its text in pieces, of which some are marked."""

    shown: Shown
    pieces: tuple[tuple[str, bool], ...]
    cited: bool
    gold: bool
    cut: bool


class Case(NamedTuple):
    """A row as the page shows it. `rank` is that of the first right page; `tags` is JSON."""

    row: Row
    outcome: Outcome
    cause: str
    rank: int | None
    tags: str
    sources: tuple[Source, ...]


def write(folder: Path, record: Record, rows: Sequence[Row], found: Scores) -> None:
    """Both reports of a run, into its folder."""
    for name, text in (
        (HTML, to_html(record, rows, found)),
        (MARKDOWN, to_markdown(record, rows, found)),
    ):
        # A lone surrogate, which a model's JSON can carry, is shown as a question mark.
        (folder / name).write_text(text, "utf-8", errors="replace")


def outcome(row: Row) -> Outcome:
    """How a case went."""
    if row.error:
        return Outcome.FAILED
    if row.answered and not score.can_be_scored(row):
        return Outcome.NOT_SCORED
    if row.answered:
        right = score.correct(row)
        if row.abstained:
            return Outcome.RIGHTLY_ABSTAINED if right else Outcome.WRONGLY_ABSTAINED
        return Outcome.RIGHT if right else Outcome.WRONG
    if not row.case.relevant:
        return Outcome.NOTHING_TO_FIND
    return Outcome.FOUND if score.PER_CASE["source_recall"].value(row) == 1 else Outcome.MISSED


def to_html(record: Record, rows: Sequence[Row], found: Scores) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(DATA),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["duration"] = plots.duration
    environment.tests["share"] = _is_share
    script = (DATA / "report.js").read_text("utf-8")
    drawn = plots.plots(rows)
    groups = _groups(found.metrics)
    counted = Counter(map(outcome, rows))
    return environment.get_template("report.html").render(
        style=Markup((DATA / "report.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        record=record,
        facts=_facts(record, rows),
        settings={
            key: json.dumps(value, ensure_ascii=False) for key, value in flatten(record.settings)
        },
        found=found,
        errors=_errors(rows),
        outcomes={each: counted[each] for each in Outcome if counted[each]},
        headlines=[
            (name, about)
            for group in groups
            for name, about in group.metrics.items()
            if name in HEADLINES
        ],
        groups=groups,
        higher_is_better=score.higher_is_better,
        note=NOTE,
        plots=[(each, Markup(each.svg)) for each in drawn if each.svg],
        left_out=[each for each in drawn if not each.svg],
        answered=any(row.answered for row in rows),
        causes=[
            (plots.short(cause), cause.value.partition(": ")[2], count, failures.REMEDIES[cause])
            for cause, count in plots.causes(rows).items()
        ],
        latencies=plots.latencies(rows),
        sliced=_sliced(found),
        tag_counts=_tag_counts(rows),
        cases=[_case(row) for row in rows],
    )


def to_markdown(record: Record, rows: Sequence[Row], found: Scores) -> str:
    """The short form, for a terminal, a pull request or a mail."""
    lines = [f"# Evaluation of {_md(record.collection)}", "", _failed_line(found), ""]
    for _, count, error in _errors(rows):
        lines.append(f"- {count} × {_md(error)}")
    facts = [(name, _md(value)) for name, value in _facts(record, rows).items()]
    lines += ["", *_md_table(("what was run", ""), facts)]
    counted = Counter(map(outcome, rows))
    lines += ["", "## Outcomes", ""]
    lines += _md_table(
        ("outcome", "cases"), [(each, str(counted[each])) for each in Outcome if counted[each]]
    )
    lines += ["", "## Figures", "", NOTE, ""]
    for group in _groups(found.metrics):
        lines += [f"### {group.title}", "", group.about, ""]
        lines += _md_table(
            ("metric", "value", "95 % interval", "n", "what it says"),
            [
                (name, _figure(each.mean), _interval(each), str(each.n), about)
                for name, about in _directed(group)
                for each in [found.metrics[name]]
            ],
        )
        lines.append("")
    if any(row.answered and score.can_be_scored(row) for row in rows):
        lines += ["## Why answers are wrong", ""]
        causes = plots.causes(rows)
        if any(causes.values()):
            lines += _md_table(
                ("cause", "cases", "what to do"),
                [
                    (cause.value, str(count), failures.REMEDIES[cause])
                    for cause, count in causes.items()
                    if count
                ],
            )
        else:
            lines.append("No answer is wrong.")
        lines.append("")
    names = _sliced(found)
    if names:
        lines += ["## By tag", ""]
        counts = _tag_counts(rows)
        lines += _md_table(
            ("tag", "cases", *names),
            [
                (
                    _md(tag),
                    str(counts[tag]),
                    *(_short(estimates.get(name)) for name in names),
                )
                for tag, estimates in found.slices.items()
            ],
        )
        lines.append("")
    return "\n".join(lines)


# What both hold


def _facts(record: Record, rows: Sequence[Row]) -> dict[str, str]:
    """The record in short."""
    cases = f"{len(rows):,} of {record.golden}"
    if record.limit is not None:
        cases += f" (drawn with --limit {record.limit} --seed {record.seed})"
    facts = {
        "cases": cases,
        "documents": f"{record.documents:,} in the collection {record.collection}",
        "asked for": "answers" if record.answers else "retrieval alone",
        **{name: model for name, model in record.models.items() if model},
        "judge": record.judge or "none",
        "rag-bot": record.version + (f", commit {record.commit}" if record.commit else ""),
        "corpus": record.corpus[:16],
        "golden set": record.golden_sha256[:16],
    }
    if record.commit.endswith("+"):
        facts["rag-bot"] += " (with changes that are not committed)"
    return facts


def _failed_line(found: Scores) -> str:
    if found.failed:
        return (
            f"**{found.failed:,} of {found.cases:,} cases failed to run. They are in no figure"
            " below.** The same command with the same `--out` asks them again."
        )
    return f"All {found.cases:,} cases ran."


def _errors(rows: Sequence[Row]) -> list[tuple[int, int, str]]:
    """The errors, the most frequent first: where the first case stands, how many, what was said."""
    first: dict[str, int] = {}
    counted: Counter[str] = Counter()
    for place, row in enumerate(rows):
        if row.error:
            first.setdefault(row.error, place)
            counted[row.error] += 1
    return [(first[error], count, error) for error, count in counted.most_common(5)]


def _groups(metrics: Mapping[str, Estimate]) -> list[Group]:
    """The groups with the metrics that this run has; those of no group come last."""
    known = {name for group in GROUPS for name in group.metrics}
    other = {name: _about(name) for name in metrics if name not in known}
    groups = [
        group._replace(
            metrics={name: about for name, about in group.metrics.items() if name in metrics}
        )
        for group in (*GROUPS, Group("Other", "", other))
    ]
    return [group for group in groups if group.metrics]


def _directed(group: Group) -> list[tuple[str, str]]:
    """The group's metrics, with which of them are better small."""
    return [
        (name, about if score.higher_is_better(name) else f"{about} (less is better)")
        for name, about in group.metrics.items()
    ]


def _about(name: str) -> str:
    return (score.PER_CASE.get(name) or score.OVERALL[name]).about


def _sliced(found: Scores) -> list[str]:
    """The metrics that any tag has."""
    return [name for name in score.SLICED if any(name in each for each in found.slices.values())]


def _tag_counts(rows: Sequence[Row]) -> Counter[str]:
    return Counter(tag for row in rows for tag in set(row.case.tags))


def _figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _interval(estimate: Estimate) -> str:
    return f"{_figure(estimate.low)} – {_figure(estimate.high)}"


def _short(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.mean:.2f} ({estimate.low:.2f} – {estimate.high:.2f}), n = {estimate.n}"


def _is_share(estimate: Estimate) -> bool:
    """Whether a bar from 0 to 1 can show it."""
    return 0 <= estimate.low <= estimate.mean <= estimate.high <= 1


# A case


def _case(row: Row) -> Case:
    failure = failures.failure(row)
    quotes: dict[int, list[str]] = {}
    for citation in row.citations:
        quotes.setdefault(citation.marker, []).append(citation.quote)
    return Case(
        row=row,
        outcome=outcome(row),
        cause=plots.short(failure.cause) if failure else "",
        rank=failures.first_rank(row),
        tags=json.dumps(row.case.tags),
        sources=(
            *(_source(row, each, quotes.get(each.marker, [])) for each in row.sources),
            *(_source(row, each, [], cut=True) for each in row.cut),
        ),
    )


def _source(row: Row, shown: Shown, quotes: Sequence[str], cut: bool = False) -> Source:
    gold = any(
        ref.document == shown.document and ref.page in (None, shown.page)
        for ref in row.case.relevant
    )
    return Source(shown, tuple(_marked(shown.text, quotes)), bool(quotes), gold, cut)


def _marked(text: str, quotes: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether each is part of a quote. White space may differ."""
    ranges: list[tuple[int, int]] = []
    for quote in quotes:
        words = r"\s+".join(map(re.escape, quote.split()))
        found = re.search(words, text) if words else None
        if found:
            ranges.append(found.span())
    at = 0
    for start, end in sorted(ranges):
        if start > at:
            yield text[at:start], False
        if end > at:
            yield text[max(start, at) : end], True
            at = end
    if at < len(text):
        yield text[at:], False


# Markdown


def _md_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(each) + " |" for each in (head, ["---"] * len(head), *rows)]


def _md(text: str) -> str:
    """A text as Markdown shows it letter for letter, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", " ".join(text.split()))
    return html.escape(escaped, quote=False)
