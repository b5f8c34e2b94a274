"""Checks of labels, as `forward` and references are given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .input_checks import FLOATS, INTEGERS, ValueChecks, can_look, check_dense
from .task_kind import IGNORE_INDEX
from .task_kinds import kind_of
from .task_specs import TaskSpec

# Largest number of labels: float64 does not hold every larger whole number.
MAX_COUNT = 2**53


def check_labels(
    specs: Mapping[str, TaskSpec], labels: Any, checks: ValueChecks | None = None
) -> dict[str, torch.Tensor]:
    """Labels by task in their kind's dtype, checked to be labels of these tasks.

    Args:
        specs: The tasks by name.
        labels: By task, as the task's kind has them: (B,) class indices or (B, C) of 0 and 1 for
            `multilabel`, -100 = not known; (B,) values for `regression`, NaN = not known.
        checks: Where conditions on the values are gathered; None: they are checked here.

    Raises:
        ValueError: Naming the task, what was given, and the remedy.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"`labels` is a {type(labels).__name__}: give a dict from task name to class indices, "
            f"with {IGNORE_INDEX} for rows that are not labelled. The tasks are {list(specs)}."
        )
    for name in labels:
        if name not in specs:
            raise ValueError(f"`labels` has the task {name!r}: the model's tasks are {list(specs)}.")
    gathered = ValueChecks() if checks is None else checks
    checked = {name: _check_task_labels(specs[name], values, gathered) for name, values in labels.items()}
    if checks is None:
        gathered.settle()
    return checked


def _check_task_labels(spec: TaskSpec, values: Any, checks: ValueChecks) -> torch.Tensor:
    name = f"labels[{spec.name!r}]"
    if not isinstance(values, torch.Tensor):
        raise ValueError(
            f"`{name}` is a {type(values).__name__}: give a tensor of {kind_of(spec).given_words}."
        )
    check_dense(name, values)
    kind = kind_of(spec)
    if values.dtype not in kind.given_dtypes:
        raise ValueError(f"`{name}` is {values.dtype}: give {kind.given_words}.")
    converted = values.to(kind.label_dtype)
    if not can_look(values):
        return converted
    wrong = kind.impossible(spec, values)
    checks.add(
        wrong,
        lambda: f"`{name}` has the value {values[wrong][0].item()}: {kind.possible_words(spec)}.",
    )
    return converted


def check_label_shapes(
    specs: Mapping[str, TaskSpec], labels: Mapping[str, torch.Tensor], rows: int, device: torch.device
) -> None:
    """Check that labels have this number of rows and this device; errors as in `check_labels`."""
    for name, values in labels.items():
        spec = specs[name]
        expected = (rows, *kind_of(spec).label_shape(spec))
        if tuple(values.shape) != expected:
            raise ValueError(
                f"`labels[{name!r}]` has the shape {tuple(values.shape)}: "
                f"a {spec.kind} task needs {expected}."
            )
        if values.device != device:
            raise ValueError(
                f"`labels[{name!r}]` is on the device {values.device} and the other inputs on {device}: move "
                "all to the model's device."
            )


def check_counts(
    counts: Any, labels: Mapping[str, torch.Tensor], checks: ValueChecks | None = None
) -> dict[str, torch.Tensor] | None:
    """Numbers of known labels by task, scalar tensors, as `num_items_in_batch` gives them.

    Args:
        counts: By task: whole numbers of at least 0, or tensors of one; None: there are none.
        labels: By task; each needs its count.
        checks: As in `check_labels`.

    Raises:
        ValueError: If `counts` is anything else.
    """
    if counts is None:
        return None
    if not isinstance(counts, Mapping) or not all(name in counts for name in labels):
        raise ValueError(
            f"`num_items_in_batch` is {counts!r:.200}: give a dict with the number of known labels of each "
            f"of the tasks {list(labels)}, or None."
        )
    gathered = ValueChecks() if checks is None else checks
    checked = {name: _check_count(name, counts[name], gathered) for name in labels}
    if checks is None:
        gathered.settle()
    return checked


def _check_count(name: str, value: Any, checks: ValueChecks) -> torch.Tensor:
    def message() -> str:
        return f"`num_items_in_batch[{name!r}]` is {value!r:.100}: give a whole number of labels, at least 0."

    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.dtype in (*INTEGERS, *FLOATS):
        count = value.reshape(())
        if can_look(count):
            # A comparison with NaN is False.
            checks.add(~((count >= 0) & (count == count.trunc()) & (count < MAX_COUNT)), message)
        return count
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < MAX_COUNT or value != int(value):
        raise ValueError(message())
    return torch.tensor(int(value))
