"""Fingerprints of pictures: what copies are recognized by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from modeling_mmorient.image_input import load_image

HASH_SIZE = 16
DIGEST_BYTES, GRADIENT_BYTES, CELL_BYTES = 16, HASH_SIZE**2 // 8, 3 * HASH_SIZE**2
RECORD_BYTES = DIGEST_BYTES + GRADIENT_BYTES + CELL_BYTES


@dataclass(frozen=True)
class Fingerprint:
    """What duplicates are recognized by.

    Args:
        digest: Of the file's bytes; equal for copies.
        gradient: dHash, (HASH_SIZE² / 8,) uint8, of which each bit says whether a cell of the shrunk gray
            picture is brighter than its left neighbour.
        cells: (HASH_SIZE², 3) uint8 colors: the shrunk picture.
    """

    digest: bytes
    gradient: np.ndarray
    cells: np.ndarray

    def to_record(self) -> bytes:
        """The fingerprint as RECORD_BYTES bytes."""
        return self.digest + self.gradient.tobytes() + self.cells.tobytes()

    @classmethod
    def from_record(cls, record: bytes) -> Self:
        """The fingerprint of which [`to_record`] made these bytes."""
        values = np.frombuffer(record, np.uint8)
        gradient, cells = np.split(values[DIGEST_BYTES:], [GRADIENT_BYTES])
        return cls(record[:DIGEST_BYTES], gradient, cells.reshape(HASH_SIZE**2, 3))


def fingerprint(source: str | bytes) -> Fingerprint:
    """Read a picture, from its path or its bytes, the way the processor will.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: If it is no picture that the processor can read.
    """
    content = Path(source).read_bytes() if isinstance(source, str) else source
    picture = load_image(content)
    # A cell is the mean of what it covers: noise, scaling and recompression hardly change it.
    gray = np.asarray(picture.resize((HASH_SIZE + 1, HASH_SIZE), Image.Resampling.BOX).convert("L"))
    cells = np.array(picture.resize((HASH_SIZE, HASH_SIZE), Image.Resampling.BOX)).reshape(-1, 3)
    return Fingerprint(file_digest(content), np.packbits(gray[:, 1:] > gray[:, :-1]), cells)


def file_digest(content: bytes) -> bytes:
    """What tells a picture's file from others: equal for copies, and the same in every release."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
