"""A table's cells to class indices, by task."""

import difflib
import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from modeling_mmorient.multitask import IGNORE_INDEX
from modeling_mmorient.task_specs import TaskSpec, parse_tasks
from training.problems import Problem, TableError
from training.tables import Table

TABLE_KEYS = ("column", "values", "separator")
MODEL_KEYS = tuple(field.name for field in fields(TaskSpec) if field.name != "name")
# What training finds out by itself.
FITTED_KEYS = ("temperature", "thresholds")
DEFAULT_SEPARATOR = ","

# A class index, or for a multi-label task a 0 or 1 for each label; -100 = not labelled.
Label = int | list[int]


def task_specs(tasks: Mapping[str, Any]) -> dict[str, TaskSpec]:
    """The model's view of a recipe's tasks: without what only the table needs.

    Raises:
        ValueError: If a task is none, or what it says about the table cannot be.
    """
    short = {
        name: {key: value for key, value in task.items() if key not in TABLE_KEYS}
        if isinstance(task, Mapping)
        else task
        for name, task in tasks.items()
    }
    for name, task in tasks.items():
        _check_keys(name, task)
    specs = parse_tasks(short)
    for name, spec in specs.items():
        _table_options(spec, tasks[name])
    return specs


def _check_keys(name: str, task: Any) -> None:
    known = [*MODEL_KEYS, *TABLE_KEYS]
    if not isinstance(task, Mapping) or not (unknown := [key for key in task if key not in known]):
        return
    close = difflib.get_close_matches(str(unknown[0]), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"task {name!r} has the keys {unknown}, which no task in a recipe has: choose from "
        f"{[key for key in known if key not in FITTED_KEYS]}.{hint}"
    )


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
        TableError: If the entry or the column does not fit.
    """
    column, separator, spellings = _table_options(spec, task)
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


def _table_options(spec: TaskSpec, task: Any) -> tuple[str, str, dict[str, int | None]]:
    """What a recipe's task says about the table: column, separator, and class index by spelling."""
    options = task if isinstance(task, Mapping) else {}
    column = options.get("column", spec.name)
    if not isinstance(column, str):
        raise TableError(
            f"task {spec.name!r} has the column {column!r}: give the name of one column, a string. (YAML "
            "reads an unquoted number or yes as something else.)"
        )
    return column, _separator(spec, options), _spellings(spec, options.get("values"))


def _separator(spec: TaskSpec, options: Mapping[str, Any]) -> str:
    if "separator" not in options:
        return DEFAULT_SEPARATOR
    separator = options["separator"]
    if spec.kind != "multilabel":
        raise TableError(f"task {spec.name!r} is {spec.kind}: only a multilabel task has a `separator`.")
    if not isinstance(separator, str) or not separator:
        raise TableError(f"task {spec.name!r} has the separator {separator!r}: give a string such as '|'.")
    return separator


def _spellings(spec: TaskSpec, values: Any) -> dict[str, int | None]:
    indices: dict[str, int | None] = {label: index for index, label in enumerate(spec.labels)}
    if not isinstance(values, Mapping | None):
        raise TableError(f"task {spec.name!r} has `values` {values!r}: map each spelling to a label.")
    for spelling, label in (values or {}).items():
        if isinstance(spelling, bool):
            raise TableError(
                f"task {spec.name!r} has {spelling!r} in `values`: YAML reads yes, no, on and off that way. "
                "Put the spelling in quotes."
            )
        if label is not None and label not in spec.labels:
            raise TableError(
                f"task {spec.name!r} maps {spelling!r} to {label!r}: its labels are {list(spec.labels)}."
            )
        indices[str(spelling)] = None if label is None else spec.labels.index(label)
    return indices


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

    So do tables that had other types become text, here (`training/predict.py`) and elsewhere.
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
