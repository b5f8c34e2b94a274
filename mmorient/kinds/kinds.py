"""The toolkit's kinds by the model's."""

from mmorient.kinds.base import ToolkitKind
from mmorient.kinds.classes import OneClass
from mmorient.kinds.multilabel import ManyLabels
from mmorient.kinds.regression import Number
from modeling_mmorient.task_kinds import TASK_KINDS
from modeling_mmorient.task_specs import TaskSpec

_CLASSES: dict[str, type[ToolkitKind]] = {
    "multiclass": OneClass,
    "multilabel": ManyLabels,
    "ordinal": OneClass,
    "regression": Number,
}
TOOLKIT_KINDS: dict[str, ToolkitKind] = {name: _CLASSES[name](name) for name in TASK_KINDS}


def toolkit_kind(spec: TaskSpec) -> ToolkitKind:
    """What a task's kind means outside the model."""
    return TOOLKIT_KINDS[spec.kind]
