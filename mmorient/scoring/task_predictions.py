"""What a model, a table or an answer file says about one task's rows, beside the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from mmorient.kinds.base import Scored
from mmorient.kinds.cells import known_entries, known_rows
from mmorient.kinds.kinds import toolkit_kind
from modeling_mmorient.calibration import decisions, probabilities
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class TaskDecisions:
    """What is answered for every row, and what is true.

    Args:
        spec: The task.
        decisions: (rows,) class indices; for `multilabel` (rows, C) of 0 and 1; for `regression` (rows,)
            values.
        labels: The same, -100 (NaN for values) where a row is not labelled.

    Raises:
        ValueError: If the arrays do not fit the task or one another.
    """

    spec: TaskSpec
    decisions: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        name, kind = self.spec.name, toolkit_kind(self.spec)
        shape = (len(self.labels), *kind.model.label_shape(self.spec))
        if self.labels.shape != shape or self.decisions.shape != shape:
            raise ValueError(
                f"task {name!r} has decisions of shape {self.decisions.shape} and labels of shape "
                f"{self.labels.shape}: a {self.spec.kind} task with {len(self.spec.labels)} labels needs "
                f"{shape} of both."
            )
        values = {"labels": self.labels[known_entries(self.labels)], "decisions": self.decisions[self.known]}
        for field, given in values.items():
            if (wrong := kind.check(self.spec, given)) is not None:
                raise ValueError(f"task {name!r} has the {field} {wrong}.")

    @property
    def known(self) -> np.ndarray:
        """(rows,) bool: True = labelled; for `multilabel` all labels of the row are known."""
        return known_rows(self.labels)


@dataclass(frozen=True)
class TaskPredictions(TaskDecisions):
    """The same with the probabilities that the decisions were made by.

    Args:
        probabilities: (rows, C) float32, calibrated; of each class, for `multilabel` of each label by itself.
            Of `regression` the value before it is clipped, (rows, 1).
    """

    probabilities: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = toolkit_kind(self.spec)
        shape = (len(self.labels), len(kind.model.columns(self.spec)))
        if self.probabilities.shape != shape:
            raise ValueError(
                f"task {self.spec.name!r} has probabilities of shape {self.probabilities.shape}: {shape} "
                "is expected."
            )
        values = self.probabilities[self.known]
        if kind.model.has_probabilities and not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"task {self.spec.name!r} has probabilities that are no numbers from 0 to 1.")

    @classmethod
    def from_logits(cls, spec: TaskSpec, logits: ArrayLike, labels: ArrayLike) -> Self:
        """The predictions that follow from logits.

        Args:
            spec: The task, with its temperature and thresholds.
            logits: (rows, C).
            labels: As in [`TaskDecisions`].

        Raises:
            ValueError: If a logit is not finite, or the arrays do not fit.
        """
        values = finite_logits(spec.name, logits)
        calibrated = probabilities(spec, torch.from_numpy(values))
        return cls(spec, decisions(spec, calibrated).numpy(), np.asarray(labels), calibrated.numpy())


def labelled_rows(task: Any) -> Scored:
    """The labelled rows of [`TaskDecisions`] or [`TaskPredictions`]."""
    known = np.asarray(task.known, dtype=bool)
    probabilities = getattr(task, "probabilities", None)
    return Scored(
        task.spec,
        np.asarray(task.decisions)[known],
        np.asarray(task.labels)[known],
        None if probabilities is None else np.asarray(probabilities)[known],
    )


def task_predictions(
    specs: Mapping[str, TaskSpec], logits: Mapping[str, ArrayLike], labels: Mapping[str, ArrayLike]
) -> dict[str, TaskPredictions]:
    """The predictions of every task, from logits and labels as a `Trainer`'s evaluation gives them."""
    return {
        name: TaskPredictions.from_logits(spec, logits[name], labels[name]) for name, spec in specs.items()
    }


def finite_logits(task: str, logits: ArrayLike) -> np.ndarray:
    """A task's logits in float32.

    Raises:
        ValueError: If one of them is not finite: it decides nothing.
    """
    values = np.array(logits, dtype=np.float32)
    wrong = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(-1))
    if len(wrong):
        raise ValueError(
            f"task {task!r} has logits that are not finite in {len(wrong)} of {len(values)} rows, the "
            f"first of them row {wrong[0]} (from 0): the model or its inputs are broken."
        )
    return values
