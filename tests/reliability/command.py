"""The commands of `rag-bot`, with a hash embedder and a model that says what it is told.

Set in the environment: `CHECK_REAL_EMBEDDER` keeps the real embedder, `CHECK_PARSER=here` parses
without a process, `CHECK_SLOW` is how many seconds embedding takes longer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_bot.catalogue import Vectors


def main() -> int:
    """Put the stand-ins in their places and run the command."""
    from ingest import sync
    from tests.conftest import Scripted, WordEmbedder, drafts_here
    from ui import cli
    from ui.local import Local

    class Slow(WordEmbedder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            time.sleep(float(os.environ.get("CHECK_SLOW", "0")))
            return super().encode(texts)

    scripted = Scripted("It is as it says. [1]")
    stand_ins: dict[str, object] = {"_writer": lambda _: scripted}
    if "CHECK_REAL_EMBEDDER" not in os.environ:
        stand_ins["_embedder"] = Slow()
    for name, each in stand_ins.items():
        setattr(Local, name, each)
    if os.environ.get("CHECK_PARSER") == "here":
        sync.drafts = drafts_here  # type: ignore[attr-defined]
    assert hasattr(sync, "_RACY_NS")
    sync._RACY_NS = 0
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
