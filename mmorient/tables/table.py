"""Tables and parts of tables as columns of cells."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile
from pathlib import Path, PurePath
from typing import Any, Self

import pyarrow as pa

from mmorient.recipes.text_formats import UTF8
from mmorient.tables.chunks import Chunk, Column, TableStream
from mmorient.tables.problems import Problem, RowProblem, TableError
from mmorient.tables.stream import open_table

# Row numbers in a message; a table may have thousands of bad rows.
SHOWN_ROWS = 10
# Rows that are read at a time, fewer of many cells.
READ_ROWS, READ_CELLS = 4096, 1 << 22
# Of a table whose cells are Python values. A file of few bytes can have very many that are empty.
MOST_CELLS = 1 << 27


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
        lines: By row, the line of the file that it begins in, where that is another number than the row's.
        hint: What may be wrong where a column is missing, for the end of a message; empty for nothing.
        problems: Rows of the file that are left out, with the reason.
        label: What tells its rows from those of the tables beside it; None where there are none beside it.
    """

    name: str
    columns: Mapping[str, Column]
    numbers: Sequence[int | str]
    unit: str = "row"
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Sequence[int] | None = None
    lines: Mapping[int, int] = field(default_factory=dict)
    hint: str = ""
    problems: tuple[Problem, ...] = ()
    label: str | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def require(self, column: str) -> None:
        """Raises a `TableError` where there is no such column."""
        if column not in self.columns:
            raise TableError(
                f"{self.name} has no column {column!r}: its columns are {list(self.columns)}.{self.hint}"
            )

    def cells(self, column: str) -> list[Any]:
        """A column's cells as Python values, class indices as the names that they stand for.

        Raises:
            TableError: If there is no such column, or Python has no values for its cells.
        """
        self.require(column)
        values = self.take(self.columns[column])
        try:
            cells = values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)
        except (ValueError, OverflowError, TypeError, ImportError, pa.ArrowException) as error:
            raise TableError(
                f"{self.name}: column {column!r} has cells that cannot be read: {error}. Save them as texts."
            ) from None
        names = self.class_names.get(column)
        return cells if names is None else [_class_name(cell, names) for cell in cells]

    def where(self, rows: Sequence[int]) -> str:
        """Rows for a message: the first ones by number, and how many more."""
        shown = ", ".join(map(self._called, rows[:SHOWN_ROWS]))
        more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
        return f"{self.unit} {shown}" if len(rows) == 1 else f"{self.unit}s {shown}{more}"

    def problem(self, kind: str, details: Mapping[int, str], message: str) -> Problem:
        """A problem of some rows.

        Args:
            kind: As of [`Problem`].
            details: By row, what is wrong with it.
            message: As of [`Problem`], without the table's name.
        """
        rows = (RowProblem(kind, self.name, self.where([row]), detail) for row, detail in details.items())
        return Problem(kind, f"{self.name}: {message}", tuple(rows))

    def error(self, details: Mapping[int, str], message: str, kind: str = "invalid_cells") -> TableError:
        """The error of rows with which nothing can go on.

        Args:
            details, message, kind: As of [`Table.problem`].
        """
        problem = self.problem(kind, details, message)
        return TableError(problem.message, [problem])

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
        lines = {new: self.lines[row] for new, row in enumerate(rows) if row in self.lines}
        return replace(self, numbers=numbers, rows=stored, lines=lines)

    def _called(self, row: int) -> str:
        line = self.lines.get(row)
        return str(self.numbers[row]) if line is None else f"{self.numbers[row]} (line {line})"


def read_table(
    source: str, folder: Path, split: str | None = None, *, delimiter: str | None = None, encoding: str = UTF8
) -> Table:
    """Read a table whole, every row of which is well formed.

    Args:
        source, folder, split, delimiter, encoding: As in [`open_table`], which also says how rows are
            numbered.

    Raises:
        TableError: If the source cannot be read as what it is named, has a malformed row, or has no rows.
    """
    table = read_well_formed(source, folder, split, delimiter=delimiter, encoding=encoding)
    if table.problems:
        raise TableError("\n".join(problem.message for problem in table.problems), table.problems)
    return table


