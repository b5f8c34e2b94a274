"""References as they are read and searched, whoever keeps them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import torch

from .edit_lock import EditLock
from .features import Neighbors
from .reference_checks import (
    MODALITIES,
    VECTORS,
    check_exclude,
    check_reference_labels,
    check_search,
    check_settings,
)
from .reference_contents import ReferenceContents
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .reference_index import ReferenceIndex
from .reference_search import find_neighbors
from .remembered_neighbors import RememberedNeighbors, query_prints
from .task_specs import TaskSpec

# Vectors that are handed out at a time.
BLOCK_VECTORS = 4096
# Of a row and a reference that is the row itself: rounding leaves more, half precision's too.
COPY_COSINE = 1 - 1e-6


class SearchedReferences:
    """References among which neighbours are sought; see [`ReferenceBank`], which can be edited and saved.

    A query's neighbours depend on nothing but the query and the references. Tensors that are handed out are
    the references' own; do not change them. Several threads may edit at the same time; who
    searches meanwhile searches a copy (`copy.copy`), as the models do.

    Args and errors: those of [`ReferenceBank`].
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
        # Held by whoever edits; copies (`copy.copy`) share it, and searches need none.
        self.lock = EditLock()
        nobody = torch.zeros(0, dtype=torch.bool)
        embeds = {
            name: StoredEmbeds.encode(torch.zeros(0, width), nobody, STORAGE_DTYPES[dtype])
            for name, width in self.widths.items()
        }
        labels = check_reference_labels(0, {}, self.tasks)
        self._references = ReferenceContents(embeds, (), labels, self.tasks)

    def __len__(self) -> int:
        return len(self._references.ids)

    def __repr__(self) -> str:
        about = f"widths={self.widths}, tasks={list(self.tasks)}, notes={self.notes!r}"
        return f"{type(self).__name__}({len(self)} references, {self.dtype}, {about})"

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

    def to(self, device: torch.device | str) -> Self:
        """Move embeddings and labels, and so the search, to a device; returns itself."""
        # Kept beyond the call: no tensors that later training could not use.
        with self.lock, torch.inference_mode(False):
            self._references = self._references.to(device)
            self.device = torch.device(device)
        return self

    def build_index(self, modality: str, factory: str = "IVF1024,Flat", **parameters: float) -> None:
        """Let later searches in a modality find their candidates in a FAISS index.

        For banks that are too large to be searched exactly. A search then ranks the candidates that the
        index finds, a few more than k, by the same cosines, with the same rule for equal ones, so that what
        it finds is in the right order, but may miss some. Which candidates an index finds can depend on the
        batch in the last bits of its own arithmetic.

        An edit drops the index, with a warning. It is not saved with the bank.

        Args:
            modality: `image` or `text`.
            factory: The index, as `faiss.index_factory` takes it.
            parameters: Of the search, by FAISS's names, such as `nprobe=32` or `efSearch=64`: more find
                more of the neighbours and take longer.

        Raises:
            ImportError: If FAISS is not installed (`pip install "mmorient[faiss]"`).
            ValueError: If FAISS refuses the arguments or the number of references.
        """
        with self.lock:
            index = ReferenceIndex(self._stored(modality), factory, parameters)
            indexes = {**self._references.indexes, modality: index}
            self._references = self._references.replace(indexes=indexes)

    def drop_index(self, modality: str) -> None:
        """Search exactly in a modality again; nothing happens where there is no index."""
        self._stored(modality)  # that there is such a modality
        with self.lock:
            indexes = {name: index for name, index in self._references.indexes.items() if name != modality}
            self._references = self._references.replace(indexes=indexes)

    def search(
        self,
        modality: str,
        queries: torch.Tensor,
        present: torch.Tensor | None = None,
        k: int | None = None,
        threshold: float | None = None,
        exclude: torch.Tensor | None = None,
        checked: bool = False,
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
            exclude: (B,) the reference that is the query itself, -1 where there is none; see `places`. Or
                (B, m), where several are (its views, copies), with -1 where there are no more.
            checked: Values of queries and of `exclude` are known to fit, and are not looked at.

        Raises:
            ValueError: If an argument does not fit, or a present query is not finite; if k is None and the
                modality has an index.
        """
        present = self._check_search(modality, queries, present, k, threshold, exclude, checked)
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
        checked: bool,
    ) -> torch.Tensor:
        """Which queries are present, (B,), if a search's arguments fit."""
        self._stored(modality)
        if present is None:
            present = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        check_search(queries, present, self.widths[modality], k, threshold, checked)
        if exclude is not None:
            check_exclude(exclude, len(queries), len(self), checked)
        if k is None and modality in self._references.indexes:
            raise ValueError(
                f"`k` is None, and the {modality} index finds a number of neighbours only: give `k` beside "
                f"the threshold, or search without the index after drop_index({modality!r})."
            )
        return present

    def neighbors(
        self,
        modality: str,
        queries: torch.Tensor,
        present: torch.Tensor,
        k: int | None,
        threshold: float | None,
        own: torch.Tensor | None,
    ) -> Neighbors:
        """What `search` finds with `own` as `exclude`, for rows that may be references themselves.

        Present queries are finite, and `own` are places or -1: nobody looks here.

        What is found for such a row is remembered until the bank, the row's embedding or `own` changes (16
        bytes for each of k neighbours and 16 more of each reference); without k nothing is.
        """
        # Arguments that do not fit are for `search` to refuse.
        columns = own.unsqueeze(-1) if own is not None and own.ndim == 1 else own
        fits = columns is not None and columns.ndim == 2 and len(columns) == len(queries)
        if columns is None or k is None or not fits or not columns.shape[1] or not len(self):
            return self.search(modality, queries, present, k, threshold, own, checked=True)
        key = modality, k, threshold
        memory = self._references.found.get(key)
        if memory is None:
            memory = RememberedNeighbors(len(self), k, self.device)
            memory = self._references.found.setdefault(key, memory)
        places = columns.amax(-1)
        places = places.masked_fill(places >= len(self), -1).clamp(min=-1)
        prints = query_prints(queries.masked_fill(~present.unsqueeze(-1), 0.0), columns)
        known, found = memory.recall(places, prints)
        new = (~known).nonzero().squeeze(-1)
        # Once, and be it for no row: with references that are split over processes all of them search.
        sought = self.search(modality, queries[new], present[new], k, threshold, columns[new], checked=True)
        memory.keep(places[new], prints[new], sought)
        found.indices[new], found.similarities[new] = sought.indices, sought.similarities
        return found

    def copies(
        self, queries: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Places of the references that are equal to rows, (B, m), with -1 where there are no more.

        They have the modalities that the row has and no other, and in each of them what the bank would store
        of the row, up to the rounding of its computation.

        Args:
            queries: By modality, (B, d).
            present: By modality, (B,), True = the row has it, and it is finite.
        """
        exactly = copy.copy(self)
        exactly._references = self._references.replace(indexes={})
        pairs = []
        for modality, other in (MODALITIES, MODALITIES[::-1]):
            has = present[modality]
            stored = StoredEmbeds.encode(queries[modality].cpu(), has.cpu(), STORAGE_DTYPES[self.dtype])
            query = stored.decode(torch.arange(len(has))).to(self.device)
            found = exactly.search(modality, query, has, threshold=COPY_COSINE, checked=True).indices
            rows, columns = (found >= 0).nonzero().unbind(-1)
            places = found[rows, columns]
            alike = self.present[other][places] == present[other][rows]
            pairs.append((len(self) * rows + places)[alike])
        pair, times = torch.cat(pairs).unique(return_counts=True)
        rows = pair // len(self)
        both = present[MODALITIES[0]] & present[MODALITIES[1]]
        equal = times == 1 + both[rows].long()
        rows, places = rows[equal], pair[equal] % len(self)
        numbers = torch.bincount(rows, minlength=len(both))
        columns = torch.arange(len(rows), device=rows.device) - (numbers.cumsum(0) - numbers)[rows]
        padded = rows.new_full((len(both), int(numbers.max()) if len(both) else 0), -1)
        padded[rows, columns] = places
        return padded

    def neighbor_sum(self, modality: str, neighbors: Neighbors) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the node features of that modality over each query's neighbours that have it, (B, d), and
        their number, (B, 1). Node features are the embeddings e at mean 0 and variance 1."""
        return self._stored(modality).node_sum(neighbors.indices)

    def _stored(self, modality: str) -> StoredEmbeds:
        if modality not in MODALITIES:
            raise ValueError(f"`modality` is {modality!r}: choose one of {list(MODALITIES)}.")
        return self._references.embeds[modality]
