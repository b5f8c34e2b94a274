"""What references there are at a time: an edit makes another object and never changes this one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any

import torch

from .features import Neighbors
from .reference_embeds import ReferenceIndex, StoredEmbeds, row_dot
from .task_kinds import kind_of
from .task_specs import TaskSpec


class EditLock:
    """A `threading.RLock` whose deep copies and pickles are locks of their own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return EditLock, ()


class RememberedNeighbors:
    """The neighbours found for each reference as a query, and for which query.

    Args:
        count: Number of references N.
        k: Of neighbours.
        device: Where they are.
    """

    def __init__(self, count: int, k: int, device: torch.device) -> None:
        self._lock = EditLock()
        # Kept beyond the call: no tensors that later training could not use.
        with torch.inference_mode(False):
            self._indices = torch.full((count, k), -1, device=device)
            self._similarities = torch.zeros(count, k, dtype=torch.float64, device=device)
            # Equal to nothing: not sought yet.
            self._prints = torch.full((count, 2), torch.nan, dtype=torch.float64, device=device)

    def recall(self, places: torch.Tensor, prints: torch.Tensor) -> tuple[torch.Tensor, Neighbors]:
        """Which queries are remembered, (B,), and the neighbours; those of other rows mean nothing.

        Args:
            places: (B,) of the query among the references; -1 = none of them.
            prints: (B, 2), `query_prints` of the queries.
        """
        with self._lock:
            found = Neighbors(self._indices[places], self._similarities[places])
            return (places >= 0) & (self._prints[places] == prints).all(-1), found

    def keep(self, places: torch.Tensor, prints: torch.Tensor, found: Neighbors) -> None:
        """Remember what was found for queries; those at the place -1 are left out."""
        rows = (places >= 0).nonzero().squeeze(-1)
        # One row for each place: of several, parts of each could remain.
        places, numbered = places[rows].unique(return_inverse=True)
        rows = torch.empty_like(places).scatter_(0, numbered, rows)
        with self._lock, torch.inference_mode(False):
            self._indices[places] = found.indices[rows]
            self._similarities[places] = found.similarities[rows]
            self._prints[places] = prints[rows]


@dataclass(frozen=True)
class ReferenceContents:
    """N references.

    Args:
        embeds: By modality (and HIMA's vectors beside them).
        ids: (N,).
        labels: By task, as [`ReferenceBank.labels`].
        tasks: By name.
        indexes: By modality, where one was built.
        found: Neighbours of rows that are references themselves, by modality, k and threshold; see
            `RememberedNeighbors`.
        state: Equal objects stand for equal ids and embeddings: an edit makes another.
    """

    embeds: dict[str, StoredEmbeds]
    ids: tuple[str, ...]
    labels: dict[str, torch.Tensor]
    tasks: Mapping[str, TaskSpec]
    indexes: dict[str, ReferenceIndex] = field(default_factory=dict)
    found: dict[tuple[str, int, float | None], RememberedNeighbors] = field(default_factory=dict)
    state: object = field(default_factory=object)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each id stands."""
        return {name: place for place, name in enumerate(self.ids)}

    @cached_property
    def label_counts(self) -> dict[str, torch.Tensor]:
        """As [`ReferenceBank.label_counts`]."""
        return {
            name: kind_of(self.tasks[name]).count_labels(self.tasks[name], values)
            for name, values in self.labels.items()
        }

    def remembered(
        self, modality: str, k: int, threshold: float | None, device: torch.device
    ) -> RememberedNeighbors:
        """What is remembered of searches with these settings."""
        key = modality, k, threshold
        if (memory := self.found.get(key)) is None:
            # Of two threads that come here at the same time, one is heard.
            memory = self.found.setdefault(key, RememberedNeighbors(len(self.ids), k, device))
        return memory

    def append(self, new: ReferenceContents) -> ReferenceContents:
        """With others behind the own ones, without indexes."""
        return ReferenceContents(
            {name: stored.append(new.embeds[name]) for name, stored in self.embeds.items()},
            self.ids + new.ids,
            {name: torch.cat([values, new.labels[name]]) for name, values in self.labels.items()},
            self.tasks,
        )

    def select(self, places: torch.Tensor) -> ReferenceContents:
        """Those at these places (n,) alone, without indexes."""
        return ReferenceContents(
            {name: stored.select(places) for name, stored in self.embeds.items()},
            tuple(self.ids[place] for place in places.tolist()),
            {name: values[places] for name, values in self.labels.items()},
            self.tasks,
        )

    def exchange(self, places: torch.Tensor, new: ReferenceContents) -> ReferenceContents:
        """With the embeddings and labels of n others at these places (n,), without indexes."""
        return ReferenceContents(
            {name: stored.exchange(places, new.embeds[name]) for name, stored in self.embeds.items()},
            self.ids,
            {name: own.index_copy(0, places, new.labels[name]) for name, own in self.labels.items()},
            self.tasks,
        )

    def to(self, device: torch.device | str) -> ReferenceContents:
        """On that device; indexes stay where they are."""
        embeds = {name: stored.to(device) for name, stored in self.embeds.items()}
        labels = {name: values.to(device) for name, values in self.labels.items()}
        return self.replace(embeds=embeds, labels=labels)

    def replace(self, **changed: Any) -> ReferenceContents:
        """With other fields, and nothing found yet."""
        return dataclasses.replace(self, found={}, **changed)


def query_prints(queries: torch.Tensor, exclude: torch.Tensor) -> torch.Tensor:
    """What tells queries (B, d) and the references that they exclude, (B, m), from others: (B, 2)."""
    return torch.stack([_print(queries), _print(exclude + 1)], -1)


def _print(values: torch.Tensor) -> torch.Tensor:
    # No two of these are alike, and a sum of float64 products changes with the last bit of a float32.
    factors = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device).sin()
    return row_dot(values, factors.expand(values.shape))
