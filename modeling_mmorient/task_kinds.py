"""Kinds of tasks: everything that a kind means to the model is in one class.

What a kind means to tables, scores and reports is in the toolkit's package `mmorient/kinds/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .class_kinds import Multiclass, Multilabel, Ordinal
from .regression_kind import Regression
from .task_kind import TaskKind

if TYPE_CHECKING:
    from .task_specs import TaskSpec

# In the order of messages.
TASK_KINDS: dict[str, TaskKind] = {
    kind.name: kind for kind in (Multiclass(), Multilabel(), Ordinal(), Regression())
}


def kind_of(spec: TaskSpec) -> TaskKind:
    """What a task's kind means to the model."""
    return TASK_KINDS[spec.kind]
