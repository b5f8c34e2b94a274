"""The contents of references at one time: an edit makes a new object and never changes this one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any

import torch

from .features import MODALITIES, Neighbors
from .input_checks import check_tensor
from .label_checks import check_label_shapes, check_labels
from .reference_embeds import ReferenceIndex, StoredEmbeds, largest_norm, row_dot
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


@dataclass(frozen=True)
class ReferenceContents:
    """N references.

    Args:
        embeds: By modality (and HIMA's vectors beside them).
        ids: (N,).
        labels: By task, as [`ReferenceBank.labels`].
        tasks: By name.
        indexes: By modality, where one was built.
        found: Neighbours of rows that are references themselves, by modality, k and threshold.
        state: The same object means the same ids and embeddings: an edit makes another one.
    """

    embeds: dict[str, StoredEmbeds]
    ids: tuple[str, ...]
    labels: dict[str, torch.Tensor]
    tasks: Mapping[str, TaskSpec]
    indexes: dict[str, ReferenceIndex] = field(default_factory=dict)
    found: dict[tuple[str, int, float | None], RememberedNeighbors] = field(default_factory=dict)
    state: object = field(default_factory=object)

    @cached_property
    def indices(self) -> dict[str, int]:
        """The index of each id."""
        return {name: index for index, name in enumerate(self.ids)}

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

    def edited(
        self, ids: tuple[str, ...], change: Callable[..., torch.Tensor], *new: ReferenceContents
    ) -> ReferenceContents:
        """Edited contents, without indexes: `change` makes each tensor from this one's and those of `new`."""
        embeds, labels = self._changed(change, *new)
        return ReferenceContents(embeds, ids, labels, self.tasks)

    def to(self, device: torch.device | str) -> ReferenceContents:
        """On that device; indexes stay where they are."""
        embeds, labels = self._changed(lambda values: values.to(device))
        return self.replace(embeds=embeds, labels=labels)

    def replace(self, **changed: Any) -> ReferenceContents:
        """With other fields, and nothing found yet."""
        return dataclasses.replace(self, found={}, **changed)

    def _changed(
        self, change: Callable[..., torch.Tensor], *new: ReferenceContents
    ) -> tuple[dict[str, StoredEmbeds], dict[str, torch.Tensor]]:
        both = (self, *new)
        embeds = {
            name: StoredEmbeds(*map(change, *(vars(each.embeds[name]).values() for each in both)))
            for name in self.embeds
        }
        labels = {name: change(*(each.labels[name] for each in both)) for name in self.labels}
        return embeds, labels

    def check(self, remedy: str) -> None:
        """Raise a `ValueError`, naming the reference and the remedy, if one cannot be a neighbour of rows.

        Embeddings are finite and not too large, each reference has a modality, and HIMA's vectors, where they
        are stored, are there for whoever has the modality.
        """
        for name, stored in self.embeds.items():
            largest = largest_norm(name, stored.codes.shape[1])
            what = f"not finite, larger than {largest:g}, or there although it is said to be missing"
            self._refuse(stored.unsound(largest), f"has {name!r} that is {what}", remedy)
        present = {name: stored.present for name, stored in self.embeds.items()}
        nowhere = ~torch.stack(list(present.values())).any(0)
        self._refuse(nowhere, "has neither an image nor a text", remedy)
        for modality in MODALITIES:
            vectors = f"{modality}_vectors"
            for known, missing in ((modality, vectors), (vectors, modality)):
                if vectors in present:
                    self._refuse(
                        present[known] & ~present[missing], f"has {known!r} and no {missing!r}", remedy
                    )

    def _refuse(self, wrong: torch.Tensor, what: str, remedy: str) -> None:
        if wrong.any():
            raise ValueError(f"reference {self.ids[int(wrong.nonzero()[0])]!r} {what}: {remedy}.")


class RememberedNeighbors:
    """The neighbours found for each reference as a query, and for which query.

    Args:
        count: Number of references N.
        k: Of neighbours.
        device: Where they are.
    """

    def __init__(self, count: int, k: int, device: torch.device) -> None:
        self._lock, self._k = EditLock(), k
        # Kept beyond the call: no tensor that later training could not use.
        with torch.inference_mode(False):
            # Two prints of the query, k indices and k similarities. NaN equals nothing: not searched yet.
            self._rows = torch.full((count, 2 + 2 * k), torch.nan, dtype=torch.float64, device=device)

    def recall(self, indices: torch.Tensor, prints: torch.Tensor) -> tuple[torch.Tensor, Neighbors]:
        """Which queries are remembered, (B,), and their neighbours; those of other rows are meaningless.

        Args:
            indices: (B,), the index of the reference that the query is; -1 = it is none.
            prints: (B, 2), `query_prints` of the queries.
        """
        with self._lock:
            rows = self._rows[indices]
        known, found, similarities = rows.tensor_split([2, 2 + self._k], -1)
        remembered = (indices >= 0) & (known == prints).all(-1)
        return remembered, Neighbors(found.nan_to_num().long(), similarities.contiguous())

    def keep(self, indices: torch.Tensor, prints: torch.Tensor, found: Neighbors) -> None:
        """Remember what was found for queries; those with the index -1 are left out."""
        rows = (indices >= 0).nonzero().squeeze(-1)
        # One row for each index: writing several at once could mix their parts.
        indices, numbered = indices[rows].unique(return_inverse=True)
        rows = torch.empty_like(indices).scatter_(0, numbered, rows)
        entries = torch.cat([prints, found.indices.double(), found.similarities], -1)
        with self._lock, torch.inference_mode(False):
            self._rows[indices] = entries[rows]


def query_prints(queries: torch.Tensor, exclude: torch.Tensor) -> torch.Tensor:
    """Fingerprints (B, 2) of queries (B, d) and of the references that they exclude, (B, m)."""
    return torch.stack([_print(queries), _print(exclude + 1)], -1)


def _print(values: torch.Tensor) -> torch.Tensor:
    # No two of these are alike, and a sum of float64 products changes with the last bit of a float32.
    factors = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device).sin()
    return row_dot(values, factors.expand(values.shape))


