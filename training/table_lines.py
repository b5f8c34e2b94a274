"""Lines of CSV and JSON Lines to cells and, where they are malformed, to the reason."""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHOWN_CHARACTERS = 200
# How Python keeps bytes that are not UTF-8.
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


class _Lines(Iterator[str]):
    """Lines for a CSV reader, which can be given back when they turn out to be no record."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: deque[str] = deque()
        self.record: list[str] = []

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.record.append(line)
        return line

    def give_back_all_but_first(self) -> str:
        first, *others = self.record
        self._returned.extendleft(reversed(others))
        return first


def csv_records(path: Path, delimiter: str) -> Iterator[tuple[list[str], str | None]]:
    """The cells of every row, the header included, and what is wrong with it.

    An open quote can swallow all that follows, so where reading fails it goes on with the very next line.

    Args:
        path: A CSV file.
        delimiter: What stands between its cells.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            lines.record.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield [], f"{error}, in {shown(lines.give_back_all_but_first())}"
                continue
            if any(map(_is_not_utf8, lines.record)):
                yield [_ESCAPED_BYTES.sub("\ufffd", cell) for cell in cells], "it is not UTF-8"
            else:
                yield cells, None


def _is_not_utf8(line: str) -> bool:
    return not line.isascii() and _ESCAPED_BYTES.search(line) is not None


def shown(line: str) -> str:
    """The start of a line, for a message."""
    text = _ESCAPED_BYTES.sub("\ufffd", line.rstrip("\r\n"))
    return repr(text) if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]!r}..."


def json_records(path: Path) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    """The number, cells by name and what is wrong with every line, up to blank ones at the end."""
    blank = 0  # lines so far; at the end of the table they are no rows
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                blank += 1
                continue
            for earlier in range(number - blank, number):
                yield earlier, {}, "it is blank"
            blank = 0
            try:
                yield number, _json_object(line), None
            except (ValueError, RecursionError) as error:
                yield number, {}, f"{error}, in {shown(line)}"


def _json_object(line: str) -> dict[str, Any]:
    if _is_not_utf8(line):
        raise ValueError("it is not UTF-8")
    record = json.loads(line.strip(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__}")
    return record


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError(f"it names a key twice, of {[key for key, _ in pairs]}")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value: write null")
