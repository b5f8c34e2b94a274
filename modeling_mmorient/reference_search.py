"""Exact search for the references nearest to a query, independent of the other queries.

A float32 matrix product finds the candidates, block by block. Its last bits depend on the shapes of both
sides, so it decides nothing: every reference that could be among the nearest within the product's
largest error is a candidate, and candidates are compared by cosines in float64 that are computed pair by
pair (`row_dot`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from .features import Neighbors
from .input_checks import check_tensor
from .reference_embeds import ReferenceIndex, StoredEmbeds, row_dot, sum_by_halves

# A block: at most that many queries, references and similarities at a time.
BLOCK_QUERIES, BLOCK_REFERENCES, BLOCK_SIMILARITIES = 1024, 2**16, 2**21
# References of one matrix product, which then stays in the processor's cache.
TILE = 1024
# Columns of a block that are examined one by one only where their largest similarity is above the floor.
GROUP = 64
# Fewer queries than that are the right side of the product, and two are faster than one.
FEW_QUERIES, LEAST_QUERIES = 8, 2
# Candidates beyond k, of which the float64 cosines choose.
SPARE = 8
# Pairs whose cosines are computed in float64 at a time.
BLOCK_PAIRS = 512


@dataclass
class Queries:
    """A search: for each of B queries at most k neighbours above a threshold.

    Args:
        values: (B, d).
        present: (B,), True = the query has the modality; others may hold anything and have no neighbours.
        k, threshold: One of them may be None.
        exclude: (B,) or (B, m) indices of references that are not the query's neighbours; -1 where there are
            no more. None: all may be.
    """

    values: torch.Tensor
    present: torch.Tensor
    k: int | None
    threshold: float | None
    exclude: torch.Tensor | None = None

    def check(self, width: int, references: int, sound: bool) -> None:
        """Raise a `ValueError` naming what does not fit references of that width and number.

        `sound` says that the values of queries and of `exclude` are known to fit; they are not checked then.
        """
        count, k, threshold = len(self.values), self.k, self.threshold
        check_tensor("queries", self.values, "floats", ("any", width), with_values=True)
        check_tensor("present", self.present, "bool", (count,), with_values=True)
        if k is None and threshold is None:
            raise ValueError(
                "`k` and `threshold` are both None: give a number of neighbours, or a threshold."
            )
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise ValueError(f"`k` is {k!r}: give a whole number of at least 1.")
        if threshold is not None and not -1 <= threshold <= 1:
            raise ValueError(f"`threshold` is {threshold!r}: a cosine is a number in [-1, 1].")
        if not sound and (wrong := self.present & ~self.values.float().isfinite().all(-1)).any():
            raise ValueError(
                f"`queries` is not finite in row {int(wrong.nonzero()[0])}, which is present: say in "
                "`present` that it lacks the modality, or look where the value comes from."
            )
        exclude = self.exclude
        if exclude is not None:
            several = isinstance(exclude, torch.Tensor) and exclude.ndim == 2
            sizes = (count, "any") if several else (count,)
            check_tensor("exclude", exclude, "int64", sizes, with_values=True)
            if not sound and (wrong := exclude[(exclude < -1) | (exclude >= references)]).numel():
                raise ValueError(
                    f"`exclude` has the value {int(wrong[0])}: the references' indices are 0 to "
                    f"{references - 1}, and -1 stands for none."
                )

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def vectors(self) -> torch.Tensor:
        """(B, d) in float32; zero without the modality: zero vectors have no neighbours."""
        return self.values.float().masked_fill(~self.present.unsqueeze(-1), 0.0)

    @cached_property
    def lengths(self) -> torch.Tensor:
        """(B,) in float64."""
        return row_dot(self.vectors, self.vectors).sqrt()

    @cached_property
    def excluded(self) -> torch.Tensor:
        """`exclude` as (B, m)."""
        if self.exclude is None:
            return torch.full((len(self), 0), -1, device=self.values.device)
        return self.exclude.unsqueeze(-1) if self.exclude.ndim == 1 else self.exclude

    @property
    def lowest(self) -> float:
        """Neighbours are more similar than that."""
        return -torch.inf if self.threshold is None else self.threshold

    def unit(self) -> torch.Tensor:
        """Unit vectors in float32; zero vectors stay what they are."""
        smallest = torch.finfo(torch.float64).tiny
        return (self.vectors / self.lengths.clamp(min=smallest).unsqueeze(-1)).float()

    def select(self, rows: torch.Tensor | slice) -> "Queries":
        """Some of the queries."""
        return Queries(self.values[rows], self.present[rows], self.k, self.threshold, self.excluded[rows])


@torch.no_grad()
def find_neighbors(stored: StoredEmbeds, queries: Queries, index: ReferenceIndex | None = None) -> Neighbors:
    """Neighbours among the stored embeddings; see [`SearchedReferences.search`].

    With an index, which needs k, among the candidates that it finds for each query: k + 8, and one for each
    reference that is excluded (at least one).

    Beyond the stored embeddings, the queries and the result, memory holds one block: 2^21 similarities in
    float32 (8 MiB), what is written of the candidates among them (which are few; 256 MiB if all are,
    because all references are copies of one), and some arrays of 1,024 x d.
    """
    # The errors that `_margin` allows for are those of float32.
    with torch.autocast(queries.values.device.type, enabled=False):
        blocks = [queries.select(rows) for rows in _slices(max(1, len(queries)), BLOCK_QUERIES)]
        found = [_search_block(stored, block, index) for block in blocks]
    width = max(block.indices.shape[1] for block in found)
    found = [_widen(block, width) for block in found]
    indices = torch.cat([block.indices for block in found])
    similarities = torch.cat([block.similarities for block in found])
    return Neighbors(indices, similarities.masked_fill(indices < 0, 0.0))


def _search_block(stored: StoredEmbeds, queries: Queries, index: ReferenceIndex | None) -> Neighbors:
    k = queries.k
    if k is None:
        return _scan(stored, queries, None, exact=True)
    if index is not None:
        found = index.candidates(queries.unit(), k + SPARE + max(1, queries.excluded.shape[1]))
        possible = (found >= 0) & (queries.lengths > 0).unsqueeze(-1)
        possible &= (found.unsqueeze(-1) != queries.excluded.unsqueeze(1)).all(-1)
        return _rank(stored, queries, found, possible, k)
    coarse = _scan(stored, queries, k + SPARE, exact=False)
    # A reference less similar than the k-th by more than the product's errors is no neighbour.
    least = coarse.similarities[:, k - 1 : k] - 2 * _margin(queries.vectors.shape[-1])
    near = (coarse.indices >= 0) & (coarse.similarities >= least)
    best = _rank(stored, queries, coarse.indices, near, k)
    # Where the last candidate is about as similar as the k-th, there may be others like it.
    if (again := near[:, -1].nonzero().squeeze(-1)).numel():
        redone = _scan(stored, queries.select(again), k, exact=True)
        best.indices[again], best.similarities[again] = redone.indices, redone.similarities
    return best


def _scan(stored: StoredEmbeds, queries: Queries, k: int | None, exact: bool) -> Neighbors:
    """The k best references by cosines in float64 (`exact`), or by those of the matrix product."""
    margin = _margin(queries.vectors.shape[-1])
    lowest = queries.lengths.new_full(queries.lengths.shape, queries.lowest - margin)
    lowest.masked_fill_(queries.lengths == 0, torch.inf)
    best = _empty(len(lowest), k or 0, lowest.device)
    if not exact:
        best.similarities = best.similarities.float()
    for start, similarities in _approximations(stored, queries):
        # What is not above the k-th of earlier blocks is not among the k best: of two equal ones, the
        # earlier counts.
        floor = lowest if k is None else lowest.maximum(best.similarities[:, -1] - margin * exact)
        rows, columns, values = _candidates(similarities, floor.float(), k, 2 * margin)
        if exact:
            values = _cosines(stored, queries, rows, start + columns)
            above = values > queries.lowest
            rows, columns, values = rows[above], columns[above], values[above]
        best = _merge(best, rows, start + columns, values, k)
    return best


def _approximations(stored: StoredEmbeds, queries: Queries) -> Iterator[tuple[int, torch.Tensor]]:
    """Cosines in float32 of all queries with each block of references, and where the block begins.

    The width of a block is a multiple of GROUP; -inf marks references that are no neighbours, and padding.
    """
    unit = queries.unit()
    count = len(unit)
    if not count:
        return
    few = count < FEW_QUERIES
    size = max(TILE, min(BLOCK_REFERENCES, BLOCK_SIMILARITIES // count // GROUP * GROUP))
    # A product with few queries uses no reference twice: tiles only keep what is converted small.
    tiled = TILE if not few or stored.codes.dtype != torch.float32 else size
    if few and count < LEAST_QUERIES:
        unit = unit.repeat(LEAST_QUERIES, 1)
    memory = unit.new_empty(count, size)
    for block in _slices(len(stored), size):
        width = block.stop - block.start
        similarities = memory[:, : GROUP * math.ceil(width / GROUP)]
        similarities[:, width:] = -torch.inf
        for tile in _slices(width, tiled):
            codes = stored.codes[block.start + tile.start : block.start + tile.stop].float()
            if few:
                similarities[:, tile] = torch.mm(codes, unit.T).T[:count]
            else:
                torch.mm(unit, codes.T, out=similarities[:, tile])
        norms = stored.norms[block]
        similarities[:, :width] *= norms.reciprocal().float()
        if not norms.all():
            similarities[:, :width].masked_fill_(norms == 0, -torch.inf)
        if queries.excluded.shape[1]:
            own = queries.excluded - block.start
            rows, columns = ((own >= 0) & (own < width)).nonzero().unbind(-1)
            similarities[rows, own[rows, columns]] = -torch.inf
        yield block.start, similarities


def _margin(dim: int) -> float:
    """The most by which a cosine of `_approximations` can be wrong.

    A sum of d float32 products is wrong by at most d u times the norms, u = 2^-24, in whatever order it
    is taken; the rest is for the roundings around it. With matrix products of reduced precision, both
    factors are rounded beforehand, to 8 bits at the worst.
    """
    try:
        exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set differently for single backends
        exact = False
    return (dim + 16) * 2.0**-24 + (0.0 if exact else 2.0**-7)


def _candidates(
    similarities: torch.Tensor, floor: torch.Tensor, k: int | None, gap: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and values above `floor` (B,) and, where k is given, at most the gap below the k-th."""
    groups = similarities.unflatten(1, (-1, GROUP))
    largest = groups.amax(-1)
    # Worth its time only where the floor is low yet. The k-th largest of the groups' is at most the k-th
    # largest of all.
    if k is not None and (largest > floor.unsqueeze(-1)).sum() > k * len(floor):
        values = largest if k <= largest.shape[1] else similarities
        if k <= values.shape[1]:
            floor = floor.maximum(values.topk(k).values[:, -1] - gap)
    row, group = (largest > floor.unsqueeze(-1)).nonzero().unbind(-1)
    values = groups[row, group]
    index, column = (values > floor[row].unsqueeze(-1)).nonzero().unbind(-1)
    return row[index], GROUP * group[index] + column, values[index, column]


