"""The module that is exported: from a processor's tensors to logits, probabilities and decisions."""

from typing import Any

import torch
from torch import nn

from mmorient.export.reference_search import ExportedReferences
from modeling_mmorient import MMOrientForMultitaskClassification
from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs
from modeling_mmorient.features import MODALITIES, EncodedFeatures, Neighbors
from modeling_mmorient.task_kinds import kind_of

# The relation layers in the order of their outputs: name, modality of the node features, and of the graph.
IN_MODAL = (("in_modal_image", "image", "image"), ("in_modal_text", "text", "text"))
CROSS_MODAL = (("cross_modal_image", "image", "text"), ("cross_modal_text", "text", "image"))


class AnsweringGraph(nn.Module):
    """A model in evaluation, with its references and HIMA's g as they are now, as one traceable module.

    Args:
        model: The model, on the CPU.

    Raises:
        ValueError: If a relation graph has no limit on its neighbours.
    """

    def __init__(self, model: MMOrientForMultitaskClassification) -> None:
        super().__init__()
        self.model: Any = model
        references, self.g = self.model.mmorient.settled_references()
        searched = len(references) and self.model.config.needs_embeds
        self.references = ExportedReferences(references, _limits(model.config)) if searched else None
        self.eval()

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs in their order: of each task its logits, probabilities, decision, interval."""
        names = []
        for task, spec in self.model.config.task_specs.items():
            names.append(f"logits.{task}")
            if kind_of(spec).has_probabilities:
                names.append(f"probabilities.{task}")
            names.append(f"decisions.{task}")
            if spec.interval is not None:
                names.append(f"intervals.{task}")
        return names

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name; `inputs` are the processor's, and `task_features` where the model has them."""
        features = self._encode(inputs)
        branches, neighbors = [], None
        if self.model.mmorient.hima is not None:
            branches.append(self.model.mmorient.hima(features, g=self.g).vectors)
        if self.model.mmorient.relations is not None:
            neighbors = self._find(features)
            branches += self._relate(features, neighbors)
        if features.task_features is not None:
            branches.append(features.task_features)
        logits = self.model.heads(self.model.learner(torch.cat(branches, -1)))
        if self.model.votes is not None:
            logits, _ = self.model.votes(logits, self.references, neighbors)
        return self._named(logits)

    def _encode(self, inputs: dict[str, torch.Tensor]) -> EncodedFeatures:
        raw = RawInputs(**{name: inputs[name] for name in vars(RawInputs()) if name in inputs})
        given = FeatureInputs(
            token_mask=inputs.get("attention_mask"),
            image_present=inputs.get("image_present"),
            text_present=inputs.get("text_present"),
            task_features=inputs.get("task_features"),
        )
        return self.model.mmorient.feature_encoders(raw, given, torch.float32)

    def _find(self, features: EncodedFeatures) -> dict[str, Neighbors] | None:
        """Each row's neighbours in both graphs; None without references."""
        if self.references is None:
            return None
        return {
            modality: self.references.searches[modality](
                getattr(features, f"{modality}_embeds"), getattr(features, f"{modality}_present")
            )
            for modality in MODALITIES
        }

    def _relate(
        self, features: EncodedFeatures, neighbors: dict[str, Neighbors] | None
    ) -> list[torch.Tensor]:
        """The relation layers' outputs for the rows and their neighbours."""
        relations, config = self.model.mmorient.relations, self.model.config
        nodes = relations.nodes(features)
        layers = (IN_MODAL if config.use_in_modal else ()) + (CROSS_MODAL if config.use_cross_modal else ())
        rebuilt = []
        for name, modality, graph in layers:
            found = None
            if self.references is not None and neighbors is not None:
                found = self.references.neighborhood(modality, neighbors[graph])
            rebuilt.append(getattr(relations, name)(nodes[modality], found))
        return rebuilt

    def _named(self, logits: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        probabilities = self.model.probabilities(logits)
        decisions = self.model.decisions(probabilities)
        intervals = self.model.intervals(decisions)
        kinds = {
            "logits": logits,
            "probabilities": probabilities,
            "decisions": decisions,
            "intervals": intervals,
        }
        return {
            name: kinds[kind][task] for name in self.output_names for kind, _, task in [name.partition(".")]
        }


def _limits(config: Any) -> dict[str, tuple[int, float | None]]:
    limits = {}
    for modality in MODALITIES:
        k = getattr(config, f"{modality}_neighbors")
        if k is None:
            raise ValueError(
                f"`{modality}_neighbors` of the model is None, and a graph needs a number: set it "
                f'in the model\'s config.json, such as `"{modality}_neighbors": 16`, which keeps the nearest '
                "above the threshold, and score the model again."
            )
        limits[modality] = (k, getattr(config, f"{modality}_threshold"))
    return limits
