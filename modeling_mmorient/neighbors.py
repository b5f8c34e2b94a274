"""Who is whose neighbour, and the mean over a neighbourhood.

A graph over the B samples of a batch is kept in one of two forms, `DenseGraph` (a B x B matrix, best for
small batches) or `SparseGraph` (the list of its edges), both without self-loops. Which of them is
faster was measured: `benchmarks/graph_aggregation.py`.
"""

from dataclasses import dataclass

import torch
from transformers.utils import logging

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures, GraphHealth

try:
    import torch_scatter
except ImportError:  # an extra: everything works without it
    torch_scatter = None

logger = logging.get_logger(__name__)

# From this number of samples on, edges beat the matrix product on CPU (forward and backward).
SPARSE_FROM = 1024
# Rows whose similarities to all others are held at a time.
BLOCK_ROWS = 1024


@dataclass
class DenseGraph:
    """A graph as a matrix: `adjacency` (B, B) boolean, row i marks the neighbours of i."""

    adjacency: torch.Tensor

    def degrees(self) -> torch.Tensor:
        """Number of neighbours of each sample, (B,)."""
        return self.adjacency.sum(-1)

    def neighbor_sum(self, x: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of x (B, d) over the neighbours that are present (B,), and their number (B, 1)."""
        weights = self.adjacency & present
        return weights.to(x.dtype) @ x, weights.sum(-1, keepdim=True).to(x.dtype)


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
        """Number of neighbours of each sample, (B,)."""
        return self.row_offsets.diff()

    def neighbor_sum(self, x: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of x (B, d) over the neighbours that are present (B,), and their number (B, 1)."""
        counts = torch.cat([present.new_zeros(1, dtype=torch.long), present[self.columns].cumsum(0)])
        number = counts[self.row_offsets].diff().unsqueeze(-1).to(x.dtype)
        x = x.masked_fill(~present.unsqueeze(-1), 0.0)
        if self.use_scatter:
            return torch_scatter.segment_csr(x[self.columns], self.row_offsets, reduce="sum"), number
        total = torch.nn.functional.embedding_bag(
            self.columns, x, self.row_offsets, mode="sum", include_last_offset=True
        )
        return total, number


RelationGraph = DenseGraph | SparseGraph


class BatchGraphs:
    """The picture and the text graph over the rows of a batch.

    Args:
        config: The model's configuration.
        features: Of B rows.
    """

    def __init__(self, config: MMOrientConfig, features: EncodedFeatures) -> None:
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

    def mean(self, nodes: str, graph: str, x: torch.Tensor) -> torch.Tensor:
        """As [`ReferenceGraphs.mean`], over the neighbours in the batch."""
        return neighborhood_mean(x, self.present[nodes], self.graphs[graph])

    def health(self) -> dict[str, GraphHealth]:
        """Degree statistics by graph, over the rows that have the modality."""
        return {
            modality: graph_health(self.graphs[modality], present)
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


def neighborhood_mean(x: torch.Tensor, present: torch.Tensor, graph: RelationGraph) -> torch.Tensor:
    """mean_{j in N(i) and i} x_j, over the neighbours that are present and the sample itself.

    Args:
        x: (B, d) node features; rows that are not present hold their stand-in.
        present: (B,), True = the node has something to give to others.
        graph: Who is whose neighbour.
    """
    total, number = graph.neighbor_sum(x, present)
    return (total + x) / (number + 1)


def graph_health(graph: RelationGraph, present: torch.Tensor) -> GraphHealth:
    """Degree statistics over the rows that have the modality; all zero where no row has it."""
    degrees = graph.degrees()
    number = present.sum().clamp(min=1)
    others = present.sum() - 1

    def share(condition: torch.Tensor) -> torch.Tensor:
        return (condition & present).sum() / number

    return GraphHealth(
        mean_degree=(degrees * present).sum() / number,
        isolated_share=share(degrees == 0),
        complete_share=share((degrees == others) & (others > 0)),
        degrees=degrees.masked_fill(~present, -1),
    )


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
