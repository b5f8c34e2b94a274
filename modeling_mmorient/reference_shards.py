"""A bank of references that is split over the processes of a distributed run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import distributed

from .features import Neighbors
from .global_batch import GlobalBatch
from .reference_bank import ReferenceBank
from .reference_checks import MODALITIES
from .reference_embeds import StoredEmbeds
from .reference_search import find_neighbors
from .searched_references import BLOCK_VECTORS

# Queries whose neighbours' embeddings are fetched from the other processes at a time.
BLOCK_QUERIES = 256


class ShardedReferences(ReferenceBank):
    """The references of a bank, of which each of P processes keeps the embeddings of N / P.

    It is used as the bank is, places are those in the whole bank, and results equal the whole bank's to the
    last bit. What is small (ids, labels, and who has which modality) every process keeps of all references:
    beside the ids some 20 bytes for each of them, and 8 for each task.

    `search`, `neighbors`, `copies`, `neighbor_sum`, `embeds` and `vectors` are collective: every process
    calls them at the same time, in the same order and with the same modality, k and threshold, each with
    queries of its own, of any number, none included. Processes that call different things, or one of whose
    calls is refused, all raise. Every process sees the queries of all of them.

    An index (`build_index`, on every process) is over the own references, so that with one the result
    depends on the number of processes. The references cannot be edited or saved here: edit the whole bank
    and split it again.

    Args:
        bank: The same on every process; it can be dropped afterwards. `torch.distributed` is initialised
            before, or there is one process, which keeps all. To read no more than its part into memory, a
            process takes `ShardedReferences.load(folder)` instead.
    """

    def __init__(self, bank: ReferenceBank) -> None:
        super().__init__(**bank._settings(bank.tasks))
        self.device = bank.device
        whole = bank._references
        rank, processes = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            rank, processes = distributed.get_rank(), distributed.get_world_size()
        first, end = (len(bank) * part // processes for part in (rank, rank + 1))
        self._own = range(first, end)
        rows = torch.arange(first, end, device=self.device)
        self._masks = {
            name: (stored.present.clone(), stored.norms > 0) for name, stored in whole.embeds.items()
        }
        own = {name: stored.select(rows) for name, stored in whole.embeds.items()}
        self._references = whole.replace(embeds=own, indexes={})

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, own={self._own})"

    @classmethod
    def load(cls, folder: str | Path) -> ShardedReferences:
        """This process's part of the bank that was saved to a folder; errors as of `ReferenceBank.load`."""
        return cls(ReferenceBank.load(folder))

    @property
    def present(self) -> dict[str, torch.Tensor]:
        """By modality: (N,), True = the reference has it."""
        return {name: self._masks[name][0] for name in MODALITIES}

    def searchable(self, modality: str) -> torch.Tensor:
        """Places of the references that can be neighbours in a modality: they have it, and no zero vector."""
        self._stored(modality)
        return self._masks[modality][1].nonzero().squeeze(-1)

    def to(self, device: torch.device | str) -> Self:
        """Move embeddings and labels, and so the search, to a device; returns itself."""
        super().to(device)
        self._masks = {name: (has.to(device), can.to(device)) for name, (has, can) in self._masks.items()}
        return self

    def embeds(self, modality: str, indices: torch.Tensor) -> torch.Tensor:
        """The embeddings e of some references in float32, (n, d); zero where the modality is missing."""
        with self._together(f"embeds({modality!r})"):
            self._stored(modality)
            if ((indices < 0) | (indices >= len(self))).any():
                raise ValueError(f"`indices` are not all places in the bank: they are 0 to {len(self) - 1}.")
        return self._fetch(modality, indices)

    def vectors(self, modality: str) -> Iterator[torch.Tensor]:
        """As [`ReferenceBank.vectors`]: of all processes' references, to every process."""
        name = f"{modality}_vectors"
        for places in self._masks[name][0].nonzero().squeeze(-1).split(BLOCK_VECTORS):
            yield self._fetch(name, places)

    @torch.no_grad()
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
        """As [`ReferenceBank.search`], among the references of all processes."""
        with self._together(f"search({modality!r}, k={k}, threshold={threshold})"):
            present = self._check_search(modality, queries, present, k, threshold, exclude, checked)
        return self._search_parts(modality, queries.float(), present, k, threshold, exclude)

    def neighbor_sum(self, modality: str, neighbors: Neighbors) -> tuple[torch.Tensor, torch.Tensor]:
        """As [`ReferenceBank.neighbor_sum`], in the same order of addition."""
        with self._together(f"neighbor_sum({modality!r})"):
            self._stored(modality)
        indices = neighbors.indices
        blocks = [(indices.new_zeros(0, self.widths[modality]).float(), indices.new_zeros(0, 1).float())]
        for start in range(0, max(GlobalBatch(len(indices), self.device).sizes), BLOCK_QUERIES):
            block = indices[start : start + BLOCK_QUERIES]
            places, numbered = block[block >= 0].unique(return_inverse=True)
            nodes = self._fetch(modality, places)
            has = self.present[modality][places]
            norms = nodes.new_zeros(len(nodes), dtype=torch.float64)
            stored = StoredEmbeds(nodes, nodes.new_ones(len(nodes)), has, norms)
            blocks.append(stored.node_sum(block.masked_scatter(block >= 0, numbered)))
        total, number = zip(*blocks, strict=True)
        return torch.cat(total), torch.cat(number)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError(
            "these references are split over the processes and can only be searched: edit or save the whole "
            "bank, and make ShardedReferences of it again."
        )

    add = remove = replace = take_over = with_tasks = save = write = fingerprint = _refuse

    def _search_parts(
        self,
        modality: str,
        queries: torch.Tensor,
        present: torch.Tensor,
        k: int | None,
        threshold: float | None,
        exclude: torch.Tensor | None,
    ) -> Neighbors:
        """All queries among the own references, and the best of all processes for the own queries."""
        batch = GlobalBatch(len(queries), self.device)
        if exclude is None:
            exclude = torch.full((len(queries), 0), -1, device=self.device)
        elif exclude.ndim == 1:
            exclude = exclude.unsqueeze(-1)
        more = max(GlobalBatch(exclude.shape[1], self.device).sizes) - exclude.shape[1]
        exclude = torch.nn.functional.pad(exclude, (0, more), value=-1)
        queries, present, exclude = (batch.gather(values) for values in (queries, present, exclude))
        own = exclude - self._own.start
        own = own.masked_fill((own < 0) | (own >= len(self._own)), -1)
        index = self._references.indexes.get(modality)
        found = find_neighbors(self._stored(modality), queries, present, k, threshold, own, index)
        places = found.indices + self._own.start * (found.indices >= 0)
        columns = GlobalBatch(places.shape[1], self.device)
        # The processes' parts side by side, in the order of their references.
        places = columns.gather(places.T).T[batch.own]
        similarities = columns.gather(found.similarities.T).T[batch.own]
        similarities = similarities.masked_fill(places < 0, -torch.inf)
        # Stable: of equal ones, the earlier reference stays before the later.
        similarities, order = similarities.sort(dim=-1, descending=True, stable=True)
        places = places.gather(1, order)
        width = k if k is not None else max((places >= 0).sum(-1).tolist(), default=0)
        places, similarities = places[:, :width], similarities[:, :width]
        return Neighbors(places, similarities.masked_fill(places < 0, 0.0))

    @torch.no_grad()
    def _fetch(self, name: str, places: torch.Tensor) -> torch.Tensor:
        """Embeddings, or HIMA's vectors, (n, d) of references that any process may keep."""
        batch = GlobalBatch(len(places), self.device)
        if not sum(batch.sizes):
            return torch.zeros(0, self.widths[name], device=self.device)
        wanted = batch.gather(places) - self._own.start
        rows = torch.zeros(len(wanted), self.widths[name], device=self.device)
        own = ((wanted >= 0) & (wanted < len(self._own))).nonzero().squeeze(-1)
        rows[own] = self._references.embeds[name].decode(wanted[own])
        if len(batch.sizes) > 1:
            # One process has each row and the others zeros. As integers the bits add up to themselves.
            distributed.all_reduce(rows.view(torch.int32))
        # Not a view: sums over what begins elsewhere in memory may differ in their last bits.
        return rows[batch.own].clone()

    @contextmanager
    def _together(self, call: str) -> Iterator[None]:
        """Let all processes know whether this one's arguments, checked within, fit what all have called."""
        try:
            yield
        except ValueError:
            self._announce(call, refused=True)
            raise
        calls, refused = self._announce(call, refused=False)
        if refused.any():
            raise ValueError(
                f"{call}: process {int(refused.nonzero()[0])} was given arguments that do not fit; its error "
                "says which."
            )
        if (calls != calls[0]).any():
            raise ValueError(
                f"this process calls {call}, and others call something else: all processes have to make the "
                "same calls in the same order."
            )

    def _announce(self, call: str, refused: bool) -> torch.Tensor:
        """By process, what it calls and whether it was refused, (2, P)."""
        digest = int.from_bytes(hashlib.sha256(call.encode()).digest()[:7])
        entry = torch.tensor([[digest, int(refused)]], device=self.device)
        return GlobalBatch(1, self.device).gather(entry).T
