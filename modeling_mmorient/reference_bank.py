"""The references that a model finds its neighbours among."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from .features import Neighbors
from .reference_checks import (
    MODALITIES,
    VECTORS,
    WIDTHS,
    check_embeds,
    check_exclude,
    check_facts,
    check_ids,
    check_reference_labels,
    check_search,
    check_settings,
    check_somewhere,
    check_stored,
)
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .reference_files import read_references, write_references
from .reference_index import ReferenceIndex
from .reference_search import find_neighbors
from .task_specs import TaskSpec

logger = logging.get_logger(__name__)

# Vectors that are handed out at a time.
BLOCK_VECTORS = 4096


@dataclass(frozen=True)
class _References:
    """All that an edit changes, so that it can be changed at once."""

    embeds: dict[str, StoredEmbeds]
    ids: tuple[str, ...]
    places: dict[str, int]
    labels: dict[str, torch.Tensor]
    label_counts: dict[str, torch.Tensor]
    # Of references as queries, by modality, k and threshold: found once, since nothing here changes.
    found: dict[tuple[str, int, float | None], Neighbors] = field(default_factory=dict)
    # By modality, where one was built.
    indexes: dict[str, ReferenceIndex] = field(default_factory=dict)


class ReferenceBank:
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

    def __init__(
        self,
        image_embed_dim: int,
        text_embed_dim: int,
        tasks: Mapping[str, TaskSpec] | None = None,
        dtype: str = "float32",
        notes: str = "",
        image_vector_dim: int | None = None,
        text_vector_dim: int | None = None,
    ) -> None:
        widths = (image_embed_dim, text_embed_dim, image_vector_dim, text_vector_dim)
        names = (*MODALITIES, *VECTORS)
        self.widths: dict[str, int] = {
            name: width  # type: ignore[misc]
            for name, width in zip(names, widths, strict=True)
            if name in MODALITIES or width is not None
        }
        check_settings(self.widths, dtype, notes)
        self.tasks = dict(tasks or {})
        self.dtype = dtype
        self.notes = notes
        self.device = torch.device("cpu")
        self._references = self._encode((), {}, {}, {})

    def __len__(self) -> int:
        return len(self._references.ids)

    def __repr__(self) -> str:
        tasks = list(self.tasks)
        return f"ReferenceBank({len(self)} references, {self.dtype}, widths={self.widths}, tasks={tasks})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The references' ids, in their order."""
        return self._references.ids

    @property
    def labels(self) -> dict[str, torch.Tensor]:
        """By task: (N,) class indices, or (N, C) of 0 and 1 for `multilabel`; -100 = not known."""
        return dict(self._references.labels)

    @property
    def label_counts(self) -> dict[str, torch.Tensor]:
        """By task: (C,) number of references of each class; for `multilabel` (C, 2) without and with each."""
        return dict(self._references.label_counts)

    @property
    def present(self) -> dict[str, torch.Tensor]:
        """By modality: (N,), True = the reference has it."""
        return {name: self._references.embeds[name].present for name in MODALITIES}

    def searchable(self, modality: str) -> torch.Tensor:
        """Places of the references that can be neighbours in a modality: they have it, and no zero vector."""
        return (self._stored(modality).norms > 0).nonzero().squeeze(-1)

    def places(self, ids: Sequence[str]) -> torch.Tensor:
        """Where the references of these ids stand, (n,); -1 for ids that the bank has not."""
        return torch.tensor([self._references.places.get(name, -1) for name in ids], dtype=torch.long)

    def embeds(self, modality: str, indices: torch.Tensor) -> torch.Tensor:
        """The embeddings e of some references in float32, (n, d); zero where the modality is missing."""
        return self._stored(modality).decode(indices)

    def vectors(self, modality: str) -> Iterator[torch.Tensor]:
        """The vectors v of all references that have the modality, in blocks (n, d_v) of float32."""
        stored = self._references.embeds[f"{modality}_vectors"]
        for places in stored.present.nonzero().squeeze(-1).split(BLOCK_VECTORS):
            yield stored.decode(places)

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
        old = self._references
        checked = check_ids(ids)
        if twice := next((name for name in checked if name in old.places), None):
            raise ValueError(f"the bank has a reference {twice!r} already: use another id, or `replace` it.")
        new = self._encode(checked, embeds, present, labels)
        self._change(
            old.ids + new.ids,
            {name: stored.append(new.embeds[name]) for name, stored in old.embeds.items()},
            {name: torch.cat([values, new.labels[name]]) for name, values in old.labels.items()},
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Remove references; the others move up and keep their order.

        Raises:
            ValueError: If the bank has no reference of an id, or one is named twice; it stays as it was.
        """
        removed = torch.zeros(len(self), dtype=torch.bool)
        removed[self._known_places(check_ids(ids))] = True
        kept = (~removed).nonzero().squeeze(-1)
        old = self._references
        self._change(
            tuple(old.ids[place] for place in kept.tolist()),
            {name: stored.select(kept.to(self.device)) for name, stored in old.embeds.items()},
            {name: values[kept.to(self.device)] for name, values in old.labels.items()},
        )

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
        old = self._references
        checked = check_ids(ids)
        places = self._known_places(checked)
        new = self._encode(checked, embeds, present, labels)
        at = places.to(self.device)
        self._change(
            old.ids,
            {name: stored.exchange(at, new.embeds[name]) for name, stored in old.embeds.items()},
            {name: own.index_copy(0, at, new.labels[name]) for name, own in old.labels.items()},
        )

    def with_tasks(self, tasks: Mapping[str, TaskSpec]) -> ReferenceBank:
        """The same references for other tasks: labels stay known of those that are the same in both."""
        bank = ReferenceBank(**self._settings(tasks))
        kept, lost = {}, []
        for name, values in self.labels.items():
            own, new = self.tasks[name], tasks.get(name)
            if new is not None and (own.labels, own.kind) == (new.labels, new.kind):
                kept[name] = values
            else:
                lost.append(name)
        if lost:
            logger.warning(
                f"the references' labels of the tasks {lost} are left out: the tasks are others now."
            )
        labels = check_reference_labels(len(self), kept, bank.tasks)
        old = self._references
        bank._references = _collect(self.ids, old.embeds, labels, bank.tasks, old.indexes)
        return bank.to(self.device)

    def _settings(self, tasks: Mapping[str, TaskSpec]) -> dict[str, Any]:
        widths = {WIDTHS[name]: width for name, width in self.widths.items()}
        return {**widths, "tasks": tasks, "dtype": self.dtype, "notes": self.notes}

    def to(self, device: torch.device | str) -> ReferenceBank:
        """Move embeddings and labels, and so the search, to a device; returns the bank."""
        embeds = {name: stored.to(device) for name, stored in self._references.embeds.items()}
        labels = {name: values.to(device) for name, values in self._references.labels.items()}
        self._references = _collect(self.ids, embeds, labels, self.tasks, self._references.indexes)
        self.device = torch.device(device)
        return self

    def build_index(self, modality: str, factory: str = "IVF1024,Flat", **parameters: float) -> None:
        """Let later searches in a modality find their candidates in a FAISS index.

        For banks that are too large to be searched exactly. A search then ranks the k + 9 candidates that
        the index finds by the same cosines, with the same rule for equal ones, so that what it finds is in
        the right order, but may miss some. Which candidates an index finds can depend on the batch in the
        last bits of its own arithmetic.

        An edit drops the index, with a warning. It is not saved with the bank.

        Args:
            modality: `image` or `text`.
            factory: The index, as `faiss.index_factory` takes it.
            parameters: Of the search, by FAISS's names, such as `nprobe=32` or `efSearch=64`: more find
                more of the neighbours and take longer.

        Raises:
            ImportError: If FAISS is not installed (`pip install "modeling-mmorient[faiss]"`).
            ValueError: If FAISS refuses the arguments or the number of references.
        """
        index = ReferenceIndex(self._stored(modality), factory, parameters)
        indexes = {**self._references.indexes, modality: index}
        self._references = dataclasses.replace(self._references, indexes=indexes, found={})

    def drop_index(self, modality: str) -> None:
        """Search exactly in a modality again; nothing happens where there is no index."""
        self._stored(modality)  # that there is such a modality
        indexes = {name: index for name, index in self._references.indexes.items() if name != modality}
        self._references = dataclasses.replace(self._references, indexes=indexes, found={})

    def search(
        self,
        modality: str,
        queries: torch.Tensor,
        present: torch.Tensor | None = None,
        k: int | None = None,
        threshold: float | None = None,
        exclude: torch.Tensor | None = None,
    ) -> Neighbors:
        """The references most similar to each query, by the cosine in float64 of what is stored.

        Of equally similar references the earlier counts. Zero vectors and missing modalities have no
        neighbours and are nobody's. A query's result is the same to the last bit alone, in any batch and
        in any order. With an index it is what the index finds; see `build_index`.

        Args:
            modality: `image` or `text`.
            queries: (B, d); they and the result are on the bank's device.
            present: (B,), True = the query has the modality, the others' rows may hold anything; None:
                all have.
            k: At most that many. None: all above the threshold, which is needed then; the result is as
                wide as the query with most of them needs.
            threshold: Neighbours are more similar than that. None: no threshold.
            exclude: (B,) the reference that is the query itself, -1 where there is none; see `places`.

        Raises:
            ValueError: If an argument does not fit, or a present query is not finite; if k is None and the
                modality has an index.
        """
        present = self._check_search(modality, queries, present, k, threshold, exclude)
        index = self._references.indexes.get(modality)
        return find_neighbors(self._stored(modality), queries, present, k, threshold, exclude, index)

    def _check_search(
        self,
        modality: str,
        queries: torch.Tensor,
        present: torch.Tensor | None,
        k: int | None,
        threshold: float | None,
        exclude: torch.Tensor | None,
    ) -> torch.Tensor:
        """Which queries are present, (B,), if a search's arguments fit."""
        self._stored(modality)
        if present is None:
            present = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        check_search(queries, present, self.widths[modality], k, threshold)
        if exclude is not None:
            check_exclude(exclude, len(queries), len(self))
        if k is None and modality in self._references.indexes:
            raise ValueError(
                f"`k` is None, and the {modality} index finds a number of neighbours only: give `k` beside "
                f"the threshold, or search without the index after drop_index({modality!r})."
            )
        return present

    def neighbors_of(self, modality: str, places: torch.Tensor, k: int, threshold: float | None) -> Neighbors:
        """The neighbours of references among the others, as `search` finds them.

        They are remembered until the bank changes: 16 bytes for each of k neighbours.

        Args:
            modality, k, threshold: As in `search`.
            places: (B,) of the references.
        """
        found = self._references.found
        key = modality, k, threshold
        if key not in found:
            shape = len(self), k
            # -2: not sought yet.
            found[key] = Neighbors(
                torch.full(shape, -2, device=self.device),
                torch.zeros(shape, dtype=torch.float64, device=self.device),
            )
        kept = found[key]
        new = places[kept.indices[places, 0] == -2].unique()
        sought = self._search_references(modality, new, k, threshold)
        kept.indices[new], kept.similarities[new] = sought.indices, sought.similarities
        return Neighbors(kept.indices[places], kept.similarities[places])

    def _search_references(
        self, modality: str, places: torch.Tensor, k: int, threshold: float | None
    ) -> Neighbors:
        present = self.present[modality][places]
        queries = self.embeds(modality, places)
        return self.search(modality, queries, present, k, threshold, exclude=places)

    def neighbor_sum(self, modality: str, neighbors: Neighbors) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the node features of that modality over each query's neighbours that have it, (B, d), and
        their number, (B, 1). Node features are the embeddings e at mean 0 and variance 1."""
        return sum_nodes(self._stored(modality), neighbors.indices)

    def save(self, folder: str | Path) -> None:
        """Write the bank's two files into a folder; see `reference_files.py`."""
        references = self._references
        tensors = {f"labels/{name}": values for name, values in references.labels.items()}
        for name, stored in references.embeds.items():
            tensors |= {
                f"{name}_codes": stored.codes,
                f"{name}_scales": stored.scales,
                f"{name}_present": stored.present,
            }
        tasks = [
            {"name": spec.name, "labels": list(spec.labels), "kind": spec.kind}
            for spec in self.tasks.values()
        ]
        facts = {"notes": self.notes, "dtype": self.dtype, "widths": self.widths, "tasks": tasks}
        write_references(Path(folder), tensors, {**facts, "ids": references.ids})

    @classmethod
    def load(cls, folder: str | Path) -> ReferenceBank:
        """The bank that was saved to a folder.

        Raises:
            ValueError: If its files are cut short, altered or do not fit each other, naming what and where.
        """
        tensors, facts = read_references(Path(folder))
        settings, ids = check_facts(facts, Path(folder))
        bank = cls(**settings)
        embeds, labels = check_stored(tensors, ids, bank.widths, bank.dtype, bank.tasks, Path(folder))
        bank._references = _collect(ids, embeds, labels, bank.tasks)
        return bank

    def _encode(
        self,
        ids: tuple[str, ...],
        embeds: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor] | None,
        labels: Mapping[str, torch.Tensor] | None,
    ) -> _References:
        """What an edit was given, checked and as the bank keeps it."""
        given = check_embeds(len(ids), embeds, present or {}, self.widths)
        check_somewhere(ids, [has for _, has in given.values()])
        known = check_reference_labels(len(ids), labels or {}, self.tasks)
        dtype = STORAGE_DTYPES[self.dtype]
        stored = {
            name: StoredEmbeds.encode(values, has, dtype).to(self.device)
            for name, (values, has) in given.items()
        }
        known = {name: values.to(self.device) for name, values in known.items()}
        return _collect(ids, stored, known, self.tasks)

    def _change(
        self, ids: tuple[str, ...], embeds: dict[str, StoredEmbeds], labels: dict[str, torch.Tensor]
    ) -> None:
        """Take over what an edit has built."""
        dropped = self._references.indexes
        self._references = _collect(ids, embeds, labels, self.tasks)
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

    def _stored(self, modality: str) -> StoredEmbeds:
        if modality not in MODALITIES:
            raise ValueError(f"`modality` is {modality!r}: choose one of {list(MODALITIES)}.")
        return self._references.embeds[modality]


