"""Tables in memory, as files that the rest reads like any other."""

import hashlib
import io
import sys
from pathlib import Path, PurePath
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import embed_table_storage

from mmorient.files.whole_files import whole_file
from mmorient.tables.problems import TableError


def is_in_memory(table: Any) -> bool:
    """Whether it is a table itself, not the name of one, or a list of names."""
    return not isinstance(table, str | PurePath | list | tuple | None)


def table_file(table: Any, folder: Path) -> Path:
    """A Parquet file with the rows of a table in memory, named by its content.

    The same rows give the same file, so that a run on them goes on where it was interrupted.

    Args:
        table: A pandas DataFrame, whose index is left out, or a `datasets.Dataset`.
        folder: Where the file is; made if it is missing.

    Raises:
        TableError: If it is neither, or a column holds what Parquet cannot.
    """
    if _is_frame(table):
        table = _dataset_of_frame(table)
    elif not isinstance(table, datasets.Dataset):
        raise TableError(
            f"the table is a {type(table).__name__}: give a path, a pandas DataFrame or a `datasets.Dataset` "
            "(of a DatasetDict one of its splits)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    sink = io.BytesIO()
    # Images that the rows name go into the file: they need not be in one folder.
    rows = embed_table_storage(table.with_format("arrow")[:].cast(table.features.arrow_schema))
    pq.write_table(rows.replace_schema_metadata(table.features.arrow_schema.metadata), sink)
    content = sink.getvalue()
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    if not path.is_file():
        with whole_file(path) as file:
            file.write(content)
    return path


def with_columns(table: Any, new: pa.Table) -> Any:
    """A table in memory with further columns: of the same kind, rows in the same order.

    Args:
        table: A pandas DataFrame, which keeps its index, or a `datasets.Dataset`.
        new: The columns, a row for each of its rows.
    """
    if _is_frame(table):
        frame = new.to_pandas()
        frame.index = table.index
        return table.assign(**{name: frame[name] for name in frame.columns})
    return datasets.concatenate_datasets([table, datasets.Dataset(new.replace_schema_metadata(None))], axis=1)


def _is_frame(table: Any) -> bool:
    # Whoever gives one has loaded pandas.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(table, pandas.DataFrame)


def _dataset_of_frame(frame: Any) -> datasets.Dataset:
    if not all(isinstance(name, str) for name in frame.columns):
        raise TableError(f"the DataFrame has the columns {list(frame.columns)}: give names that are strings.")
    columns = {}
    for name in frame.columns:
        try:
            column = pa.Array.from_pandas(frame[name])
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise TableError(
                f"the DataFrame's column {name!r} cannot be stored: {error}. Give cells of one kind: texts, "
                "numbers, lists, or the bytes of pictures."
            ) from None
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        columns[name] = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return datasets.Dataset(pa.table(columns))
