"""Charts of a report: SVG that stands inside a page and takes the page's colours.

No text from data enters a chart, so none can break it: series are named in the legend, which the page sets.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import binomtest

from mmorient.report.environment import showable

# Colours that stand in for the page's custom properties, which differ in light, dark and print.
INK, MUTED, RULE, ACCENT, SOFT, ALERT = (f"#0a0b0{index}" for index in range(6))
SERIES = [f"#0c0d0{index}" for index in range(6)]
PROPERTIES = dict(
    zip(
        (INK, MUTED, RULE, ACCENT, SOFT, ALERT),
        ("ink", "muted", "rule", "accent", "soft", "alert"),
        strict=True,
    )
) | {color: f"series-{index}" for index, color in enumerate(SERIES)}
# A series is told by its dashes too.
DASHES: list[tuple[float, ...]] = [(), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2), (3, 3), (9, 2)]

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib; to measure by alone
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 5),
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
}


@dataclass(frozen=True)
class Chart:
    """A drawing and what it says.

    Args:
        title: Above it.
        svg: The drawing.
        legend: Name, custom property of the colour, and dashes of each series; empty for a single one.
    """

    title: str
    svg: Markup
    legend: Sequence[tuple[str, str, str]] = ()


def line_chart(
    name: str, title: str, series: Mapping[str, Sequence[Sequence[float | None]]], share: bool = False
) -> Chart:
    """Values over epochs.

    Args:
        name: Of letters, unique in the page.
        title: What is drawn.
        series: By name, at most six, [epoch, value] pairs; None is a gap.
        share: Whether to draw all of [0, 1].
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(4.6, 2.6)
        for index, points in enumerate(series.values()):
            x, y = np.array(points, dtype=float).T
            line = (0, DASHES[index]) if DASHES[index] else "solid"
            marker = "o" if len(points) <= 25 else ""
            axes.plot(x, y, color=SERIES[index], linestyle=line, marker=marker)
        if share:
            axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        legend = [
            (label, PROPERTIES[SERIES[index]], " ".join(map(str, DASHES[index])))
            for index, label in enumerate(series)
        ]
        svg = svg_of(figure, name, f"{title} by epoch: {_course(series)}")
    return Chart(title, svg, legend if len(series) > 1 else ())


def _course(series: Mapping[str, Sequence[Sequence[float | None]]]) -> str:
    """First and last value of each series, for those who do not see the drawing."""
    parts = []
    for name, points in series.items():
        values = [value for _, value in points if value is not None]
        if values:
            parts.append(f"{name} from {values[0]:.3g} to {values[-1]:.3g}")
    return "; ".join(parts) or "no finite value"


def reliability_chart(name: str, numbers: Mapping[str, Any]) -> Chart:
    """Accuracy against confidence, with the 95 % Wilson interval of each bin, over how many are in it.

    Args:
        name: Of letters, unique in the page.
        numbers: Of `mmorient.report.numbers.reliability`.
    """
    bins = [entry for entry in numbers["bins"] if entry["count"]]
    counts = np.array([entry["count"] for entry in bins])
    confidence, accuracy = (np.array([entry[key] for entry in bins]) for key in ("confidence", "accuracy"))
    rights = np.rint(accuracy * counts).astype(int).tolist()
    intervals = [
        binomtest(right, count).proportion_ci(method="wilson")
        for right, count in zip(rights, counts.tolist(), strict=True)
    ]
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        upper.plot([0, 1], [0, 1], color=MUTED, linestyle="dashed", linewidth=1)
        upper.vlines(confidence, low, high, color=ACCENT, linewidth=1)
        upper.plot(confidence, accuracy, color=ACCENT, marker="o", markersize=4.5)
        upper.set_ylabel("share that is true")
        upper.set(xlim=(0, 1), ylim=(0, 1.02))
        width = 1 / len(numbers["bins"])
        lower.bar([entry["low"] for entry in bins], counts, width=width * 0.9, align="edge", color=SOFT)
        lower.set(xlabel="confidence", ylabel="count")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True, prune="lower"))
        for axes in (upper, lower):
            axes.tick_params(length=0)
        svg = svg_of(
            figure,
            name,
            f"Reliability diagram: expected calibration error {numbers['error']:.3f} "
            f"over {numbers['count']} probabilities",
        )
    return Chart("Reliability", svg)


def degree_chart(name: str, title: str, numbers: Mapping[str, Any]) -> Chart:
    """How many rows have how many neighbours; the bar of those without one is hatched.

    Args:
        name: Of letters, unique in the page.
        title: What is drawn.
        numbers: Of `mmorient.report.numbers.graph_numbers`, of at least one row.
    """
    bins = numbers["histogram"]
    centers = [(entry["low"] + entry["high"]) / 2 for entry in bins]
    widths = [(entry["high"] - entry["low"] + 1) * 0.9 for entry in bins]
    shares = [entry["count"] / numbers["rows"] for entry in bins]
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(4.6, 2.6)
        axes.bar(centers[1:], shares[1:], widths[1:], color=ACCENT)
        axes.bar(centers[:1], shares[:1], widths[:1], color="none", edgecolor=ALERT, hatch="////")
        axes.axvline(numbers["mean_degree"], color=INK, linestyle="dashed", linewidth=1)
        axes.set(xlabel="neighbours of a row (dashed: mean)", ylabel="share of rows")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="x")
        svg = svg_of(
            figure,
            name,
            f"{title}: mean {numbers['mean_degree']:.3g}, at most {numbers['max_degree']}, "
            f"{numbers['isolated_share']:.1%} of the rows isolated",
        )
    return Chart(title, svg)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches, and its only axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(length=0)
    return figure, axes


def svg_of(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an element of a page: without a size of its own, with ids that no other figure has."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawing = file.getvalue()
    view = re.search(r'viewBox="[^"]*"', drawing)
    assert view is not None
    body = drawing[drawing.index(">", view.end()) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("font-family: 'DejaVu Sans'; ", "")
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub("|".join(PROPERTIES), lambda match: f"var(--{PROPERTIES[match[0]]})", body)
    head = Markup('<svg class="chart" role="img" aria-label="{}" {}>').format(
        showable(description), Markup(view[0])
    )
    return head + Markup(body)
