"""The chat page: ask, read what was checked, open what is cited, add documents, say what was wrong.

Documents and models are not trusted. Every text of theirs passes through `plain` or
`html.escape` before it becomes part of the page.
"""

from __future__ import annotations

import contextlib
import html
import logging
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import gradio as gr
import gradio.processing_utils
from fastapi import FastAPI

from ingest.report import FileResult, Progress, Report
from rag_bot.abstain import REASONS
from rag_bot.catalogue import Entry
from rag_bot.config import Settings
from rag_bot.errors import RagBotError
from rag_bot.scope import made
from rag_bot.types import Answer, Citation, Event, Finished, Message, Retrieved, Source, Token
from ui.local import Local
from ui.show import searched_for, short
from ui.view import quote_link

EXAMPLES = {
    "employee_handbook.pdf": "From which day of sickness is a doctor's certificate needed?",
    "stormkeep_400_manual.pdf": "What does error code E07 mean?",
    "office_lease.pdf": "What is charged for a missing key?",
}
"""A question about each of the example documents, offered while that document is indexed."""

_log = logging.getLogger(__name__)

_AT_ONCE = 4
_BEFORE_QUOTE = 160
# What has no meaning in Markdown or HTML; the one group is whatever else there is.
_PLAIN = re.compile(
    r"[^\W_]+|[ ,;?'\"(%]+|[^\x00-\x9f]+"
    r"|(?<!\d)[.:)]+(?=\s|$)|(?<=[^\W_])-(?=[^\W_])|(.)",
    re.DOTALL,
)
_NO_ANSWER_YET = "<p class='quiet'>Ask something: what the answer rests on is shown here.</p>"


class Talk(NamedTuple):
    """One browser tab's conversation: what the model is told of it, and what is on the screen.

    While it is `answering`, no other question begins.
    """

    turns: tuple[Message, ...] = ()
    bubbles: tuple[tuple[str, str], ...] = ()
    last: Answer | None = None
    collection: str = ""
    answering: bool = False


def mount(app: FastAPI, local: Local) -> None:
    """Put the page at the root of the application."""
    # Uploads wait here until they are taken in. Not in /tmp: they are as private as the index.
    os.environ["GRADIO_TEMP_DIR"] = str(local.settings.data_dir / "incoming")
    blocks = build(local)
    # Gradio checks that an "uploaded" path was uploaded, and isn't /etc/passwd, only where this
    # is set, and mounting does not set it.
    blocks.has_launched = True
    # A client may also name a URL as its "upload", and Gradio would fetch it.
    gradio.processing_utils.async_ssrf_protected_download = _refuse_download
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=f"{local.settings.server.max_upload_mb}mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=_STYLE,
    )


