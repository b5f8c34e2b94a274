"""Cross-modal relation learning: the four GraphSAGE layers (paper, section "CMRL")."""

from dataclasses import replace

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures, RelationFeatures, standardized
from .global_batch import GlobalBatch
from .neighbors import BatchGraphs, Neighborhood
from .reference_graph import ReferenceGraphs
from .searched_references import SearchedReferences


class GraphSAGELayer(nn.Module):
    r"""GraphSAGE (Hamilton et al., 2017) with mean aggregation, as in the paper, section "CMRL":

        x_i' = normalise_L2( W [ x_i ; m_i ] + b ),    m_i = mean_{j ∈ N(i) ∪ {i}} x_j

    The layer decides how neighbours are aggregated (`aggregate`); the graph decides which they are.

    Args:
        in_dim: Width of x.
        out_dim: Width of x'.

    Shapes:
        x (B, in_dim); returns (B, out_dim). Of the neighbours those count whose weight is 1; those that are
        masked (weight 0) are neither summed nor counted. Without neighbours m_i = x_i.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_dim, out_dim)

    def forward(self, x: torch.Tensor, neighbors: Neighborhood | None = None) -> torch.Tensor:
        """Rebuild rows from their neighbours; None: there are none."""
        mean = x if neighbors is None else self.aggregate(x, neighbors)
        hidden = self.linear(torch.cat([x, mean], -1))
        # In float32, since half precision has no room for the squares. Below the length 0.01 the
        # vector is scaled instead of normalised: at zero the gradient of the latter has no bound.
        return nn.functional.normalize(hidden.float(), dim=-1, eps=1e-2).to(hidden.dtype)

    @staticmethod
    def aggregate(x: torch.Tensor, neighbors: Neighborhood) -> torch.Tensor:
        """m_i, (B, in_dim): the mean over the neighbours that are not masked and the row itself."""
        total, number = neighbors.weighted_sum(neighbors.weights)
        return ((total + x) / (number + 1)).to(x.dtype)


class CrossModalRelationLearning(nn.Module):
    """Every sample's picture and text, rebuilt from samples with similar pictures and with similar texts.

    | layer | node features | neighbourhood decided by |
    |---|---|---|
    | in-modal picture | e_img | picture graph |
    | in-modal text | e_txt | text graph |
    | cross-modal picture | e_img | text graph |
    | cross-modal text | e_txt | picture graph |

    Neighbours are found by the cosines of the original e; as node features every e is standardised to mean 0
    and variance 1, like HIMA's rows.

    Neighbours are references that are stored with the model, so that no row depends on the rest of its batch:
    always in evaluation, and in training with `graph_scope="references"`. With `graph_scope="batch"`, as in
    the paper, the graphs of training join the samples of the batch, or of all processes' batches. Without
    references every sample has only its self-loop.

    A row without a picture (or text) has no neighbours in that modality's graph and is part of no other
    row's mean; its own node holds a learned stand-in. Where its other modality has neighbours, the
    cross-modal layer still rebuilds the missing one from theirs.

    Args:
        config: The model's configuration.

    Shapes:
        Returns `vectors` (B, layers * graph_hidden_size), in the order of the table. With `batch`, graphs
        that join the batch, and their degree statistics, are those of the rows of all processes.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__()
        self.config = config
        image, text, hidden = (
            config.image_embed_dim,
            config.text_embed_dim,
            config.graph_hidden_size,
        )
        self.missing_image = nn.Parameter(torch.zeros(image))
        self.missing_text = nn.Parameter(torch.zeros(text))
        if config.use_in_modal:
            self.in_modal_image = GraphSAGELayer(image, hidden)
            self.in_modal_text = GraphSAGELayer(text, hidden)
        if config.use_cross_modal:
            self.cross_modal_image = GraphSAGELayer(image, hidden)
            self.cross_modal_text = GraphSAGELayer(text, hidden)

    def forward(
        self,
        features: EncodedFeatures,
        references: SearchedReferences | None = None,
        own_reference: torch.Tensor | None = None,
        batch: GlobalBatch | None = None,
        output_statistics: bool = False,
    ) -> RelationFeatures:
        """Rebuild the rows from their neighbours.

        Args:
            features: Of the rows.
            references: The references; None where there are none.
            own_reference: As in [`ReferenceGraphs`].
            batch: The rows of all processes, for graphs that join them.
            output_statistics: Return the graphs' degree statistics.
        """
        spans_batch = self.training and self.config.graph_scope == "batch"
        own = slice(None)
        if spans_batch and batch is not None:
            features, own = _gathered(features, batch), batch.own
        nodes = self.nodes(features)
        graphs: BatchGraphs | ReferenceGraphs | None = None
        if spans_batch:
            graphs = BatchGraphs(self.config, features, nodes, None if batch is None else own)
        elif references is not None:
            graphs = ReferenceGraphs(self.config, references, features, own_reference)

        def rebuilt(layer: GraphSAGELayer, modality: str, graph: str) -> torch.Tensor:
            neighbors = None if graphs is None else graphs.neighborhood(modality, graph)
            return layer(nodes[modality][own], neighbors)

        outputs = []
        if self.config.use_in_modal:
            outputs.append(rebuilt(self.in_modal_image, "image", graph="image"))
            outputs.append(rebuilt(self.in_modal_text, "text", graph="text"))
        if self.config.use_cross_modal:
            outputs.append(rebuilt(self.cross_modal_image, "image", graph="text"))
            outputs.append(rebuilt(self.cross_modal_text, "text", graph="image"))
        return RelationFeatures(
            torch.cat(outputs, -1),
            graphs.degree_statistics() if output_statistics and graphs is not None else None,
            graphs.neighbors if isinstance(graphs, ReferenceGraphs) else None,
        )

    def nodes(self, features: EncodedFeatures) -> dict[str, torch.Tensor]:
        """Node features by modality, (B, d): every e at mean 0 and variance 1, or its stand-in."""
        image = standardized(features.image_embeds, features.image_present)
        text = standardized(features.text_embeds, features.text_present)
        return {
            "image": torch.where(features.image_present.unsqueeze(-1), image, self.missing_image),
            "text": torch.where(features.text_present.unsqueeze(-1), text, self.missing_text),
        }


def _gathered(features: EncodedFeatures, batch: GlobalBatch) -> EncodedFeatures:
    """Features in which those that the graphs read are of all processes' rows; the rest stays as it is."""
    names = ("image_embeds", "text_embeds", "image_present", "text_present")
    return replace(features, **{name: batch.gather(getattr(features, name)) for name in names})
