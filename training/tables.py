"""Tables as people keep them (CSV, TSV, JSON Lines, Parquet, `datasets`) to columns of cells."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from training.problems import TableError

HUB_PREFIX = "hub:"
# Row numbers in a message; a table may have thousands of bad rows.
SHOWN_ROWS = 10

Column: TypeAlias = Sequence[Any] | pa.ChunkedArray


@dataclass(frozen=True)
class Table:
    """The cells of a table, and what its rows are called.

    Args:
        name: The table in messages: its path or Hub id.
        columns: Stored cells by column, of equal length. Cells of CSV and TSV are strings, an empty one for a
            missing value; of other formats what is stored, with None for a missing value.
        numbers: What a person who looks at the table calls each row; with the file's name where the rows are
            of several.
        unit: `row`, or `line` for JSON Lines.
        class_names: For columns that hold class indices, the names that they stand for.
        rows: Which of the columns' cells are the table's; None for all of them.
    """

    name: str
    columns: Mapping[str, Column]
    numbers: Sequence[int | str]
    unit: str = "row"
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def require(self, column: str) -> None:
        """Raises a `TableError` where there is no such column."""
        if column not in self.columns:
            raise TableError(f"{self.name} has no column {column!r}: its columns are {list(self.columns)}.")

    def cells(self, column: str) -> list[Any]:
        """A column's cells as Python values, class indices as the names that they stand for."""
        self.require(column)
        values = self.take(self.columns[column])
        cells = values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)
        names = self.class_names.get(column)
        return cells if names is None else [_class_name(cell, names) for cell in cells]

    def where(self, rows: Sequence[int]) -> str:
        """Rows for a message: the first ones by number, and how many more."""
        shown = ", ".join(str(self.numbers[row]) for row in rows[:SHOWN_ROWS])
        more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
        return f"{self.unit} {shown}" if len(rows) == 1 else f"{self.unit}s {shown}{more}"

    def take(self, values: Column) -> Column:
        """Of stored cells, those of the table's rows."""
        if self.rows is None:
            return values
        if isinstance(values, pa.ChunkedArray):
            return values.take(pa.array(self.rows, pa.int64()))
        return [values[row] for row in self.rows]

    def select(self, rows: Sequence[int]) -> Self:
        """The table of these rows, which keep their numbers. No cell is copied."""
        numbers = [self.numbers[row] for row in rows]
        stored = rows if self.rows is None else [self.rows[row] for row in rows]
        return replace(self, numbers=numbers, rows=stored)


def read_table(source: str, folder: Path, split: str | None = None) -> Table:
    """Read a table whole.

    Rows are numbered as a person sees them: in CSV and TSV as a spreadsheet does (the header is row 1), in
    JSON Lines by line, in Parquet and `datasets` from 0.

    Args:
        source: A file (`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`) or a folder that `datasets` saved,
            seen from `folder`; or `hub:` and the name of a dataset on the Hub. No code from there is run.
        folder: Where relative paths start.
        split: The split to read of a source that has splits.

    Raises:
        TableError: If the source cannot be read as what it is named, or has no rows.
    """
    if source.startswith(HUB_PREFIX):
        return _read_hub(source, split)
    path = folder / source
    if path.is_dir():
        table = _read_saved(path, split)
    elif not path.is_file():
        raise TableError(
            f"no table at {path}: set `data_dir` and the file's name; a dataset on the Hub is "
            f"written {HUB_PREFIX}OWNER/NAME."
        )
    elif path.suffix.lower() not in READERS:
        raise TableError(
            f"{path} is of an unknown kind: give one of {', '.join(READERS)}, or a folder that "
            "`datasets` saved."
        )
    else:
        table = READERS[path.suffix.lower()](path)
    if not len(table):
        raise TableError(f"{path} has no rows.")
    return table


def has_splits(source: str, folder: Path) -> bool:
    """Whether a source is several tables, each with a name."""
    return source.startswith(HUB_PREFIX) or (folder / source / "dataset_dict.json").is_file()


