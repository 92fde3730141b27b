"""The judging page: what it shows, what it hides, what it writes down."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from eval import preferences, rows
from eval.cases import GoldenCase, PageRef
from eval.preferences import Judgement, left, pairs
from eval.rows import Cited, Row
from eval.run import Record
from rag_bot.errors import PortInUse, UsageError
from rag_bot.types import Message
from tests.ui.conftest import PATIENCE_MS
from ui.judge import build, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<script>document.title='owned'</script><img src=http://evil.example/a.png> 'x' \"y\""


def answers(word: str, count: int = 4) -> list[Row]:
    """A run's rows: each answer says which case and which run it is of."""
    return [
        Row(
            GoldenCase(
                f"case-{i}",
                f"Question {i}?",
                (f"Reference {i}",),
                (PageRef("lease.pdf", 3, "until March"),),
                history=(Message("user", f"Earlier {i}?"), Message("assistant", "Yes & no.")),
            ),
            answered=True,
            answer=f"{word} answer {i}. [1]",
            citations=(Cited(1, "lease.pdf", 4, f"{word} quote <{i}>", True),),
            model_id=f"model of {word}",
        )
        for i in range(count)
    ]


def client(
    out: Path,
    a: Sequence[Row] | None = None,
    b: Sequence[Row] | None = None,
    *,
    rater: str = "ann",
    seed: int = 0,
) -> TestClient:
    found = pairs(a or answers("red"), b or answers("blue"), seed=7)
    done = preferences.read(out) if out.exists() else []
    return TestClient(build(found, done, out, rater, seed=seed), base_url="http://127.0.0.1")


@dataclass
class Page:
    """What a page says, read from its HTML."""

    html: str

    @property
    def fields(self) -> dict[str, str]:
        return dict(re.findall(r"<input type=hidden name=(\w+) value='([^']*)'>", self.html))

    @property
    def progress(self) -> str:
        found = re.search(r"<span id=progress>(.*?)</span>", self.html)
        return found[1] if found else ""

    def answer(self, number: int) -> str:
        found = re.search(rf"<h2>Answer {number}</h2><p class=text>(\w+) answer", self.html)
        assert found is not None
        return found[1]


def shown(http: TestClient, address: str = "/") -> Page:
    return Page(http.get(address).text)


def press(http: TestClient, page: Page, key: str) -> Page:
    return Page(http.post("/judge", data=page.fields | {"choice": key}).text)


def test_a_case_is_shown_with_its_conversation_and_both_answers(tmp_path: Path) -> None:
    page = shown(client(tmp_path / "f"))
    number = page.fields["case"].removeprefix("case-")
    for text in (
        f"Earlier {number}?",
        "Yes &amp; no.",
        f"Question {number}?",
        f"Reference {number}",
    ):
        assert text in page.html
    assert {page.answer(1), page.answer(2)} == {"red", "blue"}
    assert "[1] lease.pdf, page 4</p><blockquote>red quote &lt;" in page.html
    assert page.progress == "1 of 4"
    # the reference is there, but closed
    assert re.search(r"<details id=reference><summary>.*Reference \d.*</details>", page.html)


def test_the_page_does_not_say_which_run_is_left(tmp_path: Path) -> None:
    """The runs exchanged, and the side drawn the other way: the same page to the letter."""
    case = shown(client(tmp_path / "f")).fields["case"]
    seeds = {left(case, "ann", seed): seed for seed in range(20)}
    one = shown(client(tmp_path / "f", answers("red"), answers("blue"), seed=seeds["a"]))
    other = shown(client(tmp_path / "f", answers("blue"), answers("red"), seed=seeds["b"]))
    session = re.compile(r"name=session value='\w+'")
    assert session.sub("", one.html) == session.sub("", other.html)
    assert (one.answer(1), one.answer(2)) == ("red", "blue")
    assert "model of" not in one.html


@pytest.mark.parametrize("seed", range(4))
def test_what_is_pressed_is_written_in_terms_of_runs(tmp_path: Path, seed: int) -> None:
    out = tmp_path / "judged.jsonl"
    http = client(out, seed=seed)
    page = shown(http)
    seen: list[tuple[str, str, str]] = []
    begun = time.time()
    for key in "12gb":
        seen.append((page.fields["case"], key, page.answer(1)))
        page = press(http, page, key)
    assert "All judged" in page.html
    runs = {"red": "a", "blue": "b"}
    other = {"red": "b", "blue": "a"}
    for (case, key, first), said in zip(seen, preferences.read(out), strict=True):
        wanted = {"1": runs[first], "2": other[first], "g": "both_good", "b": "both_bad"}[key]
        assert (said.case, said.rater, said.preference) == (case, "ann", wanted)
        assert said.left == runs[first]
        assert begun <= said.time <= time.time()
        pair = next(each for each in pairs(answers("red"), answers("blue")) if each.case.id == case)
        assert (said.a_sha256, said.b_sha256) == pair.hashes


