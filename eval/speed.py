"""How fast is it? `python -m eval.speed ingest DOCS` and `python -m eval.speed ask DOCS`.

Medians over repeats; the machine's drift cancels in the ratio, which is of one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from eval import bench
from ingest.report import Report
from ingest.sync import ingest
from rag_bot import config, generate, read
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import RagBotError
from rag_bot.index import Index, indexed_text
from rag_bot.types import Finished, Token

QUESTIONS = (
    "How many days of annual leave do I get after 12 years of service?",
    "From which day of illness is a doctor's certificate needed?",
    "What is the hotel limit in a capital city?",
    "When are dogs allowed in the office?",
    "What does error E07 mean?",
    "How accurate is the wind speed of the Stormkeep 400?",
    "How do I return the station to factory settings?",
    "What are the Modbus address and the baud rate?",
    "How much liability insurance must the tenant keep?",
    "What does a missing key cost?",
    "Who audited the accounts in 2025?",
    "How long is the warranty on the battery pack BP-12?",
    "What is the restocking fee?",
    "To what amount is the consultant's liability limited?",
    "Why was revenue in the first quarter of 2026 below budget?",
    "What do new colleagues build in their third week?",
    "What does the main board MB-40 cost in exchange?",
    "How long are the pictures of the gate camera kept?",
    "Within how many days must critical updates be installed?",
    "How many readings are taken at each temperature point?",
)
"""About `examples/`: twenty, so that a median means something."""


def ingest_share(docs: Path, settings: Settings, repeats: int) -> dict[str, object]:
    """Ingest end to end, beside the embedder's own `encode` over the same texts."""
    embedder = Embedder.from_settings(settings)
    embedder.encode(["warm up"] * 8)
    shares, seconds, pages, chunks, second_runs = [], [], 0, 0, []
    for _ in range(repeats):
        with (
            tempfile.TemporaryDirectory() as work,
            Index(Path(work)) as index,
        ):
            report = _run(docs, index, embedder, settings)
            again = _run(docs, index, embedder, settings)
            assert again.embedded == 0, "a second run embedded something"
            collection = index.catalogue.collections()[0]
            entries = index.catalogue.entries(collection)
            texts = [
                indexed_text(stored.chunk, stored.title)
                for entry in entries
                for stored in index.catalogue.chunks_of(entry.id)
            ]
        start = perf_counter()
        embedder.encode(texts)
        raw = perf_counter() - start
        shares.append(raw / report.seconds)
        seconds.append(report.seconds)
        second_runs.append(again.seconds / report.seconds)
        pages = sum(entry.pages for entry in entries)
        chunks = len(texts)
        print(f"share {shares[-1]:.3f} ({raw:.1f} s of {report.seconds:.1f} s)", file=sys.stderr)
    return {
        "pages": pages,
        "chunks": chunks,
        "pages_per_second": round(pages / median(seconds), 1),
        "share_of_raw_embedding_speed": round(median(shares), 3),
        "shares": [round(share, 3) for share in shares],
        "second_run_share_of_first": round(median(second_runs), 4),
    }


def ask_latency(docs: Path, settings: Settings) -> dict[str, object]:
    """Time to the first token and tokens a second, models loaded; retrieval counted in."""
    embedder = Embedder.from_settings(settings)
    generator = generate.load(settings)
    reader = read.load(settings)
    firsts, rates, totals = [], [], []
    with tempfile.TemporaryDirectory() as work, Index(Path(work)) as index:
        _run(docs, index, embedder, settings)
        pipeline = Pipeline(settings, index, lambda: embedder, lambda: generator, lambda: reader)
        for question in (QUESTIONS[0], *QUESTIONS):  # the first one warms up
            start = perf_counter()
            first, last, text = 0.0, 0.0, ""
            for event in pipeline.answer(question):
                if isinstance(event, Token):
                    last = perf_counter()
                    first = first or last
                    text += event.text
                elif isinstance(event, Finished):
                    totals.append(perf_counter() - start)
            if first:
                firsts.append(first - start)
                rates.append(generator.count(text) / max(last - first, 1e-9))
    return {
        "questions": len(QUESTIONS),
        "first_token_s": round(median(firsts[1:]), 2),
        "tokens_per_s": round(median(rates[1:]), 1),
        "answer_s": round(median(totals[1:]), 2),
        "model_id": generator.model_id,
    }


def _run(docs: Path, index: Index, embedder: Embedder, settings: Settings) -> Report:
    return bench.quiet(ingest([docs], index, lambda: embedder, settings, settings.collection))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed", description=__doc__)
    parser.add_argument("what", choices=("ingest", "ask"))
    parser.add_argument("docs", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        settings = config.load().settings
        if options.what == "ingest":
            figures = ingest_share(options.docs, settings, options.repeats)
        else:
            figures = ask_latency(options.docs, settings)
    except RagBotError as error:
        print(f"eval.speed: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
