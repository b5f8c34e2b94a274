"""The references that a model finds its neighbours among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import CONFIG_NAME, logging

from .reference_checks import (
    check_embeds,
    check_ids,
    check_reference_labels,
    check_somewhere,
    check_vectors,
    width_argument,
)
from .reference_contents import ReferenceContents
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .reference_files import (
    REFERENCES_NAME,
    check_facts,
    check_stored,
    is_tensors_file,
    read_references,
    references_digest,
    write_references,
)
from .saved_folder import read_whole, save_whole
from .searched_references import SearchedReferences
from .task_changes import label_order
from .task_kinds import kind_of
from .task_specs import TaskSpec

logger = logging.get_logger(__name__)


class ReferenceBank(SearchedReferences):
    """Stored samples among which the relation graphs find a query's neighbours.

    A reference has an id, the node embeddings e of its picture, its text or both, and the labels that are
    known of it. A query's neighbours depend on nothing but the query and the bank.

    Every edit builds the bank's new contents completely before they take the place of the old ones (so it
    needs memory for both): one that fails leaves the bank as it was. Tensors that the bank hands out are
    its own; do not change them.

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
    >>> bank = ReferenceBank(image_embed_dim=512, text_embed_dim=384)
    >>> bank.add(["a", "b"], {"text": torch.randn(2, 384)})
    >>> bank.search("text", torch.randn(5, 384), k=1).indices.shape
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
                `image_vectors` and `text_vectors` (n, d_v), where the bank stores them.
            present: By entry of `embeds`: (n,), True = the reference has it; the embeddings of others may
                hold anything. One that is left out here: all have it. Each reference has a modality.
            labels: By task, as in `labels`. A task that is left out is not known of any.

        Raises:
            ValueError: If one of them does not fit, naming it; the bank stays as it was.
        """
        checked = check_ids(ids)
        with self.lock:
            old = self._references
            if twice := next((name for name in checked if name in old.places), None):
                raise ValueError(
                    f"the bank has a reference {twice!r} already: use another id, or `replace` it."
                )
            self._change(old.append(self._encode(checked, embeds, present, labels)))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove references; the others move up and keep their order.

        Raises:
            ValueError: If the bank has no reference of an id, or one is named twice; it stays as it was.
        """
        checked = check_ids(ids)
        with self.lock:
            removed = torch.zeros(len(self), dtype=torch.bool)
            removed[self._known_places(checked)] = True
            self._change(self._references.select((~removed).nonzero().squeeze(-1).to(self.device)))

    def replace(
        self,
        ids: Sequence[str],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Give references that there are other embeddings and labels; arguments and errors as in `add`.

        They keep their places. All that was known of them goes: a modality or task that is left out is
        missing afterwards.
        """
        checked = check_ids(ids)
        with self.lock:
            places = self._known_places(checked)
            new = self._encode(checked, embeds, present, labels)
            self._change(self._references.exchange(places.to(self.device), new))

    def with_tasks(self, tasks: Mapping[str, TaskSpec]) -> ReferenceBank:
        """The same references for other tasks: labels stay known where those of a task are the same ones."""
        bank = ReferenceBank(**self._settings(tasks))
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

    def _settings(self, tasks: Mapping[str, TaskSpec]) -> dict[str, Any]:
        widths = {width_argument(name): width for name, width in self.widths.items()}
        return {**widths, "tasks": tasks, "dtype": self.dtype, "notes": self.notes}

    def take_over(self, edited: ReferenceBank) -> None:
        """Hold what an edited copy (`copy.copy(bank)`) of this bank holds."""
        self._references = edited._references

    def save(self, folder: str | Path) -> None:
        """Write the bank's two files into a folder; see `reference_files.py`.

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
        """Write the bank's two files into an empty folder; the digest of `references.json`."""
        return write_references(folder, *self._saved())

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal digits, of all that `save` writes but the notes."""
        tensors, facts = self._saved()
        return references_digest(tensors, {**facts, "notes": None})

    def _saved(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors by name, and what else there is to know, of JSON types."""
        references = self._references
        tensors = {f"labels/{name}": values for name, values in references.labels.items()}
        for name, stored in references.embeds.items():
            tensors |= {
                f"{name}_codes": stored.codes,
                f"{name}_scales": stored.scales,
                f"{name}_present": stored.present,
            }
        tasks = [
            {"name": spec.name, **({"labels": list(spec.labels)} if spec.labels else {}), "kind": spec.kind}
            for spec in self.tasks.values()
        ]
        facts = {"notes": self.notes, "dtype": self.dtype, "widths": self.widths, "tasks": tasks}
        return tensors, {**facts, "ids": references.ids}

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceBank:
        """The bank that was saved to a folder.

        Raises:
            ValueError: If its files are cut short, altered or do not fit each other, naming what and where.
        """
        return read_whole(Path(folder), lambda: cls.read(Path(folder))[0])

    @classmethod
    def read(cls, folder: Path) -> tuple[ReferenceBank, str]:
        """As `load`, from a folder that nobody writes to meanwhile; with the digest of `references.json`."""
        tensors, facts, digest = read_references(folder)
        try:
            settings, ids = check_facts(facts, folder)
            bank = ReferenceBank(**settings)
        except ValueError as error:
            raise ValueError(
                f"{folder / REFERENCES_NAME} describes no bank: {error} Save the bank again."
            ) from error
        embeds, labels = check_stored(tensors, ids, bank.widths, bank.dtype, bank.tasks, folder)
        bank._references = ReferenceContents(embeds, ids, labels, bank.tasks)
        return bank, digest

    def _encode(
        self,
        ids: tuple[str, ...],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None,
        labels: Mapping[str, torch.Tensor] | None,
    ) -> ReferenceContents:
        """What an edit was given, checked and as the bank keeps it."""
        given = check_embeds(len(ids), embeds, present or {}, self.widths)
        check_somewhere(ids, [has for _, has in given.values()])
        check_vectors(ids, {name: has for name, (_, has) in given.items()})
        known = check_reference_labels(len(ids), labels or {}, self.tasks)
        dtype = STORAGE_DTYPES[self.dtype]
        stored = {
            name: StoredEmbeds.encode(values, has, dtype).to(self.device)
            for name, (values, has) in given.items()
        }
        known = {name: values.to(self.device) for name, values in known.items()}
        return ReferenceContents(stored, ids, known, self.tasks)

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

    def _known_places(self, ids: tuple[str, ...]) -> torch.Tensor:
        places = self.places(ids)
        if (places < 0).any():
            unknown = ids[int((places < 0).nonzero()[0])]
            raise ValueError(f"the bank has no reference {unknown!r}: `ids` lists those that it has.")
        return places
