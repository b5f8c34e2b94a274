"""The rows of a table as a model is to answer them, and why others cannot be answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmorient.tables.memes import read_texts
from mmorient.tables.pictures import PictureSources, find_pictures
from mmorient.tables.table import Table
from modeling_mmorient.text_input import read_text

MALFORMED = "malformed row"


class RowError(NamedTuple):
    """Why a row gets no prediction.

    Args:
        kind: `malformed row`, `invalid cell`, `picture outside the folder`, `missing picture`, `unreadable`,
            `neither picture nor text`, `not a number` or `changed row`.
        where: The row, as a person finds it in the table.
        detail: What is wrong, for a person.
    """

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.where}: {self.detail}"


@dataclass(frozen=True)
class MemeColumns:
    """Where a table has its memes.

    Args:
        image: Column of the pictures, as in `DataArguments.image_column`; None for a table without any.
        image_dir: Where file names start; no picture outside it is read.
        text: Columns of the text; the first one that is not empty counts.
        allow: Kinds of problems that stop no row, of `PROBLEM_KINDS`: with `missing_pictures` and
            `unreadable_pictures` such rows are answered from their text, as the recipe trained on them.
    """

    image: str | None
    image_dir: Path
    text: Sequence[str]
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class ReadRows:
    """What a model can be asked about.

    Args:
        table: The rows.
        texts: By row.
        pictures: Where they are; None where the table has no column of pictures.
        errors: By row, why it cannot be answered.
        without_picture: By row, why it is answered without the picture that it names (`missing picture`).
    """

    table: Table
    texts: Sequence[str | None]
    pictures: PictureSources | None
    errors: dict[int, RowError] = field(default_factory=dict)
    without_picture: dict[int, str] = field(default_factory=dict)

    def picture(self, row: int) -> str | bytes | None:
        """Path or bytes of the picture that a row is answered with; None where it has none."""
        if self.pictures is None or row in self.without_picture:
            return None
        return self.pictures[row]

    def names_picture(self, row: int) -> bool:
        """Whether the row is answered with a picture."""
        return (
            self.pictures is not None
            and self.pictures.names[row] is not None
            and (row not in self.without_picture)
        )

    def fail(self, row: int, kind: str, detail: str) -> None:
        """Note that a row cannot be answered; of several reasons the first counts."""
        self.errors.setdefault(row, RowError(kind, self.table.where([row]), detail))


def read_rows(table: Table, malformed: Mapping[int, str], columns: MemeColumns, cleaned: bool) -> ReadRows:
    """Find the texts and pictures of a table's rows; no picture is read.

    Args:
        table: The rows.
        malformed: Rows that are broken as rows, with the reason.
        columns: Where the table has its memes.
        cleaned: Whether the processor cleans texts: what cleaning leaves nothing of is no text.

    Raises:
        TableError: If a column is missing or holds no pictures at all.
    """
    texts, invalid = read_texts(table, columns.text)
    pictures = None
    if columns.image is not None:
        pictures = find_pictures(table, columns.image, columns.image_dir)
    rows = ReadRows(table, texts, pictures)
    for row, reason in malformed.items():
        rows.fail(row, MALFORMED, reason)
    for column, kinds in invalid.items():
        for row, kind in kinds.items():
            rows.fail(row, "invalid cell", f"a {kind} in column {column!r}: give a text")
    if pictures is not None:
        _check_pictures(rows, pictures, columns)
    for row, text in enumerate(texts):
        try:
            is_empty = not read_text(text, cleaned)
        except ValueError as error:
            rows.fail(row, "unreadable", str(error))
            continue
        if not is_empty:
            continue
        if row in rows.without_picture:
            reason = rows.without_picture.pop(row)
            rows.fail(row, reason, f"{_missing(rows, row, columns)}, and the row has no text")
        elif pictures is None or pictures.names[row] is None:
            rows.fail(row, "neither picture nor text", "fill a cell")
    return rows


def _check_pictures(rows: ReadRows, pictures: PictureSources, columns: MemeColumns) -> None:
    for row, kind in pictures.invalid.items():
        rows.fail(row, "invalid cell", f"a {kind} in column {columns.image!r}: give a file name")
    for row in pictures.outside:
        detail = f"{pictures.names[row]!r}; only {columns.image_dir} is read"
        rows.fail(row, "picture outside the folder", detail)
    for row in pictures.missing:
        if row in rows.errors:
            continue
        if "missing_pictures" in columns.allow:
            rows.without_picture[row] = "missing picture"
        else:
            rows.fail(row, "missing picture", _missing(rows, row, columns))


def _missing(rows: ReadRows, row: int, columns: MemeColumns) -> str:
    assert rows.pictures is not None
    return f"there is no {rows.pictures.names[row]!r} in {columns.image_dir}"
