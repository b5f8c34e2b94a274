"""Which columns of a table hold pictures, texts and labels, guessed from their cells and names."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmorient.kinds.cells import spelling
from mmorient.recipes.draft import Draft, TaskDraft
from mmorient.recipes.tasks import DEFAULT_SEPARATOR
from mmorient.tables.chunks import TableStream
from mmorient.tables.columns import READ_ROWS, ColumnSummary, as_list, columns_table, summarise
from mmorient.tables.label_order import ordered_labels
from mmorient.tables.problems import TableError
from mmorient.tables.table import as_table

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
IMAGE_NAMES = re.compile(r"image|picture|photo|img|file", re.IGNORECASE)
TEXT_NAMES = re.compile(r"text|ocr|caption|sentence|transcript|tweet|words", re.IGNORECASE)
CLEANED = re.compile(r"correct|clean|edited", re.IGNORECASE)
SPLITS = {
    "train_split": ("train", "training"),
    "validation_split": ("validation", "valid", "val", "dev", "development"),
    "test_split": ("test", "testing"),
}
# Of a column that says whether a label holds.
INDICATOR_VALUES = ({"0", "1"}, {"no", "yes"}, {"false", "true"})
SEPARATORS = ("|", ";", ",", "/")
# Of a task: labels, characters of each, and rows for each on the average.
MOST_LABELS, LONGEST_LABEL, LEAST_ROWS = 30, 60, 3
# Share of the cells that name several labels, at least, where some do.
SEVERAL = 0.02
LOOKED_UP = 50


@dataclass(frozen=True)
class Guess:
    """What a table seems to hold.

    Args:
        draft: For a recipe.
        text: The columns for a person, with what each is guessed to be.
    """

    draft: Draft
    text: str


def guess_table(
    stream: TableStream, path: Path, image_dir: Path | None, text_format: dict[str, str]
) -> Guess:
    """Look at every column of a table.

    Args:
        stream: The table.
        path: Its file or folder; the recipe's paths start in the folder that it is in.
        image_dir: Folder of the pictures. None: looked for beside the table.
        text_format: `delimiter` and `encoding` that the table was opened with, where they were given.

    Raises:
        TableError: If no column can hold pictures, or none labels; the message shows the columns.
    """
    summaries = summarise(stream)
    image, split = _image_column(summaries), _split_fields(summaries)
    taken = {image, split.get("split_column")}
    tasks = _tasks(stream, [summary for summary in summaries if summary.name not in taken])
    others = [summary for summary in summaries if summary.name not in taken | tasks.keys()]
    texts = _text_columns(others)
    numbers = [summary for summary in others if summary.name not in texts and _measures(summary)]
    roles = dict.fromkeys(texts, "text") | {name: _role(task) for name, task in tasks.items()}
    roles |= {summary.name: "number" for summary in numbers}
    if image is not None:
        roles[image] = "image"
    if split:
        roles[split["split_column"]] = "split"
    text = f"{stream.name}\n{columns_table(summaries, roles)}"
    if image is None or not tasks:
        missing = (
            "pictures or names of picture files" if image is None else "labels (few different values each)"
        )
        raise TableError(
            f"{text}\nno column seems to hold {missing}: copy own_table.yaml, which comes with the package, "
            f"and name the columns yourself.{stream.hint}"
        )
    folder, note = _image_folder(stream, image, path, image_dir)
    splits = split or _files_beside(path)
    data: dict[str, Any] = {"data_dir": str(path.parent), "train_file": path.name, **text_format, **splits}
    data |= {"image_dir": folder, "image_column": image, "text_columns": texts}
    if not splits.keys() & {"validation_split", "test_split", "validation_file", "test_file"}:
        data |= {"validation_share": 0.15, "test_share": 0.15}
    hints = _indicators(summaries, tasks) | {
        summary.name: TaskDraft({"kind": "regression"}, f"{_many(summary)} different numbers")
        for summary in numbers
    }
    notes = {
        "image_dir": note,
        "text_columns": "the first one that is not empty counts" if len(texts) > 1 else "",
        "validation_file": "lies beside the table",
        "test_file": "lies beside the table",
        "validation_share": "held out of the table; or name a validation_file",
        "test_share": "in the same way, for the scores; or name a test_file",
    }
    return Guess(Draft(data, tasks, {key: note for key, note in notes.items() if key in data}, hints), text)


def _tasks(stream: TableStream, summaries: Sequence[ColumnSummary]) -> dict[str, TaskDraft]:
    """By column that seems to hold labels, its task."""
    tasks = {}
    for summary in summaries:
        if (several := _several(stream, summary)) is not None:
            tasks[summary.name] = several
        elif _holds_labels(summary):
            tasks[summary.name] = _single(summary)
    return tasks


def _files_beside(path: Path) -> dict[str, str]:
    """The recipe's fields about other splits of the table, by the names of the files beside it."""
    if path.stem.casefold() not in SPLITS["train_split"] or not path.is_file():
        return {}
    beside = {
        other.stem.casefold(): other.name
        for other in sorted(path.parent.iterdir())
        if other.suffix.casefold() == path.suffix.casefold()
    }
    fields = {"validation_file": "validation_split", "test_file": "test_split"}
    found = {field: [name for name in SPLITS[split] if name in beside] for field, split in fields.items()}
    return {field: beside[names[0]] for field, names in found.items() if names}


