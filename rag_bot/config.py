"""Settings: defaults, then `rag-bot.toml`, then `RAG_BOT_*` variables, then flags.

Nothing is read until `load` is called. Every value remembers which layer set it, so that
`rag-bot config` can say where a surprise came from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rag_bot.errors import ConfigError

FILE_NAME = "rag-bot.toml"
ENV_PREFIX = "RAG_BOT_"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _split(value: object) -> object:
    """A variable or flag holds several patterns with commas between them."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


Patterns = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Models(_Section):
    """Which models are used and where they lie."""

    dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("rag-bot")) / "models",
        description="Where `rag-bot models pull` puts models",
    )
    embedder: str = Field(
        "all-minilm-l6-v2",
        description="Name of a pulled model, or a folder in sentence-transformers' format",
    )
    reader: str = Field(
        "promoted",
        description="promoted: what `rag-bot finetune reader` promoted, else the shipped one; "
        "shipped; a reader's folder; empty for none",
    )
    reranker: str = Field(
        "",
        description="Folder of a cross-encoder in transformers' format that ranks in the reader's "
        "place; its scores are taken for log-odds",
    )
    llm: str = Field(
        "smollm2-135m-instruct",
        description="Name of a pulled model, or a folder in transformers' format; "
        "with an endpoint, the model's name there",
    )
    adapter: str = Field(
        "promoted",
        description="promoted: what `rag-bot finetune` promoted for the LLM, else the shipped one "
        "if it fits; shipped; a PEFT adapter's folder (safetensors); empty for none",
    )
    endpoint: str = Field(
        "", description="Base URL of an OpenAI-compatible server to use instead of a local LLM"
    )
    endpoint_key: str = Field(
        "", description="Its API key, if it wants one (better set by variable than in a file)"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor has it, else float32"
    )
    threads: int = Field(0, ge=0, description="CPU threads for the models; 0 leaves it to torch")


class Retrieval(_Section):
    """How sources are found."""

    candidates: int = Field(100, ge=1, le=1000, description="Chunks taken from each retriever")
    top_k: int = Field(4, ge=1, le=50, description="Sources shown to the model")
    dense_weight: float = Field(
        0.8, ge=0, le=1, description="What the vectors count beside the words of the question"
    )
    mention_gain: float = Field(
        0.15,
        ge=0,
        description="What a document gains that the question or a good source names; 0 nothing",
    )
    read: int = Field(14, ge=1, le=200, description="Candidates that the reader reads")
    reader_weight: float = Field(
        0.4, ge=0, description="What the reader's judgement counts in the ranking; 0 nothing"
    )
    floor: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Abstain when the evidence score of the best source is below this; 0 never",
    )
    answerable: float = Field(
        0.55,
        ge=0,
        le=1,
        description="Abstain when the reader gives the likeliest source less than this",
    )


class Generation(_Section):
    """How an answer is written."""

    max_tokens: int = Field(128, ge=1, le=4096, description="Longest answer, in tokens")
    context_tokens: int = Field(
        300, ge=100, description="Tokens of sources in the prompt; the rest is left out"
    )
    temperature: float = Field(
        0, ge=0, le=2, description="0 takes the likeliest token each time; more draws at random"
    )
    seed: int = Field(0, ge=0, description="Where drawing begins, for the same answer again")
    sentences: bool = Field(
        False,
        description="true: a local model's few words give way to their sentence, whatever is asked",
    )


class Ingest(_Section):
    """How files become documents."""

    max_file_mb: int = Field(200, ge=1, description="Larger files are reported, not read")
    chunk_tokens: int = Field(
        254,
        ge=32,
        le=512,
        description="Longest chunk, in the embedder's word pieces; less where headings go along",
    )
    batch_chunks: int = Field(512, ge=1, le=5000, description="Chunks embedded and stored at once")
    include: Patterns = Field(
        (), description="Only files that match one of these `.gitignore` patterns are read"
    )
    exclude: Patterns = Field(
        (), description="Files and folders that match one of these `.gitignore` patterns are not"
    )


