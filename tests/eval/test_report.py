"""The report of made-up runs: what it says, that it loads nothing, and that nothing in it runs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eval import plots, report, score
from eval.cases import GoldenCase, PageRef
from eval.report import Outcome
from eval.rows import Cited, Hit, Judged, Row, Shown
from eval.run import Record
from rag_bot.types import Message

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECORD = Record(
    format=1,
    version="0.1.0",
    commit="0123456789ab+",
    golden="golden.jsonl",
    golden_sha256="ab" * 32,
    limit=None,
    seed=0,
    answers=True,
    perplexity=False,
    judge="",
    collection="office",
    documents=3,
    corpus="cd" * 32,
    settings={"collection": "office", "retrieval": {"top_k": 4}},
    models={"embedder": "minilm:11", "llm": "smol:22"},
)
TEXT = "The lease ends on 31 March 2031.\nRent & heat cost < 900 euros. Dogs are allowed."


def case(number: int, answerable: bool = True, tags: tuple[str, ...] = ("single",)) -> GoldenCase:
    return GoldenCase(
        id=f"case-{number}",
        question=f"When does lease {number} end?",
        references=("31 March 2031",) if answerable else (),
        relevant=(PageRef("lease.pdf", 3, "ends on 31 March 2031"),) if answerable else (),
        answerable=answerable,
        tags=tags,
    )


def row(number: int, *, page: int = 3, answer: str = "On 31 March 2031 [1].", **said: Any) -> Row:
    """A right answer from one source, unless something else is said."""
    known: dict[str, Any] = {
        "case": case(number),
        "query": f"lease {number} end",
        "ranking": (Hit("c1", "lease.pdf", page, 0.5),),
        "sources": (Shown(1, "c1", "lease.pdf", page, 0.5, TEXT),),
        "answered": True,
        "answer": answer,
        "draft": answer,
        "citations": (
            Cited(1, "lease.pdf", page, "The lease ends on 31 March 2031.", verbatim=True),
        ),
        "verdicts": (Judged("On 31 March 2031.", "supported", 0.9, (1,)),),
        "confidence": 0.8,
        "timings": {"retrieve": 0.02, "generate": 1.5, "total": 1.52},
    }
    return Row(**known | said)


RIGHT = row(1)
WRONG = row(2, answer="In 1999 [1].", confidence=0.4)
RIGHTLY_ABSTAINED = row(
    3,
    case=case(3, answerable=False, tags=("near miss",)),
    answer="I found nothing.",
    abstained=True,
    reason="weak_evidence",
    citations=(),
    verdicts=(),
)
WRONGLY_ABSTAINED = replace(RIGHTLY_ABSTAINED, case=case(4))
FAILED = Row(case(5), error="ModelBroken: it gave no token", timings={"total": 60.0})
ROWS = [RIGHT, WRONG, RIGHTLY_ABSTAINED, WRONGLY_ABSTAINED, FAILED]
NOT_SCORED = row(7, case=replace(case(7), references=()), confidence=0.9)
SEARCHED = row(6, answered=False, answer="", draft="", citations=(), verdicts=())


def page(rows: Sequence[Row], record: Record = RECORD) -> str:
    return report.to_html(record, rows, score.scores(rows))


def markdown(rows: Sequence[Row], record: Record = RECORD) -> str:
    return report.to_markdown(record, rows, score.scores(rows))


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RIGHT, Outcome.RIGHT),
        (WRONG, Outcome.WRONG),
        (RIGHTLY_ABSTAINED, Outcome.RIGHTLY_ABSTAINED),
        (WRONGLY_ABSTAINED, Outcome.WRONGLY_ABSTAINED),
        (NOT_SCORED, Outcome.NOT_SCORED),
        (replace(NOT_SCORED, answer="I found nothing.", abstained=True), Outcome.NOT_SCORED),
        (FAILED, Outcome.FAILED),
        (SEARCHED, Outcome.FOUND),
        (replace(SEARCHED, sources=()), Outcome.MISSED),
        (replace(SEARCHED, case=case(6, answerable=False)), Outcome.NOTHING_TO_FIND),
    ],
)
def test_each_row_has_one_outcome(given: Row, expected: Outcome) -> None:
    assert report.outcome(given) is expected


def test_both_reports_stand_in_the_folder_and_the_same_rows_give_the_same_bytes(
    tmp_path: Path,
) -> None:
    found = score.scores(ROWS)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        report.write(tmp_path / name, RECORD, ROWS, found)
    for name in (report.HTML, report.MARKDOWN):
        first, second = ((tmp_path / run / name).read_bytes() for run in ("a", "b"))
        assert first == second
        assert b"golden.jsonl" in first


def test_a_lone_surrogate_does_not_cost_the_report(tmp_path: Path) -> None:
    rows = [row(1, answer="It ends \ud800 soon.")]
    report.write(tmp_path, RECORD, rows, score.scores(rows))
    assert "It ends ? soon." in (tmp_path / report.HTML).read_text("utf-8")


def test_failed_cases_are_counted_before_any_figure() -> None:
    text = page(ROWS)
    assert text.index("1 of 5 cases failed to run.") < text.index('id="figures"')
    assert text.index("ModelBroken: it gave no token") < text.index('id="figures"')
    assert 'href="#case-5"' in text
    short = markdown(ROWS)
    assert short.index("1 of 5 cases failed to run.") < short.index("## Figures")
    assert "All 1 cases ran." in page([RIGHT])


def test_every_metric_stands_with_its_interval_and_n() -> None:
    found = score.scores(ROWS)
    text, short = page(ROWS), markdown(ROWS)
    for name, each in found.metrics.items():
        interval = f"{each.low:.3f} – {each.high:.3f}"
        assert f'<th scope="row">{name}</th>' in text
        assert re.search(
            rf"^\| {name} \| {each.mean:.3f} \| {interval} \| {each.n} \| \w.+ \|$", short, re.M
        ), name
        assert interval in text


def test_every_known_metric_is_explained() -> None:
    explained = {name for group in report.GROUPS for name in group.metrics}
    assert explained == {*score.PER_CASE, *score.OVERALL}


def test_quotes_are_marked_in_their_source_and_nowhere_else() -> None:
    quote = "Rent & heat cost < 900 euros."
    both = (
        *RIGHT.citations,
        Cited(1, "lease.pdf", 3, quote, verbatim=True),
        Cited(1, "lease.pdf", 3, "heat  cost < 900", verbatim=False),  # inside, other white space
        Cited(1, "lease.pdf", 3, "not there", verbatim=False),
    )
    other = Shown(2, "c2", "lease.pdf", 9, 0.1, TEXT)
    text = page([row(1, citations=both, sources=(*RIGHT.sources, other))])
    cases = text[text.index('id="cases"') :]
    assert re.findall("<mark>(.*?)</mark>", cases) == [
        "The lease ends on 31 March 2031.",
        "Rent &amp; heat cost &lt; 900 euros.",
    ]
    assert cases.count("Dogs are allowed.") == 2


def test_quotes_that_overlap_are_marked_once() -> None:
    pieces = list(report._marked("abcdefgh", ["bcd", "def", "a"]))
    assert pieces == [("a", True), ("bcd", True), ("ef", True), ("gh", False)]
    assert "".join(text for text, _ in pieces) == "abcdefgh"


def test_needed_and_cut_pages_are_shown_as_such() -> None:
    cut = (Shown(2, "c2", "lease.pdf", 8, 0.1, "Cut."),)
    text = page([row(1, cut=cut)])
    cases = text[text.index('id="cases"') :]
    assert cases.count('<article class="source gold">') == 1
    assert cases.count('<article class="source">') == 1
    assert cases.count("had no room") == 1


def test_causes_are_counted_with_their_remedies() -> None:
    rows = [WRONG, WRONGLY_ABSTAINED, row(7, page=9, answer="In 1999 [1]."), RIGHT]
    counted = {plots.short(cause): count for cause, count in plots.causes(rows).items() if count}
    assert counted == {"not retrieved": 1, "wrong abstention": 1, "wrong generation": 1}
    short = markdown(rows)
    assert re.search(r"^\| not retrieved: .+ \| 1 \| try another embedder.+ \|$", short, re.M)
    assert "ranked too low" not in short
    text = page(rows)
    assert "try another embedder, or other chunk sizes with <code>ingest rebuild</code>" in text
    assert "No answer is wrong." in markdown([RIGHT])


def test_a_run_that_only_searched_says_which_plots_are_left_out() -> None:
    rows = [SEARCHED]
    text = page(rows, replace(RECORD, answers=False))
    for title in ("Risk and coverage", "Reliability", "Why answers are wrong"):
        assert f"{title} is left out: this run searched only, and asked for no answers." in text
    assert text.count("<svg") == 2
    assert 'id="causes"' not in text
    assert "Why answers are wrong" not in markdown(rows)


def test_what_can_not_be_scored_is_in_no_plot_of_right_and_wrong() -> None:
    drawn = {each.title: each for each in plots.plots(ROWS)}
    more = {each.title: each for each in plots.plots([*ROWS, NOT_SCORED])}
    for title in ("Risk and coverage", "Reliability", "Why answers are wrong"):
        assert more[title] == drawn[title]
        assert drawn[title].svg
    alone = {each.title: each for each in plots.plots([NOT_SCORED])}
    for title in ("Risk and coverage", "Reliability", "Why answers are wrong"):
        assert (alone[title].svg, alone[title].missing) == ("", "no case has a reference")
    said = markdown([NOT_SCORED])
    assert "| not scored: no reference | 1 |" in said
    assert "No answer is wrong." not in said


def test_a_run_in_which_every_case_failed_still_has_a_report() -> None:
    text = page([FAILED])
    assert "1 of 1 cases failed to run." in text
    assert "<svg" not in text
    assert "1 of 1 cases failed to run." in markdown([FAILED])


def test_plots_have_alternative_texts_with_their_figures_and_the_pages_colours() -> None:
    drawn = plots.plots(ROWS)
    assert all(each.svg for each in drawn)
    for each in drawn:
        attributes = Elements(each.svg).found[0][1]
        assert attributes["role"] == "img"
        assert re.search(r"\d", attributes["aria-label"] or "")
        assert set(re.findall("#0[0-9]{5}", each.svg)) == set()
        assert "var(--quiet)" in each.svg or "var(--ink)" in each.svg
    alt = Elements(drawn[0].svg).found[0][1]["aria-label"] or ""
    assert "1.00 at 1 (1.00 to 1.00)" in alt


def test_latency_is_of_the_cases_that_ran_with_the_total_last() -> None:
    slow = replace(RIGHT, timings={"total": 4.0, "retrieve": 0.04})
    found = plots.latencies([slow, RIGHT, FAILED])
    assert list(found) == ["retrieve", "generate", "total"]
    assert found["retrieve"].p50 == pytest.approx(0.03)
    assert found["total"].p95 == pytest.approx(1.52 + 0.95 * (4 - 1.52))
    assert found["generate"].n == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.0009996, "1 ms"), (0.0123, "12.3 ms"), (0.9996, "1 s"), (1234.5, "1,234 s")],
)
def test_durations_are_said_in_their_unit(seconds: float, said: str) -> None:
    assert plots.duration(seconds) == said


# Hostile text

EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>$x^2$ {{ 7*7 }} ]]> -->"


def evil_row() -> Row:
    return Row(
        case=GoldenCase(
            id=EVIL,
            question=EVIL,
            references=(EVIL,),
            relevant=(PageRef(EVIL, 3, EVIL), PageRef("b", None)),
            history=(Message("user", EVIL),),
            tags=(EVIL,),
        ),
        query=EVIL + "?",
        ranking=(Hit("c", EVIL, 3, 1.0),),
        sources=(Shown(1, "c", EVIL, 3, 1.0, f"before {EVIL} after"),),
        cut=(Shown(2, "d", EVIL, 4, 1.0, EVIL),),
        answered=True,
        answer=EVIL,
        draft=EVIL + "!",
        citations=(Cited(1, EVIL, 3, EVIL, verbatim=False),),
        verdicts=(Judged(EVIL, "supported", 1.0, (1,)),),
        reason=EVIL,
        confidence=0.5,
        model_id=EVIL,
        timings={EVIL: 1.0, "total": 1.0},
    )


def evil_page() -> str:
    record = replace(
        RECORD,
        collection=EVIL,
        golden=EVIL,
        models={EVIL: EVIL},
        judge=EVIL,
        settings={EVIL: {"a": EVIL}},
    )
    return page([evil_row(), replace(FAILED, error=EVIL)], record)


def test_hostile_text_is_shown_and_never_becomes_an_element() -> None:
    elements = Elements(evil_page())
    names = [name for name, _ in elements.found]
    assert names.count("script") == 1
    assert not {"img", "iframe", "object", "embed", "link", "base", "form"} & set(names)
    attributes = [key for _, each in elements.found for key in each]
    assert not [key for key in attributes if key.startswith("on") or key in ("src", "srcset")]
    links = [each["href"] or "" for name, each in elements.found if name == "a"]
    assert links
    assert all(link.startswith("#") for link in links)
    assert sum("alert(2)" in text for text in elements.said) > 10


def test_the_page_may_load_nothing_and_run_its_own_script_alone() -> None:
    text = evil_page()
    policy = next(
        each["content"] or ""
        for name, each in Elements(text).found
        if name == "meta" and each.get("http-equiv") == "Content-Security-Policy"
    )
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_markdown_shows_hostile_text_letter_for_letter() -> None:
    rows = [row(1, case=case(1, tags=("a|b\n# c <img>",)))]
    short = markdown(rows, replace(RECORD, collection="x|y `z` [u](http://v)"))
    assert r"| a\|b \# c &lt;img&gt; | 1 |" in short
    assert r"# Evaluation of x\|y \`z\` \[u\](http://v)" in short
    assert "<img" not in short


# In a browser


def test_cases_are_filtered_and_opened_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    rows = [*ROWS, evil_row()]
    report.write(tmp_path, RECORD, rows, score.scores(rows))
    tab = browser.new_page()
    tab.set_default_timeout(20_000)
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.goto((tmp_path / report.HTML).as_uri())

    def shown() -> list[str | None]:
        tab.wait_for_timeout(250)  # what is typed is looked for after a moment
        return [each.get_attribute("id") for each in tab.locator(".case:visible").all()]

    assert len(shown()) == 6
    tab.locator("#outcome").select_option("abstained, wrongly")
    assert shown() == ["case-4"]
    tab.locator("#all").click()
    tab.locator("#cause").select_option("wrong generation")
    assert shown()[0] == "case-2"
    tab.locator("#all").click()
    tab.locator("#tag").select_option("near miss")
    assert shown() == ["case-3"]
    tab.locator("#tag").select_option(EVIL)
    assert shown() == ["case-6"]
    tab.locator("#all").click()
    tab.locator("#words").fill("LEASE 1999")
    assert shown() == ["case-2"]
    assert tab.locator("#shown").inner_text() == "1 of 6 cases"
    tab.locator("#case-2 summary").click()
    assert tab.locator("#case-2 mark").inner_text() == "The lease ends on 31 March 2031."
    tab.get_by_role("button", name="Show the cases: wrong abstention").click()
    assert shown() == ["case-4"]
    tab.get_by_role("link", name="first").click()
    assert tab.locator("#case-5").get_attribute("open") is not None
    assert len(shown()) == 6
    assert asked == [tab.url.split("#")[0]]
    assert complaints == []
    tab.close()
