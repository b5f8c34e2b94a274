"""The references nearest to a query, exactly, and independent of the queries beside it.

A float32 matrix product finds the candidates, block by block. Its last bits depend on the shapes of both
sides, so it decides nothing: every reference that could be among the nearest within the product's
largest error is a candidate, and candidates are compared by cosines in float64 that are computed pair by
pair (`row_dot`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .reference_embeds import StoredEmbeds, row_dot

# A block: at most that many queries, references and similarities at a time.
BLOCK_QUERIES, BLOCK_REFERENCES, BLOCK_SIMILARITIES = 1024, 2**16, 2**20
# References whose codes are brought to float32 at a time, where they are stored otherwise.
DECODED_REFERENCES = 2048
# Pairs whose cosines are computed in float64 at a time.
BLOCK_PAIRS = 4096


@dataclass
class Neighbors:
    """The references nearest to each of B queries.

    Args:
        indices: (B, k) places in the bank, the most similar first; -1 from where there are no more.
        similarities: (B, k) cosines in float64; 0 beside -1.
    """

    indices: torch.Tensor
    similarities: torch.Tensor

    def degrees(self) -> torch.Tensor:
        """Number of neighbours of each query, (B,)."""
        return (self.indices >= 0).sum(-1)


@torch.no_grad()
def find_neighbors(
    stored: StoredEmbeds,
    queries: torch.Tensor,
    present: torch.Tensor,
    k: int | None,
    threshold: float | None,
    exclude: torch.Tensor | None,
) -> Neighbors:
    """Neighbours among the stored embeddings; see [`ReferenceBank.search`].

    Beyond the stored embeddings, the queries and the result, memory holds one block: 2^20 similarities in
    float32 with their mask and places (30 MiB at the most, if all of them are candidates), and some
    arrays of 4,096 x d in float64.
    """
    queries = queries.float()
    found = [
        _search_block(stored, queries[rows], present[rows], k, threshold, _part(exclude, rows))
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


def _search_block(
    stored: StoredEmbeds,
    queries: torch.Tensor,
    present: torch.Tensor,
    k: int | None,
    threshold: float | None,
    exclude: torch.Tensor | None,
) -> Neighbors:
    queries = queries.masked_fill(~present.unsqueeze(-1), 0.0)
    lengths = row_dot(queries, queries).sqrt()
    unit = (queries / lengths.clamp(min=torch.finfo(torch.float64).tiny).unsqueeze(-1)).float()
    margin = _margin(queries.shape[-1])
    lowest = -torch.inf if threshold is None else threshold
    count = queries.shape[0]
    best = Neighbors(
        torch.full((count, k or 0), -1, device=queries.device),
        torch.full((count, k or 0), -torch.inf, dtype=torch.float64, device=queries.device),
    )
    for start, similarities in _approximations(stored, unit):
        if exclude is not None:
            own = exclude - start
            rows = ((own >= 0) & (own < similarities.shape[1])).nonzero().squeeze(-1)
            similarities[rows, own[rows]] = -torch.inf
        # What is not above the k-th of earlier blocks is not among the k nearest: of two equal ones, the
        # earlier counts.
        floor = best.similarities[:, -1].clamp(min=lowest) if k else lengths.new_full((count,), lowest)
        floor = torch.where(lengths > 0, floor - margin, torch.inf).float()
        rows, columns = _candidates(similarities, floor, k, 2 * margin)
        exact = _cosines(stored, queries, lengths, rows, start + columns)
        above = exact > lowest
        best = _merge(best, rows[above], start + columns[above], exact[above], k)
    return Neighbors(best.indices, best.similarities.masked_fill(best.indices < 0, 0.0))


def _approximations(stored: StoredEmbeds, unit: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Cosines in float32 of all queries with each block of references, and where the block begins."""
    if not unit.shape[0]:
        return
    size = min(BLOCK_REFERENCES, BLOCK_SIMILARITIES // unit.shape[0])
    if stored.codes.dtype != torch.float32:
        size = min(size, DECODED_REFERENCES)
    memory = unit.new_empty(unit.shape[0] * min(size, len(stored)))
    for block in _slices(len(stored), size):
        codes, norms = stored.codes[block], stored.norms[block]
        similarities = memory[: unit.shape[0] * len(codes)].view(unit.shape[0], len(codes))
        with torch.autocast(unit.device.type, enabled=False):
            torch.mm(unit, codes.float().T, out=similarities)
        similarities *= norms.reciprocal().float()
        if not norms.all():
            similarities.masked_fill_(norms == 0, -torch.inf)
        yield block.start, similarities


def _margin(dim: int) -> float:
    """The most by which a cosine of `_approximations` can be wrong.

    A sum of d float32 products is wrong by at most d u times the norms, u = 2^-24, in whatever order it
    is taken; the rest is for the roundings around it. With matrix products of reduced precision, both
    factors are rounded beforehand, to 8 bits at the worst.
    """
    exact = torch.get_float32_matmul_precision() == "highest"
    return (dim + 16) * 2.0**-24 + (0.0 if exact else 2.0**-7)


def _candidates(
    similarities: torch.Tensor, floor: torch.Tensor, k: int | None, gap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns above `floor` (B,) and, where k is given, not below the k-th by more than `gap`."""
    above = similarities > floor.unsqueeze(-1)
    # Worth its time only where the floor is low yet.
    if k is not None and k < similarities.shape[1] and above.sum() > 2 * k * similarities.shape[0]:
        last = similarities.topk(k).values[:, -1]
        above = similarities > torch.maximum(floor, last - gap).unsqueeze(-1)
    rows, columns = above.nonzero().unbind(-1)
    return rows, columns


def _cosines(
    stored: StoredEmbeds,
    queries: torch.Tensor,
    lengths: torch.Tensor,
    rows: torch.Tensor,
    indices: torch.Tensor,
) -> torch.Tensor:
    """cos(query, reference) in float64 of each pair, (pairs,)."""
    cosines = lengths.new_empty(len(rows))
    for pairs in _slices(len(rows), BLOCK_PAIRS):
        row, index = rows[pairs], indices[pairs]
        products = row_dot(queries[row], stored.codes[index])
        cosines[pairs] = products / (lengths[row] * stored.norms[index])
    return cosines


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
    # Stable: of equal ones, the earlier reference stays before the later.
    order = all_similarities.sort(dim=-1, descending=True, stable=True).indices
    if k is None:
        k = max(width, int((all_indices >= 0).sum(-1).max()))
        best = _widen(best, k)
    order = order[:, :k]
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


def _part(values: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if values is None else values[rows]
