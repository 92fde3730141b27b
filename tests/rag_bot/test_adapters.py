import json
import shutil
from pathlib import Path

import pytest

from rag_bot import adapters, read
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken, ModelMissing


def using(settings: Settings, **fields: object) -> Settings:
    models = settings.models.model_copy(update=fields)
    return settings.model_copy(update={"models": models})


@pytest.fixture
def bare(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for which no adapter is shipped."""
    monkeypatch.setattr(adapters, "SHIPPED", tmp_path / "shipped")
    return settings


def ship(tmp_path: Path, weights: str) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / adapters.CARD).write_text(json.dumps({"base_weights": weights}))


def test_the_promoted_adapter_answers_and_before_one_the_shipped_if_it_fits(
    bare: Settings, tmp_path: Path
) -> None:
    weights = adapters.base(bare)
    assert adapters.located(bare) is None
    ship(tmp_path, weights)
    assert adapters.located(bare) == tmp_path / "shipped"
    place = adapters.folder(bare) / "one"
    place.mkdir(parents=True)
    adapters.set_promoted(bare, weights, ["none", "one"])
    assert adapters.located(bare) == place
    adapters.set_promoted(bare, "of another model", ["two"])
    assert adapters.promoted(bare, weights) == ["none", "one"]
    place.rmdir()
    with pytest.raises(ModelMissing, match="is gone") as caught:
        adapters.located(bare)
    assert "rollback" in caught.value.remedy


def test_a_shipped_adapter_of_another_model_is_left_alone(bare: Settings, tmp_path: Path) -> None:
    ship(tmp_path, "of another model")
    assert adapters.located(bare) is None
    with pytest.raises(ModelMissing, match="not for smollm2"):
        adapters.located(using(bare, adapter="shipped"))


def test_one_can_be_named_or_none_wanted(bare: Settings, tmp_path: Path) -> None:
    ship(tmp_path, adapters.base(bare))
    assert adapters.located(using(bare, adapter="")) is None
    assert adapters.located(using(bare, endpoint="http://127.0.0.1:1/v1")) is None
    assert adapters.located(using(bare, adapter="/some/where")) == Path("/some/where")
    assert adapters.located(using(bare, adapter="shipped")) == tmp_path / "shipped"


def test_a_broken_list_or_card_says_what_to_do(bare: Settings, tmp_path: Path) -> None:
    ship(tmp_path, adapters.base(bare))
    adapters.folder(bare).mkdir(parents=True)
    (adapters.folder(bare) / adapters.LIVE).write_text("[1]")
    with pytest.raises(ModelBroken, match=r"live\.json") as caught:
        adapters.located(bare)
    assert "delete it" in caught.value.remedy
    (tmp_path / "shipped" / adapters.CARD).write_text("{")
    with pytest.raises(ModelBroken, match=r"card\.json can't be read"):
        adapters.located(using(bare, adapter="shipped"))


def test_a_promoted_reader_is_live_and_before_one_the_shipped(bare: Settings) -> None:
    assert read.located(bare) == read.SHIPPED
    weights = adapters.reader_base(bare)
    adapters.set_promoted(bare, weights, ["r1"])
    with pytest.raises(ModelMissing, match="is gone") as caught:
        read.located(bare)
    assert "rollback --reader" in caught.value.remedy
    place = adapters.folder(bare) / "r1"
    shutil.copytree(read.SHIPPED, place)
    assert read.located(bare) == place
    assert read.located(using(bare, reader="shipped")) == read.SHIPPED
    assert adapters.located(bare) is None  # adapters are another list
    assert adapters.fingerprint(place) == adapters.fingerprint(read.SHIPPED)
    (place / read.CARD).write_text("{}")
    assert adapters.fingerprint(place) != adapters.fingerprint(read.SHIPPED)


def test_an_adapter_is_known_by_its_weights_and_not_by_its_card(tmp_path: Path) -> None:
    ship(tmp_path, "w")
    place = tmp_path / "shipped"
    (place / "adapter_model.safetensors").write_bytes(b"1")
    first = adapters.fingerprint(place)
    (place / adapters.CARD).write_text("{}")
    assert adapters.fingerprint(place) == first
    (place / "adapter_config.json").write_text('{"lora_alpha": 1}')
    second = adapters.fingerprint(place)
    (place / "adapter_model.safetensors").write_bytes(b"2")
    assert len({first, second, adapters.fingerprint(place)}) == 3