def read_well_formed(
    source: str, folder: Path, split: str | None = None, *, delimiter: str | None = None, encoding: str = UTF8
) -> Table:
    """Read the rows of a table that are well formed; the others are a problem of the kind `malformed_rows`.

    Args:
        source, folder, split, delimiter, encoding: As in [`open_table`].

    Raises:
        TableError: If the source cannot be read as what it is named, or has no rows that are well formed.
    """
    stream = open_table(source, folder, split, delimiter=delimiter, encoding=encoding)
    tables: list[Table] = []
    malformed: list[RowProblem] = []
    for chunk in _limited_chunks(stream):
        table = as_table(stream, chunk)
        malformed += [row for problem in table.problems for row in problem.rows]
        good = [row for row in range(len(table)) if row not in chunk.malformed]
        tables.append(table.select(good) if chunk.malformed else table)
    problems = _malformed(stream, malformed)
    if any(map(len, tables)):
        return replace(_concatenated(stream, tables), problems=problems)
    if not problems:
        raise TableError(f"{stream.name} has no rows: give a table with some.")
    raise TableError(problems[0].message, problems)


def _limited_chunks(stream: TableStream) -> Iterator[Chunk]:
    width, cells = max(1, len(stream.column_names)), 0
    for chunk in stream.chunks(min(READ_ROWS, max(1, READ_CELLS // width))):
        cells += len(chunk.numbers) * width
        if stream.schema is None and cells > MOST_CELLS:
            raise TableError(
                f"{stream.name} has {width} columns and, with those of all rows, more than {MOST_CELLS} "
                "cells: leave out columns that are not needed, or save it as Parquet."
            )
        yield chunk


def _concatenated(stream: TableStream, tables: Sequence[Table]) -> Table:
    starts = list(zip(accumulate(map(len, tables), initial=0), tables, strict=False))
    return Table(
        stream.name,
        {name: _join([table.take(table.columns[name]) for table in tables]) for name in stream.column_names},
        [number for table in tables for number in table.numbers],
        stream.unit,
        stream.class_names,
        lines={start + row: line for start, table in starts for row, line in table.lines.items()},
        hint=stream.hint,
    )


def _malformed(stream: TableStream, rows: Sequence[RowProblem]) -> tuple[Problem, ...]:
    if not rows:
        return ()
    listed = "\n  ".join(f"{problem.row}: {problem.detail}" for problem in rows[:SHOWN_ROWS])
    more = f"\n  and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    message = (
        f"{stream.name} has {len(rows)} malformed {stream.unit}(s); {stream.form}:\n  {listed}{more}\n  "
        f"Correct or remove them.{stream.hint}"
    )
    return (Problem("malformed_rows", message, tuple(rows)),)


def as_table(stream: TableStream, chunk: Chunk) -> Table:
    """A chunk of a table as a table of its own; its malformed rows are among the problems."""
    table = Table(
        stream.name,
        chunk.columns,
        chunk.numbers,
        stream.unit,
        stream.class_names,
        lines=chunk.lines,
        hint=stream.hint,
    )
    if not chunk.malformed:
        return table
    return replace(table, problems=(table.problem("malformed_rows", chunk.malformed, stream.form),))


def tell_apart(tables: Sequence[Table]) -> list[Table]:
    """Tables whose rows come together, with labels: of each the shortest end of its path that no other has.

    Paths count from the folder that holds them all, so that labels are the same wherever that folder is. A
    single table needs no label.

    Raises:
        TableError: If a table is there twice.
    """
    if len(tables) == 1:
        return list(tables)
    places = [os.path.realpath(table.name) for table in tables]
    if twice := [table.name for table, place in zip(tables, places, strict=True) if places.count(place) > 1]:
        raise TableError(f"{twice} are the same table: name it once.")
    paths = [PurePath(os.path.normpath(table.name)).parts for table in tables]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
    paths = [path[min(shared, len(path) - 1) :] for path in paths]
    return [replace(table, label=_own_end(path, paths)) for table, path in zip(tables, paths, strict=True)]


def _own_end(path: Sequence[str], paths: Sequence[Sequence[str]]) -> str:
    lengths = range(1, len(path) + 1)
    alone = (length for length in lengths if sum(other[-length:] == path[-length:] for other in paths) == 1)
    return "/".join(path[-next(alone, len(path)) :])


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
