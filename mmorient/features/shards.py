"""Files of the feature cache: Arrow files of a few hundred rows, complete or absent.

Each row has a checksum of its features, which is compared whenever the row is read, so that damage on the
disk is recognized before the row is used, also in the middle of a run.
"""

import hashlib
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import xxhash
from tqdm.auto import tqdm
from transformers.utils import logging

from mmorient.features.batches import SEQUENCES
from mmorient.files.whole_files import whole_file

logger = logging.get_logger(__name__)

KEY, KEY_BYTES = "key", 32
CHECKSUM, CHECKSUM_BYTES = "checksum", 16

# A column's values of all rows, and where each row's values begin and end if rows differ in length.
Values = tuple[np.ndarray, np.ndarray | None]
Columns = dict[str, Values]


class DamagedShard(ValueError):
    """A file of the cache does not hold what was written.

    Args:
        path: The file.
        reason: How the damage shows.
    """

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} is damaged ({reason})"


class Shard:
    """One file, mapped into memory: reading a row reads only its pages.

    Args:
        path: A file that [`write_shard`] wrote.

    Raises:
        DamagedShard: If the file was cut short, its structure is broken, or it was written by a version that
            did not write checksums.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._size = path, path.stat().st_size
        with _damage_as_such(path):
            batches = _read_batches(path)
            self.keys: list[bytes] = [key for batch in batches for key in batch.column(KEY).to_pylist()]
            self._name = _file_name(self.keys)
            self._checksums = [check for batch in batches for check in batch.column(CHECKSUM).to_pylist()]
            self._columns = [_columns(batch) for batch in batches]
        self._rows = [(number, row) for number, batch in enumerate(batches) for row in range(len(batch))]

    def row(self, row: int) -> dict[str, torch.Tensor]:
        """The model's feature arguments of one row, without padding.

        Raises:
            DamagedShard: If they are not what was written.
        """
        if _size(self.path, self._size) < self._size:
            # Touching mapped memory behind a file's end kills the process.
            raise DamagedShard(self.path, "it was cut short")
        with _damage_as_such(self.path):
            batch, index = self._rows[row]
            features = _features(self._columns[batch], index)
        if _checksum(self.keys[row], features) != self._checksums[row]:
            raise DamagedShard(self.path, f"row {row} differs from its checksum")
        return features

    def check(self, wanted: Container[bytes]) -> None:
        """Compare all rows that have one of the wanted keys with their checksums.

        Raises:
            DamagedShard: If a row is not what was written, or the file has another one's name.
        """
        if self.path.name != self._name:
            raise DamagedShard(self.path, "its name is that of other rows")
        for row, key in enumerate(self.keys):
            if key in wanted:
                self.row(row)


def write_shard(folder: Path, keys: Sequence[bytes], batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Write one file atomically: it is complete or absent, whenever the process ends.

    Args:
        folder: The cache's.
        keys: Of all rows; the file's name follows from them.
        batches: The rows' features as `EncodedFeatures.as_inputs` names them, padded and with masks.
    """
    path = folder / _file_name(keys)
    ends = np.cumsum([len(batch["image_present"]) for batch in batches])
    records = [
        _record_batch(keys[end - len(batch["image_present"]) : end], batch)
        for end, batch in zip(ends, batches, strict=True)
    ]
    with whole_file(path) as file, pa.ipc.new_file(file, records[0].schema) as writer:
        for record in records:
            writer.write_batch(record)


def find_rows(folder: Path, wanted: Container[bytes]) -> dict[bytes, tuple[Path, int]]:
    """By each wanted key that the cache has: the file, and the row in it."""
    with told_to_the_user():
        return {
            key: (path, row)
            for path in sorted(folder.glob("*.arrow"))
            for row, key in enumerate(Shard(path).keys)
            if key in wanted
        }


def remove_damaged(folder: Path, wanted: Container[bytes]) -> None:
    """Remove unfinished files of an interrupted run, and damaged files: their rows are computed again. The
    caller must hold the cache's lock.

    Args:
        folder: The cache's.
        wanted: Keys of the rows that will be read, which are all compared with their checksums.

    Raises:
        ValueError: If something that is not a file has a file's name.
    """
    for path in folder.glob("*.tmp"):
        if not path.is_dir():
            path.unlink()
    paths = sorted(folder.glob("*.arrow"))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # checksums release the interpreter's lock
        found = pool.map(lambda path: _damage(path, wanted), paths)
        for path, damage in zip(paths, tqdm(found, "checking features", len(paths), delay=2), strict=True):
            if damage is not None:
                logger.warning(f"{damage}: its rows are computed again.")
                path.unlink()


