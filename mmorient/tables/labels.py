"""A table's cells to class indices, by task."""

import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmorient.recipes.tasks import table_options
from mmorient.tables.problems import Problem
from mmorient.tables.table import Table
from modeling_mmorient.multitask import IGNORE_INDEX
from modeling_mmorient.task_specs import TaskSpec

# A class index, or for a multi-label task a 0 or 1 for each label; -100 = not labelled.
Label = int | list[int]


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
            multi-label task; a list in JSON or Parquet needs none).

    Raises:
        ValueError: If the entry or the column does not fit.
    """
    column, separator, spellings = table_options(spec, task)
    read = _read_many if spec.kind == "multilabel" else _read_one
    labels: list[Label] = []
    unknown: dict[int, str] = {}
    for row, cell in enumerate(table.cells(column)):
        try:
            labels.append(read(cell, spec, spellings, separator))
        except KeyError as error:
            unknown[row] = error.args[0]
            labels.append(_not_labelled(spec))
    problems = []
    if unknown:
        values = sorted(set(unknown.values()))
        more = f" and {len(values) - 5} more" if len(values) > 5 else ""
        problems.append(
            Problem(
                "unknown_labels",
                f"{table.name}: column {column!r} has values that task {spec.name!r} does not know, "
                f"{values[:5]}{more} in {table.where(list(unknown))}: add them to the task's `labels`, or "
                "say in `values` what they stand for.",
                table.findings({row: f"task {spec.name!r}: {value!r}" for row, value in unknown.items()}),
            )
        )
    return LabelColumn(labels, unknown, problems)


def is_labelled(label: Label) -> bool:
    """Whether a row is labelled for a task."""
    return IGNORE_INDEX not in label if isinstance(label, list) else label != IGNORE_INDEX


def labelled_tasks(labels: Iterable[Mapping[str, Label]]) -> set[str]:
    """Tasks for which at least one row is labelled."""
    return {task for row in labels for task, label in row.items() if is_labelled(label)}


def class_counts(labels: Iterable[Label], spec: TaskSpec) -> list[int]:
    """Rows of each class (of a multi-label task: with each label)."""
    counts = [0] * spec.num_labels
    for label in labels:
        if not is_labelled(label):
            continue
        if isinstance(label, list):
            counts = [count + value for count, value in zip(counts, label, strict=True)]
        else:
            counts[label] += 1
    return counts


def balanced_weights(
    labels: Iterable[Mapping[str, Label]], specs: Mapping[str, TaskSpec]
) -> dict[str, list[float]]:
    """Class weights n / (C n_c) by task, over the labelled rows; a class without a row weighs 1.

    For a multi-label task, the weight of a label's positives, (n - n_c) / n_c, with which they weigh as
    much as the negatives; 1 for a label that all rows have or none.
    """
    rows = list(labels)
    weights = {}
    for name, spec in specs.items():
        known = [row[name] for row in rows if is_labelled(row[name])]
        counts = class_counts(known, spec)
        if spec.kind == "multilabel":
            weights[name] = [(len(known) - n) / n if 0 < n < len(known) else 1.0 for n in counts]
        else:
            occurring = sum(map(bool, counts))
            weights[name] = [len(known) / (occurring * n) if n else 1.0 for n in counts]
    return weights


def _spelling(cell: Any) -> str | None:
    """A cell as it would stand in a CSV file; None where it is empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():  # integers with gaps become floats in many tools
        return str(int(cell))
    return str(cell).strip() or None


def _value(cell: Any, known: Container[str]) -> Any:
    """What a text stands for that is no known spelling: a list or a string in JSON, a whole number as 1.0.

    So do tables that had other types become text, here (`mmorient predict`) and elsewhere.
    """
    if not isinstance(cell, str) or (text := cell.strip()) in known:
        return cell
    if re.fullmatch(r"-?\d+\.0", text):
        return float(text)
    if text.startswith(("[", '"')):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return cell
    return cell


def _not_labelled(spec: TaskSpec) -> Label:
    return [IGNORE_INDEX] * spec.num_labels if spec.kind == "multilabel" else IGNORE_INDEX


def _read_one(cell: Any, spec: TaskSpec, spellings: Mapping[str, int | None], separator: str) -> Label:
    spelling = _spelling(_value(cell, spellings))
    index = None if spelling is None else spellings[spelling]
    return IGNORE_INDEX if index is None else index


def _read_many(cell: Any, spec: TaskSpec, spellings: Mapping[str, int | None], separator: str) -> Label:
    cell = _value(cell, spellings)
    if isinstance(cell, list):
        parts = [_spelling(entry) for entry in cell]
    else:
        whole = _spelling(cell)
        if whole is None:
            return _not_labelled(spec)
        parts = [_spelling(part) for part in whole.split(separator)]
    found = {spellings[part] for part in parts if part is not None}
    return [int(index in found) for index in range(spec.num_labels)]
