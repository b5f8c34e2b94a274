"""The pictures of a table: found in their folder, read, and summed up in fingerprints."""

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.image_fingerprints import Fingerprint
from mmorient.tables.image_hints import near_misses
from mmorient.tables.problems import Problem, TableError
from mmorient.tables.table import Table

# Of pictures as `datasets.Image` stores them.
IMAGE_FIELDS = {"bytes", "path"}


class Images(NamedTuple):
    """The pictures of a table's rows.

    Args:
        files: By row an absolute path, or a whole file in Arrow's memory; None where there is no usable
            picture.
        fingerprints: By row; None where there is no usable picture, or none was read.
        problems: What is wrong.
    """

    files: list[str | pa.Buffer | None]
    fingerprints: list[Fingerprint | None]
    problems: list[Problem]


def read_images(table: Table, column: str, folder: Path, known: FingerprintCache | None) -> Images:
    """Find every picture of a table, and read it if asked to. What is wrong is returned, not raised.

    Args:
        table: The table.
        column: File names; or pictures as `datasets.Image` stores them, or the bytes of picture files.
        folder: Where file names start; no picture outside it is read, also not by way of a link.
        known: Reads pictures, but for those whose fingerprints it has. None: none is read, and the folder is
            not searched for pictures of other names.

    Raises:
        TableError: If there is no such column, or it names pictures and there is no folder.
    """
    names, files, problems = _cells(table, column)
    if any(names) and not folder.is_dir():
        raise TableError(f"no picture folder at {folder}: set `image_dir`.")
    outside, missing = {}, {}
    root = str(folder.resolve())
    resolve = _resolver(root)
    for row, name in enumerate(names):
        if name is None:
            continue
        path = resolve(name)
        if not f"{path}{os.sep}".startswith(os.path.join(root, "")):
            outside[row] = f"{name!r}; only {folder} is read"
        elif not os.path.isfile(path):
            missing[row] = f"there is no {name!r} in {folder}"
        else:
            files[row] = path
    if outside:
        message = f"{table.where(list(outside))} name pictures outside {folder}: only that folder is read."
        problems.append(table.problem("outside_pictures", outside, message))
    if missing:
        gone = [str(names[row]) for row in missing]
        number = sum(file is not None for file in files) + len(outside) + len(missing)
        message = (
            f"{table.where(list(missing))} name pictures that are not in {folder}, {len(missing)} of "
            f"{number} (such as {', '.join(map(repr, gone[:3]))}): correct `image_dir`, or empty the cells "
            f"of pictures that do not exist.{'' if known is None else near_misses(gone, folder)}"
        )
        problems.append(table.problem("missing_pictures", missing, message))
    if known is None:
        return Images(files, [None] * len(table), problems)
    scanned = _scan(files, table.name, known)
    unreadable = {row: result for row, result in enumerate(scanned) if isinstance(result, str)}
    if unreadable:
        for row, reason in unreadable.items():
            name = names[row] or f"the picture in {table.unit} {table.numbers[row]}"
            unreadable[row], files[row] = f"{name}: {reason}", None
        message = (
            f"{table.where(list(unreadable))} have pictures that cannot be read "
            f"({'; '.join(list(unreadable.values())[:3])}): replace them, or empty their cells."
        )
        problems.append(table.problem("unreadable_pictures", unreadable, message))
    return Images(files, [None if isinstance(found, str) else found for found in scanned], problems)


def _cells(table: Table, column: str) -> tuple[list[str | None], list[Any], list[Problem]]:
    """By row a picture's name, or else its whole file (Arrow's buffer); and what is neither."""
    table.require(column)
    cells = table.columns[column]
    files: list[pa.Buffer | None] = [None] * len(table)
    names: list[Any] = files
    if isinstance(cells, pa.ChunkedArray) and (fields := other_fields(cells.type)) is not None:
        rows = [row for row, valid in enumerate(table.take(cells.is_valid())) if valid.as_py()]
        details = dict.fromkeys(rows, f"a record of {fields} in column {column!r}: give a file name")
        message = f"column {column!r} holds records of {fields}: give file names or pictures."
        return [None] * len(table), files, [table.problem("invalid_cells", details, message)]
    if isinstance(cells, pa.ChunkedArray) and pa.types.is_struct(cells.type):
        files = _buffers(table, pc.struct_field(cells, "bytes"))
        names = table.take(pc.struct_field(cells, "path")).to_pylist()  # type: ignore[union-attr]
        names = [name if file is None else None for name, file in zip(names, files, strict=True)]
    elif isinstance(cells, pa.ChunkedArray) and holds_bytes(cells.type):
        files = _buffers(table, cells)
    else:
        names = table.cells(column)
    invalid = {row: type(name).__name__ for row, name in enumerate(names) if not isinstance(name, str | None)}
    names = [name if isinstance(name, str) and name.strip() else None for name in names]
    if not invalid:
        return names, files, []
    details = {row: f"a {kind} in column {column!r}: give a file name" for row, kind in invalid.items()}
    message = (
        f"{table.where(list(invalid))} have a {next(iter(invalid.values()))} in column {column!r}: give file "
        "names or pictures."
    )
    return names, files, [table.problem("invalid_cells", details, message)]


def _buffers(table: Table, cells: pa.ChunkedArray) -> list[pa.Buffer | None]:
    """Whole files where they are, in memory or on a disk that is mapped into it: none is copied."""
    cells = cells.cast(pa.large_binary())
    return [cells[row].as_buffer() for row in (range(len(table)) if table.rows is None else table.rows)]


def other_fields(kind: pa.DataType) -> list[str] | None:
    """Of records that are no pictures as `datasets.Image` stores them, the fields; None for other cells."""
    if not pa.types.is_struct(kind):
        return None
    fields = {kind.field(index).name for index in range(kind.num_fields)}
    return sorted(fields) if fields != IMAGE_FIELDS else None


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type are whole files."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


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


def _scan(files: Sequence[Any], name: str, known: FingerprintCache) -> list[Fingerprint | str | None]:
    def scan(file: str | pa.Buffer | None) -> Fingerprint | str | None:
        try:
            if file is None:
                return None
            return known.fingerprint(file if isinstance(file, str) else file.to_pybytes())
        except (ValueError, OSError) as error:
            return str(error)

    # Decoders do not hold the interpreter's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(tqdm(pool.map(scan, files), f"pictures of {name}", len(files), unit="picture", delay=2))