def _rank(
    stored: StoredEmbeds, queries: Queries, candidates: torch.Tensor, chosen: torch.Tensor, k: int
) -> Neighbors:
    """The k best by cosines in float64 of the candidates (B, c) that are chosen (B, c)."""
    # In the references' order; those that are not chosen come last.
    indices = candidates.masked_fill(~chosen, len(stored)).sort(dim=-1).values
    rows, columns = (indices < len(stored)).nonzero().unbind(-1)
    cosines = queries.lengths.new_full(indices.shape, -torch.inf)
    cosines[rows, columns] = _cosines(stored, queries, rows, indices[rows, columns])
    cosines.masked_fill_(cosines <= queries.lowest, -torch.inf)
    # Stable: of equal ones, the earlier reference stays before the later.
    cosines, order = cosines.sort(dim=-1, descending=True, stable=True)
    indices = indices.gather(1, order).masked_fill(cosines == -torch.inf, -1)
    return _widen(Neighbors(indices[:, :k], cosines[:, :k]), k)


def _cosines(
    stored: StoredEmbeds, queries: Queries, rows: torch.Tensor, indices: torch.Tensor
) -> torch.Tensor:
    """Cosines of pairs of queries and references in float64, each independent of the other pairs."""
    cosines = queries.lengths.new_empty(len(rows))
    for pairs in _slices(len(rows), BLOCK_PAIRS):
        row, index = rows[pairs], indices[pairs]
        # Twice as fast as indexing.
        values, codes = queries.vectors.index_select(0, row), stored.codes.index_select(0, index)
        dots = sum_by_halves(codes.double().mul_(values))
        cosines[pairs] = dots / (queries.lengths[row] * stored.norms[index])
    return cosines


