"""Rows that show or say the same, exactly or nearly."""

import unicodedata
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from training.pictures import Fingerprint

# Chosen by eye on two collections of memes. Copies that were recompressed, rescaled or stamped differ in up
# to about 20 of a dHash's 256 bits; so do different memes on one template, which differ much where the words
# stand: the 5% of cells that differ most do so by 23 and more there, and by 16 at most in copies.
NEAR_BITS = 20
NEAR_CELLS = 20.0
WORST_CELLS = 13
BLOCK = 1024

Pair = tuple[int, int]

DUPLICATE_KINDS = ("same picture", "near picture", "same text", "near text")


def normalized_text(text: str) -> str:
    """Letters and digits alone, without case: what remains equal when a text is typed again.

    A text without any letter or digit stays as it is but for spaces.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or "".join(folded.split())


def find_duplicates(
    fingerprints: Sequence[Fingerprint | None], texts: Sequence[str | None]
) -> dict[str, list[Pair]]:
    """Pairs of rows that are duplicates, by kind.

    Args:
        fingerprints: By row, of its picture.
        texts: By row.

    Returns:
        For each of `DUPLICATE_KINDS` pairs (i, j), i < j, of which every group of duplicates has enough to
        connect it: the first row of exact copies stands for all of them.
    """
    pictures = [None if entry is None else entry.digest for entry in fingerprints]
    spoken = [None if text is None else text.strip() for text in texts]
    typed = [None if text is None else normalized_text(text) for text in texts]
    return {
        "same picture": _equal(pictures),
        "near picture": _near_pictures(fingerprints),
        "same text": _equal(spoken),
        "near text": _equal(typed, spoken),
    }


def group_rows(count: int, pairs: Iterable[Pair]) -> np.ndarray:
    """A number for each of `count` rows, the same for rows that pairs connect: (count,) integers."""
    parent = list(range(count))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in pairs:
        parent[find(second)] = find(first)
    return np.array([find(row) for row in range(count)], dtype=np.int64)


def _equal(keys: Sequence[Hashable | None], once: Sequence[Hashable | None] | None = None) -> list[Pair]:
    """Each row with the first row of equal key; of rows that are equal in `once`, the first one alone."""
    first: dict[Hashable, int] = {}
    seen: set[Hashable] = set()
    pairs = []
    for row, key in enumerate(keys):
        if key is None or (once is not None and once[row] in seen):
            continue
        if once is not None:
            seen.add(once[row])
        if first.setdefault(key, row) != row:
            pairs.append((first[key], row))
    return pairs


def _worst_difference(first: Fingerprint, second: Fingerprint) -> float:
    """How much the cells differ that differ most, of 255."""
    differences = np.abs(first.cells - second.cells.astype(float)).mean(-1)
    return float(np.sort(differences)[-WORST_CELLS:].mean())


def _near_pictures(fingerprints: Sequence[Fingerprint | None]) -> list[Pair]:
    """Pairs of different files that look alike, among the first rows of each file."""
    firsts: dict[bytes, int] = {}
    for row, entry in enumerate(fingerprints):
        if entry is not None:
            firsts.setdefault(entry.digest, row)
    rows = list(firsts.values())
    entries = [entry for entry in (fingerprints[row] for row in rows) if entry is not None]
    if len(entries) < 2:
        return []
    # Of vectors of ±1, (bits - dot product) / 2 is the number of bits that differ.
    signs = np.stack([entry.gradient for entry in entries]).astype(np.float32) * 2 - 1
    bits = signs.shape[1]
    pairs = []
    for start in range(0, len(rows), BLOCK):
        differing = (bits - signs[start : start + BLOCK] @ signs[start:].T) / 2
        for i, j in zip(*np.nonzero(differing <= NEAR_BITS), strict=True):
            first, second = entries[start + i], entries[start + j]
            if i < j and _worst_difference(first, second) <= NEAR_CELLS:
                pairs.append((rows[start + i], rows[start + j]))
    return pairs
