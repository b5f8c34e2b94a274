"""A table's cells to class indices, by task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmorient.kinds.cells import CellOptions, Label, is_labelled
from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.tasks import cell_options
from mmorient.tables.problems import Problem
from mmorient.tables.table import Table
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class LabelColumn:
    """The labels of one task.

    Args:
        labels: By row.
        unknown: By row, the values that the task does not know; those cells count as not labelled.
        problems: The same for a person.
    """

    labels: list[Label]
    unknown: dict[int, str]
    problems: list[Problem]


def read_labels(table: Table, spec: TaskSpec, task: Any) -> LabelColumn:
    """The labels of one task in every row of a table.

    Args:
        table: The table.
        spec: The task.
        task: Its entry in the recipe: `column` (default: the task's name), `values` (spelling to label, or
            to null for a spelling that stands for none), `separator` (between the labels in a cell of a
            multi-label task; a list in JSON or Parquet needs none), or instead of these `columns` (of a
            multi-label task, one for each label).

    Raises:
        ValueError: If the entry or the column does not fit.
    """
    options, kind = cell_options(spec, task), toolkit_kind(spec)
    labels: list[Label] = []
    unknown: dict[int, str] = {}
    for row, cell in enumerate(_cells(table, options)):
        try:
            labels.append(kind.read(cell, spec, options))
        except KeyError as error:
            unknown[row] = error.args[0]
            labels.append(kind.unlabelled(spec))
    problems = []
    if unknown:
        values = sorted(set(unknown.values()))
        more = f" and {len(values) - 5} more" if len(values) > 5 else ""
        message = (
            f"{_named(options)} values that task {spec.name!r} does not know, {values[:5]}{more} in "
            f"{table.where(list(unknown))}: {kind.remedy(spec, options)}."
        )
        details = {row: f"task {spec.name!r}: {value!r}" for row, value in unknown.items()}
        problems.append(table.problem("unknown_labels", details, message))
    return LabelColumn(labels, unknown, problems)


def _cells(table: Table, options: CellOptions) -> Iterable[Any]:
    columns = [table.cells(column) for column in options.columns]
    return zip(*columns, strict=True) if options.by_label else columns[0]


def _named(options: CellOptions) -> str:
    if options.by_label:
        return f"columns {list(options.columns)} have"
    return f"column {options.columns[0]!r} has"


def balanced_weights(
    labels: Mapping[str, Iterable[Label]], specs: Mapping[str, TaskSpec]
) -> dict[str, list[float]]:
    """Class weights with which all classes of a task weigh the same, over the labelled rows, by task.

    Args:
        labels: By task, of every row.
        specs: The tasks.
    """
    weights = {}
    for name, spec in specs.items():
        known = [label for label in labels[name] if is_labelled(label)]
        if (found := toolkit_kind(spec).balanced_weights(spec, known)) is not None:
            weights[name] = found
    return weights