def check_ids(ids: Any) -> tuple[str, ...]:
    """The ids, if they are non-empty strings and each is there once; otherwise a `ValueError`."""
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise ValueError(f"`ids` is {ids!r}: give a list of strings, one for each reference.")
    seen: set[str] = set()
    for index, name in enumerate(ids):
        if not _is_id(name):
            raise ValueError(
                f"`ids` holds {name!r} at {index}: each id is a non-empty string that UTF-8 can hold."
            )
        if name in seen:
            raise ValueError(f"`ids` holds {name!r} twice: each reference has an id of its own.")
        seen.add(name)
    return tuple(ids)


def _is_id(name: Any) -> bool:
    if not isinstance(name, str) or not name:
        return False
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which a file could not tell from its whole
        return False


def check_entries(
    count: int,
    embeds: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    widths: Mapping[str, int],
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By modality: embeddings (count, d) and presence (count,), all on the CPU.

    Raises:
        ValueError: If a name, type, dtype or shape does not fit, naming the argument, the value and the
            remedy.
    """
    for argument, entries, known in (("embeds", embeds, widths), ("present", present, embeds)):
        if not isinstance(entries, Mapping):
            raise ValueError(f"`{argument}` is a {type(entries).__name__}: give a dict by modality.")
        if unknown := [name for name in entries if name not in known]:
            raise ValueError(
                f"`{argument}` has the modality {unknown[0]!r}: give tensors of {list(known)} only."
            )
    checked = {}
    for modality, width in widths.items():
        values = embeds.get(modality, torch.zeros(count, width))
        has = present.get(modality, torch.full((count,), modality in embeds))
        check_tensor(f"embeds[{modality!r}]", values, "floats", (count, width), with_values=True)
        check_tensor(f"present[{modality!r}]", has, "bool", (count,), with_values=True)
        checked[modality] = values.detach().cpu(), has.cpu()
    return checked


def check_reference_labels(
    count: int, labels: Mapping[str, torch.Tensor], tasks: Mapping[str, TaskSpec]
) -> dict[str, torch.Tensor]:
    """Labels of `count` references by task, of every task, on the CPU; errors as of `check_labels`."""
    checked = {name: values.cpu() for name, values in check_labels(tasks, labels).items()}
    check_label_shapes(tasks, checked, count, torch.device("cpu"))
    unlabelled = {name: kind_of(spec).unlabelled(spec, count) for name, spec in tasks.items()}
    return {name: checked.get(name, values) for name, values in unlabelled.items()}
