"""The judging page: two anonymous answers side by side, and which one a person prefers.

Every page is made on the server and holds nothing that tells the runs apart: it is given two rows
by their place, never by their run. Documents and models are not trusted. Every text of theirs
passes through `html.escape`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from eval import preferences
from eval import run as runs
from eval.cases import GoldenCase
from eval.preferences import Judgement, Pair, Preference
from eval.rows import Row
from rag_bot.config import Server
from rag_bot.errors import UsageError
from ui.server import Door, browse_url, ending_quietly, listen

KEYS = {"1": "1 is better", "2": "2 is better", "g": "Both good", "b": "Both bad", "s": "Skip"}
"""What a rater may say of a case: the key, which the form sends, and the words on its button."""

_LONGEST_NAME = 60


def serve(
    a: Path,
    b: Path,
    out: Path,
    rater: str,
    *,
    host: str = "127.0.0.1",
    port: int,
    cases: int | None,
    seed: int,
    announce: Callable[[str], None],
) -> None:
    """Let people judge two runs until SIGINT or SIGTERM. `announce` gets the address.

    Each judgement is added to the file `out`, and those in it are not asked for again. `rater` is
    the name that the page opens with; it may be empty. Raises UsageError for what is no run, where
    there is nothing to judge, and for a file of judgements of other answers; PortInUse.
    """
    (_, rows_a), (_, rows_b) = runs.read(a), runs.read(b)
    everything = preferences.pairs(rows_a, rows_b, seed=seed)
    if not everything:
        raise UsageError(
            f"{a} and {b} have no case that both answered, and differently",
            "give two runs with answers to the same golden set",
        )
    done = preferences.read(out) if out.exists() else []
    preferences.check_same(out, everything, done)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise UsageError(
            f"can't write {out}: {error.strerror}", "name another file with --out"
        ) from None
    app = build(everything[:cases], done, out, rater, seed=seed, host=host)
    with contextlib.closing(listen(Server(host=host, port=port))) as listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        announce(browse_url(host, listener.getsockname()[1]))
        with ending_quietly():
            uvicorn.Server(config).run(sockets=[listener])


def build(
    pairs: Sequence[Pair],
    done: Sequence[Judgement],
    out: Path,
    rater: str,
    *,
    seed: int,
    host: str = "127.0.0.1",
) -> FastAPI:
    """The application. `done` is what `out` holds already."""
    judged = list(done)
    skipped: dict[str, set[str]] = {}
    by_id = {pair.case.id: pair for pair in pairs}
    numbers = {case_id: number for number, case_id in enumerate(by_id, start=1)}
    # A form of a server that ran here before may have shown the answers the other way round. And
    # another site's form knows it not.
    ours = secrets.token_hex(16)
    app = FastAPI(title="rag-bot", openapi_url=None, docs_url=None, redoc_url=None)

    # All of it runs in the one thread of the event loop: no two judgements are written at once.

    @app.get("/")
    async def show(request: Request) -> Response:
        asked = request.query_params
        name = _name(asked.get("rater", rater))
        if not name:
            return _page("", _header("", "your name comes first"))
        left_out = skipped.setdefault(name, set())
        ahead = preferences.to_judge(pairs, judged, name)
        now = by_id.get(asked.get("case", ""))
        if now is None:
            now = next((pair for pair in ahead if pair.case.id not in left_out), None)
        before = [each.case for each in judged if each.rater == name and each.case in by_id]
        back = _address(name, before[-1]) if before and "case" not in asked else ""
        form = {"session": ours, "rater": name}
        if now is None:
            header = _header(name, f"{len(pairs) - len(ahead)} of {len(pairs)} judged", back)
            return _page(_finished(len(ahead), form), header)
        first, second = now.a, now.b
        if preferences.left(now.case.id, name, seed) == "b":
            first, second = second, first
        header = _header(name, f"{numbers[now.case.id]} of {len(pairs)}", back)
        form["case"] = now.case.id
        return _page(sheet(now.case, first, second) + _choices(form), header)

    @app.post("/judge")
    async def judge(request: Request) -> Response:
        said = await _form(request)
        name, pair = _name(said.get("rater", "")), by_id.get(said.get("case", ""))
        if said.get("session") != ours or not name:
            return RedirectResponse(_address(name), 303)
        if pair is None or said.get("choice") not in KEYS:
            return _page("<p>This is no case of these runs, or no choice.</p>", status=400)
        if said["choice"] == "s":
            skipped.setdefault(name, set()).add(pair.case.id)
            return RedirectResponse(_address(name), 303)
        shown_left = preferences.left(pair.case.id, name, seed)
        preference = _preference(said["choice"], shown_left)
        made = pair.judged(name, preference, shown_left, time.time())
        try:
            preferences.append(out, made)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            return _page(f"<p>Not saved: {html.escape(why)}.</p>", _header(name, ""), status=500)
        judged.append(made)
        return RedirectResponse(_address(name), 303)

    @app.post("/again")
    async def again(request: Request) -> Response:
        said = await _form(request)
        if said.get("session") == ours:
            skipped.pop(_name(said.get("rater", "")), None)
        return RedirectResponse(_address(_name(said.get("rater", ""))), 303)

    app.add_middleware(Door, host=host)
    return app


# Texts


def sheet(case: GoldenCase, first: Row, second: Row) -> str:
    """A case and two answers to it. Which run each is of is not known here."""
    turns = "".join(
        f"<p class=quiet>{'Asked' if each.role == 'user' else 'Answered'} before</p>"
        f"<p class=text>{html.escape(each.text)}</p>"
        for each in case.history
    )
    return (
        f"<section id=question>{turns}<h2>Question</h2>"
        f"<p class=text>{html.escape(case.question)}</p>{_reference(case)}</section>"
        f"<div id=answers>{_answer('Answer 1', first)}{_answer('Answer 2', second)}</div>"
    )


def _reference(case: GoldenCase) -> str:
    if case.answerable:
        said = [f"<p class=text>{html.escape(each)}</p>" for each in case.references]
    else:
        said = ["<p>The documents do not answer this question.</p>"]
    said += [
        _quote(f"{each.document}, page {each.page}" if each.page else each.document, each.quote)
        for each in case.relevant
    ]
    return f"<details id=reference><summary>Reference answer</summary>{''.join(said)}</details>"


def _answer(title: str, row: Row) -> str:
    text = html.escape(row.answer) or "<span class=quiet>nothing</span>"
    quotes = "".join(
        _quote(f"[{each.marker}] {each.document}, page {each.page}", each.quote)
        for each in row.citations
    )
    return (
        f"<section class=answer><h2>{title}</h2><p class=text>{text}</p>"
        f"<h3>Quotes</h3>{quotes or '<p class=quiet>none</p>'}</section>"
    )


def _quote(place: str, text: str) -> str:
    words = f"<blockquote>{html.escape(text)}</blockquote>" if text else ""
    return f"<p class=place>{html.escape(place)}</p>{words}"


def _header(name: str, progress: str, back: str = "") -> str:
    link = f"<a href='{html.escape(back)}'>Back to the last one</a>" if back else ""
    return (
        f"<header><h1>Which answer is better?</h1><span id=progress>{html.escape(progress)}</span>"
        f"{link}<form action='/' method=get><label>Your name "
        f"<input name=rater value='{html.escape(name)}' maxlength={_LONGEST_NAME} required"
        f"{'' if name else ' autofocus'}></label>"
        f"<button>{'Change' if name else 'Begin'}</button></form></header>"
    )


def _choices(form: Mapping[str, str]) -> str:
    buttons = "".join(
        f"<button name=choice value={key}>{words} <kbd>{key}</kbd></button>"
        for key, words in KEYS.items()
    )
    return f"<form id=choices action='/judge' method=post>{_hidden(form)}{buttons}</form>"


def _finished(skipped: int, form: Mapping[str, str]) -> str:
    if not skipped:
        return "<section><p>All judged. Thank you.</p></section>"
    return (
        f"<section><p>All judged but what you skipped: {skipped}.</p>"
        f"<form action='/again' method=post>{_hidden(form)}<button>Show them again</button></form>"
        "</section>"
    )


def _hidden(form: Mapping[str, str]) -> str:
    return "".join(
        f"<input type=hidden name={key} value='{html.escape(value)}'>"
        for key, value in form.items()
    )


def _page(body: str, header: str = "", status: int = 200) -> Response:
    content = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>rag-bot</title><style>{_STYLE}</style></head>"
        f"<body>{header}<main>{body}</main><script>{_SCRIPT}</script></body></html>"
    )
    return HTMLResponse(content.encode("utf-8", "replace"), status, _HEADERS)


# What is sent


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))


def _name(said: str) -> str:
    return " ".join(said.split())[:_LONGEST_NAME].strip()


def _address(name: str, case_id: str = "") -> str:
    return "/?" + urlencode({"rater": name} | ({"case": case_id} if case_id else {}))


def _preference(choice: str, shown_left: preferences.Run) -> Preference:
    right: Preference = "a" if shown_left == "b" else "b"
    said: dict[str, Preference] = {
        "1": shown_left,
        "2": right,
        "g": "both_good",
        "b": "both_bad",
    }
    return said[choice]


_SCRIPT = """
const form = document.getElementById("choices");
let sent = false;
addEventListener("pageshow", () => { sent = false; });
form?.addEventListener("submit", event => { if (sent) event.preventDefault(); sent = true; });
addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input")) return;
  for (const button of form?.querySelectorAll("button") ?? [])
    if (button.value === event.key.toLowerCase()) button.click();
});
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Under the stricter no-referrer a browser sends our own form without saying that it is ours.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --quiet: #667085; --paper: #fff;
  --ground: #f5f6f8; --line: #e1e4ea; --link: #1d5fbf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --quiet: #98a2b3;
  --paper: #1b1f27; --ground: #12151b; --line: #2c323d; --link: #82b1ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 8px 32px; align-items: baseline;
  padding: 12px 24px; background: var(--paper); border-bottom: 1px solid var(--line); }
