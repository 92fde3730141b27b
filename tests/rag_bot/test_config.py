import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from rag_bot import config
from rag_bot.errors import ConfigError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a user's configuration folder with nothing in them."""
    (tmp_path / "work").mkdir()
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda _app: str(tmp_path / "user"))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_come_from_nowhere_else() -> None:
    loaded = config.load(environ={})
    assert loaded.origins == {}
    assert loaded.settings.retrieval.top_k == 4
    assert {each.origin for each in loaded.explain()} == {"default"}


def test_file_beats_default_environment_beats_file_flag_beats_environment(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.toml",
        "[retrieval]\ntop_k = 5\ncandidates = 60\ndense_weight = 0.2\n",
    )
    loaded = config.load(
        file,
        flags={"retrieval.dense_weight": 0.4, "retrieval.floor": None},
        environ={"RAG_BOT_RETRIEVAL__CANDIDATES": "70", "RAG_BOT_RETRIEVAL__DENSE_WEIGHT": "0.3"},
    )
    retrieval = loaded.settings.retrieval
    assert (retrieval.top_k, retrieval.candidates, retrieval.dense_weight) == (5, 70, 0.4)
    assert retrieval.floor == config.Retrieval().floor
    origins = {each.key: each.origin for each in loaded.explain()}
    assert origins["retrieval.top_k"] == str(file)
    assert origins["retrieval.candidates"] == "RAG_BOT_RETRIEVAL__CANDIDATES"
    assert origins["retrieval.dense_weight"] == "flag"
    assert origins["retrieval.floor"] == "default"


def test_the_real_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_BOT_SERVER__PORT", "8123")
    assert config.load().settings.server.port == 8123


def test_the_file_in_the_working_directory_beats_the_users(tmp_path: Path) -> None:
    write(tmp_path / "user" / config.FILE_NAME, "collection = 'theirs'")
    assert config.load(environ={}).settings.collection == "theirs"
    here = write(tmp_path / "work" / config.FILE_NAME, "collection = 'here'")
    loaded = config.load(environ={})
    assert loaded.settings.collection == "here"
    assert loaded.origins == {"collection": str(here)}


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("RAG_BOT_RETRIEVAL__TOPK", "retrieval.top_k"),
        ("RAG_BOT_DATADIR", "data_dir"),
        ("RAG_BOT_PORT", "server.port"),
        ("RAG_BOT_MODELS_DIR", "models.dir"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_right_one(key: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environ={key: "1"})
    assert key in caught.value.message
    assert near in caught.value.remedy


def test_an_unknown_key_in_the_file_is_refused_with_the_file_and_the_nearest(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "c.toml", "[ingest]\nchunk_token = 100\n")
    with pytest.raises(ConfigError) as caught:
        config.load(file, environ={})
    assert str(file) in caught.value.message
    assert "'ingest.chunk_token'" in caught.value.message
    assert "'ingest.chunk_tokens'" in caught.value.remedy


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match="flag: unknown setting 'zzz'"):
        config.load(flags={"zzz": 1}, environ={})


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("RAG_BOT_RETRIEVAL__TOP_K", "0", "retrieval.top_k"),
        ("RAG_BOT_RETRIEVAL__TOP_K", "four", "retrieval.top_k"),
        ("RAG_BOT_SERVER__PORT", "70000", "server.port"),
        ("RAG_BOT_COLLECTION", "../etc", "collection"),
        ("RAG_BOT_MODELS__PRECISION", "float8", "models.precision"),
    ],
)
def test_an_impossible_value_is_refused_by_name(name: str, value: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environ={name: value})
    assert caught.value.message.startswith(f"{name}: {key} = {value!r}")
    assert config.keys()[key] in caught.value.remedy


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", "a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match="line 2") as caught:
        config.load(file, environ={})
    assert str(file) in caught.value.message


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file at .*gone\.toml"):
        config.load(tmp_path / "gone.toml", environ={})


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert config.load(environ={"RAG_BOT_DATA_DIR": "~/rag"}).settings.data_dir == Path(
        "/home/ada/rag"
    )


def test_every_setting_is_listed_once_and_described() -> None:
    keys = [each.key for each in config.load(environ={}).explain()]
    assert keys == list(config.keys())
    assert len(set(keys)) == len(keys)
    assert all(config.keys().values())
    assert {"data_dir", "models.adapter", "server.max_upload_mb"} <= set(keys)


def test_settings_cannot_be_changed() -> None:
    settings = config.load(environ={}).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.retrieval.top_k = 9


def test_importing_reads_no_settings(tmp_path: Path) -> None:
    """A broken file and a broken variable do nothing until `load` is called."""
    write(tmp_path / "work" / config.FILE_NAME, "not = = toml")
    code = (
        "import rag_bot.config, rag_bot.index, rag_bot.models, rag_bot.retrieve\n"
        "print('imported')\n"
        "from rag_bot.errors import ConfigError\n"
        "try: rag_bot.config.load()\n"
        "except ConfigError as error: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "work",
        env={**os.environ, "RAG_BOT_NO_SUCH": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["imported", "refused"], done.stderr
