"""What a reference bank holds at a time: an edit makes another one and never changes this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .reference_embeds import StoredEmbeds
from .reference_index import ReferenceIndex
from .remembered_neighbors import RememberedNeighbors
from .task_specs import TaskSpec


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
        return {name: _count_labels(self.tasks[name], values) for name, values in self.labels.items()}

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


def _count_labels(spec: TaskSpec, labels: torch.Tensor) -> torch.Tensor:
    if spec.kind == "multilabel":
        return torch.stack([(labels == 0).sum(0), (labels == 1).sum(0)], -1)
    return torch.bincount(labels[labels >= 0], minlength=spec.num_labels)
