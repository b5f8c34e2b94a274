"""A recipe's tasks: what the model knows of them, and what their columns hold."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mmorient.kinds.cells import CellOptions
from mmorient.kinds.kinds import TOOLKIT_KINDS, toolkit_kind
from modeling_mmorient.task_specs import TaskSpec, parse_tasks

TABLE_KEYS = tuple(dict.fromkeys(key for kind in TOOLKIT_KINDS.values() for key in kind.table_keys))
MODEL_KEYS = tuple(field.name for field in fields(TaskSpec) if field.name != "name")
# What training finds out by itself.
FITTED_KEYS = tuple(
    dict.fromkeys(key for kind in TOOLKIT_KINDS.values() for key in (*kind.prepared_fields, *kind.unfitted))
)
DEFAULT_SEPARATOR = ","


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
        if isinstance(task, Mapping) and "columns" in task:
            # Of a multi-label task: a column for each label, which is called as the label is.
            short[name].setdefault("labels", task["columns"])
    specs = parse_tasks(short)
    for name, spec in specs.items():
        cell_options(spec, tasks[name])
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


def cell_options(spec: TaskSpec, task: Any) -> CellOptions:
    """What a recipe's task says about its column.

    Args:
        spec: The task.
        task: Its entry in the recipe.

    Raises:
        ValueError: If the entry cannot be: a column that is no name, a spelling of an unknown label.
    """
    options = task if isinstance(task, Mapping) else {}
    for key in TABLE_KEYS:
        if key in options and key not in toolkit_kind(spec).table_keys:
            kinds = " or ".join(name for name, kind in TOOLKIT_KINDS.items() if key in kind.table_keys)
            raise ValueError(f"task {spec.name!r} is {spec.kind}: only a {kinds} task has a `{key}`.")
    if "columns" in options:
        return CellOptions(_columns(spec, options), True, DEFAULT_SEPARATOR, {})
    column = options.get("column", spec.name)
    if not isinstance(column, str):
        raise ValueError(
            f"task {spec.name!r} has the column {column!r}: give the name of one column, a string. (YAML "
            "reads an unquoted number or yes as something else.)"
        )
    return CellOptions((column,), False, _separator(spec, options), _spellings(spec, options.get("values")))


def _columns(spec: TaskSpec, options: Mapping[str, Any]) -> tuple[str, ...]:
    columns = options["columns"]
    if others := [key for key in TABLE_KEYS if key in options and key != "columns"]:
        raise ValueError(
            f"task {spec.name!r} has `columns` and {others}: a column for each label needs none of these."
        )
    strings = isinstance(columns, list | tuple) and all(isinstance(column, str) for column in columns)
    if not strings or len(columns) != len(spec.labels) or len(set(columns)) != len(columns):
        raise ValueError(
            f"task {spec.name!r} has the columns {columns!r}: give the name of one column for each of its "
            f"labels, {list(spec.labels)}."
        )
    return tuple(columns)


def _separator(spec: TaskSpec, options: Mapping[str, Any]) -> str:
    if "separator" not in options:
        return DEFAULT_SEPARATOR
    separator = options["separator"]
    if not isinstance(separator, str) or not separator:
        raise ValueError(f"task {spec.name!r} has the separator {separator!r}: give a string such as '|'.")
    return separator


def _spellings(spec: TaskSpec, values: Any) -> dict[str, int | None]:
    indices: dict[str, int | None] = {label: index for index, label in enumerate(spec.labels)}
    if not isinstance(values, Mapping | None):
        raise ValueError(f"task {spec.name!r} has `values` {values!r}: map each spelling to a label.")
    for spelling, label in (values or {}).items():
        if isinstance(spelling, bool):
            raise ValueError(
                f"task {spec.name!r} has {spelling!r} in `values`: YAML reads yes, no, on and off that way. "
                "Put the spelling in quotes."
            )
        if label is not None and label not in spec.labels:
            raise ValueError(
                f"task {spec.name!r} maps {spelling!r} to {label!r}: its labels are {list(spec.labels)}."
            )
        indices[str(spelling)] = None if label is None else spec.labels.index(label)
    return indices
