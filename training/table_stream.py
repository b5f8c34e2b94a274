"""Tables as people keep them (CSV, TSV, JSON Lines, Parquet, `datasets`), read some rows at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from training.problems import TableError
from training.table_lines import csv_records, json_records, shown

HUB_PREFIX = "hub:"
# What a reader of Parquet has in memory beside the rows it hands on, in bytes a column.
BUFFER_SIZE = 1 << 20
COUNTED_ROWS = 256

Column: TypeAlias = Sequence[Any] | pa.ChunkedArray
# What a person calls the row, its cells, and what is wrong with it.
_Row: TypeAlias = tuple[int, Sequence[Any], str | None]


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Args:
        numbers: What a person who looks at the table calls each row.
        columns: Stored cells by column, of equal length; those of a malformed row as far as they can be told
            apart.
        malformed: By place in the chunk, what is wrong with a row.
    """

    numbers: Sequence[int]
    columns: Mapping[str, Column]
    malformed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TableStream:
    """A table of any length: read from its start, some rows at a time, as often as one likes.

    Args:
        name: The table in messages: its path or Hub id.
        column_names: Its columns.
        chunks: From a number of rows to an iterator over chunks of that many rows, the last one of fewer.
            Raises a `TableError` where the file turns out to be damaged beyond single rows.
        files: What the table is stored in.
        unit: `row`, or `line` for JSON Lines.
        form: How every row should look, for messages.
        class_names: For columns that hold class indices, the names that they stand for.
        schema: Arrow types of the columns where the table has them.
        num_rows: Number of rows where the table says it.
    """

    name: str
    column_names: Sequence[str]
    chunks: Callable[[int], Iterator[Chunk]]
    files: Sequence[Path]
    unit: str = "row"
    form: str = ""
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    schema: pa.Schema | None = None
    num_rows: int | None = None

    def count_rows(self) -> int:
        """Number of rows, malformed ones included."""
        if self.num_rows is not None:
            return self.num_rows
        return sum(len(chunk.numbers) for chunk in self.chunks(COUNTED_ROWS))


def open_table(source: str, folder: Path, split: str | None = None) -> TableStream:
    """Open a table, and read no more of it than tells its columns.

    Rows are numbered as a person sees them: in CSV and TSV as a spreadsheet does (the header is row 1), in
    JSON Lines by line, in Parquet and `datasets` from 0.

    Args:
        source: A file (`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`) or a folder that `datasets` saved,
            seen from `folder`; or `hub:` and the name of a dataset on the Hub. No code from there is run.
        folder: Where relative paths start.
        split: The split to read of a source that has splits.

    Raises:
        TableError: If the source cannot be read as what it is named.
    """
    if source.startswith(HUB_PREFIX):
        return _open_hub(source, split)
    path = folder / source
    if path.is_dir():
        return _open_saved(path, split)
    if not path.is_file():
        raise TableError(
            f"no table at {path}: set `data_dir` and the file's name; a dataset on the Hub is "
            f"written {HUB_PREFIX}OWNER/NAME."
        )
    if path.suffix.lower() not in OPENERS:
        raise TableError(
            f"{path} is of an unknown kind: give one of {', '.join(OPENERS)}, or a folder that "
            "`datasets` saved."
        )
    return OPENERS[path.suffix.lower()](path)


def has_splits(source: str, folder: Path) -> bool:
    """Whether a source is several tables, each with a name."""
    return source.startswith(HUB_PREFIX) or (folder / source / "dataset_dict.json").is_file()


def _open_separated(path: Path, delimiter: str) -> TableStream:
    header, problem = next(csv_records(path, delimiter), ([], "it is empty"))
    if problem is None and not header:
        problem = "its first line is blank"
    if problem is not None:
        kind = "CSV" if delimiter == "," else "TSV"
        raise TableError(f"{path} is no {kind} file in UTF-8 with a header: {problem}")
    _require_unique(header, path)
    return TableStream(
        str(path),
        header,
        lambda size: _chunks(_csv_rows(path, delimiter), header, size),
        [path],
        form=f"each has the {len(header)} cells of the header, and texts that contain separators, quotes or "
        "line breaks stand in double quotes",
    )


