"""The table that predictions are asked for: its rows, or those of one split of a run, and its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from mmorient.prediction.columns import has_bytes
from mmorient.prediction.job import NO_COLUMN, PredictionJob
from mmorient.tables.arrow import HUB_PREFIX
from mmorient.tables.chunks import Chunk, Column, TableStream
from mmorient.tables.images import other_fields
from mmorient.tables.problems import TableError
from mmorient.tables.records import RecordColumns
from mmorient.tables.settings import TableSettings
from mmorient.tables.split_rows import SPLITS, SplitRow, read_split_rows
from mmorient.tables.stream import open_table

READ_ROWS = 1024


@dataclass(frozen=True)
class Source:
    """What is to be predicted.

    Args:
        stream: The rows.
        columns: Where they have pictures and texts.
        allow: Kinds of problems that stop no row, of `PROBLEM_KINDS`: with `missing_pictures` and
            `unreadable_pictures` such rows are answered from their text, as the recipe trained on them.
        digests: By what the table calls a row, the digest of the picture and text that a run read there; None
            where any will do.
    """

    stream: TableStream
    columns: RecordColumns
    allow: Sequence[str]
    digests: Mapping[str, str] | None = None


def open_source(job: PredictionJob, settings: TableSettings) -> Source:
    """The table that is to be predicted.

    Args:
        job: What is asked; what it leaves open is as the model's recipe had it.
        settings: Of the model.

    Raises:
        ValueError: If the table as a whole, its columns or its pictures' folder cannot be used.
    """
    if job.table.startswith(HUB_PREFIX):
        raise TableError(f"the table is {job.table!r}: save the dataset to disk, and name the folder.")
    path = Path(job.table)
    if not path.exists():
        raise TableError(f"there is no table at {path}.")
    if job.output.exists() and path.samefile(job.output):
        raise ValueError(f"{path} is both the table and the output: name another file for the output.")
    # Of another kind of file the recipe said nothing.
    delimiter = settings.delimiter if path.suffix.lower() == ".csv" else None
    stream = open_table(
        job.table,
        Path(),
        delimiter=delimiter if job.delimiter is None else job.delimiter,
        encoding=settings.encoding if job.encoding is None else job.encoding,
    )
    columns = _columns(job, settings, stream)
    allow = settings.allow if job.allow is None else job.allow
    if job.split is None:
        return Source(stream, columns, allow)
    rows = _rows_of_split(job.model, settings.splits, job.split, path)
    digests = {row.row: row.digest for row in rows}
    return Source(_selected(stream, digests, job.split), columns, allow, digests)


def _columns(job: PredictionJob, settings: TableSettings, stream: TableStream) -> RecordColumns:
    image = settings.image_column if job.image_column is None else job.image_column
    image = None if image == NO_COLUMN else image
    text = settings.text_columns if job.text_columns is None else job.text_columns
    folder = Path(job.table).parent / "images" if job.image_dir is None else job.image_dir
    for column in [*([] if image is None else [image]), *text]:
        if column not in stream.column_names:
            raise TableError(
                f"{stream.name} has no column {column!r}: its columns are {list(stream.column_names)}. Set "
                f"--image_column (`{NO_COLUMN}` for a table without pictures) and --text_columns (nothing "
                f"after it for a table without texts).{stream.hint}"
            )
    if image is None and not text:
        raise ValueError("neither --image_column nor --text_columns name a column: there is nothing to read.")
    stored = None if image is None or stream.schema is None else stream.schema.field(image).type
    if stored is not None and (fields := other_fields(stored)) is not None:
        raise TableError(
            f"{stream.name}: column {image!r} holds records of {fields}: give file names or pictures."
        )
    holds_images = stored is not None and has_bytes(stored)
    if image is not None and not holds_images and not folder.is_dir():
        raise ValueError(f"no picture folder at {folder}: set --image_dir, or --image_column {NO_COLUMN}.")
    return RecordColumns(image, folder, text)


def _rows_of_split(model: str, digest: str | None, split: str, path: Path) -> list[SplitRow]:
    """The rows of a table that a run had in a split."""
    rows = read_split_rows(Path(model), digest)
    if rows is None:
        raise ValueError(
            f"--split is {split!r}, and {model} has no {SPLITS}, which stays with the run and is not "
            "published: name the run's `output_dir`."
        )
    tables = dict.fromkeys(row.table for row in rows if row.split == split)
    if not tables:
        known = list(dict.fromkeys(row.split for row in rows))
        raise ValueError(f"--split is {split!r}, and the splits of {model} are {known}: choose one of them.")
    # By its name; a table may have been moved, or even renamed where no other is meant.
    parts = path.resolve().parts
    named = [table for table in tables if parts[-len(Path(table).parts) :] == Path(table).parts]
    if not named and len(tables) > 1:
        raise TableError(
            f"{path} is none of the tables that the {split} rows are of, {list(tables)}: name one."
        )
    chosen = max(named, key=len) if named else next(iter(tables))
    return [row for row in rows if (row.split, row.table) == (split, chosen)]


def _selected(stream: TableStream, wanted: Mapping[str, str], split: str) -> TableStream:
    """The stream of these rows, by what the table calls them."""

    def chunks(size: int) -> Iterator[Chunk]:
        for chunk in stream.chunks(size):
            rows = [row for row, number in enumerate(chunk.numbers) if str(number) in wanted]
            if rows:
                yield _take(chunk, rows)

    found = {str(number) for chunk in chunks(READ_ROWS) for number in chunk.numbers}
    if lost := [number for number in wanted if number not in found]:
        raise TableError(
            f"{stream.name} has no {stream.unit} {', '.join(lost[:10])}, {len(lost)} of {len(wanted)} that "
            f"the run had in its {split} rows: name the table as the run read it."
        )
    return replace(stream, chunks=chunks, num_rows=len(found))


def _take(chunk: Chunk, rows: Sequence[int]) -> Chunk:
    new = {row: index for index, row in enumerate(rows)}

    def cells(column: Column) -> Column:
        if isinstance(column, pa.ChunkedArray):
            return column.take(pa.array(rows, pa.int64()))
        return [column[row] for row in rows]

    return Chunk(
        [chunk.numbers[row] for row in rows],
        {name: cells(column) for name, column in chunk.columns.items()},
        {new[row]: problem for row, problem in chunk.malformed.items() if row in new},
        {new[row]: line for row, line in chunk.lines.items() if row in new},
    )
