import re
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers

from rag_bot import generate
from rag_bot.config import Generation, Settings, load
from rag_bot.errors import EndpointFailed, ModelBroken, ModelMissing
from rag_bot.generate import Batching, Generator, Scoring
from rag_bot.kept import Kept
from rag_bot.types import Message

ASKED = [Message("system", "You are brief."), Message("user", "Name the capital of France.")]


def test_the_model_is_named_with_its_fingerprint(llm: Generator) -> None:
    model, adapter = llm.model_id.split("+")
    for each, name in ((model, "smollm2-135m-instruct"), (adapter, "adapter")):
        assert re.fullmatch(rf"{name}:[0-9a-f]{{16}}", each)


def test_loading_warns_nobody_of_what_libraries_will_change(settings: Settings) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        generate.load(settings)
    assert [str(each.message) for each in told if each.category is FutureWarning] == []


def test_the_same_question_gets_the_same_words_in_pieces(llm: Generator) -> None:
    first, second = list(llm.stream(ASKED)), list(llm.stream(ASKED))
    assert first == second
    assert len(first) >= 1
    assert "Paris" in "".join(first)
    assert "<|im_end|>" not in "".join(first)


def test_the_longest_answer_is_bounded(llm: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(llm._chat.__pydantic_private__, "_how", Generation(max_tokens=5))
    story = "".join(llm.stream([Message("user", "Tell me a very long story about a dragon.")]))
    assert 1 <= llm.count(story) <= 5


def test_closing_the_stream_stops_the_model(llm: Generator) -> None:
    stream = llm.stream([Message("user", "Count from one to one hundred.")])
    assert next(stream)
    assert llm._local._turn.locked()
    stream.close()
    assert not llm._local._turn.locked()
    assert next(llm.stream(ASKED))  # and the next one gets its turn


def test_tokens_are_counted(llm: Generator) -> None:
    assert llm.count("") == 0
    assert llm.count("Hello world") == 2


def test_a_failure_while_decoding_is_raised_where_the_answer_is_read(
    llm: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(llm._local._kept.model, "forward", fail)
    with pytest.raises(MemoryError, match="no room"):
        list(llm.stream(ASKED))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="smollm2-135m-instruct"):
        generate.load(load(flags={"models.dir": tmp_path}, environ={}).settings)


def test_a_folder_that_is_no_model_is_broken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelBroken, match="can't be loaded"):
        generate.LocalChatModel(tmp_path, torch.float32, Generation(max_tokens=8))


EVENTS = b"".join(
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % word
    for word in (b"Pa", b"ris", b".")
)