def test_each_rater_goes_on_where_they_stopped(tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    http = client(out)
    page = press(http, press(http, shown(http), "1"), "g")
    assert page.progress == "3 of 4"
    again = client(out)
    assert shown(again).fields["case"] == page.fields["case"]
    assert shown(again).progress == "3 of 4"
    bob = shown(again, "/?rater=bob")
    assert (bob.progress, bob.fields["rater"]) == ("1 of 4", "bob")
    assert press(again, bob, "2").progress == "2 of 4"
    assert shown(again, "/?rater=ann").progress == "3 of 4"
    assert [each.rater for each in preferences.read(out)] == ["ann", "ann", "bob"]


def test_a_name_is_asked_for_first(tmp_path: Path) -> None:
    http = client(tmp_path / "f", rater="")
    for address in ("/", "/?rater=", "/?rater=%20%0a"):
        page = shown(http, address)
        assert "Answer 1" not in page.html
        assert "Begin" in page.html
    assert shown(http, "/?rater=+Zo%C3%AB%20+B.+").fields["rater"] == "Zoë B."


def test_what_was_skipped_comes_again_when_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    http = client(out)
    first = shown(http)
    page = press(http, first, "s")
    for key in "121":
        assert page.fields["case"] != first.fields["case"]
        page = press(http, page, key)
    assert page.progress == "3 of 4 judged"
    assert "what you skipped: 1." in page.html
    page = Page(http.post("/again", data=page.fields).text)
    assert page.fields["case"] == first.fields["case"]
    assert "Thank you" in press(http, page, "b").html
    assert len(preferences.read(out)) == 4


def test_the_last_judgement_can_be_mended(tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    http = client(out)
    first = shown(http)
    assert "Back to" not in first.html
    page = press(http, first, "g")
    link = re.search(r"<a href='([^']*)'>Back to the last one", page.html)
    assert link is not None
    before = shown(http, link[1].replace("&amp;", "&"))
    assert before.fields["case"] == first.fields["case"]
    assert (before.answer(1), before.progress) == (first.answer(1), "1 of 4")
    assert press(http, before, "b").fields["case"] == page.fields["case"]
    found = preferences.report(preferences.read(out))
    assert found.counts == {"a": 0, "b": 0, "both_good": 0, "both_bad": 1}


def test_a_form_that_is_not_of_this_server_records_nothing(tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    old = shown(client(out, seed=1))
    http = client(out, seed=2)
    assert press(http, old, "1").progress == "1 of 4"
    page = shown(http)
    for wrong in ({"case": "case-99"}, {"choice": "a"}):
        data = page.fields | {"choice": "1"} | wrong
        assert http.post("/judge", data=data).status_code == 400
    data = page.fields | {"choice": "1"}
    foreign = http.post("/judge", data=data, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert not out.exists()


def test_a_judgement_that_cannot_be_written_is_not_taken_for_done(tmp_path: Path) -> None:
    out = tmp_path / "folder" / "judged.jsonl"
    http = client(out)
    page = shown(http)
    answer = http.post("/judge", data=page.fields | {"choice": "1"})
    assert answer.status_code == 500
    assert "Not saved: No such file or directory." in answer.text
    assert shown(http).progress == "1 of 4"
    out.parent.mkdir()
    assert press(http, page, "1").progress == "2 of 4"


def test_documents_and_models_can_put_nothing_into_the_page(tmp_path: Path) -> None:
    case = GoldenCase(
        HOSTILE, HOSTILE, (HOSTILE,), (PageRef(HOSTILE, None, HOSTILE),),
        history=(Message("user", HOSTILE),),
    )  # fmt: skip
    cited = (Cited(1, HOSTILE, 1, HOSTILE, True),)
    a, b = (Row(case, answered=True, answer=HOSTILE + end, citations=cited) for end in "ab")
    http = client(tmp_path / "f", [a], [b], rater=HOSTILE)
    answer = http.get("/")
    assert "&lt;script&gt;" in answer.text
    assert answer.text.count("<script>") == 1
    assert "<img" not in answer.text
    assert "value='<" not in answer.text
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]


# The process


def kept(folder: Path, made: Sequence[Row]) -> Path:
    """A run's folder with these rows."""
    folder.mkdir()
    record = Record(1, "0.1.0", "", "g", "", None, 0, True, False, "", "c", 1, "", {}, {})
    (folder / "run.json").write_text(json.dumps(asdict(record)))
    rows.write(folder / "rows.jsonl", made)
    return folder


def refuse(address: str) -> None:
    raise AssertionError(f"it serves at {address}")


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    red, blue = kept(tmp_path / "a", answers("red")), kept(tmp_path / "b", answers("blue"))
    out = tmp_path / "judged.jsonl"
    asked: dict[str, Any] = {"port": 0, "cases": None, "seed": 0, "announce": refuse}
    with pytest.raises(UsageError, match="holds no run"):
        serve(red, tmp_path / "none", out, "ann", **asked)
    with pytest.raises(UsageError, match="no case that both answered, and differently"):
        serve(red, red, out, "ann", **asked)
    with pytest.raises(UsageError, match="can't write"):
        serve(red, blue, tmp_path / "a" / "run.json" / "x", "ann", **asked)
    preferences.append(out, Judgement("case-1", "ann", "a", "a", "x", "y", 1.0))
    with pytest.raises(UsageError, match="judgements of other answers"):
        serve(red, blue, out, "ann", **asked)
    out.write_text("{}\n")
    with pytest.raises(UsageError, match="line 1"):
        serve(red, blue, out, "ann", **asked)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    red, blue = kept(tmp_path / "a", answers("red")), kept(tmp_path / "b", answers("blue"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            serve(red, blue, tmp_path / "f", "", port=port, cases=None, seed=0, announce=refuse)


def test_serve_until_sigterm(tmp_path: Path) -> None:
    red, blue = kept(tmp_path / "a", answers("red")), kept(tmp_path / "b", answers("blue"))
    out = tmp_path / "new" / "judged.jsonl"
    program = (
        "from pathlib import Path; from ui.judge import serve; import sys;"
        "a, b, out = map(Path, sys.argv[1:]);"
        "serve(a, b, out, 'ann', port=0, cases=3, seed=5,"
        " announce=lambda url: print(url, flush=True))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", program, red, blue, out],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=url, trust_env=False, follow_redirects=True) as http:
            page = Page(http.get("/").text)
            assert page.progress == "1 of 3"
            page = Page(http.post("/judge", data=page.fields | {"choice": "g"}).text)
            assert page.progress == "2 of 3"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert [each.preference for each in preferences.read(out)] == ["both_good"]
    finally:
        process.kill()
        process.wait()


# In a browser


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of three cases that knows no rater yet: its address, and its file."""
    out = tmp_path / "judged.jsonl"
    app = build(pairs(answers("red", 3), answers("blue", 3)), [], out, "", seed=0)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", out
    server.should_exit = True
    thread.join(10)
    listener.close()


def test_two_cases_judged_with_the_keyboard_and_the_mouse(
    browser: Browser,
    running: tuple[str, Path],
) -> None:
    url, out = running
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: complaints.append(message.text))
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Your name").fill("bob 12gbs")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("#progress >> text=1 of 3")
    first = [page.inner_text(f".answer:nth-child({i}) .text").split()[0] for i in (1, 2)]
    assert sorted(first) == ["blue", "red"]
    assert not page.get_by_text("Reference ", exact=False).nth(1).is_visible()
    page.get_by_text("Reference answer").click()
    assert page.get_by_text("Reference ", exact=False).nth(1).is_visible()
    # in the name's field a key is a letter
    page.get_by_label("Your name").press("2")
    assert page.inner_text("#progress") == "1 of 3"
    page.click("h1")
    page.keyboard.press("2")
    page.wait_for_selector("#progress >> text=2 of 3")
    second = page.inner_text(".answer:nth-child(1) .text").split()[0]
    page.get_by_role("button", name="1 is better").click()
    page.wait_for_selector("#progress >> text=3 of 3")

    # on a telephone, with the skip key
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("s")
    page.wait_for_selector("text=what you skipped: 1.")

    runs = {"red": "a", "blue": "b"}
    found = preferences.read(out)
    assert [(each.rater, each.preference, each.left) for each in found] == [
        ("bob 12gbs", runs[first[1]], runs[first[0]]),
        ("bob 12gbs", runs[second], runs[second]),
    ]
    context.close()
    assert complaints == []
