"""Tasks of a saved model beside those that it is loaded for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .task_kinds import kind_of
from .task_specs import TaskSpec


def label_order(old: TaskSpec, new: TaskSpec) -> list[int] | None:
    """The index in `old` of each label of `new`; None if answers to one are no answers to the other.

    They are answers to both if both have the same labels, in any order, in the same form: both or none are
    `multilabel`.
    """
    if set(old.labels) != set(new.labels) or kind_of(old).label_form != kind_of(new).label_form:
        return None
    return [old.labels.index(label) for label in new.labels]


def head_order(old: TaskSpec | None, new: TaskSpec) -> list[int] | None:
    """As `label_order`, for heads; None if that of `old` cannot be that of `new`."""
    if old is None or old.kind != new.kind or not kind_of(old).head_fits(old, new):
        return None
    return label_order(old, new)


def head_identity(spec: TaskSpec) -> tuple[Any, ...]:
    """A key that is equal for tasks whose heads can be exchanged unchanged."""
    return spec.name, spec.labels, spec.kind, spec.mean, spec.deviation


def carried_over(saved: Mapping[str, TaskSpec], tasks: Any) -> Any:
    """Tasks as a caller gives them, completed with saved fields that the caller left out.

    The fields of a saved task carry over to one with the same labels and, if the caller names one, the same
    kind. Fields with an entry for each label follow the order of the labels.

    Args:
        saved: The saved tasks.
        tasks: As `parse_tasks` takes them; those that it refuses are returned as they are.
    """
    if isinstance(tasks, Mapping):
        return {name: _merged(saved.get(name), entry) for name, entry in tasks.items()}
    if isinstance(tasks, Sequence) and not isinstance(tasks, str):
        return [
            _merged(saved.get(entry["name"]), entry)
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)
            else entry
            for entry in tasks
        ]
    return tasks


def _merged(old: TaskSpec | None, entry: Any) -> Any:
    given = dict(entry) if isinstance(entry, Mapping) else {"labels": entry}
    labels = given.get("labels", ())
    if (
        old is None
        or not isinstance(labels, list | tuple)
        or sorted(map(str, labels)) != sorted(old.labels)
        or given.get("kind", old.kind) != old.kind
    ):
        return entry
    order = [old.labels.index(str(label)) for label in labels]
    fields = old.to_options()
    if order != sorted(order):
        fields |= kind_of(old).reordered_options(old, order)
    return {**fields, **given}
