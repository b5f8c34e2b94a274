"""The references of a model: kept and edited with it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from .features import MODALITIES, DegreeStatistics, EncodedFeatures
from .hima import OTHERS
from .reference_bank import ReferenceBank
from .reference_contents import EditLock
from .reference_graph import degree_statistics
from .searched_references import SearchedReferences

logger = logging.get_logger(__name__)


class ReferencedModel:
    """Part of the MM-ORIENT models: the references that the relation graphs find neighbours among.

    HIMA's stage 2 attends to the references too: its g is computed anew after every edit made here, and when
    other references are set. From then on it also follows edits of `references` itself: the next evaluation,
    and a save, compute it anew.

    Several threads may edit the references and use the model: edits are made one after the other, and each
    forward pass sees the references as one of them left them.
    """

    base_model: Any
    config: Any

    @property
    def references(self) -> ReferenceBank:
        """The references: how many (`len`), `ids`, `labels`, `notes`, `present`; empty at first.

        Setting others makes the model hold a copy of them (which shares their tensors), so that edits of
        either leave the other as it is. A `ValueError` says if they do not fit the model, which then keeps
        what it has.
        """
        with self.base_model.lock:
            if self.base_model.stored_references is None:
                self.base_model.stored_references = self.new_references()
            return self.base_model.stored_references

    @references.setter
    def references(self, references: ReferenceBank) -> None:
        if not isinstance(references, SearchedReferences):
            raise ValueError(
                f"`references` is {references!r}: give a ReferenceBank, such as `new_references()`."
            )
        references = self._fitted(copy.copy(references))
        # Edits of one of the two do not wait for those of the other.
        references.lock = EditLock()
        g = self._g_over(references)
        with self.base_model.lock:
            self.base_model.stored_references = references
            self._settle(g, references)

    def _fitted(self, references: ReferenceBank) -> ReferenceBank:
        """The references for the model's tasks, if they have the model's widths."""
        empty = self.new_references()
        for name, width in references.widths.items():
            if width != empty.widths.get(name, width):
                raise ValueError(
                    f"the references have {name} features {width} wide, and the model's are "
                    f"{empty.widths[name]} wide: fill the references with this model's encoders."
                )
        if missing := [name for name in empty.widths if name not in references.widths]:
            raise ValueError(
                f"the references have no {missing}, which HIMA's stage 2 attends to: fill them with this "
                "model, or set `use_hima_stage2` to False."
            )
        own, wanted = (
            [(spec.name, spec.labels, spec.kind) for spec in each.tasks.values()]
            for each in (references, empty)
        )
        return references if own == wanted else references.with_tasks(empty.tasks)

    def new_references(self, notes: str = "") -> ReferenceBank:
        """Empty references with the model's widths, tasks and storage dtype."""
        config = self.config
        widths = config.image_embed_dim, config.text_embed_dim
        vectors = (config.region_dim, config.token_dim) if config.use_hima_stage2 else (None, None)
        # Not on the device that a model is built on, which may be the meta device.
        with torch.device("cpu"):
            return ReferenceBank(*widths, config.task_specs, config.reference_dtype, notes, *vectors)

    def add_references(
        self,
        inputs: Mapping[str, torch.Tensor] | EncodedFeatures,
        ids: Sequence[str],
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Add samples to the references, which needs no training.

        Args:
            inputs: As `forward` takes them (raw, or precomputed features), or what `encode` gave; n rows.
            ids: Of the rows: non-empty strings that no other reference has.
            labels: Class indices (n,) by task, (n, labels) of 0 and 1 for a `multilabel` one; -100 =
                unknown. A task that is left out is unknown for all.

        Raises:
            ValueError: If one of them does not fit, naming it; the references stay as they were.
        """
        entries = self.reference_entries(inputs)
        with self._editing() as references:
            references.add(ids, *entries, labels)

    def replace_references(
        self,
        inputs: Mapping[str, torch.Tensor] | EncodedFeatures,
        ids: Sequence[str],
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Give references other features and labels; arguments and errors as in `add_references`."""
        entries = self.reference_entries(inputs)
        with self._editing() as references:
            references.replace(ids, *entries, labels)

    def remove_references(self, ids: Sequence[str]) -> None:
        """Forget references.

        Raises:
            ValueError: If an id is unknown or named twice; the references stay as they were.
        """
        with self._editing() as references:
            references.remove(ids)

    @contextmanager
    def _editing(self) -> Iterator[ReferenceBank]:
        """A copy to edit; the references take it over together with g, or not at all."""
        references = self.references
        with references.lock:
            edited = copy.copy(references)
            yield edited
            g = self._g_over(edited)
            # Held for a moment only: passes wait for it.
            with self.base_model.lock:
                references.take_over(edited)
                self._settle(g, edited)

    @torch.no_grad()
    def reference_entries(
        self, inputs: Mapping[str, torch.Tensor] | EncodedFeatures
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """What is stored of n rows, by entry: embeddings (and HIMA's vectors), and who has them, (n,)."""
        trained = self.base_model.feature_encoders.training
        self.base_model.feature_encoders.eval()
        try:
            features = inputs if isinstance(inputs, EncodedFeatures) else self.base_model.encode(**inputs)
        finally:
            self.base_model.feature_encoders.train(trained)
        present = {"image": features.image_present, "text": features.text_present}
        entries = {"image": features.image_embeds, "text": features.text_embeds}
        if self.base_model.config.use_hima_stage2:
            vectors = self.base_model.hima.vectors(features)
            entries |= {f"{modality}_vectors": values for modality, values in vectors.items()}
            present |= {f"{modality}_vectors": present[modality] for modality in vectors}
        return {name: values.float() for name, values in entries.items()}, present

    def settle_references(self) -> None:
        """Compute HIMA stage 2's g over the references: after training, which changes the attention.

        Without that stage there is nothing to do; over no references g is zero.
        """
        references = copy.copy(self.references)
        self._settle(self._g_over(references), references)

    def settled_references(self) -> tuple[ReferenceBank, dict[str, torch.Tensor]]:
        """A copy of the references as one edit left them, and stage 2's g over it, (d,) by modality.

        g is empty without that stage. Where the references themselves were edited since it was computed, it
        is computed anew.
        """
        references = self.references
        with self.base_model.lock:
            taken = copy.copy(references)
            g = {modality: bias.running_g.clone() for modality, bias in self._stage2().items()}
            over = self.base_model.hima.settled_over if g else None
        if over is None or over is taken.state or (over == OTHERS and not len(taken)):
            return taken, g
        found = self._g_over(taken)
        with self.base_model.lock:
            if references.state is taken.state:
                self._settle(found, taken)
        return taken, {modality: found[modality].to(g[modality]) for modality in g}

    def references_in_use(self, device: torch.device) -> tuple[ReferenceBank | None, dict[str, Any] | None]:
        """The references, if there are any, and g of HIMA's stage 2, as one edit left them.

        Args:
            device: Of the inputs, to which the references move.
        """
        model: Any = self
        references = g = None
        stored = model.stored_references
        if stored is not None and (len(stored) or not torch.compiler.is_compiling()):
            references, g = self._settled_on(device)
        if references is None and model.training and model.config.graph_scope == "references":
            _warn_without_references()
        return references, g

    @torch.compiler.disable
    def _settled_on(self, device: torch.device) -> tuple[ReferenceBank | None, dict[str, torch.Tensor]]:
        if self.references.device != device:
            self.references.to(device)
        references, g = self.settled_references()
        return (references if len(references) else None), g

    def _g_over(self, references: ReferenceBank) -> dict[str, torch.Tensor]:
        """Stage 2's g by modality; empty without that stage."""
        with torch.autocast(self.base_model.device.type, enabled=False):
            return {name: bias.over(references.vectors(name)) for name, bias in self._stage2().items()}

    def _settle(self, g: Mapping[str, torch.Tensor], references: ReferenceBank) -> None:
        if g:
            with self.base_model.lock:
                self.base_model.hima.settle(g, references.state)

    def _stage2(self) -> dict[str, Any]:
        return {} if self.base_model.hima is None else self.base_model.hima.batch_biases

    def reference_weights(self, g: Mapping[str, torch.Tensor], digest: str) -> dict[str, torch.Tensor]:
        """What depends on references in the weights that are saved with them, by name in the state dict.

        Args:
            g: Stage 2's, as `settled_references` gives it.
            digest: Of the references' files, in hexadecimal digits.
        """
        if not g:
            return {}
        prefix = "" if self.base_model is self else f"{self.base_model.base_model_prefix}."
        settled = self.base_model.hima.settled_over is not None
        over = bytes.fromhex(digest) if settled else bytes(len(self.base_model.hima.references_digest))
        weights = {f"{prefix}hima.{modality}.batch_bias.running_g": values for modality, values in g.items()}
        return {**weights, f"{prefix}hima.references_digest": torch.tensor(list(over), dtype=torch.uint8)}

    def loaded_digest(self) -> str | None:
        """Digest of the references over which the g in weights just loaded was computed; None: unknown.

        The model then forgets it: `take_references` says from now on which references g belongs to.
        """
        if not self._stage2():
            return None
        digest = bytes(self.base_model.hima.references_digest.tolist())
        self.base_model.hima.references_digest.zero_()
        return digest.hex() if any(digest) else None

    def take_references(self, references: ReferenceBank, settled: bool) -> None:
        """Hold the references that were saved with the weights.

        Args:
            references: The saved references.
            settled: Whether the weights' g was computed over them.
        """
        self.base_model.stored_references = self._fitted(references)
        if self._stage2():
            self.base_model.hima.keep(self.base_model.stored_references.state if settled else None)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """As `Module._save_to_state_dict`; also saves which references the weights belong to."""
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        if self.base_model is self:
            destination._metadata[prefix[:-1]]["references"] = self._named_references()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Mapping[str, Any], *args: Any
    ) -> None:
        """As `Module._load_from_state_dict`; warns where the weights belong to other references."""
        if self.base_model is self:
            own, saved = self._named_references(), local_metadata.get("references")
            digest = state_dict.get(f"{prefix}hima.references_digest")
            some = digest is not None and bool(digest.any())  # in files that `save_pretrained` wrote
            if saved != own if saved is not None else some:
                number = "some" if saved is None else saved["number"]
                logger.warning(
                    f"the weights were saved with {number} references, which a state dict does not hold. The "
                    f"model has {own['number'] or 'no'} references, and answers by what it has. Load the "
                    "saved folder with `from_pretrained`, or set `model.references`, if others are meant."
                )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)  # type: ignore[misc]

    def _named_references(self) -> dict[str, Any]:
        """How many references there are, and a digest of their ids."""
        stored: ReferenceBank | None = self.stored_references  # type: ignore[attr-defined]
        ids = () if stored is None else stored.ids
        return {"number": len(ids), "ids": hashlib.sha256(json.dumps(ids).encode()).hexdigest()}

    def reference_statistics(self) -> dict[str, DegreeStatistics]:
        """Degree statistics by graph, of up to 1,000 references as queries for the others."""
        settings = {
            graph: (getattr(self.config, f"{graph}_neighbors"), getattr(self.config, f"{graph}_threshold"))
            for graph in MODALITIES
        }
        return {
            graph: degree_statistics(self.references, graph, *limits) for graph, limits in settings.items()
        }

    # As they were called before.
    reference_health = reference_statistics
    new_bank = new_references


def _warn_without_references() -> None:
    if not torch.compiler.is_compiling():
        logger.warning_once(
            "the model is trained without neighbours: `graph_scope` is 'references', and it has none. Fill "
            'them first (`add_references`, `mmorient train` does), or set `graph_scope="batch"`.'
        )
