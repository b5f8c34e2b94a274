"""Tasks whose answer is a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .input_checks import FLOATS
from .task_kind import MAX_VALUE, TaskKind

if TYPE_CHECKING:
    from .task_specs import TaskSpec


class Regression(TaskKind):
    r"""A number; Huber loss.

    The logit z is the value y in units of the training rows: z = (y - mean) / deviation, with the task's
    `mean` and `deviation`. The loss of a row is, with e the difference between logit and standardised label,

        e^2 / 2  where |e| <= 1,   |e| - 1 / 2  elsewhere

    Labels are values in the table's unit, in floating point; NaN stands for not labelled. There are no
    probabilities: in their place stands the value, (..., 1), and the decision is the value, clipped to the
    task's `range`.
    """

    name = "regression"
    options = ("range", "mean", "deviation", "interval")
    least_labels = 0
    label_form = "value"
    has_probabilities = False
    label_dtype = torch.float32
    given_dtypes = FLOATS
    given_words = "values as floating-point numbers, NaN where a row is not labelled"

    def columns(self, spec: TaskSpec) -> tuple[str, ...]:
        return ("value",)

    def head_fits(self, old: TaskSpec, new: TaskSpec) -> bool:
        # In other units the same logit is another value.
        return (old.mean, old.deviation) == (new.mean, new.deviation)

    def reordered_head(self, state: Mapping[str, torch.Tensor], order: Sequence[int]) -> dict[str, Any]:
        return dict(state)

    def label_shape(self, spec: TaskSpec) -> tuple[int, ...]:
        return ()

    def unlabelled(self, spec: TaskSpec, rows: int) -> torch.Tensor:
        return torch.full((rows,), torch.nan)

    def known(self, labels: torch.Tensor) -> torch.Tensor:
        return ~labels.isnan()

    def impossible(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        low, high = spec.range or (-MAX_VALUE, MAX_VALUE)
        # Comparisons with NaN are False.
        return (labels < low) | (labels > high)

    def possible_words(self, spec: TaskSpec) -> str:
        low, high = spec.range or (-MAX_VALUE, MAX_VALUE)
        return f"values are numbers from {low:g} to {high:g}, and NaN stands for not labelled"

    def reordered_labels(self, labels: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
        return labels

    def count_labels(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """(2,) number of labelled references and the mean of their values, 0 without one."""
        known = labels[self.known(labels)].double()
        return torch.stack([known.new_tensor(len(known)), known.sum() / max(len(known), 1)])

    def loss(self, spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        known = self.known(labels)
        losses = nn.functional.huber_loss(logits[:, 0], self._standard(spec, labels), reduction="none")
        return losses.masked_fill(~known, 0.0).sum()

    def probabilities(self, spec: TaskSpec, logits: torch.Tensor) -> torch.Tensor:
        """The value, (..., 1), in the table's unit."""
        return logits * spec.deviation + spec.mean

    def threshold_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ()

    def decisions(self, spec: TaskSpec, probabilities: torch.Tensor) -> torch.Tensor:
        values = probabilities[..., 0]
        return values if spec.range is None else values.clamp(*spec.range)

    def intervals(self, spec: TaskSpec, decisions: torch.Tensor) -> torch.Tensor | None:
        if spec.interval is None:
            return None
        ends = torch.stack([decisions - spec.interval, decisions + spec.interval], -1)
        return ends if spec.range is None else ends.clamp(*spec.range)

    def unit(self, spec: TaskSpec) -> float:
        return spec.deviation

    def names(self, spec: TaskSpec, label: Any) -> list[str]:
        return [f"{float(label):.6g}"]

    def vote(
        self,
        spec: TaskSpec,
        labels: torch.Tensor,
        closeness: torch.Tensor,
        smoothing: torch.Tensor,
        counts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        number, mean = counts.unbind()
        prior = torch.where(number > 0, (mean - spec.mean) / spec.deviation, 0.0).to(closeness.dtype)
        weights = closeness * self.known(labels)
        total = weights.sum(1, keepdim=True) + smoothing
        voted = (weights * self._standard(spec, labels)).sum(1, keepdim=True)
        return (voted + smoothing * prior) / total - prior, weights / total

    def _standard(self, spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
        """Labels in units of the training rows, 0 where they are not known."""
        return ((labels - spec.mean) / spec.deviation).masked_fill(~self.known(labels), 0.0)
