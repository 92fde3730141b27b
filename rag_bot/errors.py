"""Everything that goes wrong on purpose.

    RagBotError
    ├── UsageError            exit 2   wrong arguments
    │   └── ConfigError       exit 2   wrong settings
    ├── Unavailable           exit 3   something needed is missing, broken or busy
    │   ├── ModelMissing
    │   ├── ModelBroken
    │   ├── EndpointFailed
    │   ├── IndexBusy
    │   ├── IndexMismatch
    │   ├── IndexDamaged
    │   └── PortInUse
    └── DocumentError         one file: reported, counted, and the rest goes on
        ├── NotADocument               skipped
        └── UnreadableDocument         failed

Each carries one line that names the file or the setting, and a remedy: what to do about it.
"""

from __future__ import annotations


class RagBotError(Exception):
    """The base of all of them. `exit_status` is what the command line ends with."""

    exit_status = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def __reduce__(self) -> tuple[type[RagBotError], tuple[str, ...]]:
        return type(self), (self.message, self.remedy)


class UsageError(RagBotError):
    """The request itself is wrong."""

    exit_status = 2


class ConfigError(UsageError):
    """A setting is unknown or has an impossible value."""


class Unavailable(RagBotError):
    """Something needed is missing, broken or busy."""

    exit_status = 3


class ModelMissing(Unavailable):
    """A model is not on this machine."""


class ModelBroken(Unavailable):
    """A model's files are cut, altered, or of a kind we refuse to load."""


class EndpointFailed(Unavailable):
    """The OpenAI-compatible endpoint did not answer as it should."""


class IndexBusy(Unavailable):
    """Another process owns the index."""


class IndexMismatch(Unavailable):
    """The index was made by another schema, chunker or embedder."""


class IndexDamaged(Unavailable):
    """A file of the index is not as it was written."""


class PortInUse(Unavailable):
    """The address to serve on is taken."""


class DocumentError(RagBotError):
    """One file could not become a document.

    `code` is a stable word for programs: `empty`, `encrypted`, `damaged`, `unknown_type`,
    `no_text`, `too_large`, `unreadable`, `changed`, `timeout`, `crashed`.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.code = code

    def __reduce__(self) -> tuple[type[RagBotError], tuple[str, ...]]:
        return type(self), (self.code, self.message, self.remedy)


class NotADocument(DocumentError):
    """Not a file we index (an image, a program): skipped."""


class UnreadableDocument(DocumentError):
    """A document that should have worked and did not: failed."""
