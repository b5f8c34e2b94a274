"""A table's rows as memes: picture, text and labels, ready to train on, with a list of what is wrong."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self, TypeVar

import datasets
import pyarrow as pa

from mmorient.kinds.cells import Label
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.tasks import task_specs
from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.labels import read_labels
from mmorient.tables.pictures import Pictures, read_pictures
from mmorient.tables.problems import Problem, TableError
from mmorient.tables.table import Table, tell_apart
from modeling_mmorient.text_input import clean_text

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Memes:
    """The usable rows of a table.

    Args:
        table: Where they come from, the same rows.
        pictures: Theirs.
        texts: The first of the text columns that is not blank; None where there is none.
        labels: By task, by row.
        unknown: By task, by row: values that the task does not know.
        problems: What is wrong, also with rows that were left out.
        left_out: Number of rows that were left out because they have neither picture nor text. Malformed ones
            are in the table's problems.
    """

    table: Table
    pictures: Pictures
    texts: list[str | None]
    labels: dict[str, list[Label]]
    unknown: dict[str, dict[int, str]]
    problems: list[Problem]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.table)

    def select(self, rows: Sequence[int]) -> Self:
        """These rows alone, in this order."""
        new = {row: index for index, row in enumerate(rows)}
        pictures = replace(
            self.pictures,
            values=self.pictures.values.take(pa.array(rows, pa.int64())),
            names=[self.pictures.names[row] for row in rows],
            fingerprints=[self.pictures.fingerprints[row] for row in rows],
            unreadable=_renumbered(self.pictures.unreadable, new),
        )
        return replace(
            self,
            table=self.table.select(rows),
            pictures=pictures,
            texts=[self.texts[row] for row in rows],
            labels={task: [labels[row] for row in rows] for task, labels in self.labels.items()},
            unknown={task: _renumbered(values, new) for task, values in self.unknown.items()},
        )

    def to_dataset(self) -> datasets.Dataset:
        """Rows of `row` (its number), `image` (path, bytes or None), `text` (or None) and `labels`."""
        rows = zip(*self.labels.values(), strict=True)
        labels = [dict(zip(self.labels, row, strict=True)) for row in rows]
        columns = {
            "row": pa.array(map(str, self.table.numbers), pa.string()),
            "image": self.pictures.values,
            "text": pa.array(self.texts, pa.string()),
            "labels": pa.array(labels),
        }
        return datasets.Dataset(pa.table(columns))


def read_memes(table: Table, data: DataArguments, known: FingerprintCache | None = None) -> Memes:
    """The memes of a table, as a recipe describes it.

    Rows with neither picture nor text are left out. That and everything else that would spoil a result is
    in `problems`; nothing of it is raised here.

    Args:
        table: The rows.
        data: The recipe's part about the data.
        known: Fingerprints of pictures that need not be read again; None: all are read.

    Raises:
        TableError: If a column is missing or holds the wrong kind of cells, a picture's name leads out of
            the picture folder, or no row is left.
    """
    assert isinstance(data.tasks, dict)
    texts, invalid = read_texts(table, data.text_columns)
    for column, kinds in invalid.items():
        raise TableError(
            f"{table.name}: {table.where(list(kinds))} have a {next(iter(kinds.values()))} in column "
            f"{column!r}: give texts."
        )
    columns = {
        name: read_labels(table, spec, data.tasks[name]) for name, spec in task_specs(data.tasks).items()
    }
    pictures = read_pictures(table, data.image_column, data.path(data.image_dir), known)
    problems = [*table.problems, *pictures.problems]
    problems += [problem for column in columns.values() for problem in column.problems]
    memes = Memes(
        table,
        pictures,
        texts,
        labels={name: column.labels for name, column in columns.items()},
        unknown={name: column.unknown for name, column in columns.items()},
        problems=problems,
    )
    # What cleaning leaves nothing of is no text for the processor either.
    empty = [
        row
        for row, (picture, text) in enumerate(zip(pictures.fingerprints, texts, strict=True))
        if picture is None and (text is None or not clean_text(text))
    ]
    if not empty:
        return memes
    if len(empty) == len(table):
        raise TableError(
            f"{table.name}: no row has a usable picture or a text: set `image_column`, `image_dir` and "
            "`text_columns`."
        )
    problems.append(
        Problem(
            "empty_rows",
            f"{table.name}: {table.where(empty)} have neither picture nor text: fill a cell or remove them.",
            table.findings(dict.fromkeys(empty, "neither picture nor text")),
        )
    )
    gone = set(empty)
    return replace(memes.select([row for row in range(len(table)) if row not in gone]), left_out=len(empty))


def digest(memes: Memes) -> str:
    """A fingerprint of the pictures, texts and labels of rows in their order, wherever their files lie."""
    hashed = hashlib.sha256()
    for row, (picture, text) in enumerate(zip(memes.pictures.fingerprints, memes.texts, strict=True)):
        labels = {task: column[row] for task, column in memes.labels.items()}
        hashed.update(json.dumps([picture and picture.digest.hex(), text, labels]).encode())
    return hashed.hexdigest()


def join_memes(parts: Sequence[Memes]) -> Memes:
    """The memes of several tables as one; rows are called by their table's label and their number there.

    Args:
        parts: Of tables with the labels that [`tell_apart`] gives; a single one needs none.

    Raises:
        TableError: If some tables hold their pictures and others name them, or a table is there twice.
    """
    tables = [memes.table for memes in parts]
    if any(table.label is None for table in tables):
        if len(parts) == 1:
            return parts[0]
        tables = tell_apart(tables)
    kinds = {memes.pictures.values.type for memes in parts}
    if len(kinds) > 1:
        raise TableError(
            f"{[table.name for table in tables]} keep their pictures in different ways, "
            f"{sorted(map(str, kinds))}: give tables that all name files, or that all hold the pictures."
        )
    starts = [0, *accumulate(map(len, parts))]
    joined = Table(
        " + ".join(table.name for table in tables),
        {name: () for table in tables for name in table.columns},
        [f"{table.label}:{number}" for table in tables for number in table.numbers],
        lines=_shifted([table.lines for table in tables], starts),
        problems=tuple(problem for table in tables for problem in table.problems),
    )
    pictures = Pictures(
        pa.chunked_array([chunk for memes in parts for chunk in memes.pictures.values.chunks], kinds.pop()),
        [name for memes in parts for name in memes.pictures.names],
        [entry for memes in parts for entry in memes.pictures.fingerprints],
        _shifted([memes.pictures.unreadable for memes in parts], starts),
        [problem for memes in parts for problem in memes.pictures.problems],
    )
    tasks = list(parts[0].labels)
    return Memes(
        joined,
        pictures,
        texts=[text for memes in parts for text in memes.texts],
        labels={task: [label for memes in parts for label in memes.labels[task]] for task in tasks},
        unknown={task: _shifted([memes.unknown[task] for memes in parts], starts) for task in tasks},
        problems=[problem for memes in parts for problem in memes.problems],
        left_out=sum(memes.left_out for memes in parts),
    )


def _shifted(parts: Sequence[Mapping[int, _Value]], starts: Sequence[int]) -> dict[int, _Value]:
    return {
        start + row: value for start, part in zip(starts, parts, strict=False) for row, value in part.items()
    }


def _renumbered(values: Mapping[int, str], new: Mapping[int, int]) -> dict[int, str]:
    return {new[row]: value for row, value in values.items() if row in new}


def read_texts(table: Table, columns: Sequence[str]) -> tuple[list[str | None], dict[str, dict[int, str]]]:
    """The text of every row.

    Returns:
        The first of the columns' texts that is not blank, or None; and by column and row the kind of a cell
        that is neither a text nor a number nor empty.

    Raises:
        TableError: If there is no such column.
    """
    cells = {column: table.cells(column) for column in columns}
    invalid = {column: kinds for column, values in cells.items() if (kinds := _invalid_texts(values))}
    texts = [
        next((text for cell in row if (text := _text(cell)) and text.strip()), None)
        for row in zip(*cells.values(), strict=True)
    ]
    return texts if columns else [None] * len(table), invalid


def _invalid_texts(cells: Sequence[Any]) -> dict[int, str]:
    return {
        row: type(cell).__name__
        for row, cell in enumerate(cells)
        if not isinstance(cell, str | int | float | None)
    }


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return None if cell != cell else str(cell)  # not a number is how many tools write an empty cell
