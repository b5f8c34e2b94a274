"""References as they are read and searched, in one process or split over several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch

from .features import MODALITIES, Neighbors
from .reference_contents import EditLock, ReferenceContents, check_reference_labels, query_prints
from .reference_embeds import STORAGE_DTYPES, ReferenceIndex, StoredEmbeds
from .reference_search import Queries, find_neighbors
from .task_specs import TaskSpec

# Vectors that are handed out at a time, and pairs of a row and a neighbour whose features are.
BLOCK_VECTORS = BLOCK_NODES = 4096


class SearchedReferences:
    """References among which neighbours are sought; see [`ReferenceBank`], which can be edited and saved.

    A query's neighbours depend on nothing but the query and the references. Tensors that are handed out are
    the references' own; do not change them. Several threads may edit at the same time; who searches
    meanwhile searches a copy (`copy.copy`), as the models do.

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
        vectors = {"image_vectors": image_vector_dim, "text_vectors": text_vector_dim}
        self.widths: dict[str, int] = {"image": image_embed_dim, "text": text_embed_dim}
        self.widths |= {name: width for name, width in vectors.items() if width is not None}
        _check_settings(self.widths, dtype, notes)
        self.tasks = dict(tasks or {})
        self.dtype = dtype
        self.notes = notes
        self.device = torch.device("cpu")
        self.lock = EditLock()  # of edits: copies (`copy.copy`) share it, and searches need none
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
        """By task: (N,) class indices, or (N, C) of 0 and 1 for `multilabel`; -100 = unknown."""
        return dict(self._references.labels)

    @property
    def label_counts(self) -> dict[str, torch.Tensor]:
        """By task: (C,) number of references of each class; for `multilabel` (C, 2) without and with each."""
        return dict(self._references.label_counts)

    @property
    def present(self) -> dict[str, torch.Tensor]:
        """By modality: (N,), True = the reference has it."""
        return {name: self._present(name) for name in MODALITIES}

    @property
    def state(self) -> object:
        """Identifies the present ids and embeddings: another object after every edit."""
        return self._references.state

    def searchable(self, modality: str) -> torch.Tensor:
        """Indices of the references that have a modality, and no zero vector: they can be neighbours."""
        self._check_modality(modality)
        return self._searchable(modality).nonzero().squeeze(-1)

    def indices(self, ids: Sequence[str]) -> torch.Tensor:
        """The indices of the references of these ids, (n,); -1 for unknown ids."""
        return torch.tensor([self._references.indices.get(name, -1) for name in ids], dtype=torch.long)

    def embeds(self, modality: str, indices: torch.Tensor) -> torch.Tensor:
        """The embeddings e of some references in float32, (n, d); zero where the modality is missing."""
        with self._together(f"embeds({modality!r})"):
            self._check_modality(modality)
            if ((indices < 0) | (indices >= len(self))).any():
                raise ValueError(f"`indices` are not all of references: they are 0 to {len(self) - 1}.")
        return self._fetch(modality, indices)

    def vectors(self, modality: str) -> Iterator[torch.Tensor]:
        """The vectors v of all references that have the modality, in blocks (n, d_v) of float32."""
        name = f"{modality}_vectors"
        for indices in self._present(name).nonzero().squeeze(-1).split(BLOCK_VECTORS):
            yield self._fetch(name, indices)

    @torch.no_grad()
    def nodes(
        self, modality: str, indices: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """The node features of rows' neighbours, which are the embeddings e at mean 0 and variance 1.

        Args:
            modality: Of the features.
            indices: (B, k) of the neighbours, -1 = none.

        Yields:
            For each block: its rows, the features (n, d) of their neighbours, each once, and for each pair
            of a row and a neighbour the index into these, (rows, k); any index where there is no neighbour.
        """
        with self._together(f"nodes({modality!r})"):
            self._check_modality(modality)
        rows = max(1, BLOCK_NODES // max(1, self._most(indices.shape[1])))
        for start in range(0, max(1, self._most(len(indices))), rows):
            block = indices[start : start + rows]
            known = block >= 0
            neighbors, numbered = block[known].unique(return_inverse=True)
            features = self._fetch(modality, neighbors)
            if not len(features):
                features = features.new_zeros(1, self.widths[modality])
            nodes = torch.nn.functional.layer_norm(features, features.shape[-1:])
            stop = start + len(block)
            yield slice(start, stop), nodes, torch.zeros_like(block).masked_scatter(known, numbered)

    def to(self, device: torch.device | str) -> Self:
        """Move embeddings and labels, and so the search, to a device; returns itself."""
        # Kept beyond the call: no tensors that later training could not use.
        with self.lock, torch.inference_mode(False):
            self._references = self._references.to(device)
            self.device = torch.device(device)
        return self

    def build_index(self, modality: str, factory: str = "IVF1024,Flat", **parameters: float) -> None:
        """Let later searches in a modality find their candidates in a FAISS index.

        For references that are too many to be searched exactly. A search then ranks the candidates that the
        index finds, a few more than k, by the same cosines, with the same rule for equal ones, so that what
        it finds is in the right order, but may miss some. Which candidates an index finds can depend on the
        batch in the last bits of its own arithmetic.

        An edit drops the index, with a warning. It is not saved with the references.

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
            self._check_modality(modality)
            index = ReferenceIndex(self._references.embeds[modality], factory, parameters)
            self._references = self._references.replace(indexes={**self._references.indexes, modality: index})

    def drop_index(self, modality: str) -> None:
        """Search exactly in a modality again; nothing happens where there is no index."""
        self._check_modality(modality)
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
            queries: (B, d); they and the result are on the references' device.
            present: (B,), True = the query has the modality, the others' rows may hold anything; None:
                all have.
            k: At most that many. None: all above the threshold, which is needed then; the result is as
                wide as the query with most of them needs.
            threshold: Neighbours are more similar than that. None: no threshold.
            exclude: (B,) index of the reference that is the query itself, -1 where there is none; see
                `indices`. Or (B, m), where several are (its views, copies), with -1 where there are no more.
            checked: Values of queries and of `exclude` are known to fit, and are not looked at.

        Raises:
            ValueError: If an argument does not fit, or a present query is not finite; if k is None and the
                modality has an index.
        """
        with self._together(f"search({modality!r}, k={k}, threshold={threshold})"):
            self._check_modality(modality)
            if present is None:
                present = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
            sought = Queries(queries, present, k, threshold, exclude)
            sought.check(self.widths[modality], len(self), checked)
            if k is None and modality in self._references.indexes:
                raise ValueError(
                    f"`k` is None, and the {modality} index finds a number of neighbours only: give `k` "
                    f"beside the threshold, or search without the index after drop_index({modality!r})."
                )
        return self._find(modality, sought)

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

        Present queries must be finite, and `own` must hold indices or -1: neither is checked here.

        What is found for such a row is remembered until the references, the row's embedding or `own` change
        (16 bytes for each of k neighbours, and 16 more for each reference); without k, nothing is remembered.
        """
        if own is None or not own.numel() or k is None or not len(self):
            return self.search(modality, queries, present, k, threshold, own, checked=True)
        columns = own.view(len(own), -1)
        memory = self._references.remembered(modality, k, threshold, self.device)
        itself = columns.amax(-1)
        itself = itself.masked_fill(itself >= len(self), -1)
        prints = query_prints(queries.masked_fill(~present.unsqueeze(-1), 0.0), columns)
        known, found = memory.recall(itself, prints)
        new = (~known).nonzero().squeeze(-1)
        # Also without a row to search for: of references that are split over processes, all of them search.
        sought = self.search(modality, queries[new], present[new], k, threshold, columns[new], checked=True)
        memory.keep(itself[new], prints[new], sought)
        found.indices[new], found.similarities[new] = sought.indices, sought.similarities
        return found

    def _check_modality(self, modality: str) -> None:
        if modality not in MODALITIES:
            raise ValueError(f"`modality` is {modality!r}: choose one of {list(MODALITIES)}.")

    # Only the methods below depend on where the embeddings are: here, or on several processes.

    def _together(self, call: str) -> AbstractContextManager[None]:
        """The context in which a call's arguments are checked."""
        return nullcontext()

    def _most(self, number: int) -> int:
        """The largest number that is given by any process."""
        return number

    def _present(self, name: str) -> torch.Tensor:
        """Which references have an entry, (N,)."""
        return self._references.embeds[name].present

    def _searchable(self, name: str) -> torch.Tensor:
        """Which references have an entry that is no zero vector, (N,)."""
        return self._references.embeds[name].norms > 0

    def _fetch(self, name: str, indices: torch.Tensor) -> torch.Tensor:
        """An entry's values in float32, (n, d), of the references with these indices (n,)."""
        return self._references.embeds[name].decode(indices)

    def _find(self, modality: str, queries: Queries) -> Neighbors:
        """As `search`, for checked queries."""
        index = self._references.indexes.get(modality)
        return find_neighbors(self._references.embeds[modality], queries, index)


def width_argument(name: str) -> str:
    """The argument of [`ReferenceBank`] for the width of what it stores under a name."""
    return f"{name.removesuffix('s')}_dim" if name.endswith("_vectors") else f"{name}_embed_dim"


def _check_settings(widths: Mapping[str, Any], dtype: Any, notes: Any) -> None:
    for name, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width < 2**31:
            raise ValueError(f"`{width_argument(name)}` is {width!r}: give a width, a whole number.")
    if not isinstance(dtype, str) or dtype not in STORAGE_DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}: choose one of {list(STORAGE_DTYPES)}.")
    if not isinstance(notes, str):
        raise ValueError(f"`notes` is {notes!r}: give a text.")
