"""Pictures that look alike, among tens of thousands: found without comparing each with each.

Two pictures look alike if their dHashes differ in at most NEAR_BITS of 256 bits and, of the cells that differ
most, WORST_CELLS differ by NEAR_CELLS of 255 or less in the mean.

Multi-index hashing (Norouzi et al., 2012) finds all of them: a hash is divided into NEAR_BITS + 1 parts, so
that of two hashes with at most NEAR_BITS differing bits one part is equal. Only pictures that share a part
are compared. Where most share one, as blank pictures do, that saves nothing, and all are compared.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from transformers.utils import logging

from mmorient.tables.image_fingerprints import Fingerprint

logger = logging.get_logger(__name__)

# Chosen by eye on two collections of memes. Copies that were recompressed, rescaled or stamped differ in up
# to about 20 of a dHash's 256 bits; so do different memes on one template, which differ much where the words
# stand: the 5% of cells that differ most do so by 23 and more there, and by 16 at most in copies.
NEAR_BITS = 20
NEAR_CELLS = 20
WORST_CELLS = 13
COLORS = 3
# Thousands of copies of a picture make millions of pairs. Nobody reads so many; beyond that number a pair is
# found if it connects two groups.
MOST_PAIRS = 100_000
# Rows that are looked up at a time, and pairs whose cells are compared at a time: some 10 MB.
BLOCK, SLICE = 128, 4096
# Looking up a pair takes about this many times as long as comparing two hashes that lie in order.
LOOKUP_COST = 8

Pair = tuple[int, int]


class NearImages:
    """Which files look alike, found once for all tables that are made of them.

    Args:
        fingerprints: Of all pictures; None for rows without one.
    """

    def __init__(self, fingerprints: Iterable[Fingerprint | None]) -> None:
        files = {entry.digest: entry for entry in fingerprints if entry is not None}
        self._pairs = []
        if len(files) > 1:
            gradients = np.stack([entry.gradient for entry in files.values()])
            cells = np.stack([entry.cells for entry in files.values()])
            digests = list(files)
            self._pairs = [(digests[i], digests[j]) for i, j in near_pairs(gradients, cells)]

    def among(self, fingerprints: Sequence[Fingerprint | None]) -> list[Pair]:
        """Rows (i, j), i < j, that look alike, in order; the first row of equal files stands for all of them.

        Args:
            fingerprints: Of all rows, or of some. Where MOST_PAIRS is exceeded, groups of some rows are
                connected if these are the first ones of all, or are connected with none of the others.
        """
        first: dict[bytes, int] = {}
        for row, entry in enumerate(fingerprints):
            if entry is not None:
                first.setdefault(entry.digest, row)
        found = [(first[a], first[b]) for a, b in self._pairs if a in first and b in first]
        return sorted((min(pair), max(pair)) for pair in found)


def near_pairs(gradients: np.ndarray, cells: np.ndarray) -> list[Pair]:
    """Pairs (i, j), i < j, of pictures that look alike: all, or MOST_PAIRS and as many as connect all groups.

    Of the first rows, the pairs are those that the first rows alone would have.

    Args:
        gradients: (pictures, 32) uint8, as in `Fingerprint`.
        cells: (pictures, 256, 3) uint8.
    """
    planes = np.ascontiguousarray(np.moveaxis(cells, -1, 1))  # (pictures, 3, 256)
    pairs: list[Pair] = []
    groups: np.ndarray | None = None
    for row, earlier in _near_hashes(np.ascontiguousarray(gradients)):
        if len(pairs) < MOST_PAIRS:
            pairs += [(other, row) for other in earlier[_alike(planes, row, earlier)].tolist()]
            continue
        if groups is None:
            groups = np.arange(len(gradients))
            for pair in pairs:
                _connect(groups, *pair)
            logger.warning(
                f"more than {MOST_PAIRS} pairs of pictures look alike: the others are found as far as they "
                "connect groups of pictures."
            )
        pairs += _connecting_pairs(planes, row, earlier, groups)
    return pairs


def _connecting_pairs(
    planes: np.ndarray, row: int, earlier: np.ndarray, groups: np.ndarray
) -> Iterator[Pair]:
    """Of each group that some of the earlier pictures look like, one pair."""
    step = 16  # most often one of the first ones will do
    while len(earlier := earlier[groups[earlier] != groups[row]]):
        some, earlier = earlier[:step], earlier[step:]
        for other in some[_alike(planes, row, some)].tolist():
            if _connect(groups, other, row):
                yield other, row
        step *= 4


def _connect(groups: np.ndarray, first: int, second: int) -> bool:
    """Make one group of two rows' groups; whether they were two."""
    if groups[first] == groups[second]:
        return False
    groups[groups == groups[second]] = groups[first]
    return True


