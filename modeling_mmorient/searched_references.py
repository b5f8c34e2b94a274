"""References as they are read and searched, whoever keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import torch

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
from .task_specs import TaskSpec

# Vectors that are handed out at a time.
BLOCK_VECTORS = 4096


class SearchedReferences:
    """References among which neighbours are sought; see [`ReferenceBank`], which can be edited and saved.

    A query's neighbours depend on nothing but the query and the references. Tensors that are handed out are
    the references' own; do not change them.

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
        with torch.inference_mode(False):
            self._references = self._references.to(device)
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
        self._references = self._references.replace(indexes=indexes)

    def drop_index(self, modality: str) -> None:
        """Search exactly in a modality again; nothing happens where there is no index."""
        self._stored(modality)  # that there is such a modality
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
        with torch.inference_mode(False):
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
        return self._stored(modality).node_sum(neighbors.indices)

    def _stored(self, modality: str) -> StoredEmbeds:
        if modality not in MODALITIES:
            raise ValueError(f"`modality` is {modality!r}: choose one of {list(MODALITIES)}.")
        return self._references.embeds[modality]
