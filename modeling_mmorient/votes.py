"""What the labels of a row's neighbours say about the row itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .features import GraphNeighbors, Neighbors
from .searched_references import SearchedReferences
from .task_kinds import kind_of

GRAPHS = ("image", "text")
# Initial values of T, s and the weights a.
SHARPNESS, SMOOTHING, WEIGHT = 10.0, 1.0, 0.5


@dataclass
class GraphVotes:
    """The votes of one graph's neighbours.

    Args:
        added: By task, what is added to the logits, (B, C) in float32.
        shares: By task, each neighbour's share of the vote, (B, k).
    """

    added: dict[str, torch.Tensor]
    shares: dict[str, torch.Tensor]


class NeighborVotes(nn.Module):
    r"""Votes of labelled neighbours, added to the tasks' logits.

    For each relation graph and task, over the neighbours j of a row that are labelled for the task:

        w_j = exp(T (cos_j - cos_1)) c_{y_j}
        v   = (Σ_j w_j onehot(y_j) + s p) / (Σ_j w_j + s)
        logits <- logits + a log(v / p)

    cos_1 is the similarity of the nearest neighbour, c are the task's class weights and p is the share of
    each class among the labelled references, weighted by c too (and one more of each, for classes without
    any): where classes are balanced in the loss, they are here. A `multilabel` task votes on each label by
    itself, and a (logit v - logit p) is added. In a `regression` task the neighbours' standardised values
    z stand for the classes: v = (Σ_j w_j z_j + s p) / (Σ_j w_j + s) with p the mean over the labelled
    references, and a (v - p) is added. T, s > 0 and a are learned: T and s for each graph, a for each
    graph and task. Without a labelled neighbour v = p, and nothing is added.

    Not in the paper.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__()
        self.specs = config.task_specs
        self.log_sharpness = nn.Parameter(torch.full((len(GRAPHS),), math.log(SHARPNESS)))
        self.log_smoothing = nn.Parameter(torch.full((len(GRAPHS),), math.log(SMOOTHING)))
        self.weights = nn.Parameter(torch.full((len(GRAPHS), len(self.specs)), WEIGHT))

    def forward(
        self,
        logits: Mapping[str, torch.Tensor],
        references: SearchedReferences | None,
        neighbors: Mapping[str, Neighbors] | None,
    ) -> tuple[dict[str, torch.Tensor], dict[str, GraphVotes]]:
        """The logits with the votes of both graphs' neighbours, and the votes by graph.

        Args:
            logits: (B, C) by task.
            references: The references, with their labels, on the neighbours' device.
            neighbors: Of the B rows by graph.

        Without references both are None.
        """
        if references is None or neighbors is None:
            # The parameters stay part of the graph, as distributed training needs them to.
            nothing = torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0
            return {name: values + nothing.to(values.dtype) for name, values in logits.items()}, {}
        votes = {graph: self._count(references, graph, found) for graph, found in neighbors.items()}
        voted = dict(logits)
        for graph_votes in votes.values():
            for name, added in graph_votes.added.items():
                voted[name] = voted[name] + added.to(voted[name].dtype)
        return voted, votes

    def _count(self, references: SearchedReferences, graph: str, neighbors: Neighbors) -> GraphVotes:
        number = GRAPHS.index(graph)
        smoothing = self.log_smoothing[number].float().exp()
        # Padding has the similarity 0, and no weight.
        distances = (neighbors.similarities - neighbors.similarities[:, :1]).float()
        closeness = (self.log_sharpness[number].float().exp() * distances).exp()
        closeness = closeness.masked_fill(neighbors.indices < 0, 0.0)
        votes = GraphVotes({}, {})
        for task, (name, spec) in enumerate(self.specs.items()):
            labels = references.labels[name][neighbors.indices.clamp(min=0)]
            added, shares = kind_of(spec).vote(
                spec, labels, closeness, smoothing, references.label_counts[name]
            )
            votes.added[name] = self.weights[number, task].float() * added
            votes.shares[name] = shares
        return votes


def describe_neighbors(
    references: SearchedReferences | None,
    neighbors: Mapping[str, Neighbors] | None,
    votes: Mapping[str, GraphVotes],
) -> dict[str, GraphNeighbors] | None:
    """By graph, the neighbours and the share of each; None without references."""
    if references is None or neighbors is None:
        return None
    described = {}
    for graph, found in neighbors.items():
        known = found.indices >= 0
        counted = votes.get(graph, GraphVotes({}, {}))
        described[graph] = GraphNeighbors(
            found.indices,
            found.similarities,
            ids=[[references.ids[index] for index in row if index >= 0] for row in found.indices.tolist()],
            weights=known / (known.sum(-1, keepdim=True) + 1),
            vote_weights=counted.shares,
            votes=counted.added,
        )
    return described
