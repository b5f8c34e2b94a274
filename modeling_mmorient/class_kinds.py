"""Kinds of tasks whose answer is one or several of given labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .input_checks import FLOATS, INTEGERS
from .ordinal_head import OrdinalHead
from .task_kind import IGNORE_INDEX, TaskKind

if TYPE_CHECKING:
    from .task_specs import TaskSpec


class Multiclass(TaskKind):
    r"""One of the classes; softmax.

    With the class weights w and the label smoothing ε the loss of a row is

        -Σ_c w_c t_c log p_c,    t_c = (1 - ε) onehot(y)_c + ε / C

    Labels are class indices.
    """

    name = "multiclass"
    label_form = "index"

    def label_shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return ()

    def impossible(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        whole = labels.long()
        outside = (whole != IGNORE_INDEX) & ((whole < 0) | (whole >= spec.num_labels))
        return (whole != labels) | outside

    def possible_words(self, spec: TaskSpec) -> str:
        return _whole_numbers(spec.num_labels - 1)

    def reordered_labels(self, labels: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
        # Where each old label stands now; the last entry is for labels that are not known.
        indices = torch.tensor([*sorted(range(len(order)), key=order.__getitem__), IGNORE_INDEX])
        return indices.to(labels.device)[labels.clamp(min=-1)]

    def reordered_options(self, spec: TaskSpec, order: Sequence[int]) -> dict[str, Any]:
        changed = super().reordered_options(spec, order)
        if spec.thresholds is not None:
            # The threshold is that of the second of two labels, which was the first before.
            changed["thresholds"] = [1 - spec.thresholds[0]]
        return changed

    def count_labels(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """(C,) number of references of each class."""
        return torch.bincount(labels[labels >= 0], minlength=spec.num_labels)

    def loss(self, spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(
            logits,
            labels,
            weight=_class_weights(spec, logits),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=spec.label_smoothing,
        )

    def probabilities(self, spec: TaskSpec, logits: torch.Tensor) -> torch.Tensor:
        return (logits / spec.temperature).softmax(-1)

    def decisions(self, spec: TaskSpec, probabilities: torch.Tensor) -> torch.Tensor:
        if spec.thresholds is not None:
            return (probabilities[..., 1] > spec.thresholds[0]).long()
        return probabilities.argmax(-1)

    def names(self, spec: TaskSpec, label: Any) -> list[str]:
        return [spec.labels[int(label)]]

    def vote(
        self,
        spec: TaskSpec,
        labels: torch.Tensor,
        closeness: torch.Tensor,
        smoothing: torch.Tensor,
        counts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        class_weights = closeness.new_tensor(spec.class_weights or [1.0] * spec.num_labels)
        prior = class_weights * counts + 1
        prior = prior / prior.sum()
        known = self.known(labels)
        labels = labels.masked_fill(~known, 0)
        weights = closeness * known * class_weights[labels]
        onehot = nn.functional.one_hot(labels, spec.num_labels).to(weights.dtype)
        # Elementwise sums: a matrix product's last bits would depend on the other rows.
        voted = (weights.unsqueeze(-1) * onehot).sum(1)
        total = weights.sum(1, keepdim=True) + smoothing
        return ((voted + smoothing * prior) / (total * prior)).log(), weights / total


class Ordinal(Multiclass):
    """One of the classes, which have an order: proportional odds (`OrdinalHead`), else as `Multiclass`."""

    name = "ordinal"

    def head_fits(self, old: TaskSpec, new: TaskSpec) -> bool:
        # It has one score along the order of its labels.
        return old.labels == new.labels

    def head(self, in_dim: int, spec: TaskSpec) -> nn.Module:
        return OrdinalHead(in_dim, spec.num_labels)

    def reordered_head(self, state: Mapping[str, torch.Tensor], order: Sequence[int]) -> dict[str, Any]:
        return dict(state)

    def reordered_options(self, spec: TaskSpec, order: Sequence[int]) -> dict[str, Any]:
        # Its head will be new, and what was fitted to the old one no longer applies.
        return {**super().reordered_options(spec, order), "temperature": 1.0, "thresholds": None}


class Multilabel(TaskKind):
    r"""Any number of the labels; a sigmoid each.

    The loss of a known (row, label) pair is the binary cross-entropy, with the class weight on the positives
    and the target (1 - ε) y + ε / 2.

    A row's label is a 0 or 1 for each of the task's labels.
    """

    name = "multilabel"
    least_labels = 1
    label_form = "labels"
    given_dtypes = (torch.bool, *INTEGERS, *FLOATS)

    def label_shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return (spec.num_labels,)

    def impossible(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        whole = labels.long()
        return (whole != labels) | ((whole != IGNORE_INDEX) & ((whole < 0) | (whole > 1)))

    def possible_words(self, spec: TaskSpec) -> str:
        return _whole_numbers(1)

    def reordered_labels(self, labels: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
        return labels[:, order]

    def reordered_options(self, spec: TaskSpec, order: Sequence[int]) -> dict[str, Any]:
        changed = super().reordered_options(spec, order)
        if spec.thresholds is not None:
            changed["thresholds"] = [spec.thresholds[index] for index in order]
        return changed

    def count_labels(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """(C, 2) number of references without and with each label."""
        return torch.stack([(labels == 0).sum(0), (labels == 1).sum(0)], -1)

    def loss(self, spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing = spec.label_smoothing
        targets = (1 - smoothing) * labels.clamp(min=0).to(logits.dtype) + smoothing / 2
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=_class_weights(spec, logits), reduction="none"
        )
        return losses.masked_fill(~self.known(labels), 0.0).sum()

    def probabilities(self, spec: TaskSpec, logits: torch.Tensor) -> torch.Tensor:
        return (logits / spec.temperature).sigmoid()

    def threshold_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(labels)

    def decisions(self, spec: TaskSpec, probabilities: torch.Tensor) -> torch.Tensor:
        limits = probabilities.new_tensor(spec.thresholds or [0.5] * spec.num_labels)
        return (probabilities > limits).long()

    def names(self, spec: TaskSpec, label: Any) -> list[str]:
        return [name for name, holds in zip(spec.labels, label, strict=True) if holds == 1]

    def vote(
        self,
        spec: TaskSpec,
        labels: torch.Tensor,
        closeness: torch.Tensor,
        smoothing: torch.Tensor,
        counts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        positive_weights = closeness.new_tensor(spec.class_weights or [1.0] * spec.num_labels)
        without, having = counts.to(closeness.dtype).unbind(-1)
        without, having = without + 1, positive_weights * having + 1
        prior = having / (having + without)
        weights = closeness.unsqueeze(-1) * self.known(labels)
        weights = torch.where(labels == 1, weights * positive_weights, weights)
        yes = (weights * (labels == 1)).sum(1) + smoothing * prior
        no = (weights * (labels == 0)).sum(1) + smoothing * (1 - prior)
        shares = weights / (weights.sum(1, keepdim=True) + smoothing)
        return (yes / no).log() - (prior / (1 - prior)).log(), shares.mean(-1)


def _whole_numbers(highest: int) -> str:
    return f"labels are whole numbers from 0 to {highest}, and {IGNORE_INDEX} stands for not labelled"


def _class_weights(spec: TaskSpec, like: torch.Tensor) -> torch.Tensor | None:
    return None if spec.class_weights is None else torch.tensor(spec.class_weights, device=like.device)
