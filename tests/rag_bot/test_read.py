import json
import shutil
from pathlib import Path

import pytest

from rag_bot import read
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken, ModelMissing
from rag_bot.read import Calibration, MiniReader

LEAVE = "Every employee has 27 days of paid leave a year. Unused days expire at the end of March."
PARKING = "The garage opens at six. Visitors pay two euros an hour and park on the lower level."
NOISE = "Paid leave is a topic of many contracts. The committee talked about it for a long time."


@pytest.mark.parametrize(
    ("question", "best", "words"),
    [
        ("How many days of paid leave does an employee have?", 0, "27"),
        ("When do unused days of leave expire?", 0, "March"),
        ("What do visitors pay for parking?", 1, "two euros"),
        ("When does the garage open?", 1, "six"),
    ],
)
def test_it_ranks_points_and_tells(
    reader: MiniReader, question: str, best: int, words: str
) -> None:
    texts = [LEAVE, PARKING, NOISE]
    readings = reader.read(question, [("handbook", text) for text in texts])
    assert max(range(3), key=lambda n: readings[n].relevance) == best
    assert max(range(3), key=lambda n: readings[n].answerable) == best
    assert words in texts[best][readings[best].start : readings[best].end]


def test_a_near_miss_answers_less(reader: MiniReader) -> None:
    asked = "How many days of paid leave does an employee have?"
    right, miss = reader.read(asked, [("", LEAVE), ("", NOISE)])
    assert right.answerable > 0.5 > miss.answerable


def test_company_changes_nothing(settings: Settings) -> None:
    """Batches are padded; what is beside a passage must not show.

    In bfloat16, sums in another order are other sums.
    """
    exact = settings.models.model_copy(update={"precision": "float32"})
    reader = MiniReader(read.SHIPPED, settings.model_copy(update={"models": exact}))
    texts = [("", LEAVE), ("h", PARKING), ("", NOISE * 8), ("", "x")]
    together = reader.read_pairs([("When?", *each) for each in texts])
    for each, whole in zip(texts, together, strict=True):
        (alone,) = reader.read_pairs([("When?", *each)])
        assert alone.relevance == pytest.approx(whole.relevance, abs=1e-3)
        assert (alone.start, alone.end) == (whole.start, whole.end)


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
def test_nothing_to_read_points_nowhere(reader: MiniReader, text: str) -> None:
    (reading,) = reader.read("When?", [("", text)])
    assert text[reading.start : reading.end].strip() == ""


def test_a_question_typed_in_haste_is_read_as_one(reader: MiniReader) -> None:
    hasty, whole, said = (
        reader.read_pairs([(asked, "", LEAVE)])
        for asked in (
            "when does leave expire",
            "when does leave expire?",
            "when does leave expire.",
        )
    )
    assert hasty == whole != said


def test_nothing_asked_and_nothing_given(reader: MiniReader) -> None:
    assert reader.read("When?", []) == []
    assert len(reader.read("", [("", LEAVE)])) == 1


def test_the_readings_of_the_last_question_are_remembered(
    reader: MiniReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reader.read("When does it open?", [("", LEAVE), ("", PARKING), ("", LEAVE)])
    assert before[0] == before[2]
    read_anew: list[tuple[str, str, str]] = []
    whole = reader.read_pairs
    monkeypatch.setattr(reader, "read_pairs", lambda pairs: read_anew.extend(pairs) or whole(pairs))
    assert reader.read("When does it open?", [("", PARKING)]) == [before[1]]
    reader.read("When does it open?", [("", PARKING), ("", NOISE)])
    assert read_anew == [("When does it open?", "", NOISE)]


def test_calibration_by_hand() -> None:
    """sigmoid(-1 + 2 * 1 + 0.5 * -2) = sigmoid(0)."""
    assert Calibration(2, 0.5, -1)(1, -2) == 0.5
    assert Calibration()(1e9, 0) == pytest.approx(1)
    assert Calibration()(-1e9, 0) == pytest.approx(0)


def test_no_reader_is_a_choice(settings: Settings) -> None:
    none = settings.model_copy(update={"models": settings.models.model_copy(update={"reader": ""})})
    assert read.load(none) is None


def load(folder: Path, settings: Settings) -> read.Reader | None:
    changed = settings.models.model_copy(update={"reader": str(folder)})
    return read.load(settings.model_copy(update={"models": changed}))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(read.SHIPPED, tmp_path / "reader"))


