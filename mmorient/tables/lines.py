"""Lines of CSV and JSON Lines to cells and, where they are malformed, to the reason."""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmorient.tables.encodings import text_lines

SHOWN_CHARACTERS = 200
# Python's own limit, 131,072, is below texts that JSON Lines hold; without one, an open quote would keep the
# whole rest of a file in memory.
MOST_CHARACTERS = 2**24
# Of lists and objects in JSON, far below what recursion bears: whatever follows may walk through a cell.
MOST_LEVELS = 64
# How Python keeps bytes that an encoding does not know.
UNKNOWN_BYTES = re.compile("[\udc80-\udcff]")


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
