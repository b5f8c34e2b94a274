"""Tables of pictures, texts and labels, read into `datasets` with checks that name rows and remedies."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from modeling_mmorient.multitask import IGNORE_INDEX
from modeling_mmorient.task_specs import TaskSpec, parse_tasks
from training.recipe import DataArguments

TABLE_KEYS = ("column", "values")


class TableError(ValueError):
    """Something in a table that would spoil a result; the message names the rows and the remedy."""


def task_specs(tasks: Mapping[str, Any]) -> dict[str, TaskSpec]:
    """The model's view of a recipe's tasks: without what only the table needs."""
    short = {
        name: {key: value for key, value in task.items() if key not in TABLE_KEYS}
        if isinstance(task, Mapping)
        else task
        for name, task in tasks.items()
    }
    specs = parse_tasks(short)
    for name, spec in specs.items():
        if spec.kind == "multilabel":
            raise TableError(
                f"task {name!r} is multilabel: a table's cell holds one class. Use `multiclass`."
            )
    return specs


def read_table(path: Path, data: DataArguments) -> datasets.Dataset:
    """A table with one row for each meme.

    Returns:
        A dataset with the columns `row` (number as a spreadsheet shows it), `image` (absolute path or None),
        `text` (string or None) and `labels` (task name to class index, -100 where the cell is empty), in
        the order of the file.

    Raises:
        TableError: For a missing file, column, picture or label, naming the rows.
    """
    columns = _read_columns(path)
    for name in (data.image_column, *data.text_columns):
        _require_column(columns, name, path)
    images = _find_pictures(columns[data.image_column], data.path(data.image_dir), path)
    texts = [
        _first_filled(cells) for cells in zip(*(columns[name] for name in data.text_columns), strict=True)
    ]
    empty = [row for row, pair in enumerate(zip(images, texts, strict=True)) if pair == (None, None)]
    if empty:
        raise TableError(f"{path}: {_rows(empty)} have neither picture nor text: fill a cell or remove them.")
    assert isinstance(data.tasks, dict)
    specs = task_specs(data.tasks)
    by_task = {name: _read_labels(columns, spec, data.tasks[name], path) for name, spec in specs.items()}
    labels = [dict(zip(by_task, row, strict=True)) for row in zip(*by_task.values(), strict=True)]
    rows = [_row_number(row) for row in range(len(labels))]
    return datasets.Dataset.from_dict({"row": rows, "image": images, "text": texts, "labels": labels})


def hold_out(table: datasets.Dataset, share: float, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Training and validation rows; rows that share a picture or a text stay on the same side."""
    groups = _duplicate_groups(table["image"][:], table["text"][:])
    names = np.unique(groups)
    np.random.default_rng(seed).shuffle(names)
    wanted = max(1, round(share * len(table)))
    held: set[int] = set()
    for name in names:
        if len(held) >= wanted:
            break
        held.update(row for row, group in enumerate(groups) if group == name)
    rest = [row for row in range(len(table)) if row not in held]
    if not rest:
        raise TableError(
            f"holding out {share:.0%} of {len(table)} rows leaves none to train on: give more rows."
        )
    return table.select(rest), table.select(sorted(held))


def balanced_weights(
    labels: Iterable[Mapping[str, int]], specs: Mapping[str, TaskSpec]
) -> dict[str, list[float]]:
    """Class weights n / (C n_c) by task, over the labelled rows; a class without a row weighs 1."""
    rows = list(labels)
    weights = {}
    for name, spec in specs.items():
        counts = Counter(row[name] for row in rows if row[name] != IGNORE_INDEX)
        total = sum(counts.values())
        weights[name] = [
            total / (len(counts) * counts[index]) if counts[index] else 1.0
            for index in range(spec.num_labels)
        ]
    return weights


