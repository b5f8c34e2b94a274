"""Charts of a report as drawings that stand alone, for pages that have no style of ours."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from mmorient.report.charts import Chart
from mmorient.report.page import TEMPLATE, task_charts


def task_plots(numbers: Mapping[str, Any], split: str) -> dict[str, list[str]]:
    """By task, the drawings of one split as SVG files: its reliability, or true values and residuals.

    Args:
        numbers: Of `mmorient.report.report.report_numbers`.
        split: The split's name.
    """
    chosen = [entry for entry in numbers["splits"] if entry["name"] == split]
    charts = task_charts(chosen, list(chosen[0]["tasks"]) if chosen else [])
    return {task: [_standalone(chart) for chart in found] for (_, task), found in charts.items()}


def _standalone(chart: Chart) -> str:
    """The drawing with the page's colours in light mode, on white."""
    colors = _colors()
    svg = re.sub(r"var\(--([\w-]+)\)", lambda match: colors[match[1]], str(chart.svg))
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert view is not None
    x, y, width, height = view[1].split()
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'{names} width="{width}" height="{height}" font-family="sans-serif"'
    paper = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#ffffff"/>'
    # The drawing's own tag ends behind its view.
    tag, body = svg[: view.end() + 1], svg[view.end() + 1 :]
    return f"{tag.replace('<svg ', f'<svg {size} ', 1)}{paper}{body}\n"


@cache
def _colors() -> dict[str, str]:
    """The custom properties of the page's style, the first value of each."""
    style = (TEMPLATE / "style.css").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for name, value in re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", style):
        found.setdefault(name, value)
    return found