def build(local: Local) -> gr.Blocks:
    """The page and what its buttons do."""
    settings = local.settings
    with gr.Blocks(title="rag-bot", analytics_enabled=False, fill_width=True) as blocks:
        talk = gr.State(Talk())
        gr.HTML(
            f"<header id='top'><h1>rag-bot</h1><p class='quiet'>{_promise(settings)}</p></header>"
        )
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=7, min_width=320):
                chat = gr.Chatbot(
                    elem_id="chat",
                    show_label=False,
                    height="58vh",
                    min_height=320,
                    buttons=[],
                    latex_delimiters=[],
                    layout="bubble",
                    placeholder="Ask about your documents.",
                )
                with gr.Row(elem_id="examples"):
                    examples = [gr.Button(q, size="sm", visible=False) for q in EXAMPLES.values()]
                with gr.Row(elem_id="ask"):
                    question = gr.Textbox(
                        placeholder="Your question",
                        show_label=False,
                        container=False,
                        lines=1,
                        max_lines=6,
                        max_length=4000,
                        scale=8,
                        min_width=220,
                        elem_id="question",
                        autofocus=True,
                    )
                    send = gr.Button("Send", variant="primary", scale=1, min_width=80)
                    stop = gr.Button("Stop", scale=1, min_width=80, interactive=False)
                    clear = gr.Button("Clear", scale=1, min_width=80)
                with gr.Group(visible=False, elem_id="feedback") as feedback:
                    thumb = gr.Radio(
                        [("Thumb up", 1), ("Thumb down", -1)],
                        label="Feedback on the last answer",
                    )
                    with gr.Row():
                        reason = gr.Textbox(
                            label="Reason (optional)", max_length=2000, min_width=240
                        )
                        correction = gr.Textbox(
                            label="Correct answer (optional)", max_length=4000, min_width=240
                        )
                    save = gr.Button("Save feedback", size="sm")
                thanks = gr.HTML()
            with gr.Column(scale=4, min_width=320, elem_id="side"):
                collection = gr.Dropdown(
                    [settings.collection],
                    value=settings.collection,
                    label="Collection",
                    visible=False,
                    interactive=True,
                )
                only = gr.Dropdown(
                    [],
                    multiselect=True,
                    allow_custom_value=True,
                    label="Search only in",
                    info="Documents, or patterns such as contracts/*.pdf. Empty: in all.",
                    interactive=True,
                    elem_id="only",
                )
                with gr.Accordion("Sources of the last answer", elem_id="sources-box"):
                    sources = gr.HTML(_NO_ANSWER_YET, elem_id="sources")
                with gr.Accordion("Add documents", elem_id="add-box"):
                    files = gr.File(
                        file_count="multiple", show_label=False, height=130, elem_id="files"
                    )
                    added = gr.HTML(elem_id="added")
                with gr.Accordion("Documents", elem_id="documents-box"):
                    documents = gr.HTML(elem_id="documents")

        # What they do

        shelf = [documents, only, *examples]
        conversation = [talk, chat, sources, feedback, thanks, question, send, stop, *examples]

        def respond(
            words: str, before: Talk, name: str, chosen: list[str] | None
        ) -> Iterator[dict[Any, Any]]:
            # Enter, while an answer is being written: the words stay.
            if before.answering or not words.strip():
                yield gr.skip()  # with nothing said, Gradio would empty every part of the page
                return
            yield {
                **dict.fromkeys(examples, gr.update(visible=False)),
                **_busy(send, stop, True),
                talk: before._replace(answering=True),
                question: "",
                feedback: gr.update(visible=False),
                thanks: "",
            }
            now = before
            for now, panel in converse(local, words, before, name, chosen or ()):
                step: dict[Any, Any] = {talk: now._replace(answering=True), chat: _messages(now)}
                yield step | ({sources: panel} if panel is not None else {})
            yield {
                **_busy(send, stop, False),
                talk: now,
                feedback: gr.update(visible=now.last is not None),
            }

        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        asking = [
            trigger(
                respond,
                [words, talk, collection, only],
                conversation,
                concurrency_limit=_AT_ONCE,
                concurrency_id="ask",
                **hidden,
            )
            for trigger, words in (
                (send.click, question),
                (question.submit, question),
                *((button.click, button) for button in examples),
            )
        ]

        def stopped(before: Talk) -> dict[Any, Any]:
            halted = _halt(before._replace(answering=False))
            return {talk: halted, chat: _messages(halted), **_busy(send, stop, False)}

        stop.click(None, cancels=asking, **hidden).then(
            stopped, [talk], [talk, chat, send, stop], **hidden
        )

        def cleared(name: str) -> dict[Any, Any]:
            return {
                talk: Talk(),
                chat: [],
                sources: _NO_ANSWER_YET,
                feedback: gr.update(visible=False),
                thanks: "",
                **_busy(send, stop, False),
                **_shelf(local, name, Talk(), documents, only, examples),
            }

        clear.click(None, cancels=asking, **hidden).then(
            cleared, [collection], [*conversation, documents, only], **hidden
        )

        def save_feedback(now: Talk, value: int | None, why: str, better: str) -> dict[Any, Any]:
            if now.last is None or value is None:
                return {thanks: _note("Choose thumb up or thumb down first.")}
            saved = local.record_feedback(
                now.last, now.collection, value, why.strip(), better.strip()
            )
            return {
                thanks: _note("Saved. Thank you.")
                if saved
                else _note("Not saved: a document behind this answer has been deleted since."),
                feedback: gr.update(visible=False),
                thumb: None,
                reason: "",
                correction: "",
            }

        save.click(
            save_feedback,
            [talk, thumb, reason, correction],
            [thanks, feedback, thumb, reason, correction],
            **hidden,
        )

        def add(
            paths: list[str] | None,
            name: str,
            now: Talk,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio looks for it here
        ) -> dict[Any, Any]:
            words = add_documents(local, paths or [], name, progress)
            shown = _shelf(local, name, now, documents, only, examples)
            return {added: words, files: None, **shown}

        files.upload(
            add,
            [files, collection, talk],
            [added, files, *shelf],
            api_visibility="private",
            show_progress="full",
            show_progress_on=added,
        )

        def opened() -> dict[Any, Any]:
            names = local.collections() or [settings.collection]
            current = settings.collection if settings.collection in names else names[0]
            choice = gr.update(choices=names, value=current, visible=len(names) > 1)
            return {collection: choice, **_shelf(local, current, Talk(), documents, only, examples)}

        blocks.load(opened, None, [collection, *shelf], **hidden)

        def chosen(name: str, now: Talk) -> dict[Any, Any]:
            shown = _shelf(local, name, now, documents, only, examples)
            return shown | {only: gr.update(choices=_choices(local.documents(name)), value=[])}

        collection.input(chosen, [collection, talk], shelf, **hidden)
    return blocks


