"""The API, and who is let in."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rag_bot.config import Server, Settings, load
from rag_bot.errors import ConfigError, PortInUse
from rag_bot.types import Event, Finished, Retrieved, Token
from tests.ui.conftest import INDEXED, Served
from ui.server import Door, serve
from ui.wire import event_from_json

SICK = "From which day of sickness is a doctor's certificate needed?"


def events(response: httpx.Response) -> list[Any]:
    return [event_from_json(json.loads(line)) for line in response.iter_lines()]


@pytest.mark.parametrize("path", ["/api/health", "/api/documents"])
@pytest.mark.parametrize("token", ["", "Basic x", "Bearer wrong", "Bearer ü".encode()])
def test_the_api_needs_the_token(served: Served, path: str, token: str | bytes) -> None:
    answer = httpx.get(served.url + path, headers={"Authorization": token}, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["kind"] == "UsageError"


def test_health(served: Served) -> None:
    assert served.http.get("/api/health").json() == {"version": "0.1.0", "pid": os.getpid()}


def test_search(served: Served) -> None:
    answer = served.http.post("/api/search", json={"query": "sickness certificate", "limit": 2})
    results = answer.json()["results"]
    assert [each["marker"] for each in results] == [1, 2]
    assert results[0]["document"] == "employee_handbook.pdf"
    assert results[0]["chunk"]["page_start"] == 5


def test_ask_streams_the_events_of_the_one_pipeline(served: Served) -> None:
    with served.http.stream("POST", "/api/ask", json={"question": SICK}) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        first, *middle, last = events(response)
    assert isinstance(first, Retrieved)
    assert all(isinstance(each, Token) for each in middle)
    assert isinstance(last, Finished)
    assert {c.document for c in last.answer.citations} == {"employee_handbook.pdf"}


def test_a_scope_is_kept_to(served: Served) -> None:
    def documents(**body: Any) -> set[str]:
        found = served.http.post("/api/search", json={"query": "warranty key", **body})
        return {each["document"] for each in found.json()["results"]}

    everything = documents(limit=50)
    assert everything >= set(INDEXED)
    assert documents(limit=50, scope={"types": ["PDF"]}) == {n for n in everything if "pdf" in n}
    only = {"documents": ["it_security_policy.md"], "patterns": ["examples/*.docx"]}
    assert documents(limit=50, scope=only) == {
        "it_security_policy.md",
        "warranty_and_returns.docx",
    }
    assert documents(scope={"before": "1971-01-01"}) == set()
    with served.http.stream(
        "POST", "/api/ask", json={"question": SICK, "scope": {"patterns": ["nowhere/"]}}
    ) as response:
        retrieved, finished = events(response)
    assert retrieved.sources == ()
    assert finished.answer.reason == "empty_scope"
    assert "in:nowhere/" in finished.answer.text


def test_a_scope_that_is_none_is_refused(served: Served) -> None:
    for scope, named in (
        ({"after": "2025-02-30"}, "after:2025-02-30"),
        ({"patterns": ["["]}, "'['"),
        ({"kinds": ["pdf"]}, "scope.kinds"),
    ):
        for path, words in (("/api/search", "query"), ("/api/ask", "question")):
            answer = served.http.post(path, json={words: "x", "scope": scope})
            assert answer.status_code == 400
            assert named in answer.json()["message"]


def test_an_error_in_a_stream_is_its_last_line(served: Served) -> None:
    answer = served.http.post("/api/ask", json={"question": "?", "collection": "nowhere"})
    assert answer.status_code == 200
    assert json.loads(answer.text)["kind"] == "UsageError"


def test_an_error_elsewhere_is_a_status_and_its_json(served: Served) -> None:
    answer = served.http.post("/api/search", json={"query": "x", "collection": "nowhere"})
    assert answer.status_code == 400
    assert answer.json()["message"] == "there is no collection 'nowhere'"
    wrong = served.http.post("/api/search", json={"quarry": "x"})
    assert wrong.status_code == 400
    assert wrong.json()["kind"] == "UsageError"


def test_ingest_documents_delete(served: Served, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("The spare key is under the third stone.")
    body = {"paths": [str(note)], "collection": "api"}
    with served.http.stream("POST", "/api/ingest", json=body) as response:
        progress, report = events(response)
    assert (progress.done, progress.total, report.complete) == (1, 1, True)
    listed = served.http.get("/api/documents", params={"collection": "api"}).json()["documents"]
    assert [each["source"] for each in listed] == [str(note)]
    body = {"names": ["note.txt"], "collection": "api"}
    assert served.http.post("/api/delete", json=body).json()["documents"] == listed
    gone = served.http.post("/api/delete", json=body)
    assert (gone.status_code, gone.json()["message"]) == (400, "no document 'note.txt'")
    everything = {"names": [], "collection": "api", "everything": True}
    assert served.http.post("/api/delete", json=everything).json() == {"documents": []}


def test_who_goes_away_stops_the_model(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def endless(*_: object) -> Iterator[Event]:
        try:
            while True:
                yield Token("on and on ")
                time.sleep(0.02)
        finally:
            stopped.set()

    monkeypatch.setattr(served.local, "ask", endless)
    with served.http.stream("POST", "/api/ask", json={"question": SICK}) as response:
        next(response.iter_lines())
        assert not stopped.is_set()
    assert stopped.wait(5)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::1", "::1"])
def test_other_names_are_refused(served: Served, host: str) -> None:
    for path in ("/", "/api/health", "/source/x"):
        assert served.http.get(path, headers={"Host": host}).status_code == 400


def test_other_sites_are_refused(served: Served) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        for path in ("/api/search", "/gradio_api/queue/join", "/gradio_api/upload"):
            answer = served.http.post(path, json={"query": "x"}, headers={"Origin": origin})
            assert answer.status_code == 403
    own = served.http.post("/api/search", json={"query": "key"}, headers={"Origin": served.url})
    assert own.status_code == 200


def test_listening_everywhere_takes_addresses_but_no_names() -> None:
    everywhere = TestClient(Door(Starlette(), "0.0.0.0"))
    assert everywhere.get("http://192.168.7.7:7860/").status_code == 404
    assert everywhere.get("http://evil.example/").status_code == 400
    here = TestClient(Door(Starlette(), "127.0.0.1"))
    assert here.get("http://192.168.7.7:7860/").status_code == 400


def join(served: Served, path: str) -> str:
    """What becomes of an upload event that names a file nobody has uploaded."""
    config = served.http.get("/config").json()
    upload = next(d for d in config["dependencies"] if any(t[1] == "upload" for t in d["targets"]))
    file = {"path": path, "orig_name": "x.txt", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [[file], "default"], "fn_index": upload["id"], "session_hash": "s"}
    assert served.http.post("/gradio_api/queue/join", json=body).status_code == 200
    with served.http.stream(
        "GET", "/gradio_api/queue/data", params={"session_hash": "s"}
    ) as response:
        for line in response.iter_lines():
            if "process_completed" in line:
                return line
    return ""


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "http://127.0.0.1:9/x.txt", "http://evil.example/x"]
)
def test_only_uploads_can_be_added(served: Served, path: str) -> None:
    before = served.local.documents()
    assert '"success":false' in join(served, path)
    assert served.local.documents() == before


def test_no_file_is_served_by_its_path(served: Served) -> None:
    for path in ("/etc/hostname", str(served.local.index.data_dir / "owner.json"), __file__):
        assert served.http.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_taken_port_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(data_dir=tmp_path / "data", server=Server(port=port))
        with pytest.raises(PortInUse, match=str(port)):
            serve(settings, lambda _: None)
    assert not (tmp_path / "data").exists()


def test_a_strange_address_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="203"):
        serve(load(flags={"server.host": "203.0.113.7", "data_dir": tmp_path}).settings, print)


def test_serve_without_an_llm_until_sigterm(settings: Settings, tmp_path: Path) -> None:
    program = (
        "from rag_bot.config import load; from ui.server import serve;"
        "serve(load().settings, lambda url: print(url, flush=True))"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAG_BOT_DATA_DIR": str(tmp_path),
        "RAG_BOT_SERVER__PORT": "0",
        "RAG_BOT_MODELS__DIR": str(settings.models.dir),
        "RAG_BOT_MODELS__LLM": "absent",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        owner = json.loads((tmp_path / "owner.json").read_text())
        assert owner["url"] == url
        headers = {"Authorization": f"Bearer {owner['token']}"}
        note = tmp_path / "documents" / "note.txt"
        note.parent.mkdir()
        note.write_text("The spare key is under the third stone.")
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
            http.post("/api/ingest", json={"paths": [str(note)]})
            found = http.post("/api/search", json={"query": "spare key"}).json()["results"]
            assert [each["document"] for each in found] == ["note.txt"]
            answer = http.post("/api/ask", json={"question": "Where is the spare key?"})
            assert json.loads(answer.text.splitlines()[-1])["kind"] == "ModelMissing"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not (tmp_path / "owner.json").exists()
    finally:
        process.kill()
        process.wait()
