"""The exact search among a model's references, as operations that an ONNX graph can hold."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from modeling_mmorient.features import MODALITIES, Neighbors
from modeling_mmorient.neighbors import Neighborhood

# Candidates beyond k that the float32 product proposes; the float64 cosines choose among all of them.
SPARE = 32


class ReferenceSearch(nn.Module):
    """The references nearest to each query in one modality, by the rule of the model's own search.

    A float32 product proposes k + 32 candidates, which are compared by their cosines in float64; of equally
    similar references the earlier ones are chosen. Exact copies get the same value from the product, so any
    number of them is handled correctly. The model's own search finds others only where more than 32
    references that are not copies are as similar as the k-th within the float32 product's rounding (1e-5): it
    compares all of them then.

    Args:
        embeds: e of the references, (N, d).
        present: (N,), True = the reference has the modality.
        k: Number of neighbours.
        threshold: Neighbours are more similar than that. None: no threshold.

    Shapes:
        queries (B, d) and present (B,), True = the query has the modality; returns [`Neighbors`] of
        min(k, N) columns.
    """

    embeds: torch.Tensor
    norms: torch.Tensor
    reciprocals: torch.Tensor
    barred: torch.Tensor
    first_copies: torch.Tensor | None

    def __init__(self, embeds: torch.Tensor, present: torch.Tensor, k: int, threshold: float | None) -> None:
        super().__init__()
        count = len(embeds)
        embeds = embeds.float().masked_fill(~present.unsqueeze(-1), 0.0)
        norms = _sum_by_halves(embeds.double().square()).sqrt()
        can_be_found = norms > 0
        self.k = min(k, count)
        self.candidates = min(k + SPARE, count)
        self.lowest = -torch.inf if threshold is None else threshold
        self.register_buffer("embeds", embeds)
        self.register_buffer("norms", torch.where(can_be_found, norms, 1.0))
        self.register_buffer("reciprocals", torch.where(can_be_found, 1 / norms, 0.0).float())
        # Added to the similarities: references that cannot be neighbours come after all others.
        self.register_buffer("barred", torch.where(can_be_found, 0.0, -torch.inf).float())
        _, copies = embeds.unique(dim=0, return_inverse=True)
        indices = torch.arange(count)
        first = indices.new_full((count,), count).scatter_reduce(0, copies, indices, "amin")[copies]
        self.register_buffer("first_copies", None if torch.equal(first, indices) else first)

    @torch.no_grad()
    def forward(self, queries: torch.Tensor, present: torch.Tensor) -> Neighbors:
        queries = torch.where(present.unsqueeze(-1), queries.float(), 0.0)
        wide = queries.double()
        lengths = _sum_by_halves(wide * wide).sqrt().unsqueeze(-1)
        safe = torch.where(lengths > 0, lengths, 1.0)
        found = self._candidates((wide / safe).float())
        dots = _sum_by_halves(wide.unsqueeze(1) * self.embeds[found].double())
        cosines = dots / (safe * self.norms[found])
        possible = (self.barred[found] == 0) & (lengths > 0) & (cosines > self.lowest)
        # Of equal values ONNX's TopK takes the first: candidates stand in the references' order.
        best, order = torch.where(possible, cosines, -torch.inf).topk(self.k)
        is_one = best > -torch.inf
        indices = torch.where(is_one, found.gather(1, order), -1)
        return Neighbors(indices, torch.where(is_one, best, 0.0))

    def _candidates(self, unit: torch.Tensor) -> torch.Tensor:
        """Indices of the references that seem nearest to unit vectors (B, d), in ascending order."""
        similarities = nn.functional.linear(unit, self.embeds) * self.reciprocals + self.barred
        if self.first_copies is not None:
            # The product's last bits depend on the column: copies get the first copy's value.
            similarities = similarities[:, self.first_copies]
        return similarities.topk(self.candidates).indices.sort(dim=-1).values


class FoundNeighborhood(Neighborhood):
    """The neighbours that a search found, with the features of one modality; pairs are (B, k).

    Args:
        embeds: e of all references, (N, d).
        present: (N,), which references have the modality.
        neighbors: The rows' neighbours, found in either modality.
    """

    def __init__(self, embeds: torch.Tensor, present: torch.Tensor, neighbors: Neighbors) -> None:
        known = neighbors.indices >= 0
        indices = neighbors.indices.clamp(min=0)
        self.weights = (known & present[indices]).float()
        self.nodes = nn.functional.layer_norm(embeds[indices], embeds.shape[-1:])

    def weighted_sum(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (weights.unsqueeze(-1) * self.nodes).sum(1), weights.sum(1, keepdim=True)

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        return (queries.unsqueeze(1) * self.nodes).sum(-1)


class ExportedReferences(nn.Module):
    """A model's references as constants of a graph: embeddings, which modalities are present, labels.

    Args:
        references: The model's, at least one.
        limits: By modality, k and the threshold of its relation graph.
    """

    def __init__(self, references: Any, limits: Mapping[str, tuple[int, float | None]]) -> None:
        super().__init__()
        every = torch.arange(len(references))
        self.present = {modality: references.present[modality].cpu() for modality in MODALITIES}
        self.labels = {task: values.cpu() for task, values in references.labels.items()}
        self.label_counts = {task: values.cpu() for task, values in references.label_counts.items()}
        self.searches = nn.ModuleDict(
            {
                modality: ReferenceSearch(
                    references.embeds(modality, every).cpu(), self.present[modality], *limits[modality]
                )
                for modality in MODALITIES
            }
        )

    def neighborhood(self, nodes: str, found: Neighbors) -> FoundNeighborhood:
        """Neighbours with the features of the modality `nodes`."""
        search: Any = self.searches[nodes]
        return FoundNeighborhood(search.embeds, self.present[nodes], found)


def _sum_by_halves(values: torch.Tensor) -> torch.Tensor:
    """Sums over the last dimension, of the same bits for the same values, wherever they stand in memory."""
    while (width := values.shape[-1]) > 1:
        half = (width + 1) // 2
        rest = nn.functional.pad(values[..., half:], (0, 2 * half - width))
        values = values[..., :half] + rest
    return values[..., 0]
