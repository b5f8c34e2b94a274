"""Predictions tables beside the truth, and as answers to SemEval-2020 task 8."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mmorient.kinds.cells import known_rows
from mmorient.prediction.tables import (
    failed_rows,
    malformed_rows,
    not_predicted,
    read_predicted,
    reference_rows,
)
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.tasks import task_specs
from mmorient.scoring.semeval import INTENSITY, PRESENCE, SENTIMENT, Answers, answers_from_labels
from mmorient.scoring.task_predictions import TaskDecisions, TaskPredictions
from mmorient.tables.labels import read_labels
from mmorient.tables.problems import TableError, stop_on_problems
from mmorient.tables.table import Table
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec, parse_tasks


class ScoredTable(NamedTuple):
    """A predictions table beside the truth.

    Args:
        tasks: By name, for the rows that have a prediction and are no references of the model.
        references: The same for the rows that are: the model knows their labels.
        number_of_references: How many those are; None where the table does not say which rows are.
        not_predicted: Number of rows that have no prediction.
    """

    tasks: dict[str, TaskDecisions]
    references: dict[str, TaskDecisions]
    number_of_references: int | None
    not_predicted: int


def read_scored_table(
    data: DataArguments, predictions: Table, truth: Table, leave_out_errors: bool = False
) -> ScoredTable:
    """Predictions and true labels of a recipe's tasks, row by row.

    Args:
        data: The recipe's part about the data: tasks, columns and spellings.
        predictions: As `mmorient predict` wrote it.
        truth: With the recipe's label columns: the same table, or one of the same rows in the same order.
        leave_out_errors: Leave out rows that could not be predicted and are labelled, or are malformed, so
            that nobody knows. A score without them is of easier rows than the table has, so they are refused
            otherwise.

    Raises:
        TableError: If the tables do not fit each other or the recipe.
    """
    assert isinstance(data.tasks, dict)
    _require_same_rows(predictions, truth, data.image_column)
    specs = task_specs(data.tasks)
    failed, malformed = failed_rows(predictions), malformed_rows(predictions)
    # What is left of a malformed row may stand in other columns than its own.
    sound = ~malformed if truth is predictions else np.ones(len(failed), bool)
    labels = _read_labels(data, specs, truth, sound)
    labelled = np.any([known_rows(values) for values in labels.values()], axis=0)
    if not labelled.any():
        raise TableError(f"{truth.name}: no row is labelled for any task: check the recipe's `tasks`.")
    without = np.flatnonzero(failed & (labelled | malformed))
    if len(without) and not leave_out_errors:
        raise not_predicted(
            predictions,
            without.tolist(),
            "are labelled, or malformed. Mend and predict them, or score the others alone with "
            "--leave_out_errors.",
        )
    known = reference_rows(predictions)
    is_reference = np.zeros(len(failed), bool) if known is None else known
    answers = {name: read_predicted(predictions, spec) for name, spec in specs.items()}
    specs = {name: replace(spec, interval=answers[name].interval) for name, spec in specs.items()}

    def tasks(rows: np.ndarray) -> dict[str, TaskDecisions]:
        found: dict[str, TaskDecisions] = {}
        for name, spec in specs.items():
            pair = (spec, answers[name].decisions[rows], labels[name][rows])
            probabilities = answers[name].probabilities
            if probabilities is None:
                found[name] = TaskDecisions(*pair)
            else:
                found[name] = TaskPredictions(*pair, probabilities[rows])
        return found

    return ScoredTable(
        tasks(~failed & ~is_reference),
        tasks(~failed & is_reference),
        None if known is None else int((~failed & is_reference).sum()),
        int(failed.sum()),
    )


def _read_labels(
    data: DataArguments, specs: Mapping[str, TaskSpec], truth: Table, sound: np.ndarray
) -> dict[str, np.ndarray]:
    """By task, (rows,) class indices, or (rows, C) for `multilabel`; -100 = not labelled, or not `sound`."""
    assert isinstance(data.tasks, dict)
    rows = np.flatnonzero(sound).tolist()
    labels, problems = {}, []
    for name, spec in specs.items():
        column = read_labels(truth.select(rows), spec, data.tasks[name])
        problems += column.problems
        labels[name] = kind_of(spec).unlabelled(spec, len(truth)).numpy()
        if rows:
            labels[name][rows] = column.labels
    stop_on_problems(problems, data.allow)
    return labels


def answers_from_tables(a: Table, b: Table | None, c: Table, image_column: str) -> Answers:
    """Answers to SemEval's tasks from the predictions of the recipes `memotion7k_task_{a,b,c}.yaml`.

    Args:
        a, b, c: Of the same memes in the same order. Without `b`, a quality is present where its intensity
            is above 0.
        image_column: By which the memes are compared.

    Raises:
        TableError: If the memes differ, or a row has no prediction: the format has no empty answer.
    """
    for table in (a, b, c):
        if table is None:
            continue
        table.require(image_column)
        _require_same_rows(a, table, image_column)
        failed = np.flatnonzero(failed_rows(table))
        if len(failed):
            remedy = "an answer file has an answer for every meme: mend and predict them."
            raise not_predicted(table, failed.tolist(), remedy)
    sentiment = _decisions(a, {"sentiment": SENTIMENT})["sentiment"]
    intensity = _decisions(c, INTENSITY)
    if b is None:
        presence = {name: (values > 0).astype(int) for name, values in intensity.items()}
    else:
        presence = _decisions(b, PRESENCE)
    return answers_from_labels(sentiment, presence, intensity)


def _decisions(table: Table, tasks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: read_predicted(table, spec).decisions for name, spec in parse_tasks(tasks).items()}


def _require_same_rows(first: Table, second: Table, image_column: str) -> None:
    if first is second:
        return
    if len(first) != len(second):
        raise TableError(
            f"{first.name} has {len(first)} rows and {second.name} {len(second)}: give the same rows in the "
            "same order."
        )
    if image_column in first.columns and image_column in second.columns:
        cells = zip(first.cells(image_column), second.cells(image_column), strict=True)
        names = [(_name(one), _name(two)) for one, two in cells]
        other = {row: f"{one!r} and {two!r}" for row, (one, two) in enumerate(names) if one != two}
        if other:
            raise first.error(
                other,
                f"it and {second.name} have different pictures in column {image_column!r}, in "
                f"{first.where(list(other))}: give the same rows in the same order.",
            )


def _name(cell: Any) -> Any:
    """What a cell calls its picture: of one that the table holds, `mmorient predict` leaves the path."""
    return (cell["path"] if isinstance(cell, Mapping) else cell) or None