def converse(
    local: Local, question: str, talk: Talk, collection: str, only: Sequence[str] = ()
) -> Iterator[tuple[Talk, str | None]]:
    """A conversation with one more question, again and again as the answer grows.

    `only` are paths of documents or patterns; where there are any, no other document is searched.

    Each comes with the new sources panel, or None while that stays as it is.
    """
    asked = talk._replace(bubbles=(*talk.bubbles, ("user", plain(question))), last=None)

    def saying(bubble: str) -> Talk:
        return asked._replace(bubbles=(*asked.bubbles, ("assistant", bubble)))

    yield saying("<span class='quiet'>Searching …</span>"), None
    draft = ""
    try:
        entries = local.documents(collection)
        if not entries:
            yield saying(plain(REASONS["empty_collection"])), _NO_ANSWER_YET
            return
        sources = {entry.source for entry in entries}
        scope = made(
            documents=[each for each in only if each in sources],
            patterns=[each for each in only if each not in sources],
        )
        answering = local.ask(question, talk.turns, collection, scope)
        events = cast("Generator[Event, None, None]", answering)
        with contextlib.closing(events):
            for event in events:
                match event:
                    case Retrieved():
                        yield saying("<span class='quiet'>Reading …</span>"), None
                    case Token():
                        draft += event.text
                        yield saying(plain(draft)), None
                    case Finished():
                        answer = event.answer
                        done = saying(answer_bubble(answer))._replace(
                            turns=(
                                *talk.turns,
                                Message("user", question),
                                Message("assistant", answer.text),
                            ),
                            last=answer,
                            collection=collection,
                        )
                        yield done, sources_panel(answer)
    except RagBotError as error:
        yield saying(f"<span class='problem'>{plain(str(error))}</span>"), _NO_ANSWER_YET
    except Exception:  # whatever went wrong: the page must not stay busy
        _log.exception("a question could not be answered")
        problem = "Something went wrong here; the server's output has the details. Ask again."
        yield saying(f"<span class='problem'>{problem}</span>"), _NO_ANSWER_YET


def add_documents(
    local: Local, paths: Sequence[str], collection: str, progress: gr.Progress
) -> str:
    """Take uploads in and index them; what became of them, as HTML."""
    try:
        kept = [local.keep_upload(Path(path), collection) for path in paths]
        for step in local.ingest(kept, collection, kind="upload") if kept else ():
            if isinstance(step, Progress):
                progress((step.done, step.total), desc=PurePath(step.result.path).name)
            else:
                return _outcome(step)
    except RagBotError as error:
        return _note(str(error), "problem")
    return ""


# Texts


def plain(text: str) -> str:
    """A text that shows as it is, in Markdown and in HTML, whatever is in it."""
    lines = (line.strip() for line in text.replace("\r", "").split("\n"))
    return "<br>".join(
        _PLAIN.sub(lambda match: f"&#{ord(match[1])};" if match[1] else match[0], line)
        for line in lines
    )


def answer_bubble(answer: Answer) -> str:
    """A checked answer: markers that lead to their quotes, and doubtful claims flagged."""
    notes = ""
    if answer.unresolved:
        named = ", ".join(f"[{marker}]" for marker in dict.fromkeys(answer.unresolved))
        notes = _tag_line(f"The model named sources that don't exist: {named}")
    if answer.abstained:
        closest = "The closest passages are listed under the sources." if answer.sources else ""
        return plain(answer.text) + _tag_line(closest) + notes

    parts: list[str] = []
    text, at = answer.text, 0
    for verdict in answer.verdicts:
        found = text.find(verdict.claim, at)
        if found < 0:
            continue
        parts.append(_between(text[at:found]))
        at = found + len(verdict.claim)
        claim = plain(verdict.claim)
        parts.append(claim if verdict.label == "supported" else _flagged(claim))
        for citation in verdict.citations:
            marker = f" [{citation.marker}]"
            if text.startswith(marker, at):
                at += len(marker)
                parts.append(_marker(citation))
    parts.append(_between(text[at:]))
    return "".join(parts) + notes


def sources_panel(answer: Answer) -> str:
    """What the answer rests on: each passage with its quotes marked; the cited ones first."""
    searched = searched_for(answer)
    told = _note(f"Searched for: {short(searched, 240)}") if searched else ""
    if not answer.sources:
        return told + "<p class='quiet'>Nothing was found.</p>"
    cited = {citation.chunk_id for citation in answer.citations}
    ordered = sorted(answer.sources, key=lambda source: source.chunk.id not in cited)
    heading = "<p class='quiet'>Closest passages</p>" if answer.abstained else ""
    cards = "".join(_source_card(source, answer.citations) for source in ordered)
    return told + heading + cards


def documents_panel(entries: Sequence[Entry]) -> str:
    """The indexed documents with their sizes."""
    if not entries:
        return "<p class='quiet'>No documents yet.</p>"
    rows = "".join(
        f"<tr><td><a href='/source/{html.escape(entry.id)}' target='_blank' rel='noopener'>"
        f"{html.escape(PurePath(entry.source).name)}</a></td>"
        f"<td>{entry.pages}</td><td>{entry.chunks}</td></tr>"
        for entry in entries
    )
    return (
        "<table><thead><tr><th>Document</th><th>Pages</th><th>Chunks</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _source_card(source: Source, citations: Sequence[Citation]) -> str:
    chunk = source.chunk
    quotes = sorted(
        (
            (c.char_start - chunk.char_start, c.char_end - chunk.char_start, c)
            for c in citations
            if c.chunk_id == chunk.id
        ),
        key=lambda quote: quote[:2],
    )
    at = 0
    if quotes and quotes[0][0] > _BEFORE_QUOTE:
        # The quote is to be seen without scrolling: what stands long before it is left out.
        at = max(0, chunk.text.find(" ", quotes[0][0] - _BEFORE_QUOTE, quotes[0][0]))
    parts = ["…"] if at else []
    for start, end, _ in quotes:
        if start >= at:
            parts.append(html.escape(chunk.text[at:start]))
            parts.append(f"<mark>{html.escape(chunk.text[start:end])}</mark>")
            at = end
    parts.append(html.escape(chunk.text[at:]))
    link = html.escape(quote_link(quotes[0][2] if quotes else source))
    return (
        f"<details class='source' {'open' if quotes else ''}>"
        f"<summary><b>[{source.marker}]</b> {html.escape(source.document)},"
        f" page {chunk.page_start}</summary>"
        f"<blockquote>{''.join(parts)}</blockquote>"
        f"<a href='{link}' target='_blank' rel='noopener'>Open page {chunk.page_start}</a>"
        "</details>"
    )


def _marker(citation: Citation) -> str:
    where = html.escape(f"{citation.document}, page {citation.page}")
    link = html.escape(quote_link(citation))
    return (
        f" <a class='marker' href='{link}' target='_blank' rel='noopener'"
        f" title='{where}'>[{citation.marker}]</a>"
    )


def _flagged(claim: str) -> str:
    return (
        f"<span class='unsupported' title='Not found in the documents'>{claim}</span>"
        " <span class='tag'>not found</span>"
    )


def _between(text: str) -> str:
    """White space, or words that belong to no claim."""
    return plain(text) if text.strip() else ("<br>" if "\n" in text else " " if text else "")


def _tag_line(text: str) -> str:
    return f"<br><span class='quiet'>{plain(text)}</span>" if text else ""


def _note(text: str, kind: str = "quiet") -> str:
    return f"<p class='{kind}'>{html.escape(text)}</p>"


def _outcome(report: Report) -> str:
    done = [each for each in report.files if each.status in ("indexed", "unchanged")]
    lines = [_became(each) for each in report.files if each not in done]
    lines += [html.escape(warning) for warning in report.warnings]
    for each in report.files:
        if each not in done:
            # What can't be searched is not kept either.
            Path(each.path).unlink(missing_ok=True)
    count = f"{len(done)} document{'' if len(done) == 1 else 's'} added." if done else ""
    problems = "".join(f"<li>{line}</li>" for line in lines)
    return _note(count) * bool(count) + f"<ul class='problem'>{problems}</ul>" * bool(lines)


def _became(result: FileResult) -> str:
    code, _, words = result.reason.partition(": ")
    why = words if words and code.replace("_", "").isalpha() else result.reason
    way_out = f"; {result.remedy}" if result.remedy else ""
    return f"<b>{html.escape(PurePath(result.path).name)}</b>: {html.escape(why + way_out)}"


def _promise(settings: Settings) -> str:
    what = "Answers from your documents, each with its page and quote."
    host = urlsplit(settings.models.endpoint).hostname
    if host and host not in ("localhost", "127.0.0.1", "::1"):
        return f"{what} Questions and passages go to {html.escape(host)}."
    return f"{what} Nothing leaves this machine."


async def _refuse_download(url: str, *_: object) -> str:
    raise PermissionError(f"rag-bot fetches nothing: {url}")


# Updates


def _messages(talk: Talk) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in talk.bubbles]


