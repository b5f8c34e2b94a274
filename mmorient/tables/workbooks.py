"""Workbooks (`.xlsx`), read a row at a time by openpyxl."""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mmorient.tables.chunks import TableStream, check_columns, gather_chunks, rows_below_header
from mmorient.tables.problems import TableError

# What the format allows at most.
MOST_ROWS = 1 << 20
# openpyxl holds the texts of a workbook in memory, and each row: more bytes than this, unpacked, in one part
# of a workbook, or more than this many times its packed size in a part that is not small, are too many.
MOST_BYTES, SMALL_BYTES, MOST_PACKED = 1 << 28, 1 << 22, 200
# Rows of a sheet that are looked at to see whether there is anything on it.
FIRST_ROWS = 100


def open_workbook(path: Path) -> TableStream:
    """The only sheet of a workbook that has cells and is not hidden, its rows numbered as they are there.

    Formulas count with the values that they were saved with.

    Raises:
        TableError: If openpyxl is not installed, or the file is no workbook with such a sheet and a header.
    """
    _, cells, problem = next(_records(path), (1, [], "it is empty"))
    if problem is None and not cells:
        problem = "its first row is blank"
    if problem is None and None in cells:
        problem = f"column {cells.index(None) + 1} has no name"
    if problem is not None:
        raise TableError(f"{path} is no workbook with a header: {problem}.")
    header = [str(cell) for cell in cells]
    check_columns(header, path)
    return TableStream(
        str(path),
        header,
        lambda size: gather_chunks(
            rows_below_header(_table_records(path, header), len(header), None), header, size
        ),
        [path],
        form=f"none has cells beyond the {len(header)} of the header",
    )


def _table_records(path: Path, header: list[str]) -> Iterator[tuple[int, list[Any], str | None]]:
    for number, cells, problem in islice(_records(path), 1, None):
        # Empty cells at the end of a row are not saved.
        yield number, [*cells, *[None] * (len(header) - len(cells))] if cells else cells, problem


def _records(path: Path) -> Iterator[tuple[int, list[Any], str | None]]:
    """The number and the cells of every row, none of them behind its last cell that is not empty."""
    try:
        import openpyxl
    except ImportError:
        raise TableError(
            f"{path} is a workbook, and openpyxl is not installed: pip install 'mmorient[xlsx]', or "
            "save it as CSV."
        ) from None
    try:
        _require_small_parts(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            # What a sheet says of its own size need not be true.
            for sheet in book.worksheets:
                sheet.reset_dimensions()
            for number, row in enumerate(_only_sheet(book.worksheets, path).iter_rows(values_only=True), 1):
                if number > MOST_ROWS:
                    raise TableError(f"{path} has more than {MOST_ROWS} rows: save it as CSV or Parquet.")
                cells = list(row)
                while cells and cells[-1] is None:
                    cells.pop()
                yield number, cells, None
        finally:
            book.close()
    except TableError:
        raise
    except Exception as error:  # of zipfile, of the XML parser, of openpyxl
        raise TableError(
            f"{path} is no .xlsx workbook, is protected by a password, or is damaged: save it again, or as "
            f"CSV ({type(error).__name__}: {error})."
        ) from None


def _require_small_parts(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            unpacked = part.file_size
            if unpacked > MOST_BYTES or unpacked > max(SMALL_BYTES, MOST_PACKED * part.compress_size):
                raise TableError(
                    f"{path} holds {part.filename!r} of {unpacked} bytes (packed {part.compress_size}), "
                    "which is too much for a workbook: save it as CSV or Parquet."
                )


def _only_sheet(sheets: list[Any], path: Path) -> Any:
    used = [
        sheet
        for sheet in sheets
        if sheet.sheet_state == "visible"
        and any(
            cell is not None for row in islice(sheet.iter_rows(values_only=True), FIRST_ROWS) for cell in row
        )
    ]
    if len(used) > 1:
        raise TableError(
            f"{path} has cells on the sheets {[sheet.title for sheet in used]}: save the one that is the "
            "table as a workbook of its own, or as CSV."
        )
    if not used:
        raise TableError(f"{path} has no sheet with cells.")
    return used[0]
