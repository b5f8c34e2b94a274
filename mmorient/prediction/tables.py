"""Predictions as `mmorient predict` writes them into a table, read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmorient.kinds.cells import known_rows
from mmorient.kinds.kinds import toolkit_kind
from mmorient.prediction.columns import ERROR, IS_REFERENCE
from mmorient.tables.labels import read_labels
from mmorient.tables.problems import ROW_PROBLEMS, TableError
from mmorient.tables.table import Table
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class PredictedColumns:
    """What a table answers for one task.

    Args:
        decisions: (rows,) class indices; for `multilabel` (rows, C) of 0 and 1; -100 where `failed`.
        probabilities: (rows, C) float32, NaN where `failed`; None where the table has none.
        failed: (rows,) bool: True = the table says that the row could not be predicted.
        interval: Half the width of the interval around each answer; None where the table has none.
    """

    decisions: np.ndarray
    probabilities: np.ndarray | None
    failed: np.ndarray
    interval: float | None = None


def read_predicted(table: Table, spec: TaskSpec) -> PredictedColumns:
    """A task's columns `predicted.{task}` and, where it has them, `probability.{task}.{label}`,
    `interval.{task}.low` and `.high`, and `error`.

    Raises:
        TableError: If the columns do not fit the task, or a row has neither a prediction nor an error.
    """
    kind, failed = toolkit_kind(spec), failed_rows(table)
    column = f"predicted.{spec.name}"
    read = read_labels(table, spec, {"column": column, **kind.predicted_options})
    if read.unknown:
        values = sorted(set(read.unknown.values()))
        raise table.error(
            {row: f"{value!r} in column {column!r}" for row, value in read.unknown.items()},
            f"column {column!r} has {values[:5]} in {table.where(list(read.unknown))}, but the task's labels "
            f"are {list(spec.labels)}: give the recipe that the model was trained with.",
        )
    decisions = np.array(read.labels)
    empty = ~known_rows(decisions) & ~failed
    nothing = kind.empty_answer(spec)
    if nothing is not None:
        decisions[empty] = nothing
    elif empty.any():
        rows = np.flatnonzero(empty).tolist()
        raise table.error(
            dict.fromkeys(rows, f"no value in column {column!r}"),
            f"{table.where(rows)} have no value in column {column!r} and no error: predict them, or remove "
            "them.",
        )
    decisions[failed] = kind.unlabelled(spec)
    interval = _read_interval(table, spec, decisions, np.flatnonzero(~failed))
    return PredictedColumns(decisions, _read_probabilities(table, spec, failed), failed, interval)


def not_predicted(table: Table, rows: Sequence[int], remedy: str) -> TableError:
    """The error of rows that `mmorient predict` could not answer.

    Args:
        table: That it wrote.
        rows: The rows, which have an error there.
        remedy: What else there is to say of them, and what to do.
    """
    cells = table.cells(ERROR)
    message = f"{table.where(rows)} could not be predicted (column {ERROR!r}) and {remedy}"
    return table.error({row: str(cells[row]) for row in rows}, message, "not_predicted")


def failed_rows(table: Table) -> np.ndarray:
    """(rows,) bool: True = the row has an error; none where the table has no such column."""
    if ERROR not in table.columns:
        return np.zeros(len(table), dtype=bool)
    return np.array([cell not in (None, "") for cell in table.cells(ERROR)])


def malformed_rows(table: Table) -> np.ndarray:
    """(rows,) bool: True = the row was malformed where it was predicted: its cells may not be its own."""
    if ERROR not in table.columns:
        return np.zeros(len(table), dtype=bool)
    return np.array(
        [str(cell or "").startswith(ROW_PROBLEMS["malformed_rows"]) for cell in table.cells(ERROR)]
    )


def reference_rows(table: Table) -> np.ndarray | None:
    """(rows,) bool: True = the row is a reference of the model; None where the table does not say.

    Raises:
        TableError: If a cell says neither yes nor no.
    """
    if IS_REFERENCE not in table.columns:
        return None
    cells = [str(cell).lower() if cell is not None else "" for cell in table.cells(IS_REFERENCE)]
    wrong = [row for row, cell in enumerate(cells) if cell not in ("true", "false", "")]
    if wrong:
        raise table.error(
            {row: f"{cells[row]!r} in column {IS_REFERENCE!r}" for row in wrong},
            f"column {IS_REFERENCE!r} has {cells[wrong[0]]!r} in {table.where(wrong)}: it is true or false, "
            "and empty where there is no prediction.",
        )
    return np.array([cell == "true" for cell in cells])


def _read_probabilities(table: Table, spec: TaskSpec, failed: np.ndarray) -> np.ndarray | None:
    columns = toolkit_kind(spec).probability_columns(spec)
    missing = [column for column in columns if column not in table.columns]
    if len(missing) == len(columns):
        return None
    if missing:
        raise TableError(
            f"{table.name} has no columns {missing}: give the probabilities of all labels, or none."
        )
    values = np.full((len(table), len(columns)), np.nan, dtype=np.float32)
    rows = np.flatnonzero(~failed)
    for index, column in enumerate(columns):
        values[rows, index] = _numbers(table, column, rows)
    if toolkit_kind(spec).sums_to_one:
        sums = values.sum(-1)
        wrong = [int(row) for row in rows if not abs(sums[row] - 1) < 0.01]
        if wrong:
            said = f"the probabilities of task {spec.name!r} add up to"
            raise table.error(
                {row: f"{said} {sums[row]:.3g}" for row in wrong},
                f"{said} {sums[wrong[0]]:.3g}, not to 1, in {table.where(wrong)}: give those of all its "
                f"labels, {list(spec.labels)}.",
            )
    return values


def _read_interval(table: Table, spec: TaskSpec, decisions: np.ndarray, rows: np.ndarray) -> float | None:
    columns = toolkit_kind(spec).interval_columns(spec)
    missing = [column for column in columns if column not in table.columns]
    if len(missing) == len(columns) or not len(rows):
        return None
    if missing:
        raise TableError(
            f"{table.name} has no column {missing[0]!r}: give both ends of an interval, or none."
        )
    cells = [table.cells(column) for column in columns]
    low, high = (np.array([_number(column[row]) for row in rows]) for column in cells)
    answers = decisions[rows]
    # As much as the digits that are written may differ by.
    close = 1e-5 * np.maximum(np.abs(answers), 1)
    wrong = rows[~((low <= answers + close) & (answers <= high + close) & np.isfinite(high - low))].tolist()
    if wrong:
        where = f"in columns {columns[0]!r} and {columns[1]!r}"
        found = {row: f"{cells[0][row]!r} to {cells[1][row]!r} {where}" for row in wrong}
        raise table.error(
            found,
            f"{table.where(wrong)} have no interval that holds the answer ({found[wrong[0]]}): give the "
            "columns as they were predicted.",
        )
    # All are equally wide but where the task's range cuts an end off.
    return float(np.maximum(high - answers, answers - low).max())


def _numbers(table: Table, column: str, rows: Sequence[int] | np.ndarray) -> list[float]:
    cells = table.cells(column)
    numbers = [_number(cells[row]) for row in rows]
    wrong = [int(row) for row, number in zip(rows, numbers, strict=True) if not 0 <= number <= 1]
    if wrong:
        raise table.error(
            {row: f"{cells[row]!r} in column {column!r}" for row in wrong},
            f"column {column!r} has {cells[wrong[0]]!r} in {table.where(wrong)}: a probability is a number "
            "from 0 to 1.",
        )
    return numbers


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")
