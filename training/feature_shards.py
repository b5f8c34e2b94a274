"""Files of the feature cache: Arrow files of some hundred rows, whole or not there at all."""

import hashlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset
from transformers.utils import logging

from training.batches import SEQUENCES, Row
from training.whole_files import whole_file

logger = logging.get_logger(__name__)

KEY, KEY_BYTES = "key", 32


class Shard:
    """One file, mapped into memory: reading a row reads its pages alone.

    Args:
        path: A file of [`write_shard`].

    Raises:
        pyarrow.ArrowInvalid: If the file was cut short.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size == 0:
            raise pa.ArrowInvalid("the file is empty")
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.keys: list[bytes] = [key for batch in batches for key in batch.column(KEY).to_pylist()]
        self._places = [(number, row) for number, batch in enumerate(batches) for row in range(len(batch))]
        self._columns = [
            {name: _values(batch.column(name)) for name in batch.schema.names if name != KEY}
            for batch in batches
        ]

    def row(self, row: int) -> dict[str, torch.Tensor]:
        """The model's feature arguments of one row, without padding."""
        batch, row = self._places[row]
        features = {}
        for name, (values, offsets) in self._columns[batch].items():
            part = values[row] if offsets is None else values[offsets[row] : offsets[row + 1]]
            # A copy: the mapped memory is read-only, and tensors are not.
            features[name] = torch.from_numpy(np.array(part))
        return features


class FeatureRows(Dataset[Row]):
    """A table's features, read from the cache's files as they are asked for, beside its labels.

    Args:
        places: By row of the table: the file and the row in it.
        labels: By row of the table: class index by task.
    """

    def __init__(self, places: Sequence[tuple[Path, int]], labels: Sequence[Mapping[str, int]]) -> None:
        self.places, self.labels = places, labels
        self._shards: dict[Path, Shard] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Row:
        path, place = self.places[row]
        if path not in self._shards:
            self._shards[path] = Shard(path)
        return {"features": self._shards[path].row(place), "labels": self.labels[row]}

    def __getstate__(self) -> dict[str, Any]:
        """For a data loader's processes, each of which maps the files itself."""
        return {**self.__dict__, "_shards": {}}


def write_shard(folder: Path, keys: Sequence[bytes], batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Write one file, at once: whoever looks sees the whole file or none, whenever the process ends.

    Args:
        folder: The cache's.
        keys: Of all rows; the file's name follows from them.
        batches: The rows' features as `EncodedFeatures.as_inputs` names them, padded and with masks.
    """
    path = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()}.arrow"
    ends = np.cumsum([len(batch["image_present"]) for batch in batches])
    records = [
        _record_batch(keys[end - len(batch["image_present"]) : end], batch)
        for end, batch in zip(ends, batches, strict=True)
    ]
    with whole_file(path) as file, pa.ipc.new_file(file, records[0].schema) as writer:
        for record in records:
            writer.write_batch(record)


def find_rows(folder: Path, wanted: Container[bytes]) -> dict[bytes, tuple[Path, int]]:
    """File and row in it of each of the wanted keys that the cache has."""
    return {
        key: (path, row)
        for path in sorted(folder.glob("*.arrow"))
        for row, key in enumerate(Shard(path).keys)
        if key in wanted
    }


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted run left half done; only for who holds the cache's lock."""
    for path in folder.glob("*.tmp"):
        path.unlink()
    for path in folder.glob("*.arrow"):
        try:
            Shard(path)
        except pa.ArrowInvalid as error:
            logger.warning(f"{path} is cut short ({error}): its rows are computed again.")
            path.unlink()


def _record_batch(keys: Sequence[bytes], features: Mapping[str, torch.Tensor]) -> pa.RecordBatch:
    columns = {KEY: pa.array(keys, pa.binary(KEY_BYTES))}
    for name, values in features.items():
        if name in SEQUENCES:
            mask = features[SEQUENCES[name]]
            offsets = np.concatenate([[0], mask.sum(1).cumsum(0).numpy()])
            # Without a mask's indexing, which copies, where there is no padding.
            flat = values.flatten(0, 1) if mask.all() else values[mask]
            columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), _vectors(flat))
        elif name not in SEQUENCES.values():
            columns[name] = pa.array(values.numpy()) if values.ndim == 1 else _vectors(values)
    return pa.RecordBatch.from_pydict(columns)


def _vectors(values: torch.Tensor) -> pa.Array:
    """(rows, d) as one vector a row, in float32."""
    flat = values.float().contiguous().reshape(-1).numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[-1])


def _values(column: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of all rows, and where each row's begin and end if rows differ in length."""
    if pa.types.is_large_list(column.type):
        return _values(column.values)[0], column.offsets.to_numpy()
    if pa.types.is_fixed_size_list(column.type):
        return column.values.to_numpy().reshape(-1, column.type.list_size), None
    return column.to_numpy(zero_copy_only=False), None