def _empty(count: int, width: int, device: torch.device) -> Neighbors:
    return Neighbors(
        torch.full((count, width), -1, device=device),
        torch.full((count, width), -torch.inf, dtype=torch.float64, device=device),
    )


def _merge(
    best: Neighbors, rows: torch.Tensor, indices: torch.Tensor, similarities: torch.Tensor, k: int | None
) -> Neighbors:
    """The k best of `best` and of new pairs, which come ordered by row and index, behind all earlier ones."""
    if not len(rows):
        return best
    touched, index, counts = rows.unique_consecutive(return_inverse=True, return_counts=True)
    width = best.indices.shape[1]
    first = counts.cumsum(0) - counts
    column = width + torch.arange(len(rows), device=rows.device) - first[index]
    shape = (len(touched), width + int(counts.max()))
    all_indices = rows.new_full(shape, -1)
    all_similarities = similarities.new_full(shape, -torch.inf)
    all_indices[:, :width] = best.indices[touched]
    all_similarities[:, :width] = best.similarities[touched]
    all_indices[index, column] = indices
    all_similarities[index, column] = similarities
    if k is None:
        k = max(width, int((all_indices >= 0).sum(-1).max()))
        best = _widen(best, k)
    # Stable: of equal ones, the earlier reference stays before the later.
    order = all_similarities.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    best.indices[touched] = all_indices.gather(1, order)
    best.similarities[touched] = all_similarities.gather(1, order)
    return best


def _widen(best: Neighbors, width: int) -> Neighbors:
    more = (0, width - best.indices.shape[1])
    return Neighbors(
        torch.nn.functional.pad(best.indices, more, value=-1),
        torch.nn.functional.pad(best.similarities, more, value=-torch.inf),
    )


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