def _read_columns(path: Path) -> dict[str, list[str]]:
    """Cells by column, all of them strings: a meme may say "NA" or "007"."""
    if not path.is_file():
        raise TableError(f"no table at {path}: set `data_dir` and the file's name.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *records = csv.reader(file, strict=True)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise TableError(f"{path} is no CSV file in UTF-8 with a header: {error}") from None
    uneven = [row for row, cells in enumerate(records) if len(cells) != len(header)]
    if uneven:
        raise TableError(
            f"{path}: {_rows(uneven)} have other than the header's {len(header)} cells: put texts that "
            "contain commas or line breaks in double quotes."
        )
    if len(set(header)) != len(header):
        raise TableError(f"{path} has the columns {header}: each needs a name of its own.")
    if not records:
        raise TableError(f"{path} has a header and no rows.")
    return {name: list(cells) for name, cells in zip(header, zip(*records, strict=True), strict=True)}


def _require_column(columns: Mapping[str, Any], name: str, path: Path) -> None:
    if name not in columns:
        raise TableError(f"{path} has no column {name!r}: its columns are {list(columns)}.")


def _first_filled(cells: Sequence[str]) -> str | None:
    return next((cell for cell in cells if cell and cell.strip()), None)


def _find_pictures(names: Sequence[str], folder: Path, path: Path) -> list[str | None]:
    root = folder.resolve()
    if not root.is_dir():
        raise TableError(f"no picture folder at {folder}: set `image_dir`.")
    found: list[str | None] = []
    outside, missing = [], []
    for row, name in enumerate(names):
        if not name.strip():
            found.append(None)
            continue
        picture = (root / name).resolve()
        if not picture.is_relative_to(root):
            outside.append(row)
        elif not picture.is_file():
            missing.append(row)
        found.append(str(picture))
    if outside:
        raise TableError(
            f"{path}: {_rows(outside)} name pictures outside {folder}: only that folder is read."
        )
    if missing:
        examples = [names[row] for row in missing[:3]]
        raise TableError(
            f"{path}: {_rows(missing)} name pictures that are not in {folder} ({examples}...): "
            "correct `image_dir`, or empty the cells of pictures that do not exist."
        )
    return found


def _read_labels(columns: Mapping[str, Sequence[str]], spec: TaskSpec, task: Any, path: Path) -> list[int]:
    options = task if isinstance(task, Mapping) else {}
    column = options.get("column", spec.name)
    _require_column(columns, column, path)
    indices = {label: index for index, label in enumerate(spec.labels)}
    for spelling, label in (options.get("values") or {}).items():
        if label not in indices:
            raise TableError(
                f"task {spec.name!r} maps {spelling!r} to {label!r}: its labels are {list(spec.labels)}."
            )
        indices[str(spelling)] = indices[label]
    cells = [cell.strip() for cell in columns[column]]
    unknown = [row for row, cell in enumerate(cells) if cell and cell not in indices]
    if unknown:
        values = sorted({cells[row] for row in unknown})[:5]
        raise TableError(
            f"{path}: column {column!r} has values that task {spec.name!r} does not know, {values} in "
            f"{_rows(unknown)}: add them to the task's `labels`, or say in `values` what they stand for."
        )
    return [indices[cell] if cell else IGNORE_INDEX for cell in cells]


def _duplicate_groups(images: Sequence[str | None], texts: Sequence[str | None]) -> list[int]:
    """A number for each row, the same for rows joined by a picture or a text."""
    parent = list(range(len(images)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, (image, text) in enumerate(zip(images, texts, strict=True)):
        keys = [("image", image)] if image else []
        keys += [("text", " ".join(text.lower().split()))] if text else []
        for key in keys:
            parent[find(row)] = find(first.setdefault(key, row))
    return [find(row) for row in range(len(images))]


def _row_number(row: int) -> int:
    """As a spreadsheet shows it: the header is row 1."""
    return row + 2


def _rows(rows: Sequence[int]) -> str:
    """Row numbers in words."""
    shown = ", ".join(str(_row_number(row)) for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row {shown}" if len(rows) == 1 else f"rows {shown}{more}"
