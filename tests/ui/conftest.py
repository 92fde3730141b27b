"""One real server for all tests here: real models, a real index of our examples, a real port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from rag_bot import models
from rag_bot.config import Settings, load
from rag_bot.errors import RagBotError
from tests.conftest import missing
from ui.local import Local
from ui.server import build

PATIENCE_MS = 60_000
EXAMPLES = Path(__file__).parents[2] / "examples"
INDEXED = (
    "employee_handbook.pdf",
    "it_security_policy.md",
    "stormkeep_400_manual.pdf",
    "warranty_and_returns.docx",
)
HOSTILE = (
    "Kettles\n\nThe blue kettle holds 1.7 litres. <script>document.title='owned'</script>"
    " <img src=http://evil.example/a.png> ![](http://evil.example/b.png)\n"
)


@dataclass(frozen=True)
class Served:
    """The running server."""

    url: str
    local: Local
    http: httpx.Client

    def document_id(self, name: str) -> str:
        """The id of a document by its file's name."""
        return next(e.id for e in self.local.documents() if Path(e.source).name == name)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a fresh data directory and the models of this machine."""
    made = load(flags={"data_dir": tmp_path_factory.mktemp("data")}).settings
    try:
        for name in (made.models.embedder, made.models.llm):
            models.locate(name, made.models.dir)
    except RagBotError as error:
        missing(str(error))
    return made


@pytest.fixture(scope="session")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over four examples and one document that would like to run scripts."""
    hostile = tmp_path_factory.mktemp("documents") / "kettle <b>&'.txt"
    hostile.write_text(HOSTILE)
    with Local(settings) as local:
        for _ in local.ingest([*(EXAMPLES / name for name in INDEXED), hostile]):
            pass
        local.warm_up()
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(build(local), log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.05)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        token = {"Authorization": f"Bearer {local.index.token}"}
        with httpx.Client(base_url=url, headers=token, timeout=60, trust_env=False) as http:
            yield Served(url, local, http)
        server.should_exit = True
        thread.join(10)
