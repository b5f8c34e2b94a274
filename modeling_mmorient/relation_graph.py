"""Cross-modal relation learning: the four GraphSAGE layers (paper, section "CMRL")."""

from dataclasses import replace

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures, RelationFeatures, standardized
from .global_batch import GlobalBatch
from .neighbors import RelationGraph, build_graph, graph_health, neighborhood_mean


class GraphSAGELayer(nn.Module):
    r"""GraphSAGE with mean aggregation (Hamilton et al., 2017), as in the paper:

        x_i' = normalise_L2( W [ x_i ; mean_{j ∈ N(i) ∪ {i}} x_j ] + b )

    Args:
        in_dim: Width of x.
        out_dim: Width of x'.

    Shapes:
        x (B, in_dim), mean (B, in_dim) of each node's neighbourhood; returns (B, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_dim, out_dim)

    def forward(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(torch.cat([x, mean], -1))
        # In float32, since half precision has no room for the squares. Below the length 0.01 the
        # vector is scaled instead of normalised: at zero the gradient of the latter has no bound.
        return nn.functional.normalize(hidden.float(), dim=-1, eps=1e-2).to(hidden.dtype)


class CrossModalRelationLearning(nn.Module):
    """Every sample's picture and text, rebuilt from samples that look alike and from samples that read alike.

    | layer | node features | neighbourhood decided by |
    |---|---|---|
    | in-modal picture | e_img | picture graph |
    | in-modal text | e_txt | text graph |
    | cross-modal picture | e_img | text graph |
    | cross-modal text | e_txt | picture graph |

    Neighbours are searched among the e as they are; as node features every e is brought to mean 0 and
    variance 1, as HIMA's rows are.

    In training the graphs join the samples of the batch, or of all processes' batches. In evaluation
    every sample is alone with its self-loop, so that no row depends on its batch-mates.

    A row without a picture (or text) has no neighbours in that modality's graph and is averaged by
    nobody; its own node holds a learned stand-in. Where its other modality has neighbours, the
    cross-modal layer still rebuilds the missing one from theirs.

    Args:
        config: The model's configuration.

    Shapes:
        Returns `vectors` (B, layers * graph_hidden_size), in the order of the table. With `batch`, the graphs
        and their health are those of the rows of all processes.
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
        self, features: EncodedFeatures, batch: GlobalBatch | None = None, output_health: bool = False
    ) -> RelationFeatures:
        own = slice(None)
        if self.training and batch is not None:
            features, own = _gathered(features, batch), batch.own
        has_image, has_text = features.image_present, features.text_present
        image = standardized(features.image_embeds, has_image)
        text = standardized(features.text_embeds, has_text)
        image = torch.where(has_image.unsqueeze(-1), image, self.missing_image)
        text = torch.where(has_text.unsqueeze(-1), text, self.missing_text)
        image_graph, text_graph = self._graphs(features) if self.training else (None, None)
        outputs = []
        if self.config.use_in_modal:
            image_mean = neighborhood_mean(image, has_image, image_graph)
            text_mean = neighborhood_mean(text, has_text, text_graph)
            outputs.append(self.in_modal_image(image[own], image_mean[own]))
            outputs.append(self.in_modal_text(text[own], text_mean[own]))
        if self.config.use_cross_modal:
            image_mean = neighborhood_mean(image, has_image, text_graph)
            text_mean = neighborhood_mean(text, has_text, image_graph)
            outputs.append(self.cross_modal_image(image[own], image_mean[own]))
            outputs.append(self.cross_modal_text(text[own], text_mean[own]))
        health = None
        if output_health and image_graph is not None and text_graph is not None:
            health = {
                "image": graph_health(image_graph, has_image),
                "text": graph_health(text_graph, has_text),
            }
        return RelationFeatures(torch.cat(outputs, -1), health)

    def _graphs(self, features: EncodedFeatures) -> tuple[RelationGraph, RelationGraph]:
        config = self.config
        image_graph = build_graph(
            features.image_embeds,
            features.image_present,
            config.image_threshold,
            config.image_neighbors,
            config.aggregation,
        )
        text_graph = build_graph(
            features.text_embeds,
            features.text_present,
            config.text_threshold,
            config.text_neighbors,
            config.aggregation,
        )
        return image_graph, text_graph


def _gathered(features: EncodedFeatures, batch: GlobalBatch) -> EncodedFeatures:
    """Of all processes' rows what the graphs read; the rest stays as it is."""
    names = ("image_embeds", "text_embeds", "image_present", "text_present")
    return replace(features, **{name: batch.gather(getattr(features, name)) for name in names})
