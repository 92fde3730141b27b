"""`rag-bot finetune …`, as a shell meets it: a tiny model, everything else as it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune import examples, promotion, registry
from finetune.promotion import Verdict
from ingest import sync
from rag_bot import adapters, config, embed, read
from rag_bot.config import Settings
from rag_bot.index import Index
from rag_bot.ledger import Origin
from rag_bot.types import Message
from tests.conftest import WordEmbedder, drafts_here
from ui import cli
from ui.doctor import examine
from ui.local import Local

PAGE = "# {0}\n\nThe {0} costs EUR {1}. The {0} was bought in March {2}. The {0} weighs {3} kg.\n"
PAGE += "\nForm FM-{1} is kept for {3} years. Form FN-{1} costs EUR {3}.\n"
THINGS = ("drill", "saw", "lamp", "bench", "vice", "ladder", "barrow", "hoist", "winch", "crane")


@pytest.fixture
def home(
    tmp_path: Path, settings: Settings, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of documents, and stand-ins for all models but the LLM, which is tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_BOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(settings.models.dir))
    monkeypatch.setenv("RAG_BOT_MODELS__LLM", str(tiny_llm))
    monkeypatch.setenv("RAG_BOT_MODELS__READER", "")
    monkeypatch.setenv("RAG_BOT_RETRIEVAL__FLOOR", "0")
    monkeypatch.setenv("RAG_BOT_GENERATION__MAX_TOKENS", "4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(embed.Embedder, "from_settings", lambda _: WordEmbedder())
    monkeypatch.setattr(sync, "drafts", drafts_here)
    docs = tmp_path / "docs"
    docs.mkdir()
    for n, thing in enumerate(THINGS):
        text = PAGE.format(thing, 100 + 7 * n, 2010 + n, 20 + 3 * n)
        (docs / f"{thing}.md").write_text(text)
    return tmp_path


def rag_bot(*arguments: str) -> int:
    return cli.main(["finetune", *arguments])


def test_from_documents_to_a_candidate_that_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rag_bot("examples", "docs", "--out", "e.jsonl", "--count", "40") == 0
    said = capsys.readouterr().out
    made = examples.read(home / "e.jsonl")
    assert f"{len(made)} examples (" in said
    assert (home / "e.html").is_file()
    assert rag_bot("examples", "docs", "--out", "e.jsonl") == 2  # it exists
    assert rag_bot("train", "e.jsonl", "--batch", "1000", "--rank", "4") == 0
    said = capsys.readouterr().out
    assert "-lora: " in said
    assert "loss on validation" in said
    assert rag_bot("promote") == 2
    assert "was not evaluated" in capsys.readouterr().err

    golden = [
        {"id": thing, "question": f"What does the {thing} cost?", "reference": [f"EUR {100 + n}"],
         "relevant": [{"document": f"{thing}.md", "page": 1}], "answerable": True}
        for n, thing in enumerate(THINGS)
    ]  # fmt: skip
    golden.append({"id": "none", "question": "Who is the mayor?", "answerable": False})
    (home / "golden.jsonl").write_text("\n".join(map(json.dumps, golden)))
    assert rag_bot("evaluate", "--cases", "golden.jsonl", "--docs", "docs") == 1
    assert "refused: F1" in capsys.readouterr().out
    assert rag_bot("promote") == 2
    assert "was refused" in capsys.readouterr().err
    assert rag_bot("list") == 0
    said = capsys.readouterr().out
    assert "live: tiny-llm without an adapter" in said
    assert "refused" in said
    assert rag_bot("rollback") == 2
    assert rag_bot("list", "--json") == 0
    (only,) = json.loads(capsys.readouterr().out)["candidates"]
    assert (only["state"], only["lost"], only["card"]["recipe"]["rank"]) == ("refused", False, 4)


def test_a_deleted_document_teaches_nothing_though_its_file_is_there(home: Path) -> None:
    assert cli.main(["ingest", "docs"]) == 0
    assert cli.main(["delete", "saw.md"]) == 0
    assert rag_bot("examples", "docs", "--out", "e.jsonl", "--count", "40") == 0
    made = examples.read(home / "e.jsonl")
    assert made
    assert "saw" not in (home / "e.jsonl").read_text("utf-8")
    # And what is deleted later goes from the file, and flags what learned from it.
    assert rag_bot("train", "e.jsonl", "--batch", "1000", "--rank", "4") == 0
    assert cli.main(["delete", "crane.md"]) == 0
    assert "crane" not in (home / "e.jsonl").read_text("utf-8")
    (entry,) = registry.entries(config.load().settings)
    assert entry.lost


def test_the_loop_ends_with_a_verdict_and_touches_nothing_live(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "FEWEST", 1)
    command = ("loop", "docs", "--count", "30", "--cases-count", "8", "--batch", "1000")
    assert rag_bot(*command, "--method", "prompt") == 1
    said = capsys.readouterr().out
    assert "refused: " in said
    assert said.rstrip().endswith("not promoted")
    settings = config.load().settings
    assert adapters.located(settings) is None
    (entry,) = registry.entries(settings)
    assert entry.card.recipe["method"] == "prompt"
    golden = [json.loads(line) for line in (entry.folder / "golden.jsonl").open()]
    taught = examples.read(entry.folder / "examples.jsonl")
    judged_by = {row["group"] for row in golden}
    assert judged_by.isdisjoint(e.document_id for e in taught if e.split == "train")


def test_a_server_takes_a_promoted_adapter_without_a_restart(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    # In bfloat16, a merged adapter rounds otherwise than one beside the weights.
    monkeypatch.setenv("RAG_BOT_MODELS__PRECISION", "float32")
    assert rag_bot("examples", "docs", "--out", "e.jsonl", "--count", "40") == 0
    assert rag_bot("train", "e.jsonl", "--batch", "1000", "--rank", "4", "--rate", "0.01") == 0
    settings = config.load().settings
    (entry,) = registry.entries(settings)
    with Local(settings) as local:
        before = local.pipeline.generator()
        assert local.pipeline.generator() is before  # loaded once
        verdict = Verdict(
            True, "", "F1", 0.1, 0.2, 0.05, 0.15, 0.01, 30, "g",
            registry.against(settings), adapters.fingerprint(entry.folder),
        )  # fmt: skip
        promotion.keep(entry.folder, verdict)
        assert rag_bot("promote") == 0  # another process, beside the server
        after = local.pipeline.generator()
        assert after is not before
        assert entry.card.id in after.model_id
        # It is in the weights, not beside them, where it would cost time at every token.
        assert type(after._local._model).__name__ == "LlamaForCausalLM"  # type: ignore[attr-defined]
        asked, answer = [Message("user", "What does the saw cost?")], "EUR 107"
        plain = before.nll(asked, answer)  # type: ignore[attr-defined]
        beside = peft.PeftModel.from_pretrained(
            before._local._model,
            str(entry.folder),  # type: ignore[attr-defined]
        )
        merged, apart = after.nll(asked, answer), before.nll(asked, answer)  # type: ignore[attr-defined]
        assert beside.active_adapters
        assert abs(plain - merged) > 1e-2  # what was learned shows
        assert merged == pytest.approx(apart, abs=1e-3)  # `before` has the adapter beside it now
        assert rag_bot("rollback") == 0
        assert local.pipeline.generator().model_id == before.model_id


def test_what_is_exported_is_the_model_with_its_adapter(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import peft
    import torch
    import transformers

    assert rag_bot("export", "--out", "merged") == 2
    assert "no adapter is live" in capsys.readouterr().err
    assert rag_bot("examples", "docs", "--out", "e.jsonl", "--count", "40") == 0
    assert rag_bot("train", "e.jsonl", "--batch", "1000", "--rate", "0.02") == 0
    (entry,) = registry.entries(config.load().settings)
    assert rag_bot("export", entry.card.id, "--out", "merged") == 0
    assert rag_bot("export", entry.card.id, "--out", "merged") == 2  # it exists
    ids = torch.arange(40)[None]
    base = transformers.AutoModelForCausalLM.from_pretrained(config.load().settings.models.llm)
    alone = base(input_ids=ids).logits
    adapted = peft.PeftModel.from_pretrained(base, str(entry.folder))(input_ids=ids).logits
    merged = transformers.AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32)
    difference = (merged(input_ids=ids).logits - adapted).abs().max()
    assert difference < 0.1 * (adapted - alone).abs().max()
    assert transformers.AutoTokenizer.from_pretrained("merged").chat_template
    assert rag_bot("train", "e.jsonl", "--method", "prefix", "--batch", "1000") == 0
    settings = config.load().settings
    prefix = registry.entries(settings)[-1].card
    capsys.readouterr()
    assert rag_bot("export", prefix.id, "--out", "other") == 2
    assert "has no place in the weights" in capsys.readouterr().err
    registry.write(registry.entry(settings, prefix.id).folder, replace(prefix, kind="reader"))
    assert rag_bot("export", prefix.id, "--out", "other") == 2
    assert "is a reader" in capsys.readouterr().err
    with Index(settings.data_dir) as index:
        (origin, *_) = index.ledger.origins("adapter", entry.card.id)
        index.ledger.erase(settings.collection, origin, twin_lives=False)
    assert rag_bot("export", entry.card.id, "--out", "other") == 2
    assert "learned from a document that was deleted" in capsys.readouterr().err
    assert not (home / "other").exists()


@pytest.mark.parametrize("kind", ["reader", "adapter"])
def test_doctor_names_what_learned_from_a_deleted_document(
    settings: Settings, tmp_path: Path, kind: registry.Kind
) -> None:
    settings = settings.model_copy(update={"data_dir": tmp_path})
    place = adapters.folder(settings) / "mine"
    shutil.copytree(read.SHIPPED if kind == "reader" else adapters.SHIPPED, place)
    adapters.set_promoted(settings, registry.base_of(settings, kind), ["mine"])
    origin = Origin("/docs/lease.md", "ab")
    registry.record(settings, "mine", [origin])

    def said() -> dict[str, tuple[int, str]]:
        found = examine(config.Loaded(settings, {}))
        return {each.what: (each.status, f"{each.detail} {each.remedy}") for each in found}

    assert said()[kind] == (0, f"whole, in {place} ")
    with Index(settings.data_dir) as index:
        index.ledger.erase(settings.collection, origin, twin_lives=False)
    other = "adapter" if kind == "reader" else "reader"
    status, text = said()[kind]
    assert status == 2
    assert "mine learned from a document that was deleted" in text
    assert ("rollback --reader" in text) == (kind == "reader")
    assert said()[other][0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": "Who?"}', "line 1: no context"),
        ('{"question": "Who?", "context": "Ann.", "answer": "Ann."}', "examples to train on"),
    ],
)
def test_bad_examples_are_one_line_and_leave_no_candidate(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (home / "own.jsonl").write_text(text)
    assert rag_bot("train", "own.jsonl") == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    there = adapters.folder(config.load().settings)
    assert not there.is_dir() or not list(there.iterdir())


def test_a_killed_training_is_taken_up_by_name(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune import train

    rows = [
        {"question": f"What is {n}?", "context": f"It is {n * n}.", "answer": f"{n * n}"}
        for n in range(40)
    ]
    (home / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(train, "_SAVE_EVERY", 0)
    real = train.objective.supervised
    steps = iter(range(20))

    def failing(*arguments: Any) -> Any:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train.objective, "supervised", failing)
    short = ("--batch", "400", "--epochs", "2")
    assert rag_bot("train", "own.jsonl", *short) == 130
    (place,) = adapters.folder(config.load().settings).iterdir()
    monkeypatch.setattr(train.objective, "supervised", real)
    assert rag_bot("train", "own.jsonl", *short, "--resume", place.name) == 0
    assert ", from step " in capsys.readouterr().out
    assert [each.folder for each in registry.entries(config.load().settings)] == [place]
    (place.parent / "live.json").touch()
    for name in ("none", "..", "live.json", f"../{place.parent.name}/{place.name}"):
        assert rag_bot("train", "own.jsonl", "--resume", name) == 2
