"""Answers with names: what a model decides, by task and label, for a person or a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .task_specs import TaskSpec


@dataclass(frozen=True)
class Answer:
    """What a model answers to one task about one row.

    Args:
        labels: One label; of a `multilabel` task those that hold.
        probabilities: By label, calibrated.
        thresholds: By label, what its probability must be above for the label to hold: for every label of a
            `multilabel` task, for the second of two that were fitted one, for no others.
    """

    labels: list[str]
    probabilities: dict[str, float]
    thresholds: dict[str, float]

    def __str__(self) -> str:
        shares = ", ".join(
            f"{label} {share:.2f}{self._beside(label)}" for label, share in self.probabilities.items()
        )
        return f"{', '.join(self.labels) or 'none of them'}  ({shares})"

    def _beside(self, label: str) -> str:
        if label not in self.thresholds:
            return ""
        # More digits: the share may be close to it.
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
        limits = _thresholds(spec)
        for row, (shares, decided) in enumerate(
            zip(probabilities[task].tolist(), decisions[task].tolist(), strict=True)
        ):
            if not all(share == share for share in shares):
                raise ValueError(
                    f"row {row}: the model's logits of task {task!r} are not finite, and not a number is no "
                    "answer: its weights, or the image, are broken."
                )
            # A class index; of `multilabel`, a 0 or 1 for each label.
            held = (
                [place for place, holds in enumerate(decided) if holds]
                if isinstance(decided, list)
                else [decided]
            )
            rows[row][task] = Answer(
                [spec.labels[index] for index in held],
                dict(zip(spec.labels, shares, strict=True)),
                dict(limits),
            )
    return rows


def _thresholds(spec: TaskSpec) -> dict[str, float]:
    if spec.kind == "multilabel":
        return dict(zip(spec.labels, spec.thresholds or [0.5] * spec.num_labels, strict=True))
    return {} if spec.thresholds is None else {spec.labels[1]: spec.thresholds[0]}
