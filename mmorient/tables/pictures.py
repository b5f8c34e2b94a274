"""The pictures of a table: found in their folder, read, and summed up in fingerprints."""

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.picture_fingerprints import Fingerprint
from mmorient.tables.picture_hints import near_misses
from mmorient.tables.problems import Problem, TableError
from mmorient.tables.table import Table

# Of pictures as `datasets.Image` stores them.
PICTURE_FIELDS = {"bytes", "path"}


@dataclass(frozen=True)
class PictureSources:
    """Where the pictures of a table's rows are.

    Args:
        files: Whole picture files (binary) where the table holds any.
        paths: Absolute paths; None where there is no such file, or where the table holds the picture.
        names: What the table calls each picture; None where it has none.
        invalid: By row, the kind of a cell that is neither a name nor a picture.
        outside: Rows that name something outside the picture folder.
        missing: Rows that name no file in it.
    """

    files: pa.ChunkedArray | None
    paths: list[str | None]
    names: list[str | None]
    invalid: dict[int, str]
    outside: list[int]
    missing: list[int]

    def __getitem__(self, row: int) -> str | bytes | None:
        """Path or bytes of a row's picture; None where it has none that can be used."""
        file = None if self.files is None else self.files[row].as_py()
        return self.paths[row] if file is None else file


@dataclass(frozen=True)
class Pictures:
    """The pictures of a table's rows.

    Args:
        values: Absolute paths (string), or whole files (binary); null where there is no usable picture.
        names: What the table calls each picture; None where it names none.
        fingerprints: None where there is no usable picture.
        unreadable: By row, why a picture cannot be read.
        problems: What is wrong, for a person.
    """

    values: pa.ChunkedArray
    names: list[str | None]
    fingerprints: list[Fingerprint | None]
    unreadable: dict[int, str]
    problems: list[Problem]


def read_pictures(table: Table, column: str, folder: Path, known: FingerprintCache | None = None) -> Pictures:
    """Find and read every picture of a table.

    Args:
        table: The table.
        column: File names; or pictures as `datasets.Image` stores them, or the bytes of picture files.
        folder: Where file names start; no picture outside it is read, also not by way of a link.
        known: Fingerprints of pictures that need not be read again; None: all are read.

    Raises:
        TableError: If the column holds something else, or a name leads out of the folder.
    """
    sources = find_pictures(table, column, folder)
    values, names = _values(table, column, sources), sources.names
    problems: list[Problem] = []
    if sources.invalid:
        kind = next(iter(sources.invalid.values()))
        raise TableError(
            f"{table.name}: {table.where(list(sources.invalid))} have a {kind} in column {column!r}: "
            "give file names or pictures."
        )
    if sources.outside:
        raise TableError(
            f"{table.name}: {table.where(sources.outside)} name pictures outside {folder}: only that folder "
            "is read."
        )
    if sources.missing:
        missing = {row: repr(names[row]) for row in sources.missing}
        examples = ", ".join(list(missing.values())[:3])
        hint = near_misses([str(names[row]) for row in missing], folder)
        count = sum(name is not None for name in names)
        problems.append(
            Problem(
                "missing_pictures",
                f"{table.name}: {table.where(sources.missing)} name pictures that are not in {folder}, "
                f"{len(sources.missing)} of {count} (such as {examples}): correct `image_dir`, or empty the "
                f"cells of pictures that do not exist.{hint}",
                table.findings(missing),
            )
        )
    scanned = _scan(values, table.name, known or FingerprintCache())
    unreadable = {row: result for row, result in enumerate(scanned) if isinstance(result, str)}
    if unreadable:
        named = "; ".join(f"{names[row]}: {reason}" for row, reason in list(unreadable.items())[:3])
        problems.append(
            Problem(
                "unreadable_pictures",
                f"{table.name}: {table.where(list(unreadable))} have pictures that cannot be read ({named}): "
                "replace them, or empty their cells.",
                table.findings({row: f"{names[row]}: {reason}" for row, reason in unreadable.items()}),
            )
        )
        values = pc.if_else(pa.array([row in unreadable for row in range(len(table))]), None, values)
    fingerprints = [result if isinstance(result, Fingerprint) else None for result in scanned]
    return Pictures(values, names, fingerprints, unreadable, problems)


