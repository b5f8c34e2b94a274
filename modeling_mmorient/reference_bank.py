"""The references that a model finds its neighbours among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import CONFIG_NAME, logging

from .reference_contents import ReferenceContents, check_entries, check_ids, check_reference_labels
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .reference_files import (
    REFERENCES_NAME,
    check_metadata,
    check_tensors,
    is_tensors_file,
    read_references,
    references_digest,
    write_references,
)
from .saved_folder import read_whole, save_whole
from .searched_references import SearchedReferences, width_argument
from .task_changes import label_order
from .task_kinds import kind_of
from .task_specs import TaskSpec, parse_tasks

logger = logging.get_logger(__name__)


class ReferenceBank(SearchedReferences):
    """Stored samples among which the relation graphs find a query's neighbours.

    A reference has an id, the node embeddings e of its image, its text or both, and the labels that are
    known of it. A query's neighbours depend on nothing but the query and the references.

    Every edit builds the new contents completely before they take the place of the old ones (so it needs
    memory for both): one that fails leaves the references as they were. Tensors that are handed out are the
    references' own; do not change them.

    Args:
        image_embed_dim, text_embed_dim: Widths of e_img and e_txt.
        image_vector_dim, text_vector_dim: Widths of v_img and v_txt, where HIMA's stage 2 needs those of the
            references; None: they are not stored.
        tasks: The model's, by name; None: references have no labels.
        dtype: How embeddings are stored: `float32`, `float16` or `int8`; [`StoredEmbeds`] gives the errors.
        notes: Where the references come from, in free text.

    Raises:
        ValueError: Naming the argument, the value and the remedy.

    Example:

    ```python
    >>> references = ReferenceBank(image_embed_dim=512, text_embed_dim=384)
    >>> references.add(["a", "b"], {"text": torch.randn(2, 384)})
    >>> references.search("text", torch.randn(5, 384), k=1).indices.shape
    torch.Size([5, 1])
    ```
    """

    def add(
        self,
        ids: Sequence[str],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Add n references behind those that there are.

        Args:
            ids: Non-empty strings that no other reference has.
            embeds: By modality (`image`, `text`): (n, d). All lack a modality that is left out. Beside them
                `image_vectors` and `text_vectors` (n, d_v), where they are stored.
            present: By entry of `embeds`: (n,), True = the reference has it; the embeddings of others may
                hold anything. One that is left out here: all have it. Each reference has a modality.
            labels: By task, as in `labels`. A task that is left out is unknown for all.

        Raises:
            ValueError: If one of them does not fit, naming it; the references stay as they were.
        """
        checked = check_ids(ids)
        with self.lock:
            old = self._references
            if twice := next((name for name in checked if name in old.indices), None):
                raise ValueError(f"there is a reference {twice!r} already: use another id, or `replace` it.")
            new = self._encode(checked, embeds, present, labels)
            self._change(old.edited(old.ids + checked, lambda own, more: torch.cat([own, more]), new))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove references; the others move up and keep their order.

        Raises:
            ValueError: If an id is unknown or named twice; the references stay as they were.
        """
        with self.lock:
            kept = torch.ones(len(self), dtype=torch.bool)
            kept[self._known(check_ids(ids))] = False
            left = tuple(name for name, stays in zip(self.ids, kept.tolist(), strict=True) if stays)
            kept = kept.to(self.device)
            self._change(self._references.edited(left, lambda own: own[kept]))

    def replace(
        self,
        ids: Sequence[str],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Give references other embeddings and labels; arguments and errors as in `add`.

        They keep their indices, and nothing else of what was stored: a modality or task that is left out is
        missing afterwards.
        """
        checked = check_ids(ids)
        with self.lock:
            indices = self._known(checked).to(self.device)
            new = self._encode(checked, embeds, present, labels)
            self._change(
                self._references.edited(self.ids, lambda own, more: own.index_copy(0, indices, more), new)
            )

    def with_tasks(self, tasks: Mapping[str, TaskSpec]) -> ReferenceBank:
        """The same references for other tasks: labels stay known where those of a task are the same ones."""
        bank = self._of({**vars(self), "tasks": tasks})
        kept, lost = {}, []
        for name, values in self.labels.items():
            own, new = self.tasks[name], tasks.get(name)
            order = None if new is None else label_order(own, new)
            if order is None:
                lost.append(name)
            else:
                kept[name] = kind_of(own).reordered_labels(values, order)
        if lost:
            logger.warning(
                f"the references' labels of the tasks {lost} are left out: the tasks are others now."
            )
        labels = check_reference_labels(len(self), kept, bank.tasks)
        bank._references = self._references.replace(labels=labels, tasks=bank.tasks)
        return bank.to(self.device)

    def take_over(self, edited: ReferenceBank) -> None:
        """Hold what an edited copy (`copy.copy`) of these references holds."""
        self._references = edited._references

    def save(self, folder: str | Path) -> None:
        """Write the references' two files into a folder; see `reference_files.py`.

        Raises:
            ValueError: If the folder holds a model, whose weights depend on its references.
        """
        folder = Path(folder)
        if (folder / CONFIG_NAME).exists():
            raise ValueError(
                f"{folder} holds a model, whose weights depend on its references: save both together "
                "(`model.save_references(folder)` or `model.save_pretrained(folder)`), or name another "
                "folder."
            )
        save_whole(folder, self.write, is_tensors_file)

    def write(self, folder: Path) -> str:
        """Write the references' two files into an empty folder; the digest of `references.json`."""
        return write_references(folder, self._settings(), self._references)

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal digits, of all that `save` writes but the notes."""
        return references_digest({**self._settings(), "notes": None}, self._references)

    def _settings(self) -> dict[str, Any]:
        """The settings that are saved with the references, of JSON types."""
        tasks = [
            {"name": spec.name, **({"labels": list(spec.labels)} if spec.labels else {}), "kind": spec.kind}
            for spec in self.tasks.values()
        ]
        return {"notes": self.notes, "dtype": self.dtype, "widths": self.widths, "tasks": tasks}

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceBank:
        """The references that were saved to a folder.

        Raises:
            ValueError: If its files are cut short, altered or do not fit each other, naming what and where.
        """
        return read_whole(Path(folder), lambda: cls.read(Path(folder))[0])

    @classmethod
    def read(cls, folder: Path) -> tuple[ReferenceBank, str]:
        """As `load`, from a folder that nobody writes to meanwhile; with the digest of `references.json`."""
        tensors, metadata, digest = read_references(folder)
        try:
            settings, ids = check_metadata(metadata, folder)
            tasks = parse_tasks(settings["tasks"]) if settings["tasks"] else {}
            bank = cls._of({**settings, "tasks": tasks})
        except ValueError as error:
            raise ValueError(
                f"{folder / REFERENCES_NAME} describes no references: {error} Save them again."
            ) from error
        bank._references = check_tensors(tensors, ids, bank._references, folder)
        return bank, digest

    @classmethod
    def _of(cls, settings: Mapping[str, Any]) -> ReferenceBank:
        """Empty references with saved settings."""
        widths = {width_argument(name): width for name, width in settings["widths"].items()}
        return cls(**widths, **{name: settings[name] for name in ("tasks", "dtype", "notes")})

    def _encode(
        self,
        ids: tuple[str, ...],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None,
        labels: Mapping[str, torch.Tensor] | None,
    ) -> ReferenceContents:
        """The arguments of an edit, checked and in the form in which they are stored."""
        given = check_entries(len(ids), embeds, present or {}, self.widths)
        known = check_reference_labels(len(ids), labels or {}, self.tasks)
        dtype = STORAGE_DTYPES[self.dtype]
        stored = {name: StoredEmbeds.encode(values, has, dtype) for name, (values, has) in given.items()}
        new = ReferenceContents(stored, ids, known, self.tasks)
        new.check("leave the reference out, or say in `present` what it lacks")
        return new.to(self.device)

    def _change(self, edited: ReferenceContents) -> None:
        """Take over what an edit has built."""
        dropped = self._references.indexes
        self._references = edited
        for modality, index in dropped.items():
            settings = "".join(f", {name}={value}" for name, value in index.parameters.items())
            logger.warning(
                f"the references have changed: the {modality} index is dropped, searches are exact again. "
                f"After the last edit, build_index({modality!r}, {index.factory!r}{settings}) builds another."
            )

    def _known(self, ids: tuple[str, ...]) -> torch.Tensor:
        """The indices of ids, none of which is unknown."""
        indices = self.indices(ids)
        if (indices < 0).any():
            unknown = ids[int((indices < 0).nonzero()[0])]
            raise ValueError(f"there is no reference {unknown!r}: `ids` lists those that there are.")
        return indices
