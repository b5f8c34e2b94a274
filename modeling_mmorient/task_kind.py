"""What a kind of task means to the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .input_checks import INTEGERS

if TYPE_CHECKING:
    from .task_specs import TaskSpec

# Marks unknown labels; PyTorch's convention.
IGNORE_INDEX = -100
# Limit of values and of their range, mean and deviation: results computed from them stay finite in float32.
MAX_VALUE = 1e9


class TaskKind(ABC):
    """What a kind of task means to the model: its head, loss, probabilities, decisions, labels and votes.

    Shapes name the rows B, the columns of the logits C and the neighbours k.
    """

    name: str
    # A task's fields, beside its kind and weight, that a task of this kind may set.
    options: tuple[str, ...] = ("labels", "class_weights", "label_smoothing", "temperature", "thresholds")
    # Labels that a task needs.
    least_labels = 2
    # Kinds with the same form can use each other's labels.
    label_form: str
    # Whether `probabilities` gives probabilities, and not values.
    has_probabilities = True
    label_dtype = torch.long
    given_dtypes: tuple[torch.dtype, ...] = (torch.bool, *INTEGERS)
    given_words = "class indices as integers"

    def columns(self, spec: TaskSpec) -> tuple[str, ...]:
        """The name of each column of the logits, (C,)."""
        return spec.labels

    def head(self, in_dim: int, spec: TaskSpec) -> nn.Module:
        """A new head, (B, in_dim) to logits (B, C)."""
        return nn.Linear(in_dim, len(self.columns(spec)))

    def head_fits(self, old: TaskSpec, new: TaskSpec) -> bool:
        """Whether a head of one task can be taken over for another of this kind with the same labels."""
        return True

    def reordered_head(self, state: Mapping[str, torch.Tensor], order: Sequence[int]) -> dict[str, Any]:
        """A head's state dict for the same labels in another order; `order` has the old index of each."""
        return {key: values[order] for key, values in state.items()}

    @abstractmethod
    def label_shape(self, spec: TaskSpec) -> tuple[int, ...]:
        """Shape of one row's label."""

    def unlabelled(self, spec: TaskSpec, rows: int) -> torch.Tensor:
        """Labels for a number of rows, all unknown."""
        return torch.full((rows, *self.label_shape(spec)), IGNORE_INDEX)

    def known(self, labels: torch.Tensor) -> torch.Tensor:
        """Which entries of labels are known, in their shape."""
        return labels != IGNORE_INDEX

    @abstractmethod
    def impossible(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """Which entries of labels the task cannot have, in their shape."""

    @abstractmethod
    def possible_words(self, spec: TaskSpec) -> str:
        """The possible labels of the task, in words."""

    @abstractmethod
    def reordered_labels(self, labels: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
        """Labels of a task that has the same labels in another order, as in `reordered_head`."""

    def reordered_options(self, spec: TaskSpec, order: Sequence[int]) -> dict[str, Any]:
        """Fields of a task that change when its labels are put in another order."""
        if spec.class_weights is None:
            return {}
        return {"class_weights": [spec.class_weights[index] for index in order]}

    @abstractmethod
    def count_labels(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """What votes need to know of all references' labels (N, ...)."""

    @abstractmethod
    def loss(self, spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum of the losses of the known labels, a scalar, from logits (B, C) in float32."""

    @abstractmethod
    def probabilities(self, spec: TaskSpec, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities (..., C) from logits in float32."""

    def threshold_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels that have a threshold each: of a task with two labels, the second."""
        return tuple(labels[1:]) if len(labels) == 2 else ()

    @abstractmethod
    def decisions(self, spec: TaskSpec, probabilities: torch.Tensor) -> torch.Tensor:
        """What the task answers, in the shape of labels, from `probabilities`."""

    def intervals(self, spec: TaskSpec, decisions: torch.Tensor) -> torch.Tensor | None:
        """Low and high end of where the truth lies, (..., 2); None where the task has no intervals."""
        return None

    def unit(self, spec: TaskSpec) -> float:
        """What a difference of 1 between two logits is where a person reads it."""
        return 1.0

    @abstractmethod
    def names(self, spec: TaskSpec, label: Any) -> list[str]:
        """One row's known label or decision (a number or a sequence of them) for a person."""

    @abstractmethod
    def vote(
        self,
        spec: TaskSpec,
        labels: torch.Tensor,
        closeness: torch.Tensor,
        smoothing: torch.Tensor,
        counts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a graph's neighbours add to the logits, (B, C), and each one's share in it, (B, k).

        See `NeighborVotes` for the equations.

        Args:
            spec: The task.
            labels: Of the neighbours, (B, k, ...).
            closeness: exp(T (cos_j - cos_1)) of the neighbours, (B, k); 0 for padding.
            smoothing: s, a scalar.
            counts: From `count_labels`.
        """
