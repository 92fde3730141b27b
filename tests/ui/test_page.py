"""The chat page: its texts, and the page itself in a real browser."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_bot.catalogue import Entry
from rag_bot.types import Answer, Chunk, Citation, Event, Source, Verdict
from tests.ui.conftest import PATIENCE_MS, Served
from ui.page import Talk, _choices, answer_bubble, converse, plain, sources_panel
from ui.upload import keep, safe_name

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SICK = "From which day of sickness is a doctor's certificate needed?"
QUOTE = "A doctor's certificate is needed from the fourth calendar day."

# Texts


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "![x](http://evil.example/x.png)",
        "[click](javascript:alert(1)) <a href='//evil.example'>x</a>",
        "# no heading\n- no list\n1. no list\n2) nor this",
        "www.evil.example http://evil.example a@evil.example",
        "| a | b |\n|---|---|\n~~x~~ `y` **z** __w__ $q$ &lt; \\* setext\n===",
    ],
)
def test_plain_text_has_no_meaning_left(text: str) -> None:
    shown = plain(text)
    assert not re.search(r"[<>\[\]*_`#!|~$\\@/=]", re.sub(r"<br>|&#\d+;", "", shown))
    assert not re.search(r"^(\d+[.)]|-)", shown.replace("<br>", "\n"), re.MULTILINE)
    assert "www." not in shown
    assert html.unescape(shown.replace("<br>", "\n")) == text


def test_plain_prose_stays_readable() -> None:
    text = "A doctor's note, a step-by-step plan: “fine” (from Müller). 70 % of it?"
    assert plain(text) == text


def made(text: str, *verdicts: Verdict, **more: Any) -> Answer:
    cited = tuple(citation for verdict in verdicts for citation in verdict.citations)
    chunk = Chunk("c", "d", "Keys & <b>locks</b>. More.", 2, 2, 100, 126)
    source = Source(1, chunk, "a<b>.txt", "/x/a<b>.txt", 1.0)
    values = {"abstained": False, "reason": "", "model_id": "m"} | more
    return Answer("q", "q", text, (source,), cited, verdicts, **values)


LOCKS = Citation(1, "c", "d", "a<b>.txt", 2, "Keys & <b>locks</b>.", 100, 120)


def test_markers_lead_to_their_quotes_and_doubts_are_flagged() -> None:
    shown = answer_bubble(
        made(
            "Keys lock. [1] Pigs fly.",
            Verdict("Keys lock.", (LOCKS,), "supported", 0.9),
            Verdict("Pigs fly.", (), "unsupported", 0.1),
            unresolved=(7, 7),
        )
    )
    assert shown.startswith("Keys lock. <a class='marker' href='/source/d?start=100&amp;end=120")
    assert "page=2#quote' target='_blank' rel='noopener'" in shown
    assert "title='a&lt;b&gt;.txt, page 2'>[1]</a> " in shown
    assert "<span class='unsupported' title='Not found in the documents'>Pigs fly.</span>" in shown
    assert html.unescape(shown).endswith("The model named sources that don't exist: [7]</span>")


def test_an_abstention_shows_no_links() -> None:
    shown = answer_bubble(made("The documents do not answer this.", abstained=True))
    assert "<a " not in shown
    assert "closest passages" in shown


def test_the_sources_panel_marks_the_quote_in_its_passage() -> None:
    panel = sources_panel(made("x", Verdict("x", (LOCKS,), "supported", 0.9)))
    assert "<mark>Keys &amp; &lt;b&gt;locks&lt;/b&gt;.</mark> More." in panel
    assert "a&lt;b&gt;.txt, page 2" in panel
    assert "<b>locks" not in panel
    assert "Closest passages" in sources_panel(made("x", abstained=True))


def test_what_was_searched_for_is_told_where_it_is_not_what_was_asked() -> None:
    asked = replace(made("x"), question="q in:a.txt\n")
    assert "Searched" not in sources_panel(asked)
    assert "Searched for: a &lt;b&gt;" in sources_panel(replace(asked, query="a <b>"))
    assert "Searched for: b" in sources_panel(replace(asked, query="b", sources=()))


def test_a_quote_deep_in_its_passage_is_seen_without_scrolling() -> None:
    text = "word " * 200 + "The quote."
    chunk = Chunk("c", "d", text, 1, 1, 0, len(text))
    cited = Citation(1, "c", "d", "a.txt", 1, "The quote.", 1000, 1010)
    answer = made("x", Verdict("x", (cited,), "supported", 0.9))
    panel = sources_panel(replace(answer, sources=(Source(1, chunk, "a.txt", "/a.txt", 1.0),)))
    assert "<mark>The quote.</mark>" in panel
    assert "<blockquote>… word" in panel
    assert panel.count("word") < 40


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        (".hidden", "hidden"),
        ("..", "document"),
        ("a\n<b>|c.txt", "a__b__c.txt"),
        ("x" * 300 + ".pdf", "x" * 120 + ".pdf"),
    ],
)
def test_names_of_uploads(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_uploads_keep_their_names_apart(tmp_path: Path) -> None:
    def upload(text: str) -> str:
        file = tmp_path / "note.txt"
        file.write_text(text)
        place = keep(file, tmp_path / "kept")
        assert place.read_text() == text
        assert not file.exists()
        return place.name

    names = [upload(text) for text in ("one", "two", "one", "two")]
    assert names == ["note.txt", "note-2.txt", "note.txt", "note-2.txt"]


# The page


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The chat page, loaded. Whatever it asks of another host, or complains about, is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    page = context.new_page()
    page.goto(served.url)
    page.wait_for_selector("#documents table")
    yield page
    context.close()
    local = (served.url + "/", f"blob:{served.url}", "data:")
    assert [url for url in asked if not url.startswith(local)] == []
    assert complaints == []


def ask(page: Page, question: str) -> None:
    page.fill("#question textarea", question)
    page.get_by_role("button", name="Send", exact=True).click()


def test_a_question_an_answer_its_proof_and_feedback(page: Page, served: Served) -> None:
    page.get_by_role("button", name=SICK).click()
    page.wait_for_selector("#chat .bot .marker")
    assert page.input_value("#question textarea") == ""
    assert "fourth calendar day" in page.inner_text("#chat")
    assert page.inner_text("#sources mark") == QUOTE
    assert not page.get_by_role("button", name=SICK).is_visible()

    with page.context.expect_page() as opened:
        page.click("#chat .bot .marker")
    proof = opened.value
    proof.wait_for_load_state()
    assert proof.title() == "employee_handbook.pdf, page 5"
    assert proof.inner_text("#quote") == QUOTE
    assert proof.evaluate("document.images[0].naturalWidth") > 500
    top = proof.evaluate("document.getElementById('quote').getBoundingClientRect().top")
    assert 0 < top < 900
    proof.close()

    page.get_by_label("Thumb up").click()
    page.get_by_label("Reason (optional)").fill("right to the day")
    page.get_by_role("button", name="Save feedback").click()
    page.wait_for_selector("text=Saved. Thank you.")
    saved = served.local.index.ledger.feedback()[-1]
    assert (saved["thumb"], saved["reason"], saved["question"]) == (1, "right to the day", SICK)
    assert saved["answer"]["citations"][0]["quote"] == QUOTE

    # Another question, on a telephone, that the documents do not answer.
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ask(page, "Which river flows through the capital city of Mongolia?")
    page.wait_for_selector("#sources >> text=Closest passages")
    assert "The documents do not answer this." in page.inner_text("#chat")
    page.get_by_role("button", name="Clear").click()
    page.wait_for_selector("#chat .bot", state="detached")
    # Gradio shows "processing" over it for a moment.
    page.wait_for_function(
        "document.querySelector('#sources').innerText.trim().startsWith('Ask something')"
    )


def test_what_is_uploaded_can_be_asked_about(page: Page, served: Served, tmp_path: Path) -> None:
    note = tmp_path / "boathouse.txt"
    note.write_text("The gate code of the boathouse is 4711. It changes every spring.\n")
    picture = tmp_path / "empty.txt"
    picture.write_text("")
    page.set_input_files("#files input[type=file]", [note, picture])
    page.wait_for_selector("#added >> text=1 document added.")
    assert "empty.txt" in page.inner_text("#added .problem")
    page.wait_for_selector("#documents >> text=boathouse.txt")
    kept = served.local.settings.data_dir / "uploads" / "default"
    assert [file.name for file in kept.iterdir()] == ["boathouse.txt"]
    left = (served.local.settings.data_dir / "incoming").rglob("boathouse*")
    assert not [file for file in left if file.is_file()]

    ask(page, "What is the gate code of the boathouse?")
    page.wait_for_selector("#chat .bot .marker")
    assert "4711" in page.inner_text("#chat .bot")
    assert "boathouse.txt, page 1" in page.inner_text("#sources details >> nth=0")


def test_stop_stops_the_model(page: Page, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    real = served.local.ask
    clicked = threading.Event()
    closed = threading.Event()
    finished = threading.Event()

    def watched(*arguments: Any) -> Iterator[Event]:
        try:
            for event in real(*arguments):
                yield event
                clicked.wait(30)  # a short answer would be there before the click
            finished.set()
        finally:
            closed.set()

    monkeypatch.setattr(served.local, "ask", watched)
    ask(page, "What does error code E07 mean and what should I do?")
    page.wait_for_selector("#chat .bot >> text=Reading")
    page.get_by_role("button", name="Stop").click()
    clicked.set()
    page.wait_for_selector("#chat .bot .tag >> text=stopped")
    assert closed.wait(10)
    assert not finished.is_set()
    page.wait_for_selector("button:has-text('Send'):enabled")


def test_a_question_is_kept_to_the_chosen_documents(served: Served) -> None:
    handbook = next(e.source for e in served.local.documents() if "handbook" in e.source)
    for chosen in ([handbook], ["*handbook.pdf"]):
        *_, (talk, panel) = converse(served.local, SICK, Talk(), "default", chosen)
        assert talk.last is not None
        assert {source.source for source in talk.last.sources} == {handbook}
        assert panel is not None
    *_, (talk, _) = converse(served.local, SICK, Talk(), "default", ["nowhere/"])
    assert "in&#58;nowhere&#47;" in talk.bubbles[-1][1]
    *_, (talk, _) = converse(served.local, SICK, Talk(), "default", ["["])
    assert talk.last is None
    assert "is not a pattern" in talk.bubbles[-1][1]


def test_two_documents_of_a_name_are_told_apart() -> None:
    paths = ["/a/lease.pdf", "/b/lease.pdf", "/b/pump.txt"]
    entries = [Entry("i", path, "", 1, 1, "", "", 0, 1, 1) for path in paths]
    assert _choices(entries) == [
        ("lease.pdf in /a", "/a/lease.pdf"),
        ("lease.pdf in /b", "/b/lease.pdf"),
        ("pump.txt", "/b/pump.txt"),
    ]


def test_the_field_beside_the_chat_narrows_the_search(page: Page) -> None:
    field = page.locator("#only input")
    field.click()
    page.get_by_role("option", name="it_security_policy.md").click()
    page.keyboard.press("Escape")
    ask(page, "How long must a password be?")
    page.wait_for_selector("#sources details")
    page.wait_for_selector("button:has-text('Send'):enabled")
    shown = page.locator("#sources summary").all_inner_texts()
    assert shown
    assert all("it_security_policy.md" in each for each in shown)


def test_documents_can_put_nothing_into_the_page(page: Page) -> None:
    ask(page, "How many litres does the blue kettle hold?")
    page.wait_for_selector("#sources blockquote")
    page.wait_for_selector("button:has-text('Send'):enabled")
    assert page.title() == "rag-bot"
    assert "<script>" in page.inner_text("#sources")
    assert page.locator("#sources img, #sources script, #chat .bot img").count() == 0
    assert "kettle <b>&'.txt" in page.inner_text("#documents")


def test_an_error_is_one_plain_line(
    page: Page, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_bot.errors import ModelMissing

    def missing_model(*_: object) -> Iterator[Event]:
        raise ModelMissing("no <model> here", "run `rag-bot models pull`")
        yield

    monkeypatch.setattr(served.local, "ask", missing_model)
    ask(page, "Anything?")
    problem = page.wait_for_selector("#chat .problem")
    assert problem is not None
    assert problem.inner_text() == "no <model> here (run `rag-bot models pull`)"


def test_whatever_goes_wrong_the_page_is_not_left_busy(
    page: Page, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[Event]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(served.local, "ask", broken)
    ask(page, "Anything?")
    page.wait_for_selector("#chat .problem >> text=Something went wrong")
    page.wait_for_selector("button:has-text('Send'):enabled")


def test_a_second_question_waits_until_the_first_is_answered(
    page: Page, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = served.local.ask
    go_on = threading.Event()
    asked: list[str] = []

    def watched(question: str, *arguments: Any) -> Iterator[Event]:
        asked.append(question)
        for event in real(question, *arguments):
            yield event
            go_on.wait(30)

    monkeypatch.setattr(served.local, "ask", watched)
    page.press("#question textarea", "Enter")  # nothing is asked
    page.get_by_role("button", name=SICK).click()
    page.wait_for_selector("#chat .bot >> text=Reading")
    page.fill("#question textarea", "What is charged for a missing key?")
    page.press("#question textarea", "Enter")
    page.wait_for_timeout(1000)
    go_on.set()
    page.wait_for_selector("#chat .bot .marker")
    page.wait_for_selector("button:has-text('Send'):enabled")
    assert asked == [SICK]
    assert page.input_value("#question textarea") == "What is charged for a missing key?"
    page.press("#question textarea", "Enter")
    page.wait_for_selector("#chat .user >> nth=1")
    page.wait_for_selector("button:has-text('Send'):enabled")
    assert asked == [SICK, "What is charged for a missing key?"]
