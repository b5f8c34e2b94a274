"""The pictures of a table: found in their folder, read once, and summed up in fingerprints."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from tqdm.auto import tqdm

from modeling_mmorient.image_input import load_picture
from training.problems import Problem, TableError
from training.tables import Table

HASH_SIZE = 16


@dataclass(frozen=True)
class Fingerprint:
    """What duplicates are recognized by.

    Args:
        digest: Of the file's bytes; equal for copies.
        gradient: dHash, (HASH_SIZE²,) booleans: whether a cell of the shrunk gray picture is brighter than
            its left neighbour.
        cells: (HASH_SIZE², 3) colors, 0 to 255: the shrunk picture.
    """

    digest: bytes
    gradient: np.ndarray
    cells: np.ndarray


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


def read_pictures(table: Table, column: str, folder: Path) -> Pictures:
    """Find and read every picture of a table.

    Args:
        table: The table.
        column: File names; or pictures as `datasets.Image` stores them, or the bytes of picture files.
        folder: Where file names start; no picture outside it is read, also not by way of a link.

    Raises:
        TableError: If the column holds something else, or a name leads out of the folder.
    """
    values, names, problems = _sources(table, column, folder)
    scanned = _scan(values, table.name)
    unreadable = {row: result for row, result in enumerate(scanned) if isinstance(result, str)}
    if unreadable:
        named = "; ".join(f"{names[row]}: {reason}" for row, reason in list(unreadable.items())[:3])
        problems.append(
            Problem(
                "unreadable_pictures",
                f"{table.name}: {table.where(list(unreadable))} have pictures that cannot be read ({named}): "
                "replace them, or empty their cells.",
            )
        )
        values = pc.if_else(pa.array([row in unreadable for row in range(len(table))]), None, values)
    fingerprints = [result if isinstance(result, Fingerprint) else None for result in scanned]
    return Pictures(values, names, fingerprints, unreadable, problems)


def _sources(
    table: Table, column: str, folder: Path
) -> tuple[pa.ChunkedArray, list[str | None], list[Problem]]:
    table.require(column)
    values = table.columns[column]
    if isinstance(values, pa.ChunkedArray) and pa.types.is_struct(values.type):
        fields = {values.type.field(index).name for index in range(values.type.num_fields)}
        if fields != {"bytes", "path"}:
            raise TableError(
                f"{table.name}: column {column!r} holds records of {sorted(fields)}: "
                "give file names or pictures."
            )
        paths = pc.struct_field(values, "path")
        # Whole pictures soon exceed the 2 GB that 32-bit offsets reach.
        values = pc.struct_field(values, "bytes").cast(pa.large_binary())
        if values.null_count == len(values):
            values = paths
        elif pc.any(pc.and_(values.is_null(), paths.is_valid())).as_py():
            raise TableError(
                f"{table.name}: column {column!r} holds some pictures whole and names others: "
                "save it again with all of them inside."
            )
    values = table.take(values)
    if isinstance(values, pa.ChunkedArray) and (
        pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    ):
        names = [
            f"the picture in {table.unit} {number}" if valid else None
            for number, valid in zip(table.numbers, values.is_valid().to_pylist(), strict=True)
        ]
        return values, names, []
    cells = values.to_pylist() if isinstance(values, pa.ChunkedArray) else values
    return _find(table, column, cells, folder)


def _find(
    table: Table, column: str, cells: Sequence[Any], folder: Path
) -> tuple[pa.ChunkedArray, list[str | None], list[Problem]]:
    root = folder.resolve()
    wrong = [row for row, cell in enumerate(cells) if not isinstance(cell, str | None)]
    if wrong:
        kind = type(cells[wrong[0]]).__name__
        raise TableError(
            f"{table.name}: {table.where(wrong)} have a {kind} in column {column!r}: "
            "give file names or pictures."
        )
    names = [cell if cell and cell.strip() else None for cell in cells]
    if any(names) and not root.is_dir():
        raise TableError(f"no picture folder at {folder}: set `image_dir`.")
    found = [None if name is None else _resolve(root, name) for name in names]
    outside = [row for row, path in enumerate(found) if path is not None and not path.is_relative_to(root)]
    if outside:
        raise TableError(
            f"{table.name}: {table.where(outside)} name pictures outside {folder}: only that folder is read."
        )
    usable = [str(path) if path is not None and path.is_file() else None for path in found]
    missing = [row for row, name in enumerate(names) if name is not None and usable[row] is None]
    problems = []
    if missing:
        examples = ", ".join(repr(names[row]) for row in missing[:3])
        named = sum(name is not None for name in names)
        problems.append(
            Problem(
                "missing_pictures",
                f"{table.name}: {table.where(missing)} name pictures that are not in {folder}, "
                f"{len(missing)} of {named} (such as {examples}): correct `image_dir`, or empty the cells of "
                "pictures that do not exist.",
            )
        )
    return pa.chunked_array([pa.array(usable, pa.string())]), names, problems


def _resolve(root: Path, name: str) -> Path:
    try:
        path = (root / name).resolve()
        path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, links in a circle
        return root / "no such picture"
    return path


def _scan(values: pa.ChunkedArray, name: str) -> list[Fingerprint | str | None]:
    by_path = cache(fingerprint)

    def scan(row: int) -> Fingerprint | str | None:
        value = values[row].as_py()
        try:
            if isinstance(value, str):
                return by_path(value)
            return None if value is None else fingerprint(value)
        except (ValueError, OSError) as error:
            return str(error)

    # Decoders do not hold the interpreter's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = pool.map(scan, range(len(values)))
        return list(tqdm(rows, f"pictures of {name}", len(values), unit="picture", delay=2))


def fingerprint(source: str | bytes) -> Fingerprint:
    """Read a picture, from its path or its bytes, the way the processor will.

    Raises:
        ValueError: If it cannot be read.
    """
    content = Path(source).read_bytes() if isinstance(source, str) else source
    picture = load_picture(content)
    # A cell is the mean of what it covers: noise, scaling and recompression hardly change it.
    gray = np.asarray(picture.resize((HASH_SIZE + 1, HASH_SIZE), Image.Resampling.BOX).convert("L"))
    cells = np.asarray(picture.resize((HASH_SIZE, HASH_SIZE), Image.Resampling.BOX)).reshape(-1, 3)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Fingerprint(digest, (gray[:, 1:] > gray[:, :-1]).reshape(-1), cells)