def _csv_rows(path: Path, delimiter: str) -> Iterator[_Row]:
    records = csv_records(path, delimiter)
    header, _ = next(records)
    blank = 0  # lines so far; at the end of the table they are no rows
    for number, (cells, problem) in enumerate(records, 2):
        if not cells and problem is None:
            blank += 1
            continue
        for earlier in range(number - blank, number):
            yield earlier, [""] * len(header), "it is blank"
        blank = 0
        missing = len(header) - len(cells)
        if missing and problem is None:
            beyond = f"; beyond the last column {shown(', '.join(cells[len(header) :]))}" * (missing < 0)
            problem = f"it has {len(cells)} cell(s), and the header {len(header)}{beyond}"
        yield number, [*cells[: len(header)], *[""] * missing], problem


def _require_unique(names: Sequence[str], path: Path | str) -> None:
    if len(set(names)) != len(names):
        raise TableError(f"{path} has the columns {list(names)}: each needs a name of its own.")


def _open_json_lines(path: Path) -> TableStream:
    names = list(dict.fromkeys(name for _, record, _ in json_records(path) for name in record))
    return TableStream(
        str(path),
        names,
        lambda size: _chunks(_json_rows(path, names), names, size),
        [path],
        unit="line",
        form="each is one JSON object in UTF-8",
    )


def _json_rows(path: Path, names: Sequence[str]) -> Iterator[_Row]:
    for number, record, problem in json_records(path):
        yield number, [record.get(name) for name in names], problem


def _chunks(rows: Iterator[_Row], names: Sequence[str], size: int) -> Iterator[Chunk]:
    while batch := list(islice(rows, size)):
        numbers, cells, problems = zip(*batch, strict=True)
        columns = dict(zip(names, zip(*cells, strict=True), strict=True))
        malformed = {row: problem for row, problem in enumerate(problems) if problem is not None}
        yield Chunk(numbers, columns, malformed)


def _open_parquet(path: Path) -> TableStream:
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        features = datasets.Features.from_arrow_schema(schema)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise TableError(f"{path} is no Parquet file: {error}") from None
    return _open_arrow(features, schema, metadata.num_rows, str(path), partial(_parquet_tables, path), [path])


def _parquet_tables(path: Path, size: int) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_SIZE, pre_buffer=False) as file:
            for batch in file.iter_batches(size):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path} is damaged: {error}") from None


def _open_saved(path: Path, split: str | None) -> TableStream:
    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise TableError(f"{path} is no folder that `datasets` saved: {error}") from None
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


def _open_hub(source: str, split: str | None) -> TableStream:
    name = source.removeprefix(HUB_PREFIX)
    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise TableError(
            f"the dataset {name!r} cannot be loaded from the Hub, split {split!r}: {error}\nWithout access "
            "to the Hub, name a file, or a folder that `save_to_disk` wrote."
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
    _require_unique(schema.names, name)
    classes = {}
    for column, feature in features.items():
        inner = feature.feature if isinstance(feature, datasets.List | datasets.LargeList) else feature
        if isinstance(inner, datasets.ClassLabel):
            classes[column] = inner.names

    def chunks(size: int) -> Iterator[Chunk]:
        start = 0
        for table in tables(size):
            columns = {column: table[column] for column in schema.names}
            yield Chunk(range(start, start + table.num_rows), columns)
            start += table.num_rows

    return TableStream(
        name, schema.names, chunks, files, class_names=classes, schema=schema, num_rows=num_rows
    )


OPENERS: dict[str, Callable[[Path], TableStream]] = {
    ".csv": lambda path: _open_separated(path, ","),
    ".tsv": lambda path: _open_separated(path, "\t"),
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".parquet": _open_parquet,
}
