"""Tables of any length, as rows that arrive some at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from mmorient.tables.problems import TableError
from mmorient.tables.text_files import shown

COUNTED_ROWS = 256
# As many as a workbook has at most. A short line may ask for a cell in each of them.
MOST_COLUMNS = 1 << 14

Column: TypeAlias = Sequence[Any] | pa.ChunkedArray


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Args:
        numbers: What a person who looks at the table calls each row.
        columns: Stored cells by column, of equal length; those of a malformed row as far as they can be told
            apart.
        malformed: By index in the chunk, what is wrong with a row.
        lines: By index in the chunk, the file's line that a row begins in, where that is another number: some
            cell above it has line breaks.
    """

    numbers: Sequence[int]
    columns: Mapping[str, Column]
    malformed: Mapping[int, str] = field(default_factory=dict)
    lines: Mapping[int, int] = field(default_factory=dict)


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
        hint: What may be wrong where columns are missing, for the end of a message; empty for nothing.
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
    hint: str = ""
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    schema: pa.Schema | None = None
    num_rows: int | None = None

    def count_rows(self) -> int:
        """Number of rows, malformed ones included."""
        if self.num_rows is not None:
            return self.num_rows
        return sum(len(chunk.numbers) for chunk in self.chunks(COUNTED_ROWS))


class RowCells(NamedTuple):
    """One row of a table that is read row by row.

    Args:
        number: What a person who looks at the table calls it.
        cells: Its cells.
        problem: What is wrong with it; None for nothing.
        line: The file's line that it begins in.
    """

    number: int
    cells: Sequence[Any]
    problem: str | None
    line: int


def rows_below_header(
    records: Iterable[tuple[int, Sequence[Any], str | None]], width: int, empty: str | None
) -> Iterator[RowCells]:
    """The rows of a table whose first row is a header of `width` cells, numbered from 2.

    Blank rows are malformed, except at the end of the table, where they are none.

    Args:
        records: Below the header: each row's line, its cells (none where it is blank), and what is wrong.
        width: Number of columns. A row of another number of cells is malformed.
        empty: What stands for a cell that is not there.
    """
    blank = 0  # rows so far, of a line each; at the end of the table they are no rows
    for number, (line, cells, problem) in enumerate(records, 2):
        if not cells and problem is None:
            blank += 1
            continue
        for back in range(blank, 0, -1):
            yield RowCells(number - back, [empty] * width, "it is blank", line - back)
        blank = 0
        missing = width - len(cells)
        if missing and problem is None:
            beyond = f"; beyond the last column {shown(', '.join(map(str, cells[width:])))}" * (missing < 0)
            problem = f"it has {len(cells)} cell(s), and the header {width}{beyond}"
        yield RowCells(number, [*cells[:width], *[empty] * missing], problem, line)


def gather_chunks(rows: Iterator[RowCells], names: Sequence[str], size: int) -> Iterator[Chunk]:
    """Rows with the cells of these columns, as chunks of `size` rows."""
    while batch := list(islice(rows, size)):
        columns = dict(zip(names, zip(*(row.cells for row in batch), strict=True), strict=True))
        malformed = {index: row.problem for index, row in enumerate(batch) if row.problem is not None}
        lines = {index: row.line for index, row in enumerate(batch) if row.line != row.number}
        yield Chunk([row.number for row in batch], columns, malformed, lines)


def check_columns(names: Sequence[str], path: Path | str) -> None:
    """Raises a `TableError` where two columns have one name, or there are more than `MOST_COLUMNS`."""
    if len(names) > MOST_COLUMNS:
        raise TableError(f"{path} has more than {MOST_COLUMNS} columns: leave out those that are not needed.")
    if len(set(names)) != len(names):
        raise TableError(f"{path} has the columns {list(names)}: each needs a name of its own.")