header form { margin-left: auto; }
h1 { font-size: 18px; margin: 0; } h2 { font-size: 15px; margin: 0 0 8px; }
h3 { font-size: 13px; font-weight: 600; color: var(--quiet); margin: 16px 0 4px; }
p { margin: 0; } .quiet, #progress { color: var(--quiet); }
.text, blockquote { white-space: pre-wrap; overflow-wrap: anywhere; }
main { display: grid; gap: 16px; padding: 16px 24px 0; max-width: 1480px; margin: 0 auto; }
section { min-width: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px; padding: 16px 20px; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--link); }
.place { font-size: 14px; margin-top: 8px; overflow-wrap: anywhere; }
blockquote { font-size: 14px; margin: 4px 0; padding: 0 0 0 12px; max-height: 240px;
  overflow-y: auto; border-left: 3px solid var(--line); }
.text + h2 { margin-top: 16px; } header input { width: 9em; margin-right: 4px; }
#answers { display: grid; gap: 16px; align-items: start; }
@media (min-width: 800px) { #answers { grid-template-columns: 1fr 1fr; } }
#choices { position: sticky; bottom: 0; display: flex; flex-wrap: wrap; gap: 8px;
  justify-content: center; padding: 12px 0; background: var(--ground); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
button, input { font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; padding: 6px 14px; }
button { cursor: pointer; } button:hover { border-color: var(--link); }
header button, header input { padding: 2px 8px; }
kbd { color: var(--quiet); font: 13px ui-monospace, monospace; margin-left: 6px; }
"""
