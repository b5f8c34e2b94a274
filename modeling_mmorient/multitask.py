"""Heads and losses of the tasks (paper, section "Multifeature learning and classification")."""

from collections.abc import Mapping

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .label_checks import IGNORE_INDEX, check_counts, check_label_shapes, check_labels
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


class OrdinalHead(nn.Module):
    r"""Proportional odds (McCullagh, 1980) for classes that have an order.

    With one score s = w . h and ordered cut points θ_0 < ... < θ_{C-2} between the classes 0..C-1:

        P(y > k) = sigmoid(s - θ_k),    P(y = k) = P(y > k-1) - P(y > k)

    The logits are the logarithms of P(y = k), so that softmax, argmax and cross-entropy mean the same
    as for any other task.

    Shapes:
        hidden (B, d); returns (B, classes), float32 at least.
    """

    def __init__(self, in_dim: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(in_dim, 1, bias=False)
        self.first_cut = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(num_classes - 2))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        score = self.score(hidden).float()
        # Softplus keeps the cut points in order whatever the parameters are; the constant keeps
        # neighbouring ones apart, since the logarithm of an empty class would be -inf.
        steps = nn.functional.softplus(self.gaps.float()) + 1e-3
        cuts = torch.cat([self.first_cut.float(), self.first_cut.float() + steps.cumsum(0)])
        above = nn.functional.logsigmoid(score - cuts)
        below = nn.functional.logsigmoid(cuts - score)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), without cancellation.
        between = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(-steps))
        return torch.cat([below[:, :1], between, above[:, -1:]], -1)


class MultitaskHeads(nn.ModuleList):
    """A head for each task, in the order of the tasks: (B, d) to a dict of (B, classes)."""

    def __init__(self, config: MMOrientConfig, in_dim: int) -> None:
        specs = config.task_specs
        super().__init__(
            OrdinalHead(in_dim, spec.num_labels)
            if spec.kind == "ordinal"
            else nn.Linear(in_dim, spec.num_labels)
            for spec in specs.values()
        )
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
    r"""Loss of one task over the labels that are known, in float32.

        L = -(1 / N) Σ_i Σ_c w_c t_ic log p_ic,    t_i = (1 - ε) onehot(y_i) + ε / C

    with the class weights w and the label smoothing ε of the task. `multilabel` has the binary
    cross-entropy of each known (row, label) pair instead, with w on the positives and the target
    (1 - ε) y + ε / 2. Without a known label the loss and its gradients are exactly zero.

    Args:
        spec: The task.
        logits: (B, C).
        labels: (B,) class indices, or (B, C) of 0 and 1 for `multilabel`; -100 = not known.
        num_labeled: N. Defaults to the number of known labels here; when gradients are accumulated
            over several batches it is their number in all of them.
    """
    logits = logits.float()
    known = labels != IGNORE_INDEX
    weight = None
    if spec.class_weights is not None:
        weight = torch.tensor(spec.class_weights, device=logits.device)
    if spec.kind == "multilabel":
        smoothing = spec.label_smoothing
        targets = (1 - smoothing) * labels.clamp(min=0).to(logits.dtype) + smoothing / 2
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weight, reduction="none"
        )
        total = losses.masked_fill(~known, 0.0).sum()
    else:
        total = nn.functional.cross_entropy(
            logits,
            labels,
            weight=weight,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=spec.label_smoothing,
        )
    count = known.sum() if num_labeled is None else torch.as_tensor(num_labeled, device=logits.device)
    return total / count.clamp(min=1)


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
            shape = logits[name].shape if spec.kind == "multilabel" else logits[name].shape[:1]
            values = torch.full(shape, IGNORE_INDEX, device=logits[name].device)
        elif num_labeled is not None:
            count = num_labeled[name].to(values.device)
        known = (values != IGNORE_INDEX).sum()
        total = known if count is None else count
        losses.append(task_loss(spec, logits[name], values, total))
        shares.append(known / total.clamp(min=1))
    stacked = torch.stack(losses)
    if weighting is not None:
        stacked = weighting(stacked, torch.stack(shares))
    return (stacked * stacked.new_tensor([spec.weight for spec in specs.values()])).sum()
