"""Tables that Arrow stores: Parquet files, and datasets of `datasets`, on disk or from the Hub."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from mmorient.tables.chunks import Chunk, TableStream, check_columns
from mmorient.tables.problems import TableError

HUB_PREFIX = "hub:"
# What a reader of Parquet has in memory beside the rows it hands on, in bytes a column.
BUFFER_SIZE = 1 << 20


def open_parquet(path: Path) -> TableStream:
    """A Parquet file, its rows numbered from 0.

    Raises:
        TableError: If it is none.
    """
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        features = datasets.Features.from_arrow_schema(schema)
    except Exception as error:  # the file's own JSON describes the columns to `datasets`, which trusts it
        raise TableError(f"{path} is no Parquet file: {_told(error)}") from None
    return _open_arrow(features, schema, metadata.num_rows, str(path), partial(_parquet_tables, path), [path])


def _parquet_tables(path: Path, size: int) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, buffer_size=BUFFER_SIZE, pre_buffer=False) as file:
        for batch in file.iter_batches(size):
            yield pa.Table.from_batches([batch])


def open_saved(path: Path, split: str | None) -> TableStream:
    """A folder that `datasets` saved, its rows numbered from 0.

    Raises:
        TableError: If it is none, or has splits of which `split` is none.
    """
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # `datasets` trusts the folder's JSON, and fails in many ways
        raise TableError(f"{path} is no folder that `datasets` saved: {_told(error)}") from None
    name = str(path)
    if isinstance(saved, datasets.DatasetDict):
        if split is None:
            raise TableError(f"{path} has the splits {list(saved)}: name the folder of one, {path}/SPLIT.")
        if split not in saved:
            raise TableError(
                f"{path} has the splits {list(saved)}, not {split!r}: set `train_split` and "
                "`validation_split`."
            )
        name, saved = f"{path}[{split}]", saved[split]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return _open_dataset(saved, name, files)


def open_hub(source: str, split: str | None) -> TableStream:
    """A dataset on the Hub, its rows numbered from 0. No code from there is run.

    Args:
        source: `hub:` and its name.
        split: The split to read.

    Raises:
        TableError: If it cannot be loaded.
    """
    name = source.removeprefix(HUB_PREFIX)
    try:
        loaded = datasets.load_dataset(name, split=split)
    except Exception as error:  # of the network, of the files, of `datasets`
        raise TableError(
            f"the dataset {name!r} cannot be loaded from the Hub, split {split!r}: {_told(error)}\nWithout "
            "access to the Hub, name a file, or a folder that `save_to_disk` wrote."
        ) from None
    files = [Path(file["filename"]) for file in loaded.cache_files]
    return _open_dataset(loaded, f"{source}[{split}]", files)


def _open_dataset(dataset: datasets.Dataset, name: str, files: Sequence[Path]) -> TableStream:
    # As Arrow the pictures stay where they are, on disk, and are not decoded.
    rows, features = dataset.with_format("arrow"), dataset.features

    def tables(size: int) -> Iterator[pa.Table]:
        return (rows[start : start + size] for start in range(0, len(rows), size))

    return _open_arrow(features, features.arrow_schema, len(rows), name, tables, files)


def _open_arrow(
    features: datasets.Features,
    schema: pa.Schema,
    num_rows: int,
    name: str,
    tables: Callable[[int], Iterator[pa.Table]],
    files: Sequence[Path],
) -> TableStream:
    check_columns(schema.names, name)
    classes = {}
    for column, feature in features.items():
        inner = feature.feature if isinstance(feature, datasets.List | datasets.LargeList) else feature
        if isinstance(inner, datasets.ClassLabel):
            classes[column] = inner.names

    def chunks(size: int) -> Iterator[Chunk]:
        start = 0
        try:
            for table in tables(size):
                columns = {column: table[column] for column in schema.names}
                yield Chunk(range(start, start + table.num_rows), columns)
                start += table.num_rows
        except Exception as error:  # of Arrow, of the system
            raise TableError(f"{name} is damaged, after row {start}: {_told(error)}") from None

    return TableStream(
        name, schema.names, chunks, files, class_names=classes, schema=schema, num_rows=num_rows
    )


def _told(error: Exception) -> str:
    """An error that may say nothing but its kind, such as a `KeyError`."""
    return f"{type(error).__name__}: {error}"
