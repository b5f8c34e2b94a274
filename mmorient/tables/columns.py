"""What stands in the columns of a table that nobody has described yet."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mmorient.kinds.cells import spelling
from mmorient.tables.chunks import TableStream
from mmorient.tables.images import IMAGE_FIELDS, holds_bytes
from mmorient.tables.table import Table, as_table

READ_ROWS = 1024
# Different values of a column that are counted one by one; a column of more has no labels.
MOST_VALUES = 2000
EXAMPLES, EXAMPLE_WIDTH = 3, 24


@dataclass
class ColumnSummary:
    """A column, counted over all rows.

    Args:
        name: The column's.
        rows: Number of cells that are not empty.
        empty: Number of those that are.
        values: How often each value occurs, as it is spelt in CSV; of lists, each entry.
        more: Whether there are more than `MOST_VALUES` different ones, which `values` leaves out.
        numbers, whole: Whether all cells are numbers, and whole ones.
        lists: Number of cells that are lists.
        pictures: Whether the cells are pictures.
        characters, words: Sums over the cells.
    """

    name: str
    rows: int = 0
    empty: int = 0
    values: Counter[str] = field(default_factory=Counter)
    more: bool = False
    numbers: bool = True
    whole: bool = True
    lists: int = 0
    pictures: bool = False
    characters: int = 0
    words: int = 0

    @property
    def kind(self) -> str:
        """Of the cells, in a word or two."""
        if self.pictures:
            return "pictures"
        if not self.rows:
            return "empty"
        if self.lists:
            return "lists"
        return ("whole numbers" if self.whole else "numbers") if self.numbers else "texts"

    def add(self, cell: Any) -> None:
        """Count a cell."""
        entries = as_list(cell)
        if entries is not None:
            self.lists += 1
            self.numbers = False
            spellings = [text for entry in entries if (text := spelling(entry)) is not None]
        else:
            text = spelling(cell)
            if text is None:
                self.empty += 1
                return
            spellings = [text]
            self._measure(text)
        self.rows += 1
        for text in spellings:
            if text in self.values or len(self.values) < MOST_VALUES:
                self.values[text] += 1
            else:
                self.more = True

    def _measure(self, text: str) -> None:
        self.characters += len(text)
        self.words += len(text.split())
        if self.numbers:
            try:
                self.whole &= float(text).is_integer()
            except (ValueError, OverflowError):
                self.numbers = False


def as_list(cell: Any) -> list[Any] | None:
    """A cell that is a list, or a list in JSON; None for any other."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    return cell if isinstance(cell, list) else None


def summarise(stream: TableStream) -> list[ColumnSummary]:
    """Count every column, some rows at a time. Malformed rows are left out.

    Raises:
        TableError: If the file is damaged beyond single rows.
    """
    summaries = [ColumnSummary(name, pictures=_holds_images(stream, name)) for name in stream.column_names]
    for chunk in stream.chunks(READ_ROWS):
        table = as_table(stream, chunk)
        good = [row for row in range(len(table)) if row not in chunk.malformed]
        for summary in summaries:
            _count(summary, table.select(good))
    return summaries


def _count(summary: ColumnSummary, table: Table) -> None:
    if summary.pictures:
        summary.rows += len(table)
        return
    for cell in table.cells(summary.name):
        summary.add(cell)


def _holds_images(stream: TableStream, name: str) -> bool:
    if stream.schema is None:
        return False
    kind = stream.schema.field(name).type
    if pa.types.is_struct(kind):
        return {kind.field(index).name for index in range(kind.num_fields)} == IMAGE_FIELDS
    return bool(holds_bytes(kind))


def columns_table(summaries: Sequence[ColumnSummary], roles: dict[str, str]) -> str:
    """A line for each column: type, number of distinct values, empty cells, guess and examples.

    Args:
        summaries: The columns.
        roles: By column, what it is guessed to be.
    """
    rows = [("column", "type", "distinct", "empty", "guess", "examples")]
    for summary in summaries:
        distinct = "" if summary.pictures else f"{'>' if summary.more else ''}{len(summary.values)}"
        examples = ", ".join(map(_example, list(summary.values)[:EXAMPLES]))
        guess = roles.get(summary.name, "-")
        rows.append((_example(summary.name), summary.kind, distinct, str(summary.empty), guess, examples))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _example(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= EXAMPLE_WIDTH else f"{plain[: EXAMPLE_WIDTH - 3]}..."