@pytest.fixture
def served() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OpenAI-compatible server that knows one answer, and what it was sent."""
    sent: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append((self.headers["Authorization"], body))
            broken = b'"broken"' in body
            wordless = b'"wordless"' in body
            self.send_response(401 if broken else 200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            said = b"<html>a proxy's page</html>" if wordless else EVENTS + b"data: [DONE]\n\n"
            self.wfile.write(b"{}" if broken else said)

        def log_message(self, *_args: object) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", sent
    server.shutdown()
    server.server_close()


def endpoint(url: str, model: str = "m") -> Generator:
    flags = {"models.endpoint": url, "models.llm": model, "models.endpoint_key": "k1"}
    return generate.load(load(flags=flags, environ={}).settings)


def test_an_endpoint_looks_like_a_local_model(
    served: tuple[str, list[tuple[str, bytes]]],
) -> None:
    url, sent = served
    remote = endpoint(url)
    assert list(remote.stream(ASKED)) == ["Pa", "ris", "."]
    assert remote.model_id == f"m@{url}"
    assert remote.count("x" * 300) == 101
    ((key, body),) = sent
    assert key == "Bearer k1"
    assert b"Name the capital of France." in body
    assert b'"system"' in body


def test_a_refusal_of_the_endpoint_is_a_clear_error(
    served: tuple[str, list[tuple[str, bytes]]],
) -> None:
    with pytest.raises(EndpointFailed, match=served[0]) as caught:
        list(endpoint(served[0], "broken").stream(ASKED))
    assert "models.endpoint_key" in caught.value.remedy
    assert "k1" not in str(caught.value)


def test_a_page_in_place_of_an_answer_is_a_clear_error(
    served: tuple[str, list[tuple[str, bytes]]],
) -> None:
    with pytest.raises(EndpointFailed, match=served[0]):
        list(endpoint(served[0], "wordless").stream(ASKED))


def test_an_endpoint_that_is_not_there_is_a_clear_error(
    served: tuple[str, list[tuple[str, bytes]]],
) -> None:
    with pytest.raises(EndpointFailed, match=r"127\.0\.0\.1:9"):
        list(endpoint("http://127.0.0.1:9/v1").stream(ASKED))


def test_drawing_at_random_begins_with_the_seed(
    llm: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(**how: float) -> str:
        private = llm._chat.__pydantic_private__
        monkeypatch.setitem(private, "_how", Generation(max_tokens=12, **how))
        return "".join(llm.stream([Message("user", "Tell me a story about a dragon.")]))

    assert said(temperature=1.5, seed=1) == said(temperature=1.5, seed=1)
    assert said(temperature=1.5, seed=1) != said(temperature=1.5, seed=2)


def test_a_likely_answer_has_a_lower_nll_than_an_unlikely_one(llm: Generator) -> None:
    asked = [Message("user", "What is the capital of France?")]
    assert isinstance(llm, Scoring)
    assert 0 < llm.nll(asked, "The capital of France is Paris.") < 2
    assert llm.nll(asked, "Kettle the of is moss.") > 4


def test_answers_side_by_side_are_those_one_after_another(settings: Settings) -> None:
    # In bfloat16, sums in another order are other sums, and two words may be about as likely.
    exact = settings.models.model_copy(update={"precision": "float32"})
    short = settings.generation.model_copy(update={"max_tokens": 12})
    llm = generate.load(settings.model_copy(update={"models": exact, "generation": short}))
    assert isinstance(llm, Batching)
    asked = [ASKED, [Message("user", "What is two and two?")], ASKED]
    assert llm.complete(asked) == ["".join(llm.stream(messages)) for messages in asked]


def test_what_was_kept_of_a_prompt_changes_no_answer(settings: Settings) -> None:
    # In bfloat16, sums in another order are other sums.
    exact = settings.models.model_copy(update={"precision": "float32"})
    short = settings.generation.model_copy(update={"max_tokens": 20})
    llm = generate.load(settings.model_copy(update={"models": exact, "generation": short}))
    assert isinstance(llm, Scoring)
    rome = [ASKED[0], Message("user", "Name the capital of Italy.")]
    kept = llm._local._kept
    alone = []
    for asked in (ASKED, rome):
        kept._opening = kept._last = None
        alone.append(("".join(llm.stream(asked)), llm.nll([asked[1]], "Rome.")))
    after = [("".join(llm.stream(asked)), llm.nll([asked[1]], "Rome.")) for asked in (ASKED, rome)]
    assert after == alone
    opening, cache = kept._opening
    assert len(opening) == cache.get_seq_length() > llm.count(ASKED[0].text)

    right_after = llm.nll(rome, "Rome.")  # goes on from the prompt that was answered last
    kept._last = None
    assert llm.nll(rome, "Rome.") == pytest.approx(right_after, rel=1e-4)
    kept._last = (list(kept._opening[0]), cache)
    assert kept.last(opening).get_seq_length() == len(opening) - 1
    assert kept.last([*opening, 1]) is None


def test_of_sliding_windows_nothing_is_kept() -> None:
    sliding = SimpleNamespace(config=transformers.Gemma3TextConfig(num_hidden_layers=2))
    kept = Kept(sliding)
    assert not kept.plain
    assert kept.opening([1, 2, 3], [1, 2]).get_seq_length() == 0
    kept.keep([1], kept.empty())
    assert kept.last([1]) is None


def test_a_model_with_a_sliding_window_writes_what_the_library_writes(
    tmp_path: Path, tiny_llm: Path
) -> None:
    torch.manual_seed(0)
    words = generate.tokenizer(tiny_llm)
    shape = transformers.Gemma3TextConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=128,
        sliding_window=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        eos_token_id=words.eos_token_id,
        initializer_range=0.2,
    )
    transformers.Gemma3ForCausalLM(shape).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    chat = generate.LocalChatModel(tmp_path, torch.float32, Generation(max_tokens=24))
    asked = [generate._to_langchain(message) for message in ASKED]
    said = "".join(chunk.text for chunk in chat.stream(asked))
    assert said
    assert chat.complete([asked]) == [said]


def test_half_a_character_is_not_handed_on(llm: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = llm._local
    ids = chat._ids("größer als 5 µm – 東京")
    monkeypatch.setattr(generate.decode, "decode", lambda *_a, **_k: iter([[i] for i in ids]))
    pieces = list(llm.stream(ASKED))
    assert "".join(pieces) == "größer als 5 µm – 東京"
    assert not any("\ufffd" in piece for piece in pieces)
