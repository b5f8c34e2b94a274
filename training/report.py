"""The report of a run: a page that opens without a network, and the same numbers as JSON."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from training.report_charts import Chart, degree_chart, line_chart, reliability_chart
from training.report_examples import (
    EXAMPLES,
    MAX_THUMBNAILS,
    THUMBNAIL_SIZE,
    choose_examples,
    show_row,
)
from training.report_notes import derived_notes
from training.report_numbers import (
    CONFIDENCE_BINS,
    TaskPredictions,
    curves,
    graph_numbers,
    plain,
    task_numbers,
)

TEMPLATES = Path(__file__).resolve().parent / "report_page"
MODALITIES = {"image": "Picture graph", "text": "Text graph"}
# Lines that one chart holds and a reader tells apart.
MAX_LINES = 6


@dataclass(frozen=True)
class ScoredSplit:
    """Rows that a model was scored on.

    Args:
        name: `validation`, `test` ...
        predictions: By task.
        rows: The rows, as `training.memes.Memes.to_dataset` gives them: `row`, `image`, `text`.
        scores: By task and for `mean`: scores by name. A pair `x_interval` is shown with `x`.
        note: What a reader must know to judge the scores, such as what was fitted on these rows.
        table: The table that the rows come from.

    Raises:
        ValueError: If a task's predictions are of another number of rows.
    """

    name: str
    predictions: Mapping[str, TaskPredictions]
    rows: Any
    scores: Mapping[str, Mapping[str, Any]]
    note: str = ""
    table: str = ""

    def __post_init__(self) -> None:
        for task, predictions in self.predictions.items():
            if len(predictions.known) != len(self.rows):
                raise ValueError(
                    f"the {self.name} split has {len(self.rows)} rows, and predictions of task {task!r} for "
                    f"{len(predictions.known)}: predict the same rows."
                )


@dataclass(frozen=True)
class RunReport:
    """What a report is made of.

    Args:
        title: Heading of the page.
        splits: In the order to show; examples are drawn from the first, so that the last stays unseen.
        recipe: The run's arguments.
        history: What `transformers.Trainer` logged (`trainer.state.log_history`).
        degrees: By modality (`image`, `text`), the number of neighbours of each row that has it.
        duration: Of the training, in seconds.
        versions: By package.
        notes: What a reader must see; more are derived from the numbers.
    """

    title: str
    splits: Sequence[ScoredSplit]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    degrees: Mapping[str, np.ndarray] = field(default_factory=dict)
    duration: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(folder: Path, run: RunReport) -> None:
    """Write `index.html` and `report.json` into a folder, which is made; what is there is replaced.

    The page is one file: no script, nothing fetched. Both hold the same numbers, from `report_numbers`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = report_numbers(run)
    _replace(folder / "report.json", json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    _replace(folder / "index.html", render_page(run, numbers))


def report_numbers(run: RunReport) -> dict[str, Any]:
    """All that the report says but pictures and texts, in JSON types; None where there is no number."""
    tasks = {name for split in run.splits for name in split.predictions}
    count = max(1, min(EXAMPLES, MAX_THUMBNAILS // (2 * max(1, len(tasks)))))
    numbers = {
        "title": run.title,
        "splits": [_split_numbers(split, count if split is run.splits[0] else 0) for split in run.splits],
        "curves": curves(run.history),
        "graphs": {modality: graph_numbers(degrees) for modality, degrees in run.degrees.items()},
        "recipe": plain(run.recipe),
        "duration_seconds": plain(run.duration),
        "versions": plain(run.versions),
    }
    return {**numbers, "notes": [*run.notes, *derived_notes(numbers)]}


def _split_numbers(split: ScoredSplit, examples: int) -> dict[str, Any]:
    tasks = {}
    for name, predictions in split.predictions.items():
        chosen = choose_examples(predictions, examples)
        shown = {
            side: [
                {
                    "index": example.index,
                    "row": plain(split.rows[example.index]["row"]),
                    "truth": example.truth,
                    "answer": example.answer,
                    "probability": example.probability,
                }
                for example in side_examples
            ]
            for side, side_examples in chosen.items()
        }
        tasks[name] = {**task_numbers(predictions), "examples": shown}
    return {
        "name": split.name,
        "note": split.note,
        "table": split.table,
        "rows": len(split.rows),
        "scores": plain(split.scores),
        "tasks": tasks,
    }


def render_page(run: RunReport, numbers: Mapping[str, Any]) -> str:
    """The page of `report_numbers`, with charts and with what its examples look like."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        value=_value,
        heading=_heading,
        percent=_percent,
        span=_span,
        duration=_duration,
        code=_code,
    )
    tasks = list(dict.fromkeys(name for split in numbers["splits"] for name in split["tasks"]))
    return environment.get_template("index.html.j2").render(
        report=numbers,
        tasks=tasks,
        bins=CONFIDENCE_BINS,
        learning=_learning_charts(numbers["curves"], tasks),
        reliability=_reliability_charts(numbers["splits"], tasks),
        graph_charts=_graph_charts(numbers["graphs"], numbers["curves"]),
        modalities=MODALITIES,
        show_row=lambda index: show_row(run.splits[0].rows[index]),
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
        _course("learning-rate-", "Learning rate", logged, {"learning rate": "learning_rate"}),
        _course("gradient-", "Norm of the gradient", logged, {"norm": "grad_norm"}),
    ]
    return [chart for chart in charts if chart is not None]


def _graph_charts(graphs: Mapping[str, Any], logged: Mapping[str, Any]) -> list[Chart]:
    degrees = [
        degree_chart(f"degrees-{number}-", f"{MODALITIES.get(modality, modality)}: degrees", graph)
        for number, (modality, graph) in enumerate(graphs.items())
        if graph["rows"]
    ]
    means = {name: f"{modality}_graph_mean_degree" for modality, name in MODALITIES.items()}
    shares = {
        f"{name}: {meaning}": f"{modality}_graph_{kind}_share"
        for modality, name in MODALITIES.items()
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


def _reliability_charts(splits: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> dict[Any, Chart]:
    """By split and task, where there is a row to draw."""
    return {
        (number, task): reliability_chart(f"reliability-{number}-{tasks.index(task)}-", values["reliability"])
        for number, split in enumerate(splits)
        for task, values in split["tasks"].items()
        if values["reliability"]["count"]
    }


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
    """Anything of a table of unknown content."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else _number(value)


HEADINGS = {
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "majority_macro_f1": "Majority class",
    "calibration_error": "Calibration error",
}


def _heading(key: str) -> str:
    return HEADINGS.get(key, key.replace("_", " ").capitalize())


def _code(text: str) -> Markup:
    """A text whose parts in backticks are code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is left over
        return escape(text)
    quoted = (
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )
    return Markup("").join(quoted)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _replace(path: Path, content: str) -> None:
    """Write a file whole or not at all. What UTF-8 cannot hold (half a character) becomes a question mark."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8", errors="replace"))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