def _damage(path: Path, wanted: Container[bytes]) -> str | None:
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to nothing"
    if not path.is_file():  # opening a pipe would wait
        raise ValueError(f"{path} is no file: move it away; the feature cache keeps files of such names.")
    try:
        Shard(path).check(wanted)
    except DamagedShard as error:
        return str(error)
    return None


@contextmanager
def _damage_as_such(path: Path) -> Iterator[None]:
    """Turn what Arrow and numpy raise on damaged bytes into `DamagedShard`; errors of the disk pass."""
    try:
        yield
    except (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedShard(path, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedShard(path, error) from None


@contextmanager
def told_to_the_user() -> Iterator[None]:
    """Report damage that is found after the encoders have finished."""
    try:
        yield
    except DamagedShard as error:
        raise ValueError(
            f"{error}: start the run again. It computes the file's rows anew, and goes on from its last "
            "checkpoint."
        ) from None


def _size(path: Path, without: int) -> int:
    """Size of a file, or `without` where it is gone; a process that has opened it can still read it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return without


def _read_batches(path: Path) -> list[pa.RecordBatch]:
    """The record batches of a file, mapped into memory."""
    if path.stat().st_size == 0:
        raise pa.ArrowInvalid("it is empty")
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    for batch in batches:
        batch.validate()  # no length may lead out of the file
        if CHECKSUM not in batch.schema.names:
            raise pa.ArrowInvalid("it is of a version without checksums")
    return batches


def _file_name(keys: Sequence[bytes]) -> str:
    return f"{hashlib.sha256(b''.join(keys)).hexdigest()}.arrow"


def _checksum(key: bytes, features: Mapping[str, torch.Tensor]) -> bytes:
    """Checksum of a row's key and features, with names and shapes: 16 bytes of xxh3, as fast as memory.

    It guards against faults of disks and memory, not against people, who could change the checksum too.
    """
    digest = xxhash.xxh3_128(key)
    for name, values in sorted(features.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.contiguous().numpy().data)
    return digest.digest()


def _record_batch(keys: Sequence[bytes], features: Mapping[str, torch.Tensor]) -> pa.RecordBatch:
    columns = {KEY: pa.array(keys, pa.binary(KEY_BYTES))}
    for name, values in features.items():
        if name in SEQUENCES:
            mask = features[SEQUENCES[name]]
            offsets = np.concatenate([[0], mask.sum(1).cumsum(0).numpy()])
            # Indexing with a mask copies; without padding it is not needed.
            flat = values.flatten(0, 1) if mask.all() else values[mask]
            columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), _vectors(flat))
        elif name not in SEQUENCES.values():
            columns[name] = pa.array(values.numpy()) if values.ndim == 1 else _vectors(values)
    batch = pa.RecordBatch.from_pydict(columns)
    # The checksum is of what readers will see.
    stored = _columns(batch)
    checksums = [_checksum(key, _features(stored, row)) for row, key in enumerate(keys)]
    return batch.append_column(CHECKSUM, pa.array(checksums, pa.binary(CHECKSUM_BYTES)))


def _columns(batch: pa.RecordBatch) -> Columns:
    return {name: _values(batch.column(name)) for name in batch.schema.names if name not in (KEY, CHECKSUM)}


def _features(columns: Columns, row: int) -> dict[str, torch.Tensor]:
    features = {}
    for name, (values, offsets) in columns.items():
        part = values[row] if offsets is None else values[offsets[row] : offsets[row + 1]]
        # A copy: the mapped memory is read-only, but tensors are writable.
        features[name] = torch.from_numpy(np.array(part))
    return features


def _vectors(values: torch.Tensor) -> pa.Array:
    """(rows, d) as one vector a row, in float32."""
    flat = values.float().contiguous().reshape(-1).numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[-1])


def _values(column: pa.Array) -> Values:
    """Values of all rows, and where each row's values begin and end if rows differ in length."""
    if pa.types.is_large_list(column.type):
        return _values(column.values)[0], column.offsets.to_numpy()
    if pa.types.is_fixed_size_list(column.type):
        return column.values.to_numpy().reshape(-1, column.type.list_size), None
    return column.to_numpy(zero_copy_only=False), None
