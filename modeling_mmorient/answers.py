"""Answers with names: what a model decides, by task and label, for a person or a program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .calibration import decisions, intervals, probabilities
from .task_kinds import kind_of
from .task_specs import TaskSpec


@dataclass(frozen=True)
class Answer:
    """What a model answers to one task about one row.

    Args:
        labels: One label; of a `multilabel` task those that hold; of a `regression` task its value in digits.
        probabilities: By label, calibrated. Empty for a `regression` task.
        thresholds: By label, the probability above which the label holds: for every label of a `multilabel`
            task, for the second of two labels where a threshold was fitted, for no others.
        value: Of a `regression` task; None for others.
        interval: Around it, where one was fitted: low and high end between which nine of ten true values lie.
    """

    labels: list[str]
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    value: float | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.value is not None:
            beside = "" if self.interval is None else "  ({:.6g} to {:.6g})".format(*self.interval)
            return f"{self.value:.6g}{beside}"
        shares = ", ".join(
            f"{label} {share:.2f}{self._beside(label)}" for label, share in self.probabilities.items()
        )
        return f"{', '.join(self.labels) or 'none of them'}  ({shares})"

    def _beside(self, label: str) -> str:
        if label not in self.thresholds:
            return ""
        # More digits: the probability may be close to the threshold.
        sign = ">" if label in self.labels else "<="
        return f" {sign} {self.thresholds[label]:.3f}"


def name_answers(
    specs: Mapping[str, TaskSpec],
    probabilities: Mapping[str, torch.Tensor],
    decisions: Mapping[str, torch.Tensor],
) -> list[dict[str, Answer]]:
    """By row and task, the answer with names.

    Args:
        specs: The tasks.
        probabilities: By task, (B, C), of the model's `probabilities`.
        decisions: By task, of its `decisions`: class indices (B,), for `multilabel` (B, C) of 0 and 1.

    Raises:
        ValueError: If an answer is not a number, naming row and task.
    """
    rows: list[dict[str, Answer]] = [{} for _ in next(iter(probabilities.values()))]
    for task, spec in specs.items():
        limits, kind = _thresholds(spec), kind_of(spec)
        spans = kind.intervals(spec, decisions[task])
        for row, (shares, decided) in enumerate(
            zip(probabilities[task].tolist(), decisions[task].tolist(), strict=True)
        ):
            if not all(map(math.isfinite, shares)):
                raise ValueError(
                    f"row {row}: the model's logits of task {task!r} are not finite, and not a number is no "
                    "answer: its weights, or the image, are broken."
                )
            rows[row][task] = Answer(
                kind.names(spec, decided),
                dict(zip(spec.labels, shares, strict=True)) if kind.has_probabilities else {},
                dict(limits),
                None if kind.has_probabilities else decided,
                None if spans is None else tuple(spans[row].tolist()),
            )
    return rows


def _thresholds(spec: TaskSpec) -> dict[str, float]:
    labels = kind_of(spec).threshold_labels(spec.labels)
    if spec.thresholds is not None:
        return dict(zip(labels, spec.thresholds, strict=True))
    # The most probable class is the answer: there is no threshold to show.
    return dict.fromkeys(labels, 0.5) if spec.several else {}


class AnsweringModel:
    """Part of the model with heads: from logits to answers in words."""

    config: Any

    def probabilities(self, logits: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Calibrated probabilities (batch_size, classes) by task, from the output's `logits`.

        One for each class, summing to one; for `multilabel` each label has its own. A `regression` task has
        none: its value, (batch_size, 1), is given instead. See `calibration.py`.
        """
        specs = self.config.task_specs
        return {name: probabilities(specs[name], values) for name, values in logits.items()}

    def decisions(self, probabilities: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model answers: class indices (batch_size,) by task, from [`~probabilities`].

        For `multilabel` (batch_size, labels) of 0 and 1, for `regression` the value in the table's unit,
        clipped to the task's range. Where the tasks have thresholds, those decide.
        """
        specs = self.config.task_specs
        return {name: decisions(specs[name], values) for name, values in probabilities.items()}

    def intervals(self, decisions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Where nine of ten true values lie, (batch_size, 2) low and high end, from [`~decisions`].

        By task, for the `regression` tasks whose interval was fitted after training.
        """
        specs = self.config.task_specs
        found = {name: intervals(specs[name], values) for name, values in decisions.items()}
        return {name: values for name, values in found.items() if values is not None}

    @torch.inference_mode()
    def label(self, processor: Any, images: Any = None, text: Any = None) -> list[dict[str, Answer]]:
        """What the model answers about memes, in words: label names with probabilities.

        Args:
            processor: Of this model, an [`MMOrientProcessor`].
            images, text: As the processor takes them: an image and a text, or a list of each with an
                entry for each row; None is a missing one.

        Returns:
            For each row the answers by task: `labels`, `probabilities` and, where they decide, `thresholds`;
            of regression `value` and `interval`.

        Raises:
            ValueError: If the model is in training mode, a row cannot be read, or an answer is not a number.

        Example:

        ```python
        >>> model.label(processor, images="meme.png", text="what a lovely day")[0]["sentiment"].labels
        ['positive']
        ```
        """
        model: Any = self
        if model.training:
            raise ValueError("the model is in training mode: call `model.eval()` before.")
        inputs = processor(images=images, text=text, return_tensors="pt").to(model.device)
        probabilities = self.probabilities(model(**inputs).logits)
        return name_answers(self.config.task_specs, probabilities, self.decisions(probabilities))
