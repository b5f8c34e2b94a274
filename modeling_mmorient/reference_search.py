"""The references nearest to a query, exactly, and independent of the queries beside it.

A float32 matrix product finds the candidates, block by block. Its last bits depend on the shapes of both
sides, so it decides nothing: every reference that could be among the nearest within the product's
largest error is a candidate, and candidates are compared by cosines in float64 that are computed pair by
pair (`row_dot`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .features import Neighbors
from .reference_embeds import ReferenceIndex, StoredEmbeds, row_dot, sum_by_halves

# A block: at most that many queries, references and similarities at a time.
BLOCK_QUERIES, BLOCK_REFERENCES, BLOCK_SIMILARITIES = 1024, 2**16, 2**21
# References of one matrix product, which then stays in the processor's cache.
TILE = 1024
# Columns of a block that are looked at one by one only where their largest similarity asks for it.
GROUP = 64
# Fewer queries than that are the right side of the product, and two are faster than one.
FEW_QUERIES, LEAST_QUERIES = 8, 2
# Candidates beyond k, of which the float64 cosines choose.
SPARE = 8
# Pairs whose cosines are computed in float64 at a time.
BLOCK_PAIRS = 2048


@torch.no_grad()
def find_neighbors(
    stored: StoredEmbeds,
    queries: torch.Tensor,
    present: torch.Tensor,
    k: int | None,
    threshold: float | None,
    exclude: torch.Tensor | None,
    index: ReferenceIndex | None = None,
) -> Neighbors:
    """Neighbours among the stored embeddings; see [`SearchedReferences.search`].

    With an index, which needs k, among the candidates that it finds for each query: k + 8, and one for each
    reference that is excluded (at least one).

    Beyond the stored embeddings, the queries and the result, memory holds one block: 2^21 similarities in
    float32 (8 MiB), what is written of the candidates among them (which are few; 256 MiB if all are,
    because all references are copies of one), and some arrays of 1,024 x d.
    """
    queries, exclude = queries.float(), exclude_columns(exclude, queries)
    # The errors that `_margin` allows for are those of float32.
    with torch.autocast(queries.device.type, enabled=False):
        found = [
            _search_block(stored, queries[rows], present[rows], k, threshold, exclude[rows], index)
            for rows in _slices(queries.shape[0], BLOCK_QUERIES)
        ]
    width = k if k is not None else max((block.indices.shape[1] for block in found), default=0)
    result = Neighbors(
        torch.full((queries.shape[0], width), -1, device=queries.device),
        torch.zeros(queries.shape[0], width, dtype=torch.float64, device=queries.device),
    )
    for rows, block in zip(_slices(queries.shape[0], BLOCK_QUERIES), found, strict=True):
        filled = block.indices.shape[1]
        result.indices[rows, :filled] = block.indices
        result.similarities[rows, :filled] = block.similarities
    return result


def exclude_columns(exclude: torch.Tensor | None, queries: torch.Tensor) -> torch.Tensor:
    """What each of B queries excludes as (B, m), from (B,), (B, m) or None."""
    if exclude is None:
        return torch.full((len(queries), 0), -1, device=queries.device)
    return exclude.unsqueeze(-1) if exclude.ndim == 1 else exclude


def _search_block(
    stored: StoredEmbeds,
    queries: torch.Tensor,
    present: torch.Tensor,
    k: int | None,
    threshold: float | None,
    exclude: torch.Tensor,
    index: ReferenceIndex | None,
) -> Neighbors:
    queries = queries.masked_fill(~present.unsqueeze(-1), 0.0)
    sought = _Sought(queries, row_dot(queries, queries).sqrt(), exclude, threshold)
    if k is None:
        best = _scan(stored, sought, None, exact=True)
    elif index is not None:
        found = index.candidates(sought.unit(), k + SPARE + max(1, exclude.shape[1]))
        possible = (found >= 0) & (sought.lengths > 0).unsqueeze(-1)
        possible &= (found.unsqueeze(-1) != exclude.unsqueeze(1)).all(-1)
        best = _rank(stored, sought, found, possible, k)
    else:
        coarse = _scan(stored, sought, k + SPARE, exact=False)
        # What is less similar than the k-th by more than the product's errors is no neighbour.
        least = coarse.similarities[:, k - 1 : k] - 2 * _margin(queries.shape[-1])
        near = (coarse.indices >= 0) & (coarse.similarities >= least)
        best = _rank(stored, sought, coarse.indices, near, k)
        # Where the last candidate is about as similar as the k-th, there may be others like it.
        if (again := near[:, -1].nonzero().squeeze(-1)).numel():
            redone = _scan(stored, sought.select(again), k, exact=True)
            best.indices[again], best.similarities[again] = redone.indices, redone.similarities
    return Neighbors(best.indices, best.similarities.masked_fill(best.indices < 0, 0.0))


@dataclass
class _Sought:
    """Queries (B, d), their lengths (B,) in float64, and what is not sought, (B, m)."""

    queries: torch.Tensor
    lengths: torch.Tensor
    exclude: torch.Tensor
    threshold: float | None

    @property
    def lowest(self) -> float:
        return -torch.inf if self.threshold is None else self.threshold

    def unit(self) -> torch.Tensor:
        """The queries' unit vectors in float32; zero vectors stay what they are."""
        smallest = torch.finfo(torch.float64).tiny
        return (self.queries / self.lengths.clamp(min=smallest).unsqueeze(-1)).float()

    def select(self, rows: torch.Tensor) -> "_Sought":
        return _Sought(self.queries[rows], self.lengths[rows], self.exclude[rows], self.threshold)


def _scan(stored: StoredEmbeds, sought: _Sought, k: int | None, exact: bool) -> Neighbors:
    """The k best references by cosines in float64 (`exact`), or by those of the matrix product."""
    margin = _margin(sought.queries.shape[-1])
    lowest = sought.lengths.new_full(sought.lengths.shape, sought.lowest - margin)
    lowest.masked_fill_(sought.lengths == 0, torch.inf)
    best = _empty(len(lowest), k or 0, lowest.device)
    if not exact:
        best.similarities = best.similarities.float()
    for start, similarities in _approximations(stored, sought):
        # What is not above the k-th of earlier blocks is not among the k best: of two equal ones, the
        # earlier counts.
        floor = lowest if k is None else lowest.maximum(best.similarities[:, -1] - margin * exact)
        rows, columns, values = _candidates(similarities, floor.float(), k, 2 * margin)
        if exact:
            best = _merge(best, *_exact_pairs(stored, sought, rows, start + columns), k)
        else:
            best = _merge(best, rows, start + columns, values, k)
    return best


def _approximations(stored: StoredEmbeds, sought: _Sought) -> Iterator[tuple[int, torch.Tensor]]:
    """Cosines in float32 of all queries with each block of references, and where the block begins.

    Blocks are as wide as a multiple of GROUP; -inf stands for what is no neighbour and behind the last.
    """
    unit = sought.unit()
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
        if sought.exclude.shape[1]:
            own = sought.exclude - block.start
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
    except RuntimeError:  # set for single backends, which it cannot sum up
        exact = False
    return (dim + 16) * 2.0**-24 + (0.0 if exact else 2.0**-7)


def _candidates(
    similarities: torch.Tensor, floor: torch.Tensor, k: int | None, gap: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and values above `floor` (B,) and, where k is given, not below the k-th by the gap."""
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
    place, column = (values > floor[row].unsqueeze(-1)).nonzero().unbind(-1)
    return row[place], GROUP * group[place] + column, values[place, column]


def _rank(
    stored: StoredEmbeds, sought: _Sought, candidates: torch.Tensor, chosen: torch.Tensor, k: int
) -> Neighbors:
    """The k best by cosines in float64 of the candidates (B, c) that are chosen (B, c)."""
    if not chosen.any():
        return _empty(len(candidates), k, candidates.device)
    nobody = len(stored)
    # In the references' order, and those that are not chosen behind.
    indices = candidates.masked_fill(~chosen, nobody).sort(dim=-1).values[:, : int(chosen.sum(-1).max())]
    cosines = _cosines(stored, sought, indices.clamp(max=nobody - 1))
    cosines.masked_fill_((indices == nobody) | (cosines <= sought.lowest), -torch.inf)
    # Stable: of equal ones, the earlier reference stays before the later.
    cosines, order = cosines.sort(dim=-1, descending=True, stable=True)
    indices = indices.gather(1, order).masked_fill(cosines == -torch.inf, -1)
    return _widen(Neighbors(indices[:, :k], cosines[:, :k]), k)


def _cosines(stored: StoredEmbeds, sought: _Sought, indices: torch.Tensor) -> torch.Tensor:
    """Cosines in float64 of each query with its references (B, c), as those of `_exact_pairs`."""
    cosines = sought.lengths.new_empty(indices.shape)
    for rows in _slices(len(indices), max(1, BLOCK_PAIRS // indices.shape[1])):
        queries, lengths = sought.queries[rows].double().unsqueeze(1), sought.lengths[rows].unsqueeze(1)
        for columns in _slices(indices.shape[1], BLOCK_PAIRS):
            places = indices[rows, columns]
            codes = stored.codes.index_select(0, places.flatten()).view(*places.shape, -1)
            dots = sum_by_halves(codes.double().mul_(queries))
            cosines[rows, columns] = dots / (lengths * stored.norms[places])
    return cosines


def _exact_pairs(
    stored: StoredEmbeds, sought: _Sought, rows: torch.Tensor, indices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of pairs of queries and references those above the threshold, with their cosines in float64."""
    cosines = sought.lengths.new_empty(len(rows))
    for pairs in _slices(len(rows), BLOCK_PAIRS):
        row, index = rows[pairs], indices[pairs]
        # Twice as fast as indexing.
        queries, codes = sought.queries.index_select(0, row), stored.codes.index_select(0, index)
        cosines[pairs] = row_dot(queries, codes) / (sought.lengths[row] * stored.norms[index])
    above = cosines > sought.lowest
    return rows[above], indices[above], cosines[above]


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
    touched, place, counts = rows.unique_consecutive(return_inverse=True, return_counts=True)
    width = best.indices.shape[1]
    first = counts.cumsum(0) - counts
    column = width + torch.arange(len(rows), device=rows.device) - first[place]
    shape = (len(touched), width + int(counts.max()))
    all_indices = rows.new_full(shape, -1)
    all_similarities = similarities.new_full(shape, -torch.inf)
    all_indices[:, :width] = best.indices[touched]
    all_similarities[:, :width] = best.similarities[touched]
    all_indices[place, column] = indices
    all_similarities[place, column] = similarities
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
