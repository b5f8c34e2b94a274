"""Tables and parts of tables as columns of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from training.problems import TableError
from training.table_stream import Chunk, Column, TableStream, open_table

# Row numbers in a message; a table may have thousands of bad rows.
SHOWN_ROWS = 10
READ_ROWS = 4096


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

    Args:
        source, folder, split: As in [`open_table`], which also says how rows are numbered.

    Raises:
        TableError: If the source cannot be read as what it is named, has a malformed row, or has no rows.
    """
    stream = open_table(source, folder, split)
    chunks = list(stream.chunks(READ_ROWS))
    malformed = [
        f"{stream.unit} {chunk.numbers[row]}: {problem}"
        for chunk in chunks
        for row, problem in chunk.malformed.items()
    ]
    if malformed:
        more = f"\n  and {len(malformed) - SHOWN_ROWS} more" if len(malformed) > SHOWN_ROWS else ""
        raise TableError(
            f"{stream.name} has {len(malformed)} malformed {stream.unit}(s); {stream.form}:\n  "
            + "\n  ".join(malformed[:SHOWN_ROWS])
            + more
        )
    if not any(len(chunk.numbers) for chunk in chunks):
        raise TableError(f"{stream.name} has no rows.")
    numbers = [number for chunk in chunks for number in chunk.numbers]
    columns = {name: _join([chunk.columns[name] for chunk in chunks]) for name in stream.column_names}
    return as_table(stream, Chunk(numbers, columns))


def as_table(stream: TableStream, chunk: Chunk) -> Table:
    """A chunk of a table as a table of its own."""
    return Table(stream.name, chunk.columns, chunk.numbers, stream.unit, stream.class_names)


def _join(parts: Sequence[Column]) -> Column:
    if isinstance(parts[0], pa.ChunkedArray):
        return pa.chunked_array([array for part in parts for array in part.chunks], parts[0].type)  # type: ignore[union-attr]
    return [cell for part in parts for cell in part]


def _class_name(cell: Any, names: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_class_name(entry, names) for entry in cell]
    if cell == -1:  # how `datasets` says that a row is not labelled
        return None
    return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell
