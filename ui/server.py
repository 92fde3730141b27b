"""One port for all: the chat page, the API of the command line, and the cited pages."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import rag_bot
from ingest.sync import Options
from rag_bot import types
from rag_bot.config import Server, Settings
from rag_bot.errors import ConfigError, PortInUse, RagBotError, UsageError
from rag_bot.jsonable import jsonable
from ui import page, view, wire
from ui.local import Local

_GRACE_SECONDS = 2


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `ready` gets the address once it answers.

    Raises PortInUse before anything is loaded, IndexBusy when another process owns the index.
    """
    with contextlib.closing(listen(settings.server)) as listener:
        url = browse_url(settings.server.host, listener.getsockname()[1])
        with Local(settings) as local:
            app = build(local)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
            threading.Thread(target=_warm_up, args=(local,), daemon=True).start()
            local.index.announce(url)
            ready(url)
            with ending_quietly():
                uvicorn.Server(config).run(sockets=[listener])


def build(local: Local) -> FastAPI:
    """The whole application over an open index."""
    server = local.settings.server
    app = FastAPI(title="rag-bot", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(_api(local))
    app.include_router(_sources(local))
    app.add_exception_handler(RagBotError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    page.mount(app, local)
    app.add_middleware(Door, host=server.host)
    return app


# The API


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScopeBody(_Body):
    """See `rag_bot.scope.made`."""

    documents: list[str] = []
    patterns: list[str] = []
    types: list[str] = []
    after: str | None = None
    before: str | None = None


class SearchBody(_Body):
    """POST /api/search"""

    query: str
    collection: str | None = None
    limit: int | None = Field(None, ge=1, le=1000)
    scope: ScopeBody = ScopeBody()


class Turn(_Body):
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


class AskBody(_Body):
    """POST /api/ask"""

    question: str
    history: list[Turn] = []
    collection: str | None = None
    scope: ScopeBody = ScopeBody()


class IngestOptions(_Body):
    """See `ingest.sync.Options`."""

    allow_removal: bool = False
    delete: bool = True
    dry_run: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class IngestBody(_Body):
    """POST /api/ingest"""

    paths: list[str]
    collection: str | None = None
    options: IngestOptions = IngestOptions()
    kind: Literal["ingest", "schedule"] = "ingest"


class CollectionBody(_Body):
    """POST /api/verify and /api/repair"""

    collection: str | None = None


class RebuildBody(_Body):
    """POST /api/rebuild"""

    collection: str | None = None
    embedder: str
    chunk_tokens: int


class UndeleteBody(_Body):
    """POST /api/undelete"""

    names: list[str]
    collection: str | None = None


class ForgottenBody(_Body):
    """POST /api/forgotten"""

    name: str
    collection: str | None = None
    text: list[str] = []


class BackupBody(_Body):
    """POST /api/backup"""

    file: str
    overwrite: bool = False


class RestoreBody(_Body):
    """POST /api/restore"""

    file: str


class DeleteBody(_Body):
    """POST /api/delete"""

    names: list[str] = []
    collection: str | None = None
    everything: bool = False


def _api(local: Local) -> APIRouter:
    def check_token(request: Request) -> None:
        given = request.headers.get("authorization", "")
        wanted = f"Bearer {local.index.token}"
        if not secrets.compare_digest(given.encode(), wanted.encode()):
            raise _Stranger("this needs the token in the data directory's owner.json")

    api = APIRouter(prefix="/api", dependencies=[Depends(check_token)])

    @api.post("/search")
    def search(body: SearchBody) -> Response:
        scope = wire.scope_from_json(body.scope.model_dump())
        found = local.search(body.query, body.collection, body.limit, scope)
        return _json({"results": [dataclasses.asdict(each) for each in found]})

    @api.post("/ask")
    def ask(body: AskBody) -> Response:
        history = [types.Message(turn.role, turn.text) for turn in body.history]
        scope = wire.scope_from_json(body.scope.model_dump())
        return Lines(wire.lines(local.ask(body.question, history, body.collection, scope)))

    @api.post("/ingest")
    def ingest(body: IngestBody) -> Response:
        paths = [Path(path) for path in body.paths]
        options = Options(**body.options.model_dump())
        return Lines(wire.lines(local.ingest(paths, body.collection, options, kind=body.kind)))

    @api.post("/repair")
    def repair(body: CollectionBody) -> Response:
        return Lines(wire.lines(local.repair(body.collection)))

    @api.post("/rebuild")
    def rebuild(body: RebuildBody) -> Response:
        events = local.rebuild(body.collection, body.embedder, body.chunk_tokens)
        return Lines(wire.lines(events))

    @api.post("/verify")
    def verify(body: CollectionBody) -> Response:
        return _json({"findings": jsonable(local.verify(body.collection))})

    @api.post("/forgotten")
    def forgotten(body: ForgottenBody) -> Response:
        return _json(jsonable(local.forgotten(body.name, body.collection, body.text)))

    @api.post("/backup")
    def backup(body: BackupBody) -> Response:
        return _json(jsonable(local.backup(Path(body.file), overwrite=body.overwrite)))

    @api.post("/restore")
    def restore(body: RestoreBody) -> Response:
        return _json(jsonable(local.restore(Path(body.file))))

    @api.post("/undelete")
    def undelete(body: UndeleteBody) -> Response:
        return _json({"paths": local.undelete(body.names, body.collection)})

    @api.get("/documents")
    def documents(collection: str | None = None) -> Response:
        found = local.documents(collection)
        return _json({"documents": [dataclasses.asdict(each) for each in found]})

    @api.post("/delete")
    def delete(body: DeleteBody) -> Response:
        gone = local.delete(body.names, body.collection, everything=body.everything)
        return _json({"documents": [dataclasses.asdict(each) for each in gone]})

    @api.get("/health")
    def health() -> Response:
        return _json({"version": rag_bot.__version__, "pid": os.getpid()})

    return api


class Lines(StreamingResponse):
    """Newline-delimited JSON. When the client goes away, whatever makes the lines is stopped."""

    def __init__(self, lines: Iterator[str]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self._lines, "close", None)
            if close:
                close()


class _Stranger(UsageError):
    """The request carries no token, or a wrong one."""


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RagBotError)
    if isinstance(error, _Stranger):
        return _json(wire.error_to_json(UsageError(error.message, error.remedy)), 401)
    return _json(wire.error_to_json(error), 400 if isinstance(error, UsageError) else 503)


async def _refuse_body(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _json(wire.error_to_json(UsageError(f"{where}: {first['msg']}")), 400)


def _json(value: Any, status: int = 200) -> Response:
    # Not JSONResponse: it fails on the lone surrogates that a file's name may hold.
    return Response(json.dumps(value), status, media_type="application/json")


# Cited pages


def _sources(local: Local) -> APIRouter:
    routes = APIRouter()

    @routes.get("/source/{document_id}")
    def source(
        document_id: str, start: int | None = None, end: int | None = None, page: int | None = None
    ) -> Response:
        document = local.index.catalogue.document(document_id)
        if document is None or not document.pages:
            gone = "This document is not in the index any more."
            return HTMLResponse(view.message_page(gone), 404, view.HEADERS)
        shown = view.shown(document, page, start, end)
        content = view.source_page(document, shown, start, end).encode("utf-8", "replace")
        return HTMLResponse(content, headers=view.HEADERS)

    @routes.get("/page-image/{document_id}/{number}")
    def page_image(
        document_id: str, number: int, start: int | None = None, end: int | None = None
    ) -> Response:
        document = local.index.catalogue.document(document_id)
        png = None
        if document is not None and 1 <= number <= len(document.pages):
            png = view.picture(document, view.shown(document, number, start, end))
        if png is None:
            return HTMLResponse(view.message_page("There is no picture."), 404, view.HEADERS)
        return Response(png, media_type="image/png", headers=view.HEADERS)

    return routes


# Who may come in


class Door:
    """Keeps out other web sites that a visitor's browser has open.

    A site may rebind its own name to our address, so names that aren't ours are refused. It may
    also post to our address from its page, so a foreign `Origin` is refused. And what we send may
    load nothing from anywhere else, whatever a document or a model put into it.
    """

    _POLICY = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
        " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
        " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
        " frame-ancestors 'none'"
    )

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"127.0.0.1", "localhost", "::1", host.lower()}
        self._everywhere = host in ("0.0.0.0", "::")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope["method"], headers):
            status, line = refusal
            await Response(line + "\n", status, media_type="text/plain")(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.setdefault("Content-Security-Policy", self._POLICY)
                answer.setdefault("X-Content-Type-Options", "nosniff")
                answer.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self._app(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._ours(host):
            return 400, "rag-bot does not serve under this name."
        origin = headers.get("origin")
        if method not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != host:
            return 403, "rag-bot takes no requests from other sites."
        return None

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        # Only a name can be rebound: listening everywhere, any address of this machine will do.
        with contextlib.suppress(ValueError):
            return self._everywhere and bool(ipaddress.ip_address(name))
        return False


# The process


def listen(server: Server) -> socket.socket:
    """A listening socket: who connects before we have loaded waits."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"server.host = {server.host!r}: {error}", "use 127.0.0.1, or another address"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"server.host = {server.host!r} is no address of this machine", "use 127.0.0.1"
            ) from None
        raise PortInUse(
            f"can't listen on {server.host}:{server.port}: {os.strerror(error.errno or 0)}",
            "stop what uses the port, or choose another with --port (0 picks a free one)",
        ) from None
    return listener


def browse_url(host: str, port: int) -> str:
    """Where a browser on this machine finds us."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _warm_up(local: Local) -> None:
    # Whoever asks is told what is missing, and searching needs less than answering.
    with contextlib.suppress(RagBotError):
        local.warm_up()


@contextlib.contextmanager
def ending_quietly() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more, but the index is still to be closed."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
