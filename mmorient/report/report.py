"""The report of a run: a page that opens without a network, and the same numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmorient.files.whole_files import write_text
from mmorient.report.examples import EXAMPLES, MAX_THUMBNAILS, choose_examples
from mmorient.report.notes import derived_notes
from mmorient.report.numbers import curves, graph_numbers, plain, task_numbers
from mmorient.report.page import render_page
from mmorient.scoring.task_predictions import TaskPredictions
from mmorient.tables.records import Record


@dataclass(frozen=True)
class ScoredSplit:
    """Rows that a model was scored on.

    Args:
        name: `validation`, `test` ...
        predictions: By task.
        rows: The rows.
        scores: By task, scores by name. A pair `x_interval` is shown with `x`.
        note: What a reader must know to judge the scores, such as what was fitted on these rows.
        table: The table that the rows come from.
        mean: Scores of the tasks together, by name as in `scores`.

    Raises:
        ValueError: If a task's predictions are of another number of rows.
    """

    name: str
    predictions: Mapping[str, TaskPredictions]
    rows: Sequence[Record]
    scores: Mapping[str, Mapping[str, Any]]
    note: str = ""
    table: str = ""
    mean: Mapping[str, Any] = field(default_factory=dict)

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
        device: That it ran on.
        versions: By package.
        notes: What a reader must see; more are derived from the numbers.
    """

    title: str
    splits: Sequence[ScoredSplit]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    degrees: Mapping[str, np.ndarray] = field(default_factory=dict)
    duration: float | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(folder: Path, run: RunReport) -> None:
    """Write `index.html` and `report.json` into a folder, which is made; what is there is replaced.

    The page is one file: no script, nothing fetched. Both hold the same numbers, from `report_numbers`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = report_numbers(run)
    write_text(folder / "report.json", json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    write_text(folder / "index.html", render_page(numbers, run.splits[0].rows if run.splits else ()))


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
        "device": run.device,
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
                    "row": split.rows[example.index].row,
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
        "mean": plain(split.mean),
        "tasks": tasks,
    }
