"""The references of a model: kept, edited, saved and loaded with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitOperationDelete, HfApi
from transformers.utils import cached_file, logging

from .features import EncodedFeatures, GraphHealth
from .reference_bank import ReferenceBank
from .reference_checks import MODALITIES
from .reference_files import REFERENCES_NAME, is_tensors_file, tensors_name
from .reference_health import bank_health

logger = logging.get_logger(__name__)

# What `from_pretrained` is told about where a repository's files are.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


class ReferencedModel:
    """Part of the MM-ORIENT models: the references that the relation graphs find neighbours among.

    HIMA's stage 2 attends to the references too: its g is computed anew after every edit made here, and when
    other references are set. Editing `references` itself leaves g as it is.
    """

    @property
    def references(self) -> ReferenceBank:
        """The references: how many (`len`), `ids`, `labels`, `notes`, `present`; empty at first.

        Setting others makes the model hold a copy of them (which shares their tensors), so that edits of
        either leave the other as it is. A `ValueError` says if they do not fit the model, which then keeps
        what it has.
        """
        base: Any = self.base_model  # type: ignore[attr-defined]
        if base.stored_references is None:
            base.stored_references = self.new_bank()
        return base.stored_references

    @references.setter
    def references(self, bank: ReferenceBank) -> None:
        if not isinstance(bank, ReferenceBank):
            raise ValueError(f"`references` is {bank!r}: give a ReferenceBank, such as `new_bank()`.")
        bank = self._fitted(copy.copy(bank))
        means = self._means(bank)
        self.base_model.stored_references = bank  # type: ignore[attr-defined]
        self._settle(means)

    def _fitted(self, bank: ReferenceBank) -> ReferenceBank:
        """The references for the model's tasks, if they have the model's widths."""
        empty = self.new_bank()
        for name, width in bank.widths.items():
            if width != empty.widths.get(name, width):
                raise ValueError(
                    f"the references have {name} features {width} wide, and the model's are "
                    f"{empty.widths[name]} wide: fill the references with this model's encoders."
                )
        if missing := [name for name in empty.widths if name not in bank.widths]:
            raise ValueError(
                f"the references have no {missing}, which HIMA's stage 2 attends to: fill them with this "
                "model, or set `use_hima_stage2` to False."
            )
        if [(spec.name, spec.labels, spec.kind) for spec in bank.tasks.values()] != [
            (spec.name, spec.labels, spec.kind) for spec in empty.tasks.values()
        ]:
            bank = bank.with_tasks(empty.tasks)
        return bank

    def new_bank(self, notes: str = "") -> ReferenceBank:
        """An empty bank of the model's widths, tasks and storage dtype."""
        config: Any = self.config  # type: ignore[attr-defined]
        vectors = config.use_hima_stage2
        # Not on the device that a model is built on, which may be the one without memory.
        with torch.device("cpu"):
            return ReferenceBank(
                config.image_embed_dim,
                config.text_embed_dim,
                config.task_specs,
                config.bank_dtype,
                notes,
                config.region_dim if vectors else None,
                config.token_dim if vectors else None,
            )

    def add_references(
        self,
        inputs: Mapping[str, torch.Tensor] | EncodedFeatures,
        ids: Sequence[str],
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Know further samples from now on, without training.

        Args:
            inputs: As `forward` takes them (raw, or precomputed features), or what `encode` gave; n rows.
            ids: Of the rows: non-empty strings that no other reference has.
            labels: Class indices (n,) by task, (n, labels) of 0 and 1 for a `multilabel` one; -100 = not
                known. A task that is left out is known of none.

        Raises:
            ValueError: If one of them does not fit, naming it; the references stay as they were.
        """
        entries = self.reference_entries(inputs)
        with self._editing() as bank:
            bank.add(ids, *entries, labels)

    def replace_references(
        self,
        inputs: Mapping[str, torch.Tensor] | EncodedFeatures,
        ids: Sequence[str],
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Put other samples and labels in the place of references; arguments and errors as above."""
        entries = self.reference_entries(inputs)
        with self._editing() as bank:
            bank.replace(ids, *entries, labels)

    def remove_references(self, ids: Sequence[str]) -> None:
        """Forget references.

        Raises:
            ValueError: If there is no reference of an id, or one is named twice; nothing changes then.
        """
        with self._editing() as bank:
            bank.remove(ids)

    @contextmanager
    def _editing(self) -> Iterator[ReferenceBank]:
        """A copy of the references, which take over its edit together with g, or not at all."""
        edited = copy.copy(self.references)
        yield edited
        means = self._means(edited)
        self.references.take_over(edited)
        self._settle(means)

    @torch.no_grad()
    def reference_entries(
        self, inputs: Mapping[str, torch.Tensor] | EncodedFeatures
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """What a bank keeps of n rows: embeddings (and HIMA's vectors), and who has them, (n,), by entry."""
        base: Any = self.base_model  # type: ignore[attr-defined]
        trained = base.feature_encoders.training
        base.feature_encoders.eval()
        try:
            features = inputs if isinstance(inputs, EncodedFeatures) else base.encode(**inputs)
        finally:
            base.feature_encoders.train(trained)
        present = {"image": features.image_present, "text": features.text_present}
        entries = {"image": features.image_embeds, "text": features.text_embeds}
        if base.config.use_hima_stage2:
            vectors = base.hima.vectors(features)
            entries |= {f"{modality}_vectors": values for modality, values in vectors.items()}
            present |= {f"{modality}_vectors": present[modality] for modality in vectors}
        return {name: values.float() for name, values in entries.items()}, present

    def settle_references(self) -> None:
        """Compute HIMA stage 2's g over the references: after training, which changes the attention.

        Without that stage there is nothing to do; over no references g is zero.
        """
        self._settle(self._means(self.references))

    def _means(self, bank: ReferenceBank) -> dict[str, torch.Tensor]:
        """Stage 2's g over the references by modality; empty without that stage."""
        device_type: str = self.device.type  # type: ignore[attr-defined]
        with torch.autocast(device_type, enabled=False):
            return {
                modality: attention.batch_bias.over(bank.vectors(modality))
                for modality, attention in self._stage2().items()
            }

    def _settle(self, means: Mapping[str, torch.Tensor]) -> None:
        for modality, attention in self._stage2().items():
            attention.batch_bias.settle(means[modality])

    def _stage2(self) -> dict[str, Any]:
        base: Any = self.base_model  # type: ignore[attr-defined]
        return {"image": base.hima.image, "text": base.hima.text} if base.config.use_hima_stage2 else {}

    def reference_health(self) -> dict[str, GraphHealth]:
        """How well connected the references are, by graph: up to 1,000 of them as queries for the others."""
        config: Any = self.config  # type: ignore[attr-defined]
        settings = {
            graph: (getattr(config, f"{graph}_neighbors"), getattr(config, f"{graph}_threshold"))
            for graph in MODALITIES
        }
        return {graph: bank_health(self.references, graph, *limits) for graph, limits in settings.items()}

    def save_pretrained(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `PreTrainedModel.save_pretrained`, with the references, be they none, beside the weights.

        Raises:
            ValueError: If it is to be pushed with an argument that `push_to_hub` does not take, or the
                references are split over processes.
        """
        repository = {name: kwargs.pop(name) for name in REPOSITORY if name in kwargs}
        hub = {name: kwargs[name] for name in PUSH_OPTIONS if name in kwargs}
        refused = ["state_dict"] * (state_dict is not None) + sorted(set(kwargs) - set(hub))
        if push_to_hub and refused:
            raise ValueError(
                f"{refused} cannot be given where the model is pushed: save without `push_to_hub`, and "
                "upload the folder."
            )
        if is_main_process:  # first: references that cannot be saved stop all of it
            self.references.save(save_directory)
        super().save_pretrained(  # type: ignore[misc]
            save_directory, is_main_process=is_main_process, state_dict=state_dict, **kwargs
        )
        if push_to_hub:  # as one commit with the references
            name = repository.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(name, **repository, **hub)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """As `PreTrainedModel.push_to_hub`, with the references; those that it had before are deleted."""
        # Those of the model, even if there are none, take the others' place in the same commit.
        pushed = super().push_to_hub(repo_id, **options)  # type: ignore[misc]
        api, token = HfApi(), options.get("token")
        name, revision = pushed.repo_url.repo_id, pushed.pr_revision or options.get("revision")
        facts = api.hf_hub_download(name, REFERENCES_NAME, revision=pushed.oid, token=token)
        used = tensors_name(Path(facts).parent)
        stale = [
            CommitOperationDelete(path)
            for path in api.list_repo_files(name, revision=revision, token=token)
            if is_tensors_file(path) and path != used
        ]
        if stale:
            message = "Delete references that are no longer used"
            api.create_commit(name, stale, commit_message=message, revision=revision, token=token)
        return pushed

    def load_references(self, name: str, **options: Any) -> None:
        """Take over the references that were saved with a model, if there are any.

        Args:
            name: Folder or Hub id.
            options: Where the Hub's files are, as `from_pretrained` takes it.

        Raises:
            ValueError: If the files are cut short or altered, or do not fit the model.
        """
        hub = {key: value for key, value in options.items() if key in HUB_OPTIONS and value is not None}
        found = cached_file(name, REFERENCES_NAME, _raise_exceptions_for_missing_entries=False, **hub)
        if found is None:
            return
        folder = Path(found).parent
        if not Path(name).is_dir():
            cached_file(name, tensors_name(folder), **hub)
        # Not through the setter: g was saved with the weights.
        self.base_model.stored_references = self._fitted(ReferenceBank.load(folder))  # type: ignore[attr-defined]


# Of `save_pretrained`, what `push_to_hub` takes instead, and what it takes as well.
REPOSITORY = ("repo_id", "commit_message", "commit_description")
PUSH_OPTIONS = ("private", "token", "create_pr", "revision", "max_shard_size", "tags")
