"""Text files of tables: their encoding and delimiter, and lines of CSV and JSON Lines as cells."""

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmorient.recipes.text_formats import UTF8
from mmorient.tables.problems import TableError

DELIMITERS = (",", ";", "\t", "|")
# More than any cell needs, and far less than memory: a file without line breaks is no table.
LONGEST_LINE = 1 << 26
# How files begin that are no text, and what to do with them.
OTHER_FILES = {
    b"\x1f\x8b": "it is a gzip archive: unpack it",
    b"\xfd7zXZ\x00": "it is an xz archive: unpack it",
    b"\x28\xb5\x2f\xfd": "it is a Zstandard archive: unpack it",
    b"PK\x03\x04": "it is a zip archive or a workbook: unpack it, or name it .xlsx",
    b"\xd0\xcf\x11\xe0": "it is an old or a locked workbook: save it as .xlsx without a password, or as CSV",
    b"PAR1": "it is a Parquet file: name it .parquet",
}
# The longer ones first: UTF-32's begins with UTF-16's.
BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": UTF8,
}
SNIFFED_BYTES = 4096
SHOWN_CHARACTERS = 200
# Python's own limit, 131,072, is below texts that JSON Lines hold; without one, an open quote would keep the
# whole rest of a file in memory.
MOST_CHARACTERS = 2**24
# Of lists and objects in JSON, far below what recursion bears: whatever follows may walk through a cell.
MOST_LEVELS = 64
# How Python keeps bytes that an encoding does not know.
UNKNOWN_BYTES = re.compile("[\udc80-\udcff]")


def why_no_text(path: Path, encoding: str) -> str | None:
    """What is wrong with a file as text in this encoding, as far as its first bytes tell; None for nothing.

    Raises:
        TableError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
            file.seek(max(0, path.stat().st_size - 4))
            end = file.read(4)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}") from None
    for mark, reason in OTHER_FILES.items():
        # A text may begin with the letters PAR1; a Parquet file also ends with them.
        if start.startswith(mark) and (mark != b"PAR1" or end == mark):
            return reason
    found = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if found is None and start.count(0) > len(start) / 4:
        found = "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    if found is None or codecs.lookup(encoding).name.startswith(found[:6]):
        return None
    return f"it is {found.upper()}: set `encoding` to {found}, or save it as UTF-8"


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file, ends included, without a byte order mark.

    Bytes that the encoding does not know become surrogates, see `UNKNOWN_BYTES`.

    Raises:
        TableError: If the file cannot be read or decoded at all, or a line is longer than `LONGEST_LINE`.
    """
    number = 0
    try:
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
                    raise TableError(
                        f"{path} has more than {LONGEST_LINE} characters in line {number}: it is no table."
                    )
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        raise TableError(
            f"{path} cannot be read as {encoding} after line {number}: {error}. Set `encoding` to what it "
            "was saved in."
        ) from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}") from None


def delimiter_hint(header: Sequence[str], delimiter: str) -> str:
    """Which other delimiter a header of a single cell seems to have, for a message; empty for none."""
    if header[0].startswith("{"):
        return " Its first line looks like JSON: name it .jsonl."
    if len(header) != 1:
        return ""
    count, other = max((header[0].count(character), character) for character in DELIMITERS)
    if not count:
        return ""
    return f" Its first line has no {delimiter!r} and {count} of {other!r}: set `delimiter` to {other!r}."


class _Lines(Iterator[str]):
    """Lines for a CSV reader, which can be given back when they turn out to be no record."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: deque[str] = deque()
        self._number = 0
        self.record: list[str] = []

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self._number += 1
        self.record.append(line)
        return line

    @property
    def first(self) -> int:
        """Number of the record's first line in the file, from 1."""
        return self._number - len(self.record) + 1

    def give_back_all_but_first(self) -> None:
        first, *others = self.record
        self._returned.extendleft(reversed(others))
        self._number -= len(others)
        self.record = [first]


def csv_records(path: Path, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str], str | None]]:
    """The file's line, the cells of every row, the header included, and what is wrong with it.

    An open quote can swallow all that follows, so where reading fails it goes on with the very next line.

    Args:
        path: A CSV file.
        delimiter: What stands between its cells.
        encoding: Of the file.
    """
    # Of the whole process: it can only be raised.
    csv.field_size_limit(max(csv.field_size_limit(), MOST_CHARACTERS))
    lines = _Lines(text_lines(path, encoding))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.record.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.give_back_all_but_first()
            yield lines.first, [], f"{_reason(error)}, in {shown(lines.record[0])}"
            continue
        if any(map(_has_unknown_bytes, lines.record)):
            yield lines.first, [UNKNOWN_BYTES.sub("\ufffd", cell) for cell in cells], _not_in(encoding)
        else:
            yield lines.first, cells, None


def _reason(error: csv.Error) -> str:
    if "field limit" not in str(error):
        return str(error)
    return f"a cell of more than {MOST_CHARACTERS:,} characters: is a quote not closed?"


def _has_unknown_bytes(line: str) -> bool:
    return not line.isascii() and UNKNOWN_BYTES.search(line) is not None


def _not_in(encoding: str) -> str:
    return (
        f"it is not {encoding.upper()}: set `encoding` to what the table was saved in, such as cp1252 "
        "(Windows), or save it as UTF-8"
    )


def shown(line: str) -> str:
    """The start of a line, for a message."""
    text = UNKNOWN_BYTES.sub("\ufffd", line.rstrip("\r\n"))
    return repr(text) if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]!r}..."


def json_records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    """The number, cells by name and what is wrong with every line, up to blank ones at the end."""
    blank = 0  # lines so far; at the end of the table they are no rows
    for number, line in enumerate(text_lines(path, encoding), 1):
        if not line.strip():
            blank += 1
            continue
        for earlier in range(number - blank, number):
            yield earlier, {}, "it is blank"
        blank = 0
        try:
            yield number, _json_object(line, encoding), None
        except (ValueError, RecursionError) as error:
            yield number, {}, f"{error}, in {shown(line)}"


def _json_object(line: str, encoding: str) -> dict[str, Any]:
    if _has_unknown_bytes(line):
        raise ValueError(_not_in(encoding))
    record = json.loads(line.strip(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__}")
    # Only a line with so many brackets can be nested so deeply.
    if line.count("[") + line.count("{") > MOST_LEVELS and _is_deeper(record, MOST_LEVELS):
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    return record


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(entry, levels - 1) for entry in inner)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError(f"it names a key twice, of {[key for key, _ in pairs]}")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value: write null")
