"""Relation graphs from the rows of a batch to the references that are stored with the model."""

import torch

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures, GraphHealth
from .input_checks import unsound
from .reference_bank import ReferenceBank


class ReferenceGraphs:
    """The picture and the text graph: each row's neighbours among the references, by threshold and k.

    A row's neighbours depend on nothing but the row and the references.

    Args:
        config: The model's configuration.
        bank: The references, on the features' device, which nobody edits meanwhile.
        features: Of B rows.
        own: (B,) or (B, m), places in the bank of the row itself and its copies, which are not its
            neighbours; -1 where there are no more. None: no row is there.
    """

    @torch.compiler.disable
    def __init__(
        self,
        config: MMOrientConfig,
        bank: ReferenceBank,
        features: EncodedFeatures,
        own: torch.Tensor | None = None,
    ) -> None:
        self.bank = bank
        searched = (
            ("image", features.image_embeds, features.image_present),
            ("text", features.text_embeds, features.text_present),
        )
        self.present = {modality: present for modality, _, present in searched}
        # Mixed precision has no place where cosines are compared.
        with torch.no_grad(), torch.autocast(bank.device.type, enabled=False):
            self.neighbors = {
                modality: bank.neighbors(
                    modality,
                    embeds,
                    # What is not finite is near nobody, and makes its row's answer NaN by itself.
                    present & ~unsound(embeds),
                    getattr(config, f"{modality}_neighbors"),
                    getattr(config, f"{modality}_threshold"),
                    own,
                )
                for modality, embeds, present in searched
            }

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