def _class_name(cell: Any, names: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_class_name(entry, names) for entry in cell]
    if cell == -1:  # how `datasets` says that a row is not labelled
        return None
    return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell


def _read_separated(path: Path, delimiter: str) -> Table:
    kind = "CSV" if delimiter == "," else "TSV"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *records = csv.reader(file, delimiter=delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        raise TableError(f"{path} is no {kind} file in UTF-8 with a header: {error}") from None
    while records and not records[-1]:  # blank lines at the end
        records.pop()
    _require_unique(header, path)
    numbers = range(2, len(records) + 2)
    uneven = [row for row, cells in enumerate(records) if len(cells) != len(header)]
    if uneven:
        raise TableError(
            f"{path}: {Table(str(path), {}, numbers).where(uneven)} have other than the header's "
            f"{len(header)} cells: put texts that contain separators or line breaks in double quotes."
        )
    if not records:
        raise TableError(f"{path} has a header and no rows.")
    columns = dict(zip(header, zip(*records, strict=True), strict=True))
    return Table(str(path), columns, numbers)


def _require_unique(names: Sequence[str], path: Path | str) -> None:
    if len(set(names)) != len(names):
        raise TableError(f"{path} has the columns {list(names)}: each needs a name of its own.")


def _read_json_lines(path: Path) -> Table:
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no JSON Lines file in UTF-8: {error}") from None
    if lines == [""]:
        raise TableError(f"{path} has no rows.")
    records, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_json_object(line))
        except (ValueError, RecursionError) as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f"\n  and {len(wrong) - SHOWN_ROWS} more" if len(wrong) > SHOWN_ROWS else ""
        raise TableError(
            f"{path} has {len(wrong)} malformed line(s); each line is one JSON object:\n  "
            + "\n  ".join(wrong[:SHOWN_ROWS])
            + more
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return Table(str(path), columns, range(1, len(records) + 1), unit="line")


def _json_object(line: str) -> dict[str, Any]:
    if not line.strip():
        raise ValueError("it is blank")
    record = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__}")
    return record


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError(f"it names a key twice, of {[key for key, _ in pairs]}")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value: write null")


def _read_parquet(path: Path) -> Table:
    try:
        table = pq.ParquetFile(path).read()
        return _from_arrow(table, datasets.Features.from_arrow_schema(table.schema), str(path))
    except TableError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise TableError(f"{path} is no Parquet file: {error}") from None


def _read_saved(path: Path, split: str | None) -> Table:
    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise TableError(f"{path} is no folder that `datasets` saved: {error}") from None
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise TableError(
                f"{path} has the splits {list(saved)}, not {split!r}: set `train_split` and "
                "`validation_split`."
            )
        return _from_dataset(saved[split], f"{path}[{split}]")
    return _from_dataset(saved, str(path))


def _read_hub(source: str, split: str | None) -> Table:
    name = source.removeprefix(HUB_PREFIX)
    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise TableError(
            f"the dataset {name!r} cannot be loaded from the Hub, split {split!r}: {error}\nWithout access "
            "to the Hub, name a file, or a folder that `save_to_disk` wrote."
        ) from None
    return _from_dataset(loaded, f"{source}[{split}]")


def _from_dataset(dataset: datasets.Dataset, name: str) -> Table:
    # As Arrow the pictures stay where they are, on disk, and are not decoded.
    return _from_arrow(dataset.with_format("arrow")[:], dataset.features, name)


def _from_arrow(table: pa.Table, features: datasets.Features, name: str) -> Table:
    _require_unique(table.column_names, name)
    classes = {}
    for column, feature in features.items():
        inner = feature.feature if isinstance(feature, datasets.List | datasets.LargeList) else feature
        if isinstance(inner, datasets.ClassLabel):
            classes[column] = inner.names
    columns = {column: table[column] for column in table.column_names}
    return Table(name, columns, range(table.num_rows), class_names=classes)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
