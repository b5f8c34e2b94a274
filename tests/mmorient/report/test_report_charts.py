"""Charts: the page's colours, ids of their own, the same every time, and nothing left behind."""

import re

import matplotlib
import numpy as np
import pytest

from mmorient.report.charts import Chart, degree_chart, line_chart, reliability_chart
from mmorient.report.numbers import graph_numbers
from tests.mmorient.predictions_samples import multi_label, reliability, single_label

DEGREES = np.array([0, 0, 1, 5, 90])


def _charts(name: str) -> list[Chart]:
    return [
        line_chart(f"{name}0-", "Loss", {"a": [[1, 0.5], [2, None], [3, 0.25]], "b": [[1, 0.5]]}),
        reliability_chart(f"{name}1-", reliability(single_label())),
        degree_chart(f"{name}2-", "Degrees", graph_numbers(DEGREES)),
    ]


def test_charts_are_the_same_every_time_and_ids_differ_between_them() -> None:
    first = _charts("a")
    assert first == _charts("a")
    ids = [name for chart in (*first, *_charts("b")) for name in re.findall(r'\bid="([^"]*)"', chart.svg)]
    assert len(set(ids)) == len(ids) > 100
    for chart in first:
        used = re.findall(r'(?:url\(|href=")#([^")]*)', chart.svg)
        assert used and set(used) <= set(ids)


def test_charts_have_the_pages_colours_only_and_ask_for_nothing() -> None:
    for chart in _charts("a"):
        assert not re.search(r"(fill|stroke): (#|rgb|black|white)", chart.svg)
        assert "var(--" in chart.svg
        assert "http" not in chart.svg and "<style" not in chart.svg and "font-family" not in chart.svg


def test_charts_say_in_words_what_they_show() -> None:
    line, reliable, degrees = _charts("a")
    assert 'aria-label="Loss by epoch: a from 0.5 to 0.25; b from 0.5 to 0.5"' in line.svg
    error = reliability(single_label())["error"]
    assert f"error {error:.3f} over 50 probabilities" in reliable.svg
    assert "mean 19.2, at most 90, 40.0% of the rows isolated" in degrees.svg


def test_several_series_have_a_legend_that_tells_them_apart_without_colour() -> None:
    assert not line_chart("a", "Loss", {"one": [[0, 1]]}).legend
    legend = line_chart("a", "Loss", {str(index): [[0, 1], [1, 2]] for index in range(6)}).legend
    assert [name for name, _, _ in legend] == list("012345")
    assert len({color for _, color, _ in legend}) == len({dashes for _, _, dashes in legend}) == 6


@pytest.mark.parametrize("text", ["<script>", '"quoted"', "$x$ and \\frac", "_hidden", "مرحبا", "🎉"])
def test_names_of_series_cannot_break_a_chart(text: str) -> None:
    chart = line_chart("a", text, {text: [[0, 1], [1, 2]], "b": [[0, 1]]})
    assert chart.legend[0][0] == text
    assert "<script>" not in chart.svg


def test_points_that_are_none_alone_and_single_rows_are_drawn() -> None:
    charts = (
        line_chart("a", "Loss", {"x": [[0, None]]}),
        line_chart("a", "Loss", {"x": [[0, 1e30], [1, 1e-30]]}, share=True),
        reliability_chart("a", reliability(single_label(rows=1))),
        reliability_chart("a", reliability(multi_label(rows=1))),
        degree_chart("a", "Degrees", graph_numbers(np.array([0]))),
    )
    assert all(chart.svg.lstrip().startswith("<svg") and "</svg>" in chart.svg for chart in charts)


def test_settings_of_matplotlib_stay_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    _charts("a")
    assert dict(matplotlib.rcParams) == before
