"""What the models return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .features import (
    AttentionFeatures,
    DegreeStatistics,
    EncodedFeatures,
    GraphNeighbors,
    Neighbors,
    RelationFeatures,
)
from .searched_references import SearchedReferences


@dataclass
class FusedFeatures:
    """The fused features of [`MMOrientModel`], and what they were made of.

    Args:
        vectors: [HIMA ; CMRL ; a], (B, fused_dim).
        features: As the encoders gave them.
        attended: HIMA's; None without it.
        related: The relation graphs'; None without them.
        references: Among which neighbours were found; None where there are none.
    """

    vectors: torch.Tensor
    features: EncodedFeatures
    attended: AttentionFeatures | None
    related: RelationFeatures | None
    references: SearchedReferences | None


@dataclass
class MMOrientModelOutput(ModelOutput):
    """Output of [`MMOrientModel`].

    Args:
        pooler_output: The fused representation [HIMA ; CMRL ; a], (batch_size, fused_dim).
        region_features: Q_img as HIMA reads it, (batch_size, regions, width); with
            `output_hidden_states=True`.
        token_features: Q_txt as HIMA reads it, (batch_size, tokens, width); with
            `output_hidden_states=True`.
        region_attention: HIMA's weights of the picture's regions, (batch_size, regions); with
            `output_attentions=True`.
        token_attention: HIMA's weights of the text's tokens, (batch_size, tokens); with
            `output_attentions=True`.
        degree_statistics: Degree statistics of the rows' relation graphs by modality; with
            `output_degree_statistics=True`, where there are graphs.
        neighbors: The rows' neighbours among the references by graph (`image`, `text`), [`Neighbors`]; with
            `output_neighbors=True`, where there are references.
        references: Those among which they were found, as one edit left them; beside `neighbors`.
    """

    pooler_output: torch.Tensor | None = None
    region_features: torch.Tensor | None = None
    token_features: torch.Tensor | None = None
    region_attention: torch.Tensor | None = None
    token_attention: torch.Tensor | None = None
    degree_statistics: dict[str, DegreeStatistics] | None = None
    neighbors: dict[str, Neighbors] | None = None
    references: SearchedReferences | None = None

    @classmethod
    def of(
        cls, fused: FusedFeatures, hidden_states: bool, attentions: bool, neighbors: bool
    ) -> "MMOrientModelOutput":
        """The fused representation, and the further outputs that the caller asked for."""
        hidden = fused.features if hidden_states else None
        attended = fused.attended if attentions else None
        found = fused.related.neighbors if fused.related is not None and neighbors else None
        return cls(
            pooler_output=fused.vectors,
            region_features=None if hidden is None else hidden.region_features,
            token_features=None if hidden is None else hidden.token_features,
            region_attention=None if attended is None else attended.region_attention,
            token_attention=None if attended is None else attended.token_attention,
            degree_statistics=None if fused.related is None else fused.related.degree_statistics,
            neighbors=found,
            references=None if found is None else fused.references,
        )


@dataclass
class MMOrientMultitaskOutput(ModelOutput):
    """Output of [`MMOrientForMultitaskClassification`].

    Args:
        loss: Weighted sum of the tasks' losses, a scalar; where `labels` are given.
        logits: Scores (batch_size, classes) by task.
        region_features, token_features, region_attention, token_attention, degree_statistics: As in
            [`MMOrientModelOutput`].
        neighbors: By graph, [`GraphNeighbors`]; with `output_neighbors=True`, where there are references.
    """

    loss: torch.Tensor | None = None
    logits: dict[str, torch.Tensor] | None = None
    region_features: torch.Tensor | None = None
    token_features: torch.Tensor | None = None
    region_attention: torch.Tensor | None = None
    token_attention: torch.Tensor | None = None
    degree_statistics: dict[str, DegreeStatistics] | None = None
    neighbors: dict[str, GraphNeighbors] | None = None
