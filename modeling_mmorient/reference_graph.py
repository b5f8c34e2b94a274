"""Relation graphs from the rows of a batch to the references that are stored with the model."""

import torch

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures, GraphHealth, Neighbors
from .reference_bank import ReferenceBank
from .reference_checks import check_exclude


class ReferenceGraphs:
    """The picture and the text graph: each row's neighbours among the references, by threshold and k.

    A row's neighbours depend on nothing but the row and the references.

    Args:
        config: The model's configuration.
        bank: The references; moved to the features' device.
        features: Of B rows.
        own: (B,) place in the bank of the row itself, which is not its own neighbour; -1 where it is not
            there. None: no row is there.
    """

    @torch.compiler.disable
    def __init__(
        self,
        config: MMOrientConfig,
        bank: ReferenceBank,
        features: EncodedFeatures,
        own: torch.Tensor | None = None,
    ) -> None:
        device = features.image_embeds.device
        self.bank = bank if bank.device == device else bank.to(device)
        searched = (
            ("image", features.image_embeds, features.image_present),
            ("text", features.text_embeds, features.text_present),
        )
        # Mixed precision has no place where cosines are compared.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self.neighbors = {
                modality: self._search(config, modality, embeds, present, own)
                for modality, embeds, present in searched
            }
        self.present = {modality: present for modality, _, present in searched}

    def _search(
        self,
        config: MMOrientConfig,
        modality: str,
        embeds: torch.Tensor,
        present: torch.Tensor,
        own: torch.Tensor | None,
    ) -> Neighbors:
        k, threshold = getattr(config, f"{modality}_neighbors"), getattr(config, f"{modality}_threshold")
        if own is not None:
            check_exclude(own, len(embeds), len(self.bank))
        if own is None or k is None:
            return self.bank.search(modality, embeds, present, k, threshold, exclude=own)
        # Rows that are references were sought before, in all but the first epoch.
        stored, others = (own >= 0).nonzero().squeeze(-1), (own < 0).nonzero().squeeze(-1)
        known = self.bank.neighbors_of(modality, own[stored], k, threshold)
        new = self.bank.search(modality, embeds[others], present[others], k, threshold)
        order, missing = torch.cat([stored, others]).argsort(), ~present.unsqueeze(-1)
        indices = torch.cat([known.indices, new.indices])[order].masked_fill(missing, -1)
        similarities = torch.cat([known.similarities, new.similarities])[order].masked_fill(missing, 0.0)
        return Neighbors(indices, similarities)

    @torch.compiler.disable
    def mean(self, nodes: str, graph: str, x: torch.Tensor) -> torch.Tensor:
        """mean_{j in N(i) and i} x_j over the references that have the modality and the row itself.

        Args:
            nodes: Modality of the node features.
            graph: Modality that decides who is a neighbour.
            x: (B, d), the rows' own node features.
        """
        with torch.no_grad():
            total, number = self.bank.neighbor_sum(nodes, self.neighbors[graph])
        return ((total + x) / (number + 1)).to(x.dtype)

    def health(self) -> dict[str, GraphHealth]:
        """Degree statistics by graph, over the rows that have the modality."""
        found = {}
        for modality, present in self.present.items():
            degrees = self.neighbors[modality].degrees()
            number = present.sum().clamp(min=1)
            everyone = len(self.bank.searchable(modality))
            found[modality] = GraphHealth(
                mean_degree=(degrees * present).sum() / number,
                isolated_share=((degrees == 0) & present).sum() / number,
                # Less one: a training row is not its own neighbour.
                complete_share=((degrees >= everyone - 1) & (degrees > 0) & present).sum() / number,
                degrees=degrees.masked_fill(~present, -1),
            )
        return found