class Evaluation(_Section):
    """What the gate guards."""

    guards: Patterns = Field(
        (
            "recall@5=0.02",
            "nDCG@10=0.02",
            "source_recall=0.02",
            "accuracy=0.03",
            "false_abstention=0.05",
            "abstention_recall=0.05",
            "own_words=0.10",
            "faithfulness=0.03",
            "page_precision=0.05",
            "markers_resolved=0.02",
            "quotes_verbatim=0.01",
        ),
        description="METRIC=MARGIN: how much worse each may become before `eval gate` refuses",
    )


class Finetune(_Section):
    """How candidates are made and what they must be better at."""

    method: Literal["qlora", "lora", "prompt", "prefix"] = Field(
        "lora", description="How `rag-bot finetune train` trains where no --method is given"
    )
    target: str = Field(
        "F1", description="The metric that a candidate must be better at to go live"
    )


class Server(_Section):
    """Where the chat is served."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    max_upload_mb: int = Field(50, ge=1, description="Largest file the page takes")


class Settings(_Section):
    """All of them. Immutable: a change is a new `load`."""

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("rag-bot")),
        description="Where the index, feedback and uploads are kept",
    )
    collection: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="The collection used when none is named",
    )
    models: Models = Field(default_factory=lambda: Models())
    retrieval: Retrieval = Field(default_factory=lambda: Retrieval())
    generation: Generation = Field(default_factory=lambda: Generation())
    ingest: Ingest = Field(default_factory=lambda: Ingest())
    eval: Evaluation = Field(default_factory=lambda: Evaluation())
    finetune: Finetune = Field(default_factory=lambda: Finetune())
    server: Server = Field(default_factory=lambda: Server())


class Setting(NamedTuple):
    """One effective value: dotted key, value, the layer that set it, and what it is for."""

    key: str
    value: Any
    origin: str
    description: str


class Loaded(NamedTuple):
    """Settings, and for each dotted key that is not a default the layer it came from."""

    settings: Settings
    origins: Mapping[str, str]

    def explain(self) -> Iterator[Setting]:
        """Every key with its effective value and where that came from."""
        for key, description in keys().items():
            value: Any = self.settings
            for part in key.split("."):
                value = getattr(value, part)
            yield Setting(key, value, self.origins.get(key, "default"), description)


def keys() -> dict[str, str]:
    """Every dotted key and its description, in the order they are declared."""
    found: dict[str, str] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, f"{prefix}{name}.")
            else:
                found[prefix + name] = field.description or ""

    walk(Settings, "")
    return found


def load(
    config_file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read all layers once.

    `config_file` replaces the search for `rag-bot.toml` (working directory, then the user's
    configuration folder). `flags` maps dotted keys to values; `None` means not given.

    Raises ConfigError, naming the key and the nearest right one, for anything unknown or
    impossible.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    file = _find_file(config_file)
    if file is not None:
        layers.append((str(file), dict(flatten(_read_toml(file)))))
    layers += [
        (name, {key: value})
        for name, key, value in _from_environment(os.environ if environ is None else environ)
    ]
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    layers.append(("flag", given))

    known = keys()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in known:
                raise ConfigError(f"{origin}: unknown setting {key!r}", _suggest(key, known))
            values[key] = value
            origins[key] = origin
    return Loaded(_validate(values, origins), origins)


def _validate(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = os.path.expanduser(value) if isinstance(value, str) else value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{origins.get(key, 'settings')}: {key} = {first['input']!r}: {first['msg']}",
            f"{key}: {known}" if (known := keys().get(key)) else "",
        ) from None


def _find_file(config_file: Path | None) -> Path | None:
    if config_file is not None:
        if not config_file.is_file():
            raise ConfigError(f"no configuration file at {config_file}", "check --config-file")
        return config_file
    candidates = (Path(FILE_NAME), Path(platformdirs.user_config_dir("rag-bot")) / FILE_NAME)
    return next((path.absolute() for path in candidates if path.is_file()), None)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", "mend that line, or move the file away") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "make it readable") from None


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables under dotted keys."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX):
            yield name, name.removeprefix(ENV_PREFIX).lower().replace("__", "."), environ[name]


def _suggest(key: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    if not near:
        tail = key.rsplit(".", 1)[-1]
        near = [other for other in known if other.rsplit(".", 1)[-1] == tail]
    return f"did you mean {near[0]!r}?" if near else "`rag-bot config` lists them all"
