"""A table's rows as records, of which batches, predictions, explanations and reports are made.

table ─ read_records ─▶ records, and by row what is wrong with it
                          ├─ training: a problem stops the run unless the recipe allows its kind
                          └─ prediction: a row with a problem gets an error in place of an answer
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from mmorient.kinds.cells import Label
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.tasks import task_specs
from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.image_fingerprints import Fingerprint
from mmorient.tables.images import Images, read_images
from mmorient.tables.labels import LabelColumn, read_labels
from mmorient.tables.problems import Problem, RowProblem
from mmorient.tables.table import Table, tell_apart
from modeling_mmorient.text_input import read_text


@dataclass(frozen=True, eq=False)
class Record:
    """A row of a table, as read. Batches are made of records.

    Args:
        row: What the row is called: its number, behind the file's name where rows of several files come
            together.
        picture: Where its picture is: a path, or a file's content, in Arrow's memory or as bytes. None where
            it has none that can be used.
        text: The first of the text columns that is not blank; None where there is none.
        labels: By task: class index, 0 or 1 for each label, or a value, as in `mmorient.kinds.cells.Label`.
        unknown: By task, what stands in its cell and is no label of the task; such cells are not labelled.
        problems: What is wrong with it.
        fingerprint: Of its picture; None where it has none, or was not read.
        features: What the encoders make of it (`mmorient.features.cache`), by name; None: not computed.
        own_references: Indices of itself and of its copies among the references; None: unknown.
    """

    row: str
    picture: str | bytes | pa.Buffer | None = None
    text: str | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[RowProblem, ...] = ()
    fingerprint: Fingerprint | None = None
    features: Mapping[str, Any] | None = None
    own_references: Sequence[int] | None = None

    @property
    def image(self) -> str | bytes | None:
        """The picture as the processor takes it: a path, or a file's content."""
        return self.picture.to_pybytes() if isinstance(self.picture, pa.Buffer) else self.picture


@dataclass(frozen=True)
class RecordColumns:
    """Where a table has what records are made of.

    Args:
        image: Column of the pictures, as in `DataArguments.image_column`; None for a table without any.
        image_dir: Where file names start; no picture outside it is read.
        text: Columns of the text; the first one that is not empty counts.
        tasks: The recipe's tasks; empty where labels are not asked for.
    """

    image: str | None
    image_dir: Path
    text: Sequence[str]
    tasks: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: DataArguments) -> Self:
        """Those that a recipe names."""
        assert isinstance(data.tasks, dict)
        return cls(data.image_column, data.path(data.image_dir), data.text_columns, data.tasks)


@dataclass(frozen=True)
class Records:
    """The rows of a table as records.

    Args:
        table: Where they come from, the same rows.
        rows: The records.
        problems: What is wrong, also with rows that were left out.
        left_out: Number of rows that were left out because they have neither picture nor text.
    """

    table: Table
    rows: Sequence[Record]
    problems: list[Problem]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Sequence[int]) -> Self:
        """These rows alone, in this order."""
        return replace(self, table=self.table.select(rows), rows=[self.rows[row] for row in rows])


def read_records(
    table: Table, columns: RecordColumns, known: FingerprintCache | None = None, cleaned: bool = True
) -> Records:
    """Every row of a table as a record, with what is wrong with it. Nothing of that is raised.

    Args:
        table: The rows; `problems` of it, such as malformed rows, are among the records' too.
        columns: Where they have what.
        known: Reads the pictures, see [`read_images`]. None: they are looked for, and not read.
        cleaned: Whether the processor cleans texts: what cleaning leaves nothing of is no text.

    Raises:
        TableError: If a column is missing, or there is no picture folder.
    """
    count = len(table)
    texts, invalid = read_texts(table, columns.text)
    pictures = Images([None] * count, [None] * count, [])
    if columns.image is not None:
        pictures = read_images(table, columns.image, columns.image_dir, known)
    specs = task_specs(columns.tasks) if columns.tasks else {}
    labels = {name: read_labels(table, spec, columns.tasks[name]) for name, spec in specs.items()}
    problems = [*table.problems, *invalid, *pictures.problems]
    problems += [problem for column in labels.values() for problem in column.problems]
    problems += _text_problems(table, texts, pictures.files, cleaned)
    by_row: dict[str, list[RowProblem]] = {}
    for problem in problems:
        for found in problem.rows:
            by_row.setdefault(found.row, []).append(found)
    rows = [
        Record(
            str(number),
            pictures.files[row],
            texts[row],
            {name: column.labels[row] for name, column in labels.items()},
            _unknown(labels, row),
            tuple(by_row.get(table.where([row]), ())) if by_row else (),
            pictures.fingerprints[row],
        )
        for row, number in enumerate(table.numbers)
    ]
    return Records(table, rows, problems)