def _busy(send: gr.Button, stop: gr.Button, busy: bool) -> dict[Any, Any]:
    return {send: gr.update(interactive=not busy), stop: gr.update(interactive=busy)}


def _halt(talk: Talk) -> Talk:
    """A conversation whose last answer was cut off: shown as such, and never told to the model."""
    if talk.last is not None or not talk.bubbles:
        return talk
    role, said = talk.bubbles[-1]
    if role != "assistant":
        return talk
    return talk._replace(
        bubbles=(*talk.bubbles[:-1], (role, f"{said} <span class='tag'>stopped</span>"))
    )


def _choices(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What the control offers for each document, and its path: two of a name are told apart."""
    paths = [(PurePath(entry.source), entry.source) for entry in entries]
    names = Counter(path.name for path, _ in paths)
    return [
        (path.name if names[path.name] == 1 else f"{path.name} in {path.parent}", source)
        for path, source in paths
    ]


def _shelf(
    local: Local,
    collection: str,
    talk: Talk,
    documents: gr.HTML,
    only: gr.Dropdown,
    examples: Sequence[gr.Button],
) -> dict[Any, Any]:
    """The documents, also to choose from, and examples of what to ask about them.

    The examples go when something has been asked.
    """
    entries = local.documents(collection)
    names = {PurePath(entry.source).name for entry in entries}
    return {
        documents: documents_panel(entries),
        only: gr.update(choices=_choices(entries)),
        **{
            button: gr.update(visible=name in names and not talk.bubbles)
            for name, button in zip(EXAMPLES, examples, strict=True)
        },
    }


_STYLE = """
#top h1 { font-size: 22px; margin: 0; font-weight: 650; }
#top p { margin: 2px 0 0; }
.quiet { color: var(--body-text-color-subdued); }
.problem { color: #b42318; } .dark .problem { color: #ff9b8f; }
.unsupported { text-decoration: underline dotted #c4820e 1.5px; text-underline-offset: 3px; }
.tag { font-size: 11px; padding: 1px 6px; border-radius: 8px; white-space: nowrap;
  background: #fdf0d5; color: #7a4d00; }
.dark .tag { background: #4a3a12; color: #ffdf9e; }
#chat .icon-button-wrapper { display: none; } /* its bin would empty the screen, not the talk */
#chat .marker { color: var(--link-text-color); text-decoration: none; font-weight: 600;
  white-space: nowrap; }
.dark #chat .marker, .dark #side a { color: #82b1ff; }
#chat .marker:hover { text-decoration: underline; }
#examples:not(:has(button)) { display: none; }
#side p { margin: 4px 0; } #side { font-size: 14px; }
#added ul { margin: 4px 0; padding-left: 18px; overflow-wrap: anywhere; }
#sources details { border-top: 1px solid var(--border-color-primary); padding: 8px 0; }
#sources details:first-child { border-top: 0; }
#sources summary { cursor: pointer; overflow-wrap: anywhere; }
#sources blockquote { margin: 8px 0; padding: 0 0 0 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; border-left: 3px solid var(--border-color-primary);
  max-height: 240px; overflow-y: auto; font-style: normal; }
#sources mark { background: #ffe27a; color: #1f2430; border-radius: 2px; }
.dark #sources mark { background: #7a6410; color: #f4f4f4; }
#documents { max-height: 320px; overflow-y: auto; }
#documents table { width: 100%; border: 0; border-collapse: collapse; }
#documents tr { border: 0; }
#documents th, #documents td { text-align: right; padding: 4px 0 4px 12px; border: 0;
  border-bottom: 1px solid var(--border-color-primary); white-space: nowrap; }
#documents th { font-weight: 500; color: var(--body-text-color-subdued); }
#documents th:first-child, #documents td:first-child { text-align: left; padding-left: 0;
  white-space: normal; overflow-wrap: anywhere; }
#documents a, #sources a { padding: 0; margin: 0; }
"""