def _indicators(summaries: Sequence[ColumnSummary], tasks: Mapping[str, TaskDraft]) -> dict[str, TaskDraft]:
    """The one task that several columns of yes and no may be, a label each."""
    columns = [
        summary.name
        for summary in summaries
        if summary.name in tasks and {value.casefold() for value in summary.values} in INDICATOR_VALUES
    ]
    if len(columns) < 3:
        return {}
    note = "in place of the tasks of these columns, if they answer one question"
    return {"all_of_them": TaskDraft({"kind": "multilabel", "columns": columns}, note)}


def _many(summary: ColumnSummary) -> str:
    return f"more than {len(summary.values)}" if summary.more else str(len(summary.values))


def _role(task: TaskDraft) -> str:
    return f"{task.options.get('kind', 'multiclass')}, {len(task.options['labels'])} labels"


def _image_column(summaries: Sequence[ColumnSummary]) -> str | None:
    """The column of pictures, or else of names most of which end as picture files do."""
    for summary in summaries:
        if summary.pictures:
            return summary.name
    shares = {
        summary.name: sum(n for name, n in summary.values.items() if name.lower().endswith(IMAGE_SUFFIXES))
        / max(1, summary.values.total())
        for summary in summaries
    }
    likely = [name for name, share in shares.items() if share > 0.5]
    return max(likely, key=lambda name: (bool(IMAGE_NAMES.search(name)), shares[name]), default=None)


def _split_fields(summaries: Sequence[ColumnSummary]) -> dict[str, str]:
    """The recipe's fields about a column that names splits; empty where there is none."""
    for summary in summaries:
        named = {
            field: value
            for field, names in SPLITS.items()
            for value in summary.values
            if value.casefold() in names
        }
        if len(named) == len(summary.values) >= 2 and "train_split" in named:
            return {"split_column": summary.name, **named}
    return {}


def _holds_labels(summary: ColumnSummary) -> bool:
    values = summary.values
    return (
        not (summary.pictures or summary.more or summary.lists)
        and 2 <= len(values) <= MOST_LABELS
        and len(values) * LEAST_ROWS <= summary.rows
        and max(map(len, values)) <= LONGEST_LABEL
        and (summary.whole or not summary.numbers)
    )


def _single(summary: ColumnSummary) -> TaskDraft:
    """The task of a column with one label in each cell."""
    order = ordered_labels(list(summary.values))
    options: dict[str, Any] = {"labels": order.labels}
    if order.is_scale:
        options["kind"] = "ordinal"
    rarest = min(summary.values, key=lambda value: summary.values[value])
    counted = f"rarest: {rarest}, {summary.values[rarest]} of {summary.rows} rows"
    return TaskDraft(options, f"{counted}; {order.note}" if order.note else counted)


