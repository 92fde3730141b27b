"""The report's plots: SVG that takes its colours and its letters from the page around it.

Every plot is drawn from rows. The same rows give the same bytes: fonts are measured with the one
that matplotlib brings, identifiers are hashed with a fixed salt, and no date is written.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from eval import failures, score
from eval.failures import Cause
from eval.metrics import bootstrap, calibration, latency, recall, risk_coverage
from eval.metrics.latency import Latency
from eval.rows import Row

DEPTHS = (1, 2, 3, 5, 10, 20, 50, 100)
"""How many pages the plot of retrieval looks at."""

_INK, _QUIET, _LINE, _ACCENT, _WARN = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _WARN: "var(--warn)",
}
"""Colours that stand for the page's own, light or dark."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": _INK,
    "font.size": 10,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "figure.facecolor": "none",
}
_ALONE = "--ink:#1f2430;--quiet:#5d6677;--line:#dfe3ea;--accent:#1d5fbf;--warn:#c05a1c"
"""The light colours of `data/report.css`, for a plot that has no page around it."""
_MARKERS = "osD^vP"
_SHORTEST = 1e-3
"""Seconds. What is shorter is drawn as this: a logarithm knows no 0."""


T = TypeVar("T")


class Plot(NamedTuple):
    """`svg` is an `<svg>` element, or empty; then `missing` says why."""

    title: str
    about: str
    svg: str
    missing: str = ""


class _Drawn(NamedTuple):
    figure: Figure
    alt: str


def plots(rows: Sequence[Row]) -> list[Plot]:
    """All plots of a run, in the order of the line. Cases that failed are in none."""
    whole = [row for row in rows if not row.error]
    return [
        _plot(
            "Pages found",
            "Of the pages that a case needs, the share among the first k found. The band is the"
            " 95 % interval.",
            _retrieval,
            whole,
            "no case names a page to find",
        ),
        _plot(
            "Risk and coverage",
            "If only the surest answers were given: how many cases would get one, and what share"
            " of these would be wrong. The lower and the longer, the better.",
            _risk_coverage,
            whole,
            _unless_asked(whole, "no question was answered"),
        ),
        _plot(
            "Reliability",
            "Does a confidence of 0.8 mean right eight times in ten? Points on the diagonal say"
            " yes; below it the bot is too sure of itself. The bars count the answers.",
            _reliability,
            whole,
            _unless_asked(whole, "no question was answered"),
        ),
        _plot(
            "Why answers are wrong",
            "Each wrong answer counts once, where the first page that it needs was lost.",
            _causes,
            whole,
            _unless_asked(whole, "no answer is wrong"),
        ),
        _plot(
            "Latency",
            "Seconds by stage, on a logarithmic scale: from the median (p50) to what 95 in 100"
            " cases stay under (p95).",
            _latency,
            whole,
            "no case was timed",
        ),
    ]


