"""Rows that show or say the same, exactly or nearly."""

import unicodedata
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmorient.tables.image_fingerprints import Fingerprint
from mmorient.tables.near_images import NearImages, Pair

DUPLICATE_KINDS = ("same picture", "near picture", "same text", "near text")


def normalized_text(text: str) -> str:
    """Letters and digits alone, without case: what remains equal when a text is typed again.

    A text without any letter or digit stays as it is but for spaces.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or "".join(folded.split())


def find_duplicates(
    fingerprints: Sequence[Fingerprint | None],
    texts: Sequence[str | None],
    near: NearImages | None = None,
) -> dict[str, list[Pair]]:
    """Pairs of rows that are duplicates, by kind.

    Args:
        fingerprints: By row, of its picture.
        texts: By row.
        near: Which of the pictures, and perhaps of others, look alike; None: it is found out.

    Returns:
        For each of `DUPLICATE_KINDS` pairs (i, j), i < j, of which every group of duplicates has enough to
        connect it: the first row of exact copies stands for all of them.
    """
    pictures = [None if entry is None else entry.digest for entry in fingerprints]
    spoken = [None if text is None else text.strip() for text in texts]
    typed = [None if text is None else normalized_text(text) for text in texts]
    return {
        "same picture": _equal(pictures),
        "near picture": (near or NearImages(fingerprints)).among(fingerprints),
        "same text": _equal(spoken),
        "near text": _equal(typed, spoken),
    }


def group_rows(count: int, pairs: Iterable[Pair]) -> np.ndarray:
    """A number for each of `count` rows, the same for rows that pairs connect: (count,) integers."""
    links = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links), dtype=bool), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


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
