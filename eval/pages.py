"""Is the cited page the right one? `python -m eval.pages DOCS`.

Draws chunks of PDFs at random and looks for their text on the page they claim, as pypdf, which
did not make them, reads it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pypdf

from eval.run import squeezed
from ingest.sync import ingest
from rag_bot import config
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.index import Index

SEED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how many of the drawn chunks stand on their page; name those that do not."""
    parser = argparse.ArgumentParser(prog="python -m eval.pages", description=__doc__)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--chunks", type=int, default=50)
    options = parser.parse_args(arguments)
    try:
        settings = config.load().settings
        embedder = Embedder.from_settings(settings)
        with tempfile.TemporaryDirectory() as work, Index(Path(work)) as index:
            list(ingest([options.docs], index, lambda: embedder, settings, "pages"))
            collection = index.catalogue.collections()[0]
            stored = [
                each
                for entry in index.catalogue.entries(collection)
                if entry.media_type == "application/pdf"
                for each in index.catalogue.chunks_of(entry.id)
            ]
    except RagBotError as error:
        print(f"eval.pages: {error}", file=sys.stderr)
        return error.exit_status
    drawn = random.Random(SEED).sample(stored, min(options.chunks, len(stored)))
    missed = []
    for each in drawn:
        page = pypdf.PdfReader(each.source).pages[each.chunk.page_start - 1].extract_text()
        if squeezed(each.chunk.text) not in squeezed(page):
            missed.append({"source": each.source, "page": each.chunk.page_start})
    print(
        json.dumps(
            {"drawn": len(drawn), "on_their_page": len(drawn) - len(missed), "missed": missed}
        )
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