def ratios(title: str, rows: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Each metric's ratios by system, with their spread `(middle, low, high)`, as an SVG file.

    1 is the system that all are compared with. A logarithm knows no 0: a middle of 0 is left out,
    and a spread that reaches far down ends at a tenth of its middle.
    """
    return _file(title, _ratios, rows)


def growth(title: str, lines: Mapping[str, Mapping[int, float]]) -> str:
    """Each line's seconds by number of chunks, as an SVG file."""
    return _file(title, _growth, lines)


def losses(title: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Each line's loss by training step, as an SVG file: a running mean over a pale curve."""
    return _file(title, _losses, lines)


def latencies(rows: Sequence[Row]) -> dict[str, Latency]:
    """Seconds by stage, the total last, of the cases that ran."""
    timings = [row.timings for row in rows if not row.error]
    stages = dict.fromkeys(stage for each in timings for stage in each)
    found: dict[str, Latency] = {}
    for stage in sorted(stages, key=lambda stage: stage == "total"):
        measured = latency.latency([each[stage] for each in timings if stage in each])
        if measured:
            found[stage] = measured
    return found


def causes(rows: Sequence[Row]) -> dict[Cause, int]:
    """How many answers are wrong for each cause, in the order of the line."""
    found = Counter(failure.cause for row in rows if (failure := failures.failure(row)))
    return {cause: found[cause] for cause in Cause}


def short(cause: Cause) -> str:
    """A cause in a word or three."""
    return cause.value.split(":")[0]


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `850 µs`, `12 ms`, `3.4 s`."""
    if seconds >= 999.5:
        return f"{seconds:,.0f} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        # 0.9996 s is 1 s, not 1000 ms.
        if seconds >= size * 0.9995:
            return f"{seconds / size:.3g} {unit}"
    return "0 s"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _unless_asked(rows: Sequence[Row], otherwise: str) -> str:
    asked = [row for row in rows if row.answered]
    if not asked:
        return "this run searched only, and asked for no answers"
    return otherwise if any(map(score.can_be_scored, asked)) else "no case has a reference"


def _plot(
    title: str,
    about: str,
    draw: Callable[[Sequence[Row]], _Drawn | None],
    rows: Sequence[Row],
    missing: str,
) -> Plot:
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": title}]):
        drawn = draw(rows)
        if drawn is None:
            return Plot(title, about, "", missing)
        return Plot(title, about, _svg(drawn))


def _file(title: str, draw: Callable[[T], _Drawn], given: T) -> str:
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": title}]):
        svg = _svg(draw(given))
    style = f'style="{_ALONE};background:#fff;font-family:sans-serif"'
    return svg.replace("<svg", f"<svg {style}", 1)


def _svg(drawn: _Drawn) -> str:
    stream = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawn.figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Groups are named alike in every plot of a page; nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    alt = html.escape(drawn.alt)
    return text.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)


def _axes(height: float = 3.3) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.2, height), layout="constrained")
    return figure, figure.add_subplot()


def _retrieval(rows: Sequence[Row]) -> _Drawn | None:
    searched = [row for row in rows if row.case.relevant]
    if not searched:
        return None
    rankings = [score.ranking(row) for row in searched]
    relevant = [{(ref.document, ref.page) for ref in row.case.relevant} for row in searched]
    clusters = [row.case.cluster for row in searched]
    shares = []
    for depth in DEPTHS:
        values = [
            recall.recall(ranking, pages, depth)
            for ranking, pages in zip(rankings, relevant, strict=True)
        ]
        estimate = bootstrap.interval(values, clusters)
        assert estimate is not None, "there are cases"
        shares.append(estimate)
    figure, axes = _axes()
    means = [each.mean for each in shares]
    lows, highs = [each.low for each in shares], [each.high for each in shares]
    axes.fill_between(DEPTHS, lows, highs, color=_ACCENT, alpha=0.18, linewidth=0)
    axes.plot(DEPTHS, means, color=_ACCENT, linewidth=2, marker="o", markersize=5)
    for depth, estimate in zip(DEPTHS, shares, strict=True):
        below = estimate.low > 0.2
        axes.annotate(
            f"{estimate.mean:.2f}",
            (depth, estimate.low if below else estimate.high),
            xytext=(0, -7 if below else 7),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
        )
    axes.set_xscale("log")
    axes.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("first k pages found")
    said = ", ".join(
        f"{each.mean:.2f} at {depth} ({each.low:.2f} to {each.high:.2f})"
        for depth, each in zip(DEPTHS, shares, strict=True)
    )
    return _Drawn(figure, f"Share of the right pages among the first k found: {said}.")


def _risk_coverage(rows: Sequence[Row]) -> _Drawn | None:
    points = risk_coverage.curve(score.selective([score.fact(row) for row in rows]))
    if not points:
        return None
    figure, axes = _axes()
    last = points[-1]
    axes.axhline(last.risk, color=_QUIET, linewidth=1, linestyle=(0, (2, 3)))
    axes.plot(
        [point.coverage for point in points],
        [point.risk for point in points],
        color=_ACCENT,
        linewidth=2,
    )
    axes.plot([last.coverage], [last.risk], color=_ACCENT, marker="o", markersize=7)
    axes.annotate(
        f"now: {_percent(last.coverage)} answered,\n{_percent(last.risk)} of them wrong",
        (last.coverage, last.risk),
        xytext=(0, 10),
        textcoords="offset points",
        ha="right" if last.coverage > 0.5 else "left",
    )
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, min(max(point.risk for point in points) * 1.3 + 0.1, 1.03))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("cases that get an answer")
    axes.set_ylabel("wrong ones of these")
    samples = {round(len(points) * part / 5) - 1 for part in range(1, 6)}
    said = ", ".join(
        f"{_percent(points[place].risk)} wrong at {_percent(points[place].coverage)} answered"
        for place in sorted(samples)
        if place >= 0
    )
    return _Drawn(
        figure,
        f"Share of wrong answers against the share of cases answered: {said}."
        " The dotted line is where the curve would lie if the confidence said nothing.",
    )


def _reliability(rows: Sequence[Row]) -> _Drawn | None:
    bins = calibration.reliability(score.committed([score.fact(row) for row in rows]))
    if not bins:
        return None
    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    confidences = [each.confidence for each in bins]
    accuracies = [each.accuracy for each in bins]
    axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle=(0, (2, 3)))
    axes.vlines(confidences, confidences, accuracies, color=_WARN, linewidth=4, alpha=0.35)
    axes.plot(confidences, accuracies, color=_ACCENT, linewidth=2, marker="o", markersize=5)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_ylabel("right answers")
    largest = max(each.cases for each in bins)
    for each in bins:
        counts.bar(
            (each.low + each.high) / 2,
            each.cases,
            width=(each.high - each.low) * 0.86,
            color=_ACCENT,
            alpha=0.35,
        )
        counts.annotate(
            f"{each.cases:,}",
            ((each.low + each.high) / 2, each.cases),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    counts.set_ylim(0, largest * 1.5)
    counts.set_yticks([])
    counts.spines["left"].set_visible(False)
    counts.set_ylabel("answers")
    counts.set_xlabel("confidence")
    said = ", ".join(
        f"{_percent(each.accuracy)} right at a confidence of {each.confidence:.2f}"
        f" ({each.cases} answers)"
        for each in bins
    )
    return _Drawn(figure, f"Share of right answers against the confidence: {said}.")


def _causes(rows: Sequence[Row]) -> _Drawn | None:
    counted = causes(rows)
    total = sum(counted.values())
    if not total:
        return None
    figure, axes = _axes(3.6)
    names = [short(cause) for cause in counted]
    places = range(len(names))
    axes.barh(places, list(counted.values()), color=_WARN, height=0.62)
    for place, count in zip(places, counted.values(), strict=True):
        axes.annotate(
            f"{count:,} · {_percent(count / total)}" if count else "0",
            (count, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center_baseline",
        )
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(counted.values()) * 1.18)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["bottom", "left"]].set_visible(False)
    said = ", ".join(f"{name} {count}" for name, count in zip(names, counted.values(), strict=True))
    return _Drawn(figure, f"Wrong answers by cause: {said}.")


def _latency(rows: Sequence[Row]) -> _Drawn | None:
    stages = latencies(rows)
    if not stages:
        return None
    figure, axes = _axes(0.9 + 0.42 * len(stages))
    for place, each in enumerate(stages.values()):
        ends = [max(each.p50, _SHORTEST), max(each.p95, _SHORTEST)]
        axes.plot(ends, [place, place], color=_ACCENT, linewidth=5, alpha=0.3)
        axes.plot(ends[:1], [place], color=_ACCENT, marker="o", markersize=8)
        axes.plot(ends[1:], [place], color=_ACCENT, marker="|", markersize=13, markeredgewidth=2.5)
        axes.annotate(
            f"{duration(each.p50)} – {duration(each.p95)}",
            (ends[1], place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xscale("log")
    longest = max(max(each.p95 for each in stages.values()), _SHORTEST)
    shortest = max(min(each.p50 for each in stages.values()), _SHORTEST)
    # Half as many decades again: room for the labels.
    axes.set_xlim(shortest / 1.6, longest * max(longest / shortest, 10) ** 0.5)
    steps = (1.0,) if longest / shortest > 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(stages)), list(stages))
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.spines["left"].set_visible(False)
    said = ", ".join(
        f"{stage} {duration(each.p50)} and {duration(each.p95)}" for stage, each in stages.items()
    )
    return _Drawn(figure, f"Median and 95th percentile by stage: {said}.")


def _ratios(rows: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> _Drawn:
    systems = list(dict.fromkeys(system for row in rows.values() for system in row))
    figure, axes = _axes(1.2 + 0.55 * len(rows))
    said = []
    for number, system in enumerate(systems):
        marker = _MARKERS[number % len(_MARKERS)]
        offset = (number - (len(systems) - 1) / 2) * 0.6 / max(len(systems), 1)
        known = [
            (place, row[system])
            for place, row in enumerate(rows.values())
            if system in row and row[system][0] > 0
        ]
        places = [place + offset for place, _ in known]
        middles = [middle for _, (middle, _, _) in known]
        axes.hlines(
            places,
            [max(low, middle / 10) for _, (middle, low, _) in known],
            [high for _, (_, _, high) in known],
            color=_QUIET,
            linewidth=2,
        )
        colour = _WARN if number % 2 else _ACCENT
        axes.plot(middles, places, marker, color=colour, markersize=6, label=system)
        titles = list(rows)
        said += [f"{system} {titles[place]} {middle:.2f}" for place, (middle, _, _) in known]
    axes.axvline(1, color=_QUIET, linewidth=1, linestyle=(0, (2, 3)))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("theirs to ours")
    figure.legend(loc="outside upper center", ncols=max(len(systems), 1), frameon=False)
    return _Drawn(figure, f"Ratios to ours: {', '.join(said)}.")


def _growth(lines: Mapping[str, Mapping[int, float]]) -> _Drawn:
    figure, axes = _axes()
    said = []
    for number, (name, points) in enumerate(lines.items()):
        seconds = [max(each, _SHORTEST) for each in points.values()]
        colour = _WARN if number % 2 else _ACCENT
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(list(points), seconds, color=colour, linewidth=2, marker=marker, label=name)
        said += [f"{name} {duration(each)} at {size:,}" for size, each in points.items()]
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({size for points in lines.values() for size in points})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("chunks in the index")
    figure.legend(loc="outside upper center", ncols=len(lines), frameon=False)
    return _Drawn(figure, f"Seconds by number of chunks: {', '.join(said)}.")


def _losses(lines: Mapping[str, Sequence[float]]) -> _Drawn:
    figure, axes = _axes()
    said = []
    for number, (name, values) in enumerate(lines.items()):
        colour = _WARN if number % 2 else _ACCENT
        window = max(1, len(values) // 20)
        means = [fmean(values[max(0, n + 1 - window) : n + 1]) for n in range(len(values))]
        steps = range(1, len(values) + 1)
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(steps, means, color=colour, linewidth=2, label=name)
        said.append(f"{name} {means[0]:.2f} to {means[-1]:.2f} in {len(values):,} steps")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    figure.legend(loc="outside upper center", ncols=len(lines), frameon=False)
    return _Drawn(figure, f"Loss by step: {', '.join(said)}.")
