"""From logits to probabilities and decisions, with what is fitted after training and saved with the tasks."""

import torch

from .task_kinds import kind_of
from .task_specs import TaskSpec


def probabilities(spec: TaskSpec, logits: torch.Tensor) -> torch.Tensor:
    r"""Calibrated probabilities of one task, in float32.

        p = softmax(logits / T),   for `multilabel`  p = sigmoid(logits / T)

    with the task's temperature T (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Args:
        spec: The task; its `temperature` is T.
        logits: (..., C).

    Returns:
        (..., C): one for each class, summing to one; for `multilabel` each label has its own. A `regression`
        task has none: its value in the table's unit, (..., 1), is given instead.
    """
    return kind_of(spec).probabilities(spec, logits.float())


def decisions(spec: TaskSpec, probabilities: torch.Tensor) -> torch.Tensor:
    """What one task answers.

    Args:
        spec: The task. With `thresholds`, a label holds where its probability is above its threshold: each
            label of a `multilabel` task, the second label of a task with two. Without them, a label of a
            `multilabel` task holds above one half, and of several classes the most probable is the answer.
        probabilities: (..., C), from [`probabilities`].

    Returns:
        (...) class indices; for `multilabel` (..., C) of 0 and 1; for `regression` (...) values, clipped to
        the task's range.
    """
    return kind_of(spec).decisions(spec, probabilities)


def intervals(spec: TaskSpec, decisions: torch.Tensor) -> torch.Tensor | None:
    """Where the true value lies in nine of ten rows, by split conformal prediction (`regression` alone).

    Args:
        spec: The task; its `interval` is half the width.
        decisions: (...) values, from [`decisions`].

    Returns:
        (..., 2) low and high end, clipped to the task's range; None for a task without intervals.
    """
    return kind_of(spec).intervals(spec, decisions)
