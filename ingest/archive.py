"""The file of a backup: a ZIP archive with a manifest.

`manifest.json` says what the other members are: `catalogue.sqlite` and `uploads/…`. A file that
says or holds anything else is refused, and nothing of it is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import TypeAdapter

import rag_bot
from rag_bot.database import SCHEMA
from rag_bot.errors import Unavailable, UsageError
from rag_bot.index import CATALOGUE

FORMAT = 1
UPLOADS = "uploads/"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 100_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a backup."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says. `made_at` is POSIX seconds, `collections` counts documents."""

    format: int
    version: str
    schema: int
    made_at: float
    data_dir: str
    collections: dict[str, int]
    members: dict[str, Member]


_FORM = TypeAdapter(Manifest)


def write(
    stream: IO[bytes], files: Mapping[str, Path], data_dir: str, collections: dict[str, int]
) -> Manifest:
    """Write files under their names as members; one that is gone meanwhile is left out."""
    members: dict[str, Member] = {}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member, path in files.items():
            with contextlib.suppress(FileNotFoundError):
                members[member] = _add(archive, member, path)
        manifest = Manifest(
            FORMAT, rag_bot.__version__, SCHEMA, time.time(), data_dir, collections, members
        )
        archive.writestr(_MANIFEST, _FORM.dump_json(manifest, indent=1))
    return manifest


def unpack(place: Path, folder: Path) -> Manifest:
    """Check an archive, and put its members into a folder.

    Raises UsageError for one that is damaged, foreign or newer, Unavailable when there is no room.
    """
    try:
        with zipfile.ZipFile(place) as archive:
            manifest = _manifest(place, archive)
            _check_members(place, archive, manifest)
            _extract(place, archive, manifest, folder)
    # RuntimeError is what zipfile raises for a member with a password.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise foreign(place, str(error)) from error
    except OSError as error:
        raise UsageError(
            f"the backup {place} can't be read: {error.strerror}", "check its path"
        ) from error
    return manifest


def _add(archive: zipfile.ZipFile, member: str, path: Path) -> Member:
    with path.open("rb") as source:
        mtime_ns = os.fstat(source.fileno()).st_mtime_ns
        with archive.open(member, "w", force_zip64=True) as target:
            sha256, size = _copy(source, target)
    return Member(sha256, size, mtime_ns)


def _copy(source: IO[bytes], target: IO[bytes], limit: int | None = None) -> tuple[str, int]:
    """SHA-256 and size of what was copied; stops soon after `limit` bytes."""
    digest, size = hashlib.sha256(), 0
    while (limit is None or size <= limit) and (block := source.read(_BLOCK)):
        digest.update(block)
        size += len(block)
        target.write(block)
    return digest.hexdigest(), size


def foreign(place: Path, why: str) -> UsageError:
    """The error for a file that is not what `write` made."""
    return UsageError(
        f"{place} is not a whole backup of rag-bot: {why}", "take another, or copy it again"
    )


def _manifest(place: Path, archive: zipfile.ZipFile) -> Manifest:
    names = archive.namelist()
    if names.count(_MANIFEST) != 1:
        raise foreign(place, "it has no manifest")
    with archive.open(_MANIFEST) as stream:
        data = stream.read(_MANIFEST_BYTES)
    try:
        known = json.loads(data)
        newer = known["format"] > FORMAT or known["schema"] > SCHEMA
        if not newer:
            return _FORM.validate_json(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise foreign(place, "its manifest says nothing we know") from error
    raise UsageError(
        f"{place} was made by rag-bot {known.get('version')}, which is newer",
        "update this one first",
    )


def _check_members(place: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    listed = sorted(each.filename for each in archive.infolist())
    if listed != sorted([_MANIFEST, *manifest.members]) or CATALOGUE not in manifest.members:
        raise foreign(place, "it holds other files than its manifest says")
    for each in archive.infolist():
        parts = PurePosixPath(each.filename).parts
        inside = each.filename in (_MANIFEST, CATALOGUE) or each.filename.startswith(UPLOADS)
        if not inside or "/".join(parts) != each.filename or ".." in parts:
            raise foreign(place, f"it holds {each.filename!r}")
        if stat.S_ISLNK(each.external_attr >> 16):
            raise foreign(place, f"{each.filename!r} is a link")
        member = manifest.members.get(each.filename)
        if member and member.size != each.file_size:
            raise foreign(place, f"{each.filename!r} has the wrong size")


def _extract(place: Path, archive: zipfile.ZipFile, manifest: Manifest, folder: Path) -> None:
    needed = sum(each.size for each in manifest.members.values())
    room = shutil.disk_usage(folder).free
    if needed > room:
        raise _no_room(folder, f"{needed / 1e6:.0f} MB are needed, {room / 1e6:.0f} are free")
    for name, member in manifest.members.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as stream:
                copied = _copy(source, stream, member.size)
            os.utime(target, ns=(member.mtime_ns, member.mtime_ns))
        except OSError as error:
            raise _no_room(folder, str(error.strerror)) from error
        if copied != (member.sha256, member.size):
            raise foreign(place, f"{name!r} is not as it was written")


def _no_room(folder: Path, why: str) -> Unavailable:
    return Unavailable(f"the backup can't be unpacked in {folder}: {why}", "make room on its disk")
