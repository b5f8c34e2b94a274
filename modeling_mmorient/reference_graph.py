"""Relation graphs from rows to the references stored with the model: neighbours, thresholds, statistics."""

import copy

import torch

from .configuration_mmorient import MMOrientConfig
from .features import MODALITIES, DegreeStatistics, EncodedFeatures, Neighbors
from .input_checks import unsound
from .neighbors import Neighborhood
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .searched_references import SearchedReferences

# A neighbour at least this similar to a reference is a copy of it.
COPY = 1 - 1e-9
# The cosine of a row and the reference that is the row itself is above this, even in half precision.
COPY_COSINE = 1 - 1e-6


class ReferenceNeighborhood(Neighborhood):
    """The neighbours of B rows among the references, with the features of one modality.

    Pairs are (B, k), as in [`Neighbors`]. Node features are the embeddings e at mean 0 and variance 1. A
    row's sum is the same to the last bit in any batch.

    Args:
        references: The references.
        modality: Of the node features.
        neighbors: Of the rows.
    """

    def __init__(self, references: SearchedReferences, modality: str, neighbors: Neighbors) -> None:
        self.references, self.modality = references, modality
        self.indices = neighbors.indices
        known = self.indices >= 0
        # One more entry, for where there is no neighbour.
        has = torch.nn.functional.pad(references.present[modality], (0, 1))
        self.weights = has[self.indices.masked_fill(~known, len(has) - 1)].float()

    @torch.compiler.disable
    def weighted_sum(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        totals, numbers = [], []
        for rows, nodes, indices in self.references.nodes(self.modality, self.indices):
            total, number = nodes.new_zeros(len(indices), nodes.shape[1]), nodes.new_zeros(len(indices), 1)
            # One neighbour of each row at a time: no (B, k, d) in memory, and always the same order.
            for index, weight in zip(indices.unbind(1), weights[rows].unsqueeze(-1).unbind(1), strict=True):
                total, number = total + weight * nodes[index], number + weight
            totals.append(total)
            numbers.append(number)
        return torch.cat(totals), torch.cat(numbers)

    @torch.compiler.disable
    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        blocks = []
        for rows, nodes, indices in self.references.nodes(self.modality, self.indices):
            pairs = [(queries[rows] * nodes[index]).sum(-1) for index in indices.unbind(1)]
            blocks.append(torch.stack(pairs, -1))
        return torch.cat(blocks)


class ReferenceGraphs:
    """The image and the text graph: each row's neighbours among the references, by threshold and k.

    A row's neighbours depend on nothing but the row and the references.

    Args:
        config: The model's configuration.
        references: The references, on the features' device; they must not be edited meanwhile.
        features: Of B rows.
        own: (B,) or (B, m), indices of the references that are the row itself or its copies, which are not
            its neighbours; -1 where there are no more. None: no row is a reference.
    """

    @torch.compiler.disable
    def __init__(
        self,
        config: MMOrientConfig,
        references: SearchedReferences,
        features: EncodedFeatures,
        own: torch.Tensor | None = None,
    ) -> None:
        self.references = references
        rows = features.by_modality()
        self.present = {modality: present for modality, (_, present) in rows.items()}
        with torch.no_grad():
            self.neighbors = {
                modality: references.neighbors(
                    modality,
                    embeds,
                    # A row that is not finite has no neighbours, and its answer is NaN anyway.
                    present & ~unsound(embeds),
                    getattr(config, f"{modality}_neighbors"),
                    getattr(config, f"{modality}_threshold"),
                    own,
                )
                for modality, (embeds, present) in rows.items()
            }

    @torch.compiler.disable
    def neighborhood(self, nodes: str, graph: str) -> ReferenceNeighborhood:
        """As [`BatchGraphs.neighborhood`], among the references."""
        return ReferenceNeighborhood(self.references, nodes, self.neighbors[graph])

    def degree_statistics(self) -> dict[str, DegreeStatistics]:
        """Degree statistics by graph, over the rows that have the modality."""
        return {
            # Less one: a training row is not its own neighbour.
            graph: DegreeStatistics.of(
                found.degrees(), self.present[graph], len(self.references.searchable(graph)) - 1
            )
            for graph, found in self.neighbors.items()
        }


@torch.compiler.disable
@torch.no_grad()
def find_copies(references: SearchedReferences, features: EncodedFeatures) -> torch.Tensor:
    """Indices of the references that are equal to rows, (B, m), with -1 where there are no more.

    They have the modalities that the row has and no other, and in each of them what would be stored of the
    row, up to the rounding of its computation. What is not finite equals nothing.
    """
    exactly = copy.copy(references)
    rows_by_modality = features.by_modality()
    present = {name: has & ~unsound(embeds) for name, (embeds, has) in rows_by_modality.items()}
    pairs = []
    for modality, other in (MODALITIES, MODALITIES[::-1]):
        exactly.drop_index(modality)
        embeds, has = rows_by_modality[modality][0], present[modality]
        stored = StoredEmbeds.encode(embeds.cpu(), has.cpu(), STORAGE_DTYPES[references.dtype])
        query = stored.decode(torch.arange(len(has))).to(references.device)
        found = exactly.search(modality, query, has, threshold=COPY_COSINE, checked=True).indices
        rows, columns = (found >= 0).nonzero().unbind(-1)
        indices = found[rows, columns]
        alike = references.present[other][indices] == present[other][rows]
        pairs.append((len(references) * rows + indices)[alike])
    pair, times = torch.cat(pairs).unique(return_counts=True)
    rows = pair // len(references)
    # A reference of a row with both modalities must be found in both.
    equal = times == 1 + (present["image"] & present["text"])[rows].long()
    rows, indices = rows[equal], pair[equal] % len(references)
    numbers = torch.bincount(rows, minlength=len(present["image"]))
    columns = torch.arange(len(rows), device=rows.device) - (numbers.cumsum(0) - numbers)[rows]
    padded = rows.new_full((len(numbers), int(numbers.max()) if len(numbers) else 0), -1)
    padded[rows, columns] = indices
    return padded


def calibrate_threshold(
    references: SearchedReferences, modality: str, quantile: float, sample: int = 1000, seed: int = 0
) -> float:
    """The quantile of the references' similarities to the references nearest to them.

    At 0.1, say, nine of ten references have a neighbour above the threshold.

    Args:
        references: The references, each of which is compared with the others.
        modality: `image` or `text`.
        quantile: In [0, 1].
        sample: Number of references that are compared, drawn at random.
        seed: Of the drawing.

    Raises:
        ValueError: If fewer than two references have the modality, or so many are copies of others that
            nothing could be more similar than the threshold.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"`quantile` is {quantile!r}: give a number in [0, 1].")
    nearest = _search_sample(references, modality, 1, None, sample, seed)
    found = nearest.similarities[nearest.indices >= 0]
    if not len(found):
        raise ValueError(
            f"there are no two references with a {modality} vector to compare: add some, or give a threshold."
        )
    threshold = float(found.quantile(quantile))
    if threshold > COPY:
        copies = float((found > COPY).double().mean())
        raise ValueError(
            f"{copies:.0%} of the references have a copy among the others, so that the {quantile} quantile "
            f"of {modality} similarities is 1: give a lower quantile, or remove the copies."
        )
    return threshold


def degree_statistics(
    references: SearchedReferences,
    modality: str,
    k: int | None = None,
    threshold: float | None = None,
    sample: int = 1000,
    seed: int = 0,
) -> DegreeStatistics:
    """Degree statistics of references as queries for the others.

    Args:
        references, modality, sample, seed: As in [`calibrate_threshold`].
        k, threshold: As in [`SearchedReferences.search`].

    Returns:
        Statistics over the sample, all of which has the modality; zero where there is nothing to compare.
    """
    degrees = _search_sample(references, modality, k, threshold, sample, seed).degrees()
    everyone = torch.ones_like(degrees, dtype=torch.bool)
    return DegreeStatistics.of(degrees, everyone, len(references.searchable(modality)) - 1)


def _search_sample(
    references: SearchedReferences,
    modality: str,
    k: int | None,
    threshold: float | None,
    sample: int,
    seed: int,
) -> Neighbors:
    """Neighbours of some references among the others."""
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise ValueError(f"`sample` is {sample!r}: give a whole number of at least 1.")
    indices = references.searchable(modality)
    drawn = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))[:sample]
    indices = indices[drawn.to(indices.device)]
    return references.search(
        modality, references.embeds(modality, indices), k=k, threshold=threshold, exclude=indices
    )