def without_empty_rows(records: Records) -> Records:
    """The rows that have a picture or a text; the others are counted. Without any, all rows and a problem."""
    full = [row for row, record in enumerate(records.rows) if not has_problem(record, "empty_rows")]
    if full:
        return replace(records.select(full), left_out=len(records) - len(full))
    problem = Problem(
        "no_rows",
        f"{records.table.name}: no row has a usable picture or a text: set `image_column`, `image_dir` and "
        "`text_columns`.",
    )
    return replace(records, problems=[*records.problems, problem])


def has_problem(record: Record, *kinds: str) -> bool:
    """Whether something of these kinds is wrong with a row."""
    return any(problem.kind in kinds for problem in record.problems)


def label_columns(rows: Iterable[Record]) -> dict[str, list[Label]]:
    """Labels by task, of every row."""
    columns: dict[str, list[Label]] = {}
    for record in rows:
        for task, label in record.labels.items():
            columns.setdefault(task, []).append(label)
    return columns


def digest(rows: Iterable[Record]) -> str:
    """A fingerprint of the pictures, texts and labels of rows in their order, wherever their files lie."""
    hashed = hashlib.sha256()
    for record in rows:
        picture = record.fingerprint and record.fingerprint.digest.hex()
        hashed.update(json.dumps([picture, record.text, dict(record.labels)]).encode())
    return hashed.hexdigest()


def join_records(parts: Sequence[Records]) -> Records:
    """The records of several tables as one; rows are called by their table's label and their number there.

    Args:
        parts: Of tables with the labels that [`tell_apart`] gives; a single one needs none.

    Raises:
        TableError: If a table is there twice.
    """
    tables = [records.table for records in parts]
    if any(table.label is None for table in tables):
        if len(parts) == 1:
            return parts[0]
        tables = tell_apart(tables)
    starts = accumulate(map(len, tables), initial=0)
    joined = Table(
        " + ".join(table.name for table in tables),
        {name: () for table in tables for name in table.columns},
        [f"{table.label}:{number}" for table in tables for number in table.numbers],
        lines={
            start + row: line
            for start, table in zip(starts, tables, strict=False)
            for row, line in table.lines.items()
        },
        problems=tuple(problem for table in tables for problem in table.problems),
    )
    rows = [record for records in parts for record in records.rows]
    return Records(
        joined,
        [replace(record, row=str(name)) for record, name in zip(rows, joined.numbers, strict=True)],
        [problem for records in parts for problem in records.problems],
        sum(records.left_out for records in parts),
    )


def read_texts(table: Table, columns: Sequence[str]) -> tuple[list[str | None], list[Problem]]:
    """The text of every row.

    Returns:
        The first of the columns' texts that is not blank, or None; and what is wrong: cells that are neither
        texts nor numbers nor empty.

    Raises:
        TableError: If there is no such column.
    """
    cells = {column: table.cells(column) for column in columns}
    problems = []
    for column, values in cells.items():
        invalid = {
            row: type(cell).__name__
            for row, cell in enumerate(values)
            if not isinstance(cell, str | int | float | None)
        }
        if invalid:
            details = {row: f"a {kind} in column {column!r}: give a text" for row, kind in invalid.items()}
            kind = next(iter(invalid.values()))
            message = f"{table.where(list(invalid))} have a {kind} in column {column!r}: give texts."
            problems.append(table.problem("invalid_cells", details, message))
    texts = [
        next((text for cell in row if (text := _text(cell)) and text.strip()), None)
        for row in zip(*cells.values(), strict=True)
    ]
    return texts if columns else [None] * len(table), problems


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return None if cell != cell else str(cell)  # not a number is how many tools write an empty cell


def _text_problems(
    table: Table, texts: Sequence[str | None], pictures: Sequence[Any], cleaned: bool
) -> list[Problem]:
    """Rows with neither picture nor text, and texts that the processor does not take."""
    empty, unreadable = {}, {}
    for row, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
        if cleaned and picture is not None:
            continue  # cleaning takes any text
        try:
            if not read_text(text, cleaned) and picture is None:
                empty[row] = "fill a cell"
        except ValueError as error:
            unreadable[row] = str(error)
    problems = []
    if unreadable:
        message = (
            f"{table.where(list(unreadable))} have texts that cannot be read: {min(unreadable.values())}."
        )
        problems.append(table.problem("unreadable_texts", unreadable, message))
    if empty:
        message = f"{table.where(list(empty))} have neither picture nor text: fill a cell or remove them."
        problems.append(table.problem("empty_rows", empty, message))
    return problems


def _unknown(labels: Mapping[str, LabelColumn], row: int) -> dict[str, str]:
    return {name: column.unknown[row] for name, column in labels.items() if row in column.unknown}
