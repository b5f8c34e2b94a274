"""Heads and losses of the tasks (paper, section "Multifeature learning and classification")."""

from collections.abc import Mapping

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .label_checks import check_counts, check_label_shapes, check_labels
from .task_kinds import kind_of
from .task_specs import TaskSpec


class MultifeatureLearner(nn.Sequential):
    """Dense, ReLU and dropout for each of `learner_hidden_sizes`: (B, fused_dim) to (B, output_dim)."""

    def __init__(self, config: MMOrientConfig) -> None:
        layers: list[nn.Module] = []
        width = config.fused_dim
        for size in config.learner_hidden_sizes:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(config.learner_dropout)]
            width = size
        super().__init__(*layers)
        self.output_dim = width


class MultitaskHeads(nn.ModuleList):
    """A head for each task, in the order of the tasks: (B, d) to a dict of (B, classes)."""

    def __init__(self, config: MMOrientConfig, in_dim: int) -> None:
        specs = config.task_specs
        super().__init__(kind_of(spec).head(in_dim, spec) for spec in specs.values())
        self.specs = specs

    def forward(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: head(hidden) for name, head in zip(self.specs, self, strict=True)}


class UncertaintyWeighting(nn.Module):
    r"""Shares of the tasks in the loss that are learned (Kendall et al., Multi-Task Learning Using
    Uncertainty to Weigh Losses, 2018), for classification:

        L = Σ_t weight_t (exp(-s_t) L_t + r_t s_t / 2)

    s_t is the logarithm of the task's variance, and r_t the part of the step's labels of the task that
    this batch holds (1 without accumulation), so that accumulating batches changes nothing and a task
    without labels adds exactly nothing.

    Args:
        num_tasks: Number of tasks.

    Shapes:
        losses (tasks,), shares r (tasks,); returns (tasks,).
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        log_variances = self.log_variances.float()
        return torch.exp(-log_variances) * losses + shares * log_variances / 2


def task_loss(
    spec: TaskSpec,
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_labeled: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Loss of one task, in float32: the sum over its known labels (see the task's kind) divided by N.

    Without a known label the loss and its gradients are exactly zero.

    Args:
        spec: The task.
        logits: (B, C).
        labels: As the task's kind has them, (B,) or (B, C).
        num_labeled: N. Defaults to the number of known labels here; when gradients are accumulated
            over several batches it is their number in all of them.
    """
    kind = kind_of(spec)
    total = kind.loss(spec, logits.float(), labels)
    if num_labeled is None:
        num_labeled = kind.known(labels).sum()
    return total / torch.as_tensor(num_labeled, device=logits.device).clamp(min=1)


def multitask_loss(
    specs: Mapping[str, TaskSpec],
    logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor],
    num_labeled: Mapping[str, torch.Tensor | int] | None = None,
    weighting: UncertaintyWeighting | None = None,
) -> torch.Tensor:
    """Weighted sum of the tasks' losses: L = Σ_t weight_t L_t, or that of `UncertaintyWeighting`.

    Args:
        specs: The tasks by name.
        logits: (B, C) by task.
        labels: By task; a task that is left out is labelled nowhere.
        num_labeled: The N of `task_loss` by task, for every task with labels.
        weighting: Learned shares of the tasks.

    Raises:
        ValueError: If the labels name an unknown task, or hold a value or shape that the task cannot have.
    """
    checked = check_labels(specs, labels)
    return checked_loss(specs, logits, checked, check_counts(num_labeled, checked), weighting)


def checked_loss(
    specs: Mapping[str, TaskSpec],
    logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor],
    num_labeled: Mapping[str, torch.Tensor] | None = None,
    weighting: UncertaintyWeighting | None = None,
) -> torch.Tensor:
    """As `multitask_loss`, of what `check_labels` and `check_counts` have passed."""
    some = next(iter(logits.values()))
    check_label_shapes(specs, labels, len(some), some.device)
    losses, shares = [], []
    for name, spec in specs.items():
        values, count = labels.get(name), None
        if values is None:
            # The head stays part of the graph, as distributed training needs it to.
            values = kind_of(spec).unlabelled(spec, len(logits[name])).to(logits[name].device)
        elif num_labeled is not None:
            count = num_labeled[name].to(values.device)
        known = kind_of(spec).known(values).sum()
        total = known if count is None else count
        losses.append(task_loss(spec, logits[name], values, total))
        shares.append(known / total.clamp(min=1))
    stacked = torch.stack(losses)
    if weighting is not None:
        stacked = weighting(stacked, torch.stack(shares))
    return (stacked * stacked.new_tensor([spec.weight for spec in specs.values()])).sum()
