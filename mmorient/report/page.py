"""The page of a report: its charts, and numbers and names as a person reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from mmorient.kinds.reliability import CONFIDENCE_BINS
from mmorient.report.charts import Chart, degree_chart, line_chart, reliability_chart
from mmorient.report.environment import GRAPHS, page_environment, showable
from mmorient.report.examples import THUMBNAIL_SIZE, show_row
from mmorient.report.scatter import residual_chart, scatter_chart
from mmorient.tables.records import Record

TEMPLATE = Path(__file__).resolve().parent / "template"
# Lines that one chart holds and a reader tells apart.
MAX_LINES = 6


def render_page(numbers: Mapping[str, Any], rows: Sequence[Record]) -> str:
    """The page of `mmorient.report.report.report_numbers`, with charts and with what its examples look like.

    Args:
        numbers: The report.
        rows: Of its first split.
    """
    filters = {
        "number": _number,
        "value": _value,
        "argument": _argument,
        "heading": _heading,
        "percent": _percent,
        "span": _span,
        "duration": _duration,
        "code": _code,
        "label": _label,
        "alike": _alike,
    }
    environment = page_environment([TEMPLATE], filters)
    tasks = list(dict.fromkeys(name for split in numbers["splits"] for name in split["tasks"]))
    return environment.get_template("index.html.j2").render(
        report=numbers,
        tasks=tasks,
        bins=CONFIDENCE_BINS,
        learning=_learning_charts(numbers["curves"], tasks),
        task_charts=task_charts(numbers["splits"], tasks),
        graph_charts=_graph_charts(numbers["graphs"], numbers["curves"]),
        modalities=GRAPHS,
        show_row=lambda index: show_row(rows[index]),
        thumbnail_size=THUMBNAIL_SIZE,
    )


def _learning_charts(logged: Mapping[str, Any], tasks: Sequence[str]) -> list[Chart]:
    mean = {"mean of the tasks": "eval_macro_f1"} if len(tasks) != 1 else {}
    room = MAX_LINES - len(mean)
    charts = [
        _course("loss-", "Loss", logged, {"training": "loss", "evaluation": "eval_loss"}),
        *(
            _course(
                f"macro-f1-{start}-",
                "Macro-F1 on the evaluation rows",
                logged,
                {**mean, **{task: f"eval_macro_f1_{task}" for task in tasks[start : start + room]}},
            )
            for start in range(0, len(tasks), room)
        ),
        _course("mean-score-", "Mean score on the evaluation rows", logged, {"mean": "eval_mean_score"}),
        *(
            _course(
                f"spearman-{start}-",
                "Spearman's correlation on the evaluation rows",
                logged,
                {task: f"eval_spearman_{task}" for task in tasks[start : start + MAX_LINES]},
            )
            for start in range(0, len(tasks), MAX_LINES)
        ),
        _course("learning-rate-", "Learning rate", logged, {"learning rate": "learning_rate"}),
        _course("gradient-", "Norm of the gradient", logged, {"norm": "grad_norm"}),
    ]
    return [chart for chart in charts if chart is not None]


def _graph_charts(graphs: Mapping[str, Any], logged: Mapping[str, Any]) -> list[Chart]:
    degrees = [
        degree_chart(f"degrees-{number}-", f"{GRAPHS.get(modality, modality)}: degrees", graph)
        for number, (modality, graph) in enumerate(graphs.items())
        if graph["rows"]
    ]
    means = {name: f"{modality}_graph_mean_degree" for modality, name in GRAPHS.items()}
    shares = {
        f"{name}: {meaning}": f"{modality}_graph_{kind}_share"
        for modality, name in GRAPHS.items()
        for kind, meaning in (("isolated", "isolated"), ("complete", "joined with all"))
    }
    courses = [
        _course("mean-degree-", "Mean degree in training", logged, means),
        _course(
            "shares-", "Isolated rows, and rows joined with all, in training", logged, shares, share=True
        ),
    ]
    return [*degrees, *(chart for chart in courses if chart is not None)]


def _course(
    name: str, title: str, logged: Mapping[str, Any], series: Mapping[str, str], share: bool = False
) -> Chart | None:
    """A line chart of those series, by label, that were logged; None where none was."""
    found = {label: logged[key] for label, key in series.items() if key in logged}
    return line_chart(name, title, found, share) if found else None


def task_charts(splits: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[Any, list[Chart]]:
    """By split and task, where there is a row to draw: the reliability, or true values and residuals."""
    found = {}
    for number, split in enumerate(splits):
        for task, values in split["tasks"].items():
            name = f"{number}-{tasks.index(task)}-"
            if values.get("reliability", {}).get("count"):
                found[number, task] = [reliability_chart(f"reliability-{name}", values["reliability"])]
            elif values.get("points"):
                charts = scatter_chart(f"scatter-{name}", values), residual_chart(f"residuals-{name}", values)
                found[number, task] = list(charts)
    return found


def _alike(scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tasks' scores in groups that have macro-F1 or lack it, the first ones first: a table for each."""
    groups = [
        {name: values for name, values in scores.items() if ("macro_f1" in values) == has}
        for has in (True, False)
    ]
    return [group for group in groups if group]


def _number(value: Any) -> str:
    """A score with three decimals, a count with separators."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _percent(share: float) -> str:
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "< 0.1%" if share < 0.5 else "> 99.9%"
    return f"{share:.0%}" if share in (0, 1) or 0.1 <= share < 0.995 else f"{share:.1%}"


def _span(pair: Sequence[float | None]) -> str:
    return "–".join("?" if bound is None else f"{bound:.3f}" for bound in pair)


def _value(value: Any) -> str:
    """A score of any name."""
    return _number(value) if isinstance(value, int | float | None) else _argument(value)


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


HEADINGS = {
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "majority_macro_f1": "Majority class",
    "calibration_error": "Calibration error",
    "mae": "Mean error",
    "mean_predictor_mae": "Mean error of the mean",
    "interval_coverage": "In interval",
}


def _heading(key: str) -> str:
    return HEADINGS.get(key, key.replace("_", " ").capitalize())


def _code(text: str) -> Markup:
    """A text whose parts in backticks are code."""
    text = showable(text)
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is left over
        return escape(text)
    quoted = (
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )
    return Markup("").join(quoted)


def _label(text: str) -> Markup:
    """A name that may be broken after an underscore."""
    return Markup("_<wbr>").join(showable(text).split("_"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
