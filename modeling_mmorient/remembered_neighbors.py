"""Neighbours of rows that are references themselves, which training asks for in every epoch."""

from __future__ import annotations

import torch

from .edit_lock import EditLock
from .features import Neighbors
from .reference_embeds import row_dot


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


def query_prints(queries: torch.Tensor, exclude: torch.Tensor) -> torch.Tensor:
    """What tells queries (B, d) and the references that they exclude, (B, m), from others: (B, 2)."""
    return torch.stack([_print(queries), _print(exclude + 1)], -1)


def _print(values: torch.Tensor) -> torch.Tensor:
    # No two of these are alike, and a sum of float64 products changes with the last bit of a float32.
    factors = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device).sin()
    return row_dot(values, factors.expand(values.shape))