def test_the_reader_is_known_by_its_weights(copied: Path, settings: Settings) -> None:
    loaded = load(copied, settings)
    assert loaded is not None
    assert loaded.model_id.startswith("reader:")
    weights = copied / read.WEIGHTS
    weights.unlink()
    with pytest.raises(ModelMissing, match=r"no reader\.safetensors"):
        load(copied, settings)


def test_a_broken_reader_is_named(copied: Path, settings: Settings) -> None:
    weights = copied / read.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(ModelBroken, match=r"reader\.safetensors is cut short"):
        load(copied, settings)
    weights.write_bytes(whole)
    (copied / read.CARD).write_text("{}")
    with pytest.raises(ModelBroken, match=r"reader\.json can't be read"):
        load(copied, settings)
    (copied / read.CARD).unlink()
    with pytest.raises(ModelBroken, match=r"reader\.json can't be read"):
        load(copied, settings)


def test_a_reader_without_its_base_is_refused(copied: Path, settings: Settings) -> None:
    card = json.loads((copied / read.CARD).read_text())
    (copied / read.CARD).write_text(json.dumps({**card, "base": "nothing"}))
    with pytest.raises(ModelMissing):
        load(copied, settings)


def test_weights_of_something_else_are_refused(
    copied: Path, embedder_folder: Path, settings: Settings
) -> None:
    shutil.copy(embedder_folder / "model.safetensors", copied / read.WEIGHTS)
    with pytest.raises(ModelBroken, match="is not a reader"):
        load(copied, settings)


@pytest.fixture(scope="module")
def cross_encoder(embedder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of one small layer, untrained."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "cross"
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    transformers.BertForSequenceClassification(shape).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(embedder_folder).save_pretrained(folder)
    return folder


def with_reranker(settings: Settings, folder: Path) -> Settings:
    changed = settings.models.model_copy(update={"reranker": str(folder)})
    return settings.model_copy(update={"models": changed})


def test_another_models_ranking_takes_the_readers_place(
    reader: MiniReader, cross_encoder: Path, settings: Settings
) -> None:
    other = read.load(with_reranker(settings, cross_encoder))
    assert other is not None
    assert other.model_id.startswith(reader.model_id + "+cross:")
    passages = [("h", LEAVE), ("", PARKING)]
    ours, theirs = reader.read("When?", passages), other.read("When?", passages)
    assert [each.start for each in ours] == [each.start for each in theirs]
    assert [each.answerable for each in ours] == [each.answerable for each in theirs]
    assert all(a.relevance != b.relevance for a, b in zip(ours, theirs, strict=True))
    assert other.read("When?", []) == []


def test_a_reranker_that_is_none_is_named(
    reader: MiniReader, tiny_classes: Path, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(ModelMissing, match="no model in"):
        read.load(with_reranker(settings, tmp_path / "nowhere"))
    with pytest.raises(ModelBroken, match="has 3 outputs, not one"):
        read.load(with_reranker(settings, tiny_classes))


@pytest.fixture(scope="module")
def tiny_classes(cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape with three outputs."""
    import transformers

    folder = Path(shutil.copytree(cross_encoder, tmp_path_factory.mktemp("models") / "three"))
    shape = transformers.BertConfig.from_pretrained(folder, num_labels=3)
    transformers.BertForSequenceClassification(shape).save_pretrained(folder)
    return folder