def sum_nodes(stored: StoredEmbeds, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """See [`ReferenceBank.neighbor_sum`]; `indices` (B, k) are rows of `stored`, or -1."""
    total = torch.zeros(len(indices), stored.codes.shape[1], device=stored.codes.device)
    number = total.new_zeros(len(total), 1)
    # One neighbour of each query at a time: no (B, k, d) in memory, and always the same order.
    for column in indices.unbind(1):
        rows = (column >= 0).nonzero().squeeze(-1)
        rows = rows[stored.present[column[rows]]]
        nodes = stored.decode(column[rows])
        total[rows] += torch.nn.functional.layer_norm(nodes, nodes.shape[-1:])
        number[rows] += 1
    return total, number


def _collect(
    ids: tuple[str, ...],
    embeds: dict[str, StoredEmbeds],
    labels: dict[str, torch.Tensor],
    tasks: Mapping[str, TaskSpec],
    indexes: Mapping[str, ReferenceIndex] | None = None,
) -> _References:
    places = {name: place for place, name in enumerate(ids)}
    counts = {name: _count_labels(tasks[name], values) for name, values in labels.items()}
    return _References(embeds, ids, places, labels, counts, indexes=dict(indexes or {}))


def _count_labels(spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
    if spec.kind == "multilabel":
        return torch.stack([(labels == 0).sum(0), (labels == 1).sum(0)], -1)
    return torch.bincount(labels[labels >= 0], minlength=spec.num_labels)
