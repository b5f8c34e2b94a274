"""References that are split over the processes of a distributed run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import distributed

from .features import Neighbors
from .global_batch import GlobalBatch
from .reference_bank import ReferenceBank
from .reference_contents import EditLock
from .reference_search import Queries
from .searched_references import SearchedReferences


class ShardedReferences(SearchedReferences):
    """References of which each of P processes keeps the embeddings of N / P.

    They are searched as the whole is, indices are those in the whole, and results equal the whole's to the
    last bit. What is small (ids, labels, and who has which modality) every process keeps of all
    references: beside the ids some 20 bytes for each of them, and 8 for each task.

    `search`, `neighbors`, `nodes`, `embeds` and `vectors` are collective: every process calls them at the
    same time, in the same order and with the same modality, k and threshold, each with its own queries, whose
    number may be zero. If processes call different methods, or the call of one is refused, all of them raise.
    Every process sees the queries of all of them.

    An index (`build_index`, on every process) is over the own references, so that with one the result
    depends on the number of processes. The references cannot be edited or saved here: edit the whole
    `ReferenceBank` and split it again.

    Args:
        whole: The same on every process; it can be dropped afterwards. `torch.distributed` is initialised
            before, or there is one process, which keeps all. To keep no more than its share in memory, a
            process takes `ShardedReferences.load(folder)` instead.
    """

    def __init__(self, whole: ReferenceBank) -> None:
        # The same settings, and another lock.
        vars(self).update(vars(whole), lock=EditLock())
        contents = whole._references
        rank, processes = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            rank, processes = distributed.get_rank(), distributed.get_world_size()
        first, end = (len(whole) * number // processes for number in (rank, rank + 1))
        self._own = range(first, end)
        self._whole = {name: (has.present.clone(), has.norms > 0) for name, has in contents.embeds.items()}
        own = contents.edited(contents.ids, lambda values: values[first:end].clone())
        self._references = contents.replace(embeds=own.embeds, indexes={})

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, own={self._own})"

    def __getattr__(self, name: str) -> Any:
        # Methods that only the whole has raise an error that says why.
        if name.startswith("_") or not hasattr(ReferenceBank, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        raise SplitReferencesError(
            f"`{name}` is not for these references, which are split over the processes and can only be "
            "searched: edit or save the whole, and make ShardedReferences of it again."
        )

    @classmethod
    def load(cls, folder: str | Path) -> ShardedReferences:
        """This process's share of saved references; errors as of `ReferenceBank.load`."""
        return cls(ReferenceBank.load(folder))

    def to(self, device: torch.device | str) -> Self:
        """Move embeddings and labels, and so the search, to a device; returns itself."""
        super().to(device)
        self._whole = {name: (has.to(device), can.to(device)) for name, (has, can) in self._whole.items()}
        return self

    def _present(self, name: str) -> torch.Tensor:
        return self._whole[name][0]

    def _searchable(self, name: str) -> torch.Tensor:
        return self._whole[name][1]

    def _most(self, number: int) -> int:
        return max(GlobalBatch(number, self.device).sizes)

    @torch.no_grad()
    def _find(self, modality: str, queries: Queries) -> Neighbors:
        # Search all queries in the own references, then take the best of all processes for the own queries.
        batch = GlobalBatch(len(queries), self.device)
        excluded = queries.excluded
        more = self._most(excluded.shape[1]) - excluded.shape[1]
        excluded = batch.gather(torch.nn.functional.pad(excluded, (0, more), value=-1)) - self._own.start
        excluded = excluded.masked_fill((excluded < 0) | (excluded >= len(self._own)), -1)
        vectors, present = batch.gather(queries.vectors), batch.gather(queries.present)
        everyone = Queries(vectors, present, queries.k, queries.threshold, excluded)
        found = super()._find(modality, everyone)
        indices = found.indices + self._own.start * (found.indices >= 0)
        columns = GlobalBatch(indices.shape[1], self.device)
        # The results of all processes, concatenated in the order of their references.
        indices = columns.gather(indices.T).T[batch.own]
        similarities = columns.gather(found.similarities.T).T[batch.own]
        similarities = similarities.masked_fill(indices < 0, -torch.inf)
        # Stable: of equal ones, the earlier reference stays before the later.
        similarities, order = similarities.sort(dim=-1, descending=True, stable=True)
        indices = indices.gather(1, order)
        k = queries.k
        width = k if k is not None else max((indices >= 0).sum(-1).tolist(), default=0)
        indices, similarities = indices[:, :width], similarities[:, :width]
        return Neighbors(indices, similarities.masked_fill(indices < 0, 0.0))

    @torch.no_grad()
    def _fetch(self, name: str, indices: torch.Tensor) -> torch.Tensor:
        batch = GlobalBatch(len(indices), self.device)
        if not sum(batch.sizes):
            return torch.zeros(0, self.widths[name], device=self.device)
        wanted = batch.gather(indices) - self._own.start
        rows = torch.zeros(len(wanted), self.widths[name], device=self.device)
        own = ((wanted >= 0) & (wanted < len(self._own))).nonzero().squeeze(-1)
        rows[own] = super()._fetch(name, wanted[own])
        if len(batch.sizes) > 1:
            # One process has each row and the others zeros. Summed as integers, the bits stay the same.
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


class SplitReferencesError(AttributeError, ValueError):
    """A method was called on split references that only the whole supports."""
