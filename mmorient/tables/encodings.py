"""Text files of tables: their encoding, their delimiter, and what a file is that is no text."""

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path

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

    Bytes that the encoding does not know become surrogates, see `UNKNOWN_BYTES` in `lines.py`.

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
