"""From a command's options to settings, and from settings to the index, wherever it is open."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_bot.config import Loaded, Settings
    from ui.local import Local
    from ui.remote import Remote

DONE, IN_PART, WRONG, BROKEN = 0, 1, 2, 3


def load(options: argparse.Namespace) -> Loaded:
    """All layers of settings, the command's own flags last."""
    from rag_bot import config
    from rag_bot.errors import UsageError

    flags: dict[str, Any] = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: no value", "write --set KEY=VALUE")
        flags[key] = value
    given = {
        "collection": getattr(options, "collection", None),
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
        "retrieval.top_k": getattr(options, "sources", None),
    }
    flags |= {key: value for key, value in given.items() if value is not None}
    return config.load(options.config_file, flags)


def reach(settings: Settings, wait: float) -> Local | Remote:
    """The index itself, or the running server that owns it."""
    from rag_bot.index import owner

    who = owner(settings.data_dir)
    if who and who.url:
        from ui.remote import Remote

        return Remote(who)
    from ui.local import Local

    return Local(settings, wait=wait)