def find_pictures(table: Table, column: str, folder: Path) -> PictureSources:
    """Where every picture of a table is. No picture is read.

    Args:
        table, column, folder: As in [`read_pictures`].

    Raises:
        TableError: If there is no such column, it holds records that are no pictures, or it names pictures
            and there is no folder.
    """
    table.require(column)
    cells = table.columns[column]
    files: pa.ChunkedArray | None = None
    if isinstance(cells, pa.ChunkedArray) and pa.types.is_struct(cells.type):
        fields = {cells.type.field(index).name for index in range(cells.type.num_fields)}
        if fields != PICTURE_FIELDS:
            raise TableError(
                f"{table.name}: column {column!r} holds records of {sorted(fields)}: "
                "give file names or pictures."
            )
        # Whole pictures soon exceed the 2 GB that 32-bit offsets reach.
        files = pc.struct_field(cells, "bytes").cast(pa.large_binary())
        cells = pc.if_else(files.is_null(), pc.struct_field(cells, "path"), None)
    elif isinstance(cells, pa.ChunkedArray) and holds_bytes(cells.type):
        files, cells = cells, [None] * len(cells)
    cells = table.take(cells)
    names = cells.to_pylist() if isinstance(cells, pa.ChunkedArray) else list(cells)
    sources = _find(names, folder)
    if files is None or files.null_count == len(files):
        return sources
    stored: Any = table.take(files)
    whole = [
        f"the picture in {table.unit} {number}" if valid else name
        for number, valid, name in zip(table.numbers, stored.is_valid().to_pylist(), names, strict=True)
    ]
    return replace(sources, files=stored, names=whole)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type are whole files."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _values(table: Table, column: str, sources: PictureSources) -> pa.ChunkedArray:
    if sources.files is None:
        return pa.chunked_array([pa.array(sources.paths, pa.string())])
    whole = sources.files.is_valid().to_pylist()
    if any(name is not None and not valid for name, valid in zip(sources.names, whole, strict=True)):
        raise TableError(
            f"{table.name}: column {column!r} holds some pictures whole and names others: "
            "save it again with all of them inside."
        )
    return sources.files


def _find(cells: Sequence[Any], folder: Path) -> PictureSources:
    root = folder.resolve()
    invalid = {row: type(cell).__name__ for row, cell in enumerate(cells) if not isinstance(cell, str | None)}
    names = [cell if isinstance(cell, str) and cell.strip() else None for cell in cells]
    if any(names) and not root.is_dir():
        raise TableError(f"no picture folder at {folder}: set `image_dir`.")
    resolve = _resolver(str(root))
    found = [None if name is None else resolve(name) for name in names]
    inside = os.path.join(root, "")
    outside = [
        row for row, path in enumerate(found) if path is not None and not f"{path}{os.sep}".startswith(inside)
    ]
    gone = set(outside)
    missing = [
        row
        for row, path in enumerate(found)
        if path is not None and row not in gone and not os.path.isfile(path)
    ]
    gone.update(missing)
    paths = [None if row in gone else path for row, path in enumerate(found)]
    return PictureSources(None, paths, names, invalid, outside, missing)


def _resolver(root: str) -> Callable[[str], str]:
    """What turns a picture's name into its absolute path without links; each folder is looked at once."""
    real_folder = cache(_real_path)

    def resolve(name: str) -> str:
        folder, file = os.path.split(os.path.join(root, name))
        try:
            if "\0" in name:
                raise ValueError(name)
            if file in ("", os.curdir, os.pardir):
                return _real_path(os.path.join(folder, file))
            path = os.path.join(real_folder(folder), file)
            return _real_path(path) if os.path.islink(path) else path
        except (OSError, ValueError):
            return os.path.join(root, "no such picture")

    return resolve


def _real_path(path: str) -> str:
    """The path without links.

    Raises:
        OSError: If links lead in a circle, of which `realpath` gives something that may still hold links.
    """
    real = os.path.realpath(path)
    if os.path.realpath(real) != real:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return real


def _scan(values: pa.ChunkedArray, name: str, known: FingerprintCache) -> list[Fingerprint | str | None]:
    def scan(row: int) -> Fingerprint | str | None:
        value = values[row].as_py()
        try:
            return None if value is None else known.fingerprint(value)
        except (ValueError, OSError) as error:
            return str(error)

    # Decoders do not hold the interpreter's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = pool.map(scan, range(len(values)))
        return list(tqdm(rows, f"pictures of {name}", len(values), unit="picture", delay=2))
