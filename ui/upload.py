"""Where an uploaded file goes: into a folder of ours, under its own name."""

from __future__ import annotations

import filecmp
import re
import shutil
import unicodedata
from pathlib import Path

_LONGEST_NAME = 120
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


def keep(temporary: Path, folder: Path) -> Path:
    """Move an upload into the folder. Returns its place there.

    A name that is taken by other content gets a number; the same content is kept once.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = Path(safe_name(temporary.name))
    number = 1
    while True:
        place = folder / (name.name if number == 1 else f"{name.stem}-{number}{name.suffix}")
        try:
            with place.open("xb") as ours, temporary.open("rb") as theirs:
                shutil.copyfileobj(theirs, ours)
            break
        except FileExistsError:
            if filecmp.cmp(place, temporary, shallow=False):
                break
            number += 1
    temporary.unlink()
    return place


def safe_name(name: str) -> str:
    """The last part of a path, without what a file system or a shell could take amiss."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    # A leading dot would hide the file from us as well.
    clean = _UNSAFE.sub("_", last).strip().lstrip(".") or "document"
    path = Path(clean)
    return path.stem[:_LONGEST_NAME] + path.suffix[:20]