def _several(stream: TableStream, summary: ColumnSummary) -> TaskDraft | None:
    """The task of a column whose cells name several labels of few; None for any other column."""
    if summary.pictures or summary.numbers or not summary.rows:
        return None
    if summary.lists:
        candidates: tuple[str | None, ...] = (None,)
    else:
        candidates = tuple(mark for mark in SEPARATORS if any(mark in value for value in summary.values))
    for separator in candidates:
        counts: Counter[str] = Counter()
        several = 0
        for parts in _parts(stream, summary.name, separator):
            counts.update(parts)
            several += len(parts) > 1
            if len(counts) > MOST_LABELS:
                break
        if (
            1 <= len(counts) <= MOST_LABELS
            and several >= SEVERAL * summary.rows
            and len(counts) * LEAST_ROWS <= counts.total()
            and max(map(len, counts)) <= LONGEST_LABEL
        ):
            options: dict[str, Any] = {"labels": ordered_labels(list(counts)).labels, "kind": "multilabel"}
            if separator not in (None, DEFAULT_SEPARATOR):
                options["separator"] = separator
            return TaskDraft(options, f"any number of labels; {several} of {summary.rows} rows have several")
    return None


def _parts(stream: TableStream, column: str, separator: str | None) -> Iterator[set[str]]:
    """Of each cell that is not empty, the labels that it names."""
    for chunk in stream.chunks(READ_ROWS):
        for row, cell in enumerate(as_table(stream, chunk).cells(column)):
            entries = as_list(cell)
            whole = spelling(cell) if entries is None else None
            if row in chunk.malformed or (entries is None and whole is None):
                continue
            if entries is None:
                entries = [whole] if separator is None else str(whole).split(separator)
            yield {part for entry in entries if (part := spelling(entry)) is not None}


def _text_columns(others: Sequence[ColumnSummary]) -> list[str]:
    """Columns of texts, corrected ones first; by their names, or else the one with the longest texts."""
    texts = [
        summary
        for summary in others
        if not (summary.pictures or summary.numbers or summary.lists)
        and summary.words >= 2 * summary.rows > 0
    ]
    named = [summary.name for summary in texts if TEXT_NAMES.search(summary.name)]
    if named:
        return sorted(named, key=lambda name: not CLEANED.search(name))
    longest = max(texts, key=lambda summary: summary.characters / summary.rows, default=None)
    return [] if longest is None else [longest.name]


def _measures(summary: ColumnSummary) -> bool:
    """Whether a column is of numbers that say more than which row it is."""
    counting = summary.whole and (summary.more or len(summary.values) == summary.rows)
    return summary.numbers and summary.rows > 0 and len(summary.values) > 1 and not counting


def _image_folder(stream: TableStream, column: str, path: Path, given: Path | None) -> tuple[str, str]:
    """The recipe's `image_dir`, and a note where pictures are missing there."""
    names = _first_names(stream, column)
    folders = [path.parent / "images", path.parent] if given is None else [given]

    def found(folder: Path) -> int:
        return sum((folder / name).is_file() for name in names)

    best = max(folders, key=found)
    missing = len(names) - found(best)
    note = f"{missing} of the first {len(names)} pictures are not there" if missing else ""
    return os.path.relpath(best, path.parent), note


def _first_names(stream: TableStream, column: str) -> list[str]:
    """The first file names of a column; none where it holds pictures."""
    names: list[str] = []
    if stream.schema is not None and not isinstance(_first_cell(stream, column), str):
        return names
    for chunk in stream.chunks(READ_ROWS):
        names += [
            name for cell in as_table(stream, chunk).cells(column) if (name := spelling(cell)) is not None
        ]
        if len(names) >= LOOKED_UP:
            break
    return names[:LOOKED_UP]


def _first_cell(stream: TableStream, column: str) -> Any:
    for chunk in stream.chunks(1):
        return as_table(stream, chunk).cells(column)[0]
    return None
