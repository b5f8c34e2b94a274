"""The small dataclasses that modules pass to each other, in the order in which the model computes them.

Names of dimensions: B samples, R regions, T tokens, d with a subscript for the width of a feature.
Masks are boolean, True = present.
"""

from dataclasses import dataclass, fields

import torch
from torch import nn

MODALITIES = ("image", "text")


@dataclass
class EncodedFeatures:
    """What the encoders (or the caller) say about a batch (paper, section "Features").

    Entries of rows whose modality is missing may hold anything, NaN included: every reader masks them.

    Args:
        image_embeds: e_img, (B, d_image_embed).
        text_embeds: e_txt, (B, d_text_embed).
        region_features: Q_img, (B, R, d_region).
        region_mask: (B, R), True = a region.
        token_features: Q_txt, (B, T, d_token).
        token_mask: (B, T), True = a token.
        image_present: (B,), True = the row has a picture.
        text_present: (B,), True = the row has a text.
        task_features: a, (B, d_task), or None where the model has none.
    """

    image_embeds: torch.Tensor
    text_embeds: torch.Tensor
    region_features: torch.Tensor
    region_mask: torch.Tensor
    token_features: torch.Tensor
    token_mask: torch.Tensor
    image_present: torch.Tensor
    text_present: torch.Tensor
    task_features: torch.Tensor | None = None

    def by_modality(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """By modality: the embeddings e (B, d), and which rows have them, (B,)."""
        return {
            "image": (self.image_embeds, self.image_present),
            "text": (self.text_embeds, self.text_present),
        }

    def as_inputs(self) -> dict[str, torch.Tensor]:
        """The same features under the names that the models' `forward` takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["attention_mask"] = values.pop("token_mask")
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class AttentionFeatures:
    """The output of HIMA.

    Args:
        vectors: [v_img ; v_txt], (B, d_region + d_token).
        region_attention: α over regions, (B, R); zero for masked regions and missing pictures.
        token_attention: α over tokens, (B, T); zero for masked tokens and missing texts.
    """

    vectors: torch.Tensor
    region_attention: torch.Tensor
    token_attention: torch.Tensor


@dataclass
class DegreeStatistics:
    """How well connected the relation graph of one modality is, over the rows that have the modality.

    Args:
        mean_degree: Mean number of neighbours, a scalar tensor; the sample itself does not count.
        isolated_share: Share of rows without a neighbour, a scalar tensor in [0, 1].
        complete_share: Share of rows that have every other row as a neighbour, a scalar tensor in [0, 1].
        degrees: Number of neighbours of each row, (B,); -1 for rows without the modality.
    """

    mean_degree: torch.Tensor
    isolated_share: torch.Tensor
    complete_share: torch.Tensor
    degrees: torch.Tensor

    @classmethod
    def of(
        cls, degrees: torch.Tensor, present: torch.Tensor, others: torch.Tensor | int
    ) -> "DegreeStatistics":
        """The statistics of B rows; all zero where no row has the modality.

        Args:
            degrees: Number of neighbours of each row, (B,).
            present: (B,), True = the row has the modality.
            others: Number of neighbours of a row that has every other row as a neighbour.
        """
        number = present.sum().clamp(min=1)
        return cls(
            mean_degree=(degrees * present).sum() / number,
            isolated_share=((degrees == 0) & present).sum() / number,
            complete_share=((degrees >= others) & (degrees > 0) & present).sum() / number,
            degrees=degrees.masked_fill(~present, -1),
        )


@dataclass
class Neighbors:
    """The references nearest to each of B queries.

    Args:
        indices: (B, k) of the references, the most similar first; filled up with -1.
        similarities: (B, k) cosines in float64; 0 where the index is -1.
    """

    indices: torch.Tensor
    similarities: torch.Tensor

    def degrees(self) -> torch.Tensor:
        """Number of neighbours of each query, (B,)."""
        return (self.indices >= 0).sum(-1)


@dataclass
class GraphNeighbors(Neighbors):
    """The neighbours that counted for each row in one relation graph.

    Args:
        ids: Of the references, row by row.
        weights: (B, k) share of each in the mean over the neighbourhood, 1 / (number + 1), the row itself
            has the rest. (In a mean of the other modality's features, neighbours without it have no share.)
        vote_weights: By task, (B, k): share of each in the vote, w_j over Σ w + s; empty where no
            neighbours vote.
        votes: By task, (B, C): what the vote adds to the task's logits.
    """

    ids: list[list[str]]
    weights: torch.Tensor
    vote_weights: dict[str, torch.Tensor]
    votes: dict[str, torch.Tensor]


@dataclass
class RelationFeatures:
    """The output of the relation graphs.

    Args:
        vectors: The layers' outputs side by side, (B, layers * d_graph).
        degree_statistics: By modality; None where there is no graph.
        neighbors: The rows' neighbours among the references, by graph (`image`, `text`); None where there are
            no references, or the graphs span the batch.
    """

    vectors: torch.Tensor
    degree_statistics: dict[str, DegreeStatistics] | None
    neighbors: dict[str, Neighbors] | None = None


def standardized(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Every feature vector at mean 0 and variance 1; masked ones are zeros.

    Shapes:
        features (..., d), mask (...) with True = present. Masked vectors may hold anything, NaN included.
    """
    # Filled first: the gradient of a normalised NaN is NaN even where it is multiplied by zero.
    features = features.masked_fill(~mask.unsqueeze(-1), 0.0)
    return nn.functional.layer_norm(features, features.shape[-1:])
