"""Graphs of neighbours among the rows of a batch.

A graph over the B samples of a batch is kept in one of two forms, `DenseGraph` (a B x B matrix, best for
small batches) or `SparseGraph` (the list of its edges), both without self-loops. Which of them is
faster was measured: `benchmarks/graph_aggregation.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers.utils import logging

from .configuration_mmorient import MMOrientConfig
from .features import DegreeStatistics, EncodedFeatures

try:
    import torch_scatter
except ImportError:  # an extra: everything works without it
    torch_scatter = None

logger = logging.get_logger(__name__)

# From this number of samples on, edges beat the matrix product on CPU (forward and backward).
SPARSE_FROM = 1024
# Rows whose similarities to all others are held at a time.
BLOCK_ROWS = 1024


class Neighborhood(ABC):
    """What a relation graph hands to a layer: the neighbours of B rows, with one modality's features.

    A layer reads the weights, makes others of them (a mean takes them as they are, an attention multiplies
    them by a function of `scores`), and asks for the sum. The form in which a graph keeps its pairs of a row
    and a neighbour is its own: `weights` and `scores` have one entry for each pair in that form, so that they
    can be combined elementwise.

    Attributes:
        weights: 1 for each pair; 0 where it is masked, because there is no such neighbour or it lacks the
            modality.
    """

    weights: torch.Tensor

    @abstractmethod
    def weighted_sum(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Σ_j w_ij x_j over the neighbours j of each row, (B, d), and Σ_j w_ij, (B, 1)."""

    @abstractmethod
    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """q_i . x_j of each pair, from queries (B, d); masked pairs may have any finite score."""


@dataclass
class DenseNeighborhood(Neighborhood):
    """Pairs as a matrix: `nodes` (N, d) and `weights` (B, N)."""

    nodes: torch.Tensor
    weights: torch.Tensor

    def weighted_sum(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weights @ self.nodes, weights.sum(-1, keepdim=True)

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        return queries @ self.nodes.T


@dataclass
class SparseNeighborhood(Neighborhood):
    """Pairs as the edges of a [`SparseGraph`]: `nodes` (N, d) and `weights` (edges,)."""

    nodes: torch.Tensor
    weights: torch.Tensor
    graph: "SparseGraph"

    def weighted_sum(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        offsets, columns = self.graph.row_offsets, self.graph.columns
        # In float64: in half precision, differences of cumulative sums would not be the sums of the rows.
        sums = torch.cat([weights.new_zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
        number = sums[offsets].diff().unsqueeze(-1).to(weights.dtype)
        if self.graph.use_scatter:
            weighted = self.nodes[columns] * weights.unsqueeze(-1)
            return torch_scatter.segment_csr(weighted, offsets, reduce="sum"), number
        total = torch.nn.functional.embedding_bag(
            columns, self.nodes, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        return total, number

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(queries), device=queries.device)
        rows = rows.repeat_interleave(self.graph.degrees())
        return (queries[rows] * self.nodes[self.graph.columns]).sum(-1)


@dataclass
class DenseGraph:
    """A graph as a matrix: `adjacency` (B, N) boolean, row i marks the neighbours of i."""

    adjacency: torch.Tensor

    def degrees(self) -> torch.Tensor:
        """Number of neighbours of each row, (B,)."""
        return self.adjacency.sum(-1)

    def rows(self, rows: slice) -> "DenseGraph":
        """Of these rows alone, which keep their neighbours among all."""
        return DenseGraph(self.adjacency[rows])

    def neighborhood(self, x: torch.Tensor, present: torch.Tensor) -> DenseNeighborhood:
        """The neighbours with their features x (N, d), of which those count that are present (N,)."""
        return DenseNeighborhood(x, (self.adjacency & present).to(x.dtype))


@dataclass
class SparseGraph:
    """A graph as edges in compressed rows.

    Args:
        row_offsets: (B + 1,), the edges of i are those from row_offsets[i] to row_offsets[i + 1].
        columns: (edges,), the neighbour each edge leads to.
        use_scatter: Sum with torch-scatter instead of torch.
    """

    row_offsets: torch.Tensor
    columns: torch.Tensor
    use_scatter: bool = False

    def degrees(self) -> torch.Tensor:
        """Number of neighbours of each row, (B,)."""
        return self.row_offsets.diff()

    def rows(self, rows: slice) -> "SparseGraph":
        """Of these rows alone, which keep their neighbours among all."""
        offsets = self.row_offsets[rows.start : rows.stop + 1]
        columns = self.columns[int(offsets[0]) : int(offsets[-1])]
        return SparseGraph(offsets - offsets[0], columns, self.use_scatter)

    def neighborhood(self, x: torch.Tensor, present: torch.Tensor) -> SparseNeighborhood:
        """The neighbours with their features x (N, d), of which those count that are present (N,)."""
        return SparseNeighborhood(x, present[self.columns].to(x.dtype), self)


RelationGraph = DenseGraph | SparseGraph


class BatchGraphs:
    """The picture and the text graph over the rows of a batch.

    Args:
        config: The model's configuration.
        features: Of B rows.
        nodes: By modality, the rows' node features (B, d); rows without it hold their stand-in.
        own: The rows whose neighbours are handed out; None: all.
    """

    def __init__(
        self,
        config: MMOrientConfig,
        features: EncodedFeatures,
        nodes: Mapping[str, torch.Tensor],
        own: slice | None = None,
    ) -> None:
        self.nodes, self.own = nodes, own
        self.present = {"image": features.image_present, "text": features.text_present}
        embeds = {"image": features.image_embeds, "text": features.text_embeds}
        self.graphs = {
            modality: build_graph(
                embeds[modality],
                present,
                getattr(config, f"{modality}_threshold"),
                getattr(config, f"{modality}_neighbors"),
                config.aggregation,
            )
            for modality, present in self.present.items()
        }

    def neighborhood(self, nodes: str, graph: str) -> Neighborhood:
        """The own rows' neighbours.

        Args:
            nodes: Modality of the node features.
            graph: Modality that decides who is a neighbour.
        """
        found = self.graphs[graph] if self.own is None else self.graphs[graph].rows(self.own)
        return found.neighborhood(self.nodes[nodes], self.present[nodes])

    def degree_statistics(self) -> dict[str, DegreeStatistics]:
        """Degree statistics by graph, over the rows that have the modality."""
        return {
            modality: DegreeStatistics.of(self.graphs[modality].degrees(), present, present.sum() - 1)
            for modality, present in self.present.items()
        }


def build_graph(
    embeds: torch.Tensor,
    present: torch.Tensor,
    threshold: float | None,
    max_neighbors: int | None,
    aggregation: str,
) -> RelationGraph:
    """Relation graph of one modality over a batch (paper, section "Cross-modal relation learning").

    i and j are neighbours where cos(e_i, e_j) > threshold and, of those, e_j is among the
    `max_neighbors` most similar to e_i; samples exactly as similar as the last of them count too, so
    that the graph does not depend on the order of the batch. No sample is its own neighbour here.

    Args:
        embeds: (B, d).
        present: (B,), True = the row has the modality. Other rows and zero vectors have no neighbours
            and are nobody's.
        threshold: Cosine, or None.
        max_neighbors: Number, or None.
        aggregation: `dense`, `csr`, `torch_scatter` or `auto`.
    """
    # Mixed precision would round similarities that differ by little to the same number.
    with torch.no_grad(), torch.autocast(embeds.device.type, enabled=False):
        embeds = embeds.float().masked_fill(~present.unsqueeze(-1), 0.0)
        norms = embeds.norm(dim=-1, keepdim=True)
        unit = embeds / norms.clamp(min=torch.finfo(norms.dtype).tiny)
        known = present & (norms.squeeze(-1) > 0)
        form = _choose_form(aggregation, unit.shape[0])
        if form == "dense":
            return DenseGraph(_select_rows(unit, known, 0, unit.shape[0], threshold, max_neighbors))
        counts, columns = [], []
        for start in range(0, unit.shape[0], BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, unit.shape[0])
            selected = _select_rows(unit, known, start, stop, threshold, max_neighbors)
            counts.append(selected.sum(-1))
            columns.append(selected.nonzero()[:, 1])
        zero = counts[0].new_zeros(1)
        row_offsets = torch.cat([zero, torch.cat(counts).cumsum(0)])
        return SparseGraph(row_offsets, torch.cat(columns), form == "torch_scatter")


def _choose_form(aggregation: str, batch_size: int) -> str:
    if aggregation == "auto":
        # The number of edges is known only at run time, which a compiled graph cannot hold.
        sparse = batch_size >= SPARSE_FROM and not torch.compiler.is_compiling()
        return "csr" if sparse else "dense"
    if aggregation == "torch_scatter" and torch_scatter is None:
        logger.warning_once(
            "aggregation='torch_scatter' is configured but torch-scatter is not installed: using 'csr', "
            "which gives the same result. `pip install torch-scatter` needs the installed torch at hand "
            "(--no-build-isolation)."
        )
        return "csr"
    return aggregation


def _select_rows(
    unit: torch.Tensor,
    known: torch.Tensor,
    start: int,
    stop: int,
    threshold: float | None,
    max_neighbors: int | None,
) -> torch.Tensor:
    """Neighbours of the rows start..stop as a boolean matrix (stop - start, B)."""
    similarity = unit[start:stop] @ unit.T
    own = torch.arange(start, stop, device=unit.device).unsqueeze(-1)
    itself = own == torch.arange(unit.shape[0], device=unit.device)
    allowed = known[start:stop].unsqueeze(-1) & known & ~itself
    if threshold is not None:
        allowed = allowed & (similarity > threshold)
    if max_neighbors is None or max_neighbors >= unit.shape[0]:
        return allowed
    similarity = similarity.masked_fill(~allowed, -torch.inf)
    last = similarity.topk(max_neighbors, dim=-1).values[:, -1:]
    return allowed & (similarity >= last)
