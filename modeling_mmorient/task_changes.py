"""Tasks of a saved model beside those that it is loaded for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .task_kinds import kind_of
from .task_specs import TaskSpec


def label_order(old: TaskSpec, new: TaskSpec) -> list[int] | None:
    """Where each label of `new` stands in `old`; None if the answers to one are none to the other.

    They are where both have the same labels, in any order, in the same form: both or none are `multilabel`.
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
    """What tells apart tasks of which one's head cannot be the other's as it is."""
    return spec.name, spec.labels, spec.kind, spec.mean, spec.deviation


def carried_over(saved: Mapping[str, TaskSpec], tasks: Any) -> Any:
    """Tasks as a caller gives them, in which saved fields stand where the caller left them out.

    Those of a task carry over that has the same labels and, if the caller names one, the same kind. What
    stands for labels follows their order.

    Args:
        saved: The saved tasks.
        tasks: As `parse_tasks` takes them; what it refuses is returned as it is.
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