def _alike(planes: np.ndarray, row: int, others: np.ndarray) -> np.ndarray:
    """(others,) bool: whether the cells that differ most differ little enough."""
    alike = np.empty(len(others), dtype=bool)
    for start in range(0, len(others), SLICE):
        part = planes[others[start : start + SLICE]]
        differences = np.maximum(part, planes[row]) - np.minimum(part, planes[row])
        by_cell = np.add(differences[:, 0], differences[:, 1], dtype=np.uint16) + differences[:, 2]
        # Without a cell above the mean that is allowed all is decided, and with enough of them too.
        above = np.count_nonzero(by_cell > COLORS * NEAR_CELLS, axis=-1)
        few = above == 0
        unsure = np.flatnonzero((above > 0) & (above < WORST_CELLS))
        worst = np.partition(by_cell[unsure].astype(np.int32), -WORST_CELLS, axis=-1)[:, -WORST_CELLS:]
        few[unsure] = worst.sum(-1) <= COLORS * WORST_CELLS * NEAR_CELLS
        alike[start : start + SLICE] = few
    return alike


def _near_hashes(gradients: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each row whose hash is near those of earlier rows, with these in order."""
    words = gradients.view(np.uint64)  # (rows, 4)
    buckets = _Buckets(gradients)
    for start in range(0, len(words), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(words)))
        compared = len(block) * (start + len(block) / 2)
        if LOOKUP_COST * buckets.count_earlier(block) < compared:
            rows, others = buckets.earlier(block)
            differing = np.bitwise_count(words[rows] ^ words[others]).sum(-1, dtype=np.uint16)
            near = differing <= NEAR_BITS
            rows, others = np.divmod(np.unique(rows[near] * len(words) + others[near]), len(words))
        else:
            rows, others = np.nonzero(_differing(words[block], words[: block[-1] + 1]) <= NEAR_BITS)
            rows += start
            rows, others = rows[others < rows], others[others < rows]
        found, begins = np.unique(rows, return_index=True)
        yield from zip(found.tolist(), np.split(others, begins[1:]), strict=False)


def _differing(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(some, others) number of bits that differ."""
    bits = np.zeros((len(some), len(others)), dtype=np.uint16)
    for word in range(some.shape[1]):
        bits += np.bitwise_count(some[:, word, None] ^ others[None, :, word])
    return bits


class _Buckets:
    """Rows by each of NEAR_BITS + 1 parts of their hashes.

    Args:
        gradients: (rows, 32) uint8.
    """

    def __init__(self, gradients: np.ndarray) -> None:
        bits = np.unpackbits(gradients, axis=1)
        parts = NEAR_BITS + 1
        shape = (parts, len(bits))
        # By part: rows ordered by bucket and number, where a row is in that order, where its bucket begins.
        self.rows, self.places, self.begins = (np.empty(shape, np.int32) for _ in range(3))
        for part in range(parts):
            # Bits from all over the picture: a white edge must not make parts equal.
            keys = np.packbits(bits[:, part::parts], axis=1).view(np.uint16).ravel()
            order = np.argsort(keys, kind="stable")
            self.rows[part] = order
            self.places[part, order] = np.arange(len(bits))
            self.begins[part] = np.searchsorted(keys[order], keys)

    def count_earlier(self, block: np.ndarray) -> int:
        """How many rows [`earlier`] would give."""
        return int((self.places[:, block] - self.begins[:, block]).sum(dtype=np.int64))

    def earlier(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the block and earlier rows that share a part with them, once for each part."""
        begins = self.begins[:, block].ravel()
        counts = self.places[:, block].ravel() - begins
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        parts = np.repeat(np.arange(len(self.rows)), len(block))
        others = self.rows[np.repeat(parts, counts), np.repeat(begins, counts) + within]
        return np.repeat(np.tile(block, len(self.rows)), counts), others
