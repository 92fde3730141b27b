"""What the index's files were when it was last put away: damage is noticed before they are used.

A file system returns flipped bits without a word, and neither SQLite, Chroma nor tantivy checks
what it reads. Files that are as sealed are trusted. Before a folder is written to its seal is
lifted: so one that is sealed and not as it was has been damaged, and one without a seal was in use
when its process was killed, and is checked by what it says.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path

FILE = "seal.json"
_BLOCK = 1 << 20


class Seal:
    """The SHA-256 of each file below a folder that a seal is asked to cover."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}
        try:
            read = json.loads((folder / FILE).read_text())
        except (OSError, ValueError):
            read = None
        self._sealed: dict[str, str] = read if isinstance(read, dict) else {}

    def covers(self, part: str) -> bool:
        """Whether there is a seal of this file, or of anything in this folder."""
        return bool(self._sealed_of(part))

    def intact(self, part: str) -> bool:
        """Whether a file, or all files of a folder, are there and as they were sealed."""
        try:
            now = self._digests(part)
        except OSError:  # it can't be read, or not to its end
            return False
        return bool(now) and now == self._sealed_of(part)

    def write(self, parts: Iterable[str], keep: Iterable[str] = ()) -> None:
        """Seal these files and folders as they are now, and leave the seals of `keep` alone."""
        with self._lock:
            digests: dict[str, str] = {}
            for part in keep:
                digests |= self._sealed_of(part)
            for part in parts:
                digests |= self._digests(part)
            self._save(digests)

    def renew(self, part: str) -> None:
        """Seal this folder as it is now, and leave all other seals alone."""
        with self._lock:
            self._save(self._other_than(part) | self._digests(part))

    def lift(self, part: str) -> None:
        """Take the seal off a folder, for it is about to change. Durable on return."""
        with self._lock:
            if self.covers(part):
                self._save(self._other_than(part))

    def _sealed_of(self, part: str) -> dict[str, str]:
        return {n: d for n, d in self._sealed.items() if n == part or n.startswith(part + "/")}

    def _other_than(self, part: str) -> dict[str, str]:
        return {n: d for n, d in self._sealed.items() if not n.startswith(part + "/")}

    def _save(self, digests: dict[str, str]) -> None:
        if digests == self._sealed:
            return
        new = self._folder / (FILE + ".new")
        with new.open("w") as stream:
            json.dump(digests, stream)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._folder / FILE)
        self._sealed = digests

    def _digests(self, part: str) -> dict[str, str]:
        place = self._folder / part
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        return {file.relative_to(self._folder).as_posix(): self._digest(file) for file in files}

    def _digest(self, file: Path) -> str:
        status = file.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        before = self._known.get(file)
        if before and before[0] == stamp:
            return before[1]
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        self._known[file] = (stamp, digest.hexdigest())
        return digest.hexdigest()
