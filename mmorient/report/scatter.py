"""Charts of a task whose answer is a number: answers and errors against the true values."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np

from mmorient.report.charts import ACCENT, MUTED, SOFT, STYLE, Chart, new_figure, svg_of


def scatter_chart(name: str, numbers: Mapping[str, Any]) -> Chart:
    """Answer against true value, with the diagonal on which answers are right, and the interval around it.

    Args:
        name: Of letters, unique in the page.
        numbers: Of `mmorient.report.numbers.task_numbers`, of at least one row.
    """
    true, answer = np.array(numbers["points"]).T
    ends = np.array([min(true.min(), answer.min()), max(true.max(), answer.max())])
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(4.2, 3.6)
        if numbers["interval"] is not None:
            low, high = ends - numbers["interval"], ends + numbers["interval"]
            axes.fill_between(ends, low, high, color=SOFT, alpha=0.25, linewidth=0)
        axes.plot(ends, ends, color=MUTED, linestyle="dashed", linewidth=1)
        axes.plot(true, answer, color=ACCENT, linestyle="none", marker="o", alpha=0.6)
        axes.set(xlabel="true value", ylabel="answer")
        said = f"Answers against true values of {len(true)} rows, from {ends[0]:.4g} to {ends[1]:.4g}"
        svg = svg_of(figure, name, said)
    return Chart("Answers and true values", svg)


def residual_chart(name: str, numbers: Mapping[str, Any]) -> Chart:
    """Error of each answer against the answer; arguments as of [`scatter_chart`]."""
    true, answer = np.array(numbers["points"]).T
    errors = answer - true
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(4.2, 2.4)
        axes.axhline(0, color=MUTED, linestyle="dashed", linewidth=1)
        axes.plot(answer, errors, color=ACCENT, linestyle="none", marker="o", alpha=0.6)
        axes.set(xlabel="answer", ylabel="answer less true value")
        svg = svg_of(figure, name, f"Residuals: mean {errors.mean():.3g}, largest {np.abs(errors).max():.3g}")
    return Chart("Residuals", svg)
