"""Tables of text with hostile content, and what stands where a table should."""

import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from harness import LARGE

TASKS = {"mood": ["bad", "so-so", "good"], "about": {"labels": ["politics", "animals"], "kind": "multilabel"}}
TEXTS = [f"green cat {'again ' * (row % 3)}number {row}" for row in range(12)]
ROWS: list[dict[str, Any]] = [
    {
        "image": ("a.png", "b.png", "")[row % 3],
        "text": text,
        "mood": ("good", "bad", "so-so", "")[row % 4],
        "about": ("politics", "", "animals,politics")[row % 3],
    }
    for row, text in enumerate(TEXTS)
]
HEADER = "image,text,mood,about\n"


class Hostile(NamedTuple):
    """A table.

    Args:
        title: What is hostile about it.
        file: Its name.
        content: Of the file; or a function that makes it at a path.
        texts: Of its rows, where it must be read; None where it may be refused as well.
    """

    title: str
    file: str
    content: bytes | str | Callable[[Path], object]
    texts: list[str] | None = None

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content if isinstance(self.content, bytes) else self.content.encode())
        return path


def csv_text(rows: Iterable[dict[str, Any]] = ROWS, delimiter: str = ",", end: str = "\n") -> str:
    kept = list(rows)
    lines = [[*kept[0]], *([f'"{cell}"' for cell in row.values()] for row in kept)]
    return "".join(delimiter.join(line) + end for line in lines)


def json_text(rows: Iterable[Any] = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def row_of(**cells: Any) -> list[dict[str, Any]]:
    return [*ROWS, {**ROWS[0], **cells}]


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("t.csv", content)
    return file.getvalue()


def in_chunks() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=5)
    return file.getvalue()


COUNT = len(ROWS)
LONG = "green " * 180_000  # over 1 MB


def separated() -> Iterator[Hostile]:
    plain = csv_text()
    yield Hostile("plain", "t.csv", plain, TEXTS)
    for title, content in {
        "empty": b"",
        "header alone": HEADER,
        "header without an end": HEADER.strip(),
        "blank lines alone": "\n\n\n",
        "a mark alone": b"\xef\xbb\xbf",
        "a NUL alone": b"\0",
        "a quote alone": '"',
        "NULs": b"\0" * 5000,
        "random bytes": random.Random(0).randbytes(5000),
        "gzip": gzip.compress(plain.encode(), mtime=0),
        "zip": zipped(plain.encode()),
        "Parquet": in_chunks(),
        "JSON Lines": json_text(),
        "a JSON list": json.dumps(ROWS),
        "a web page": "<!DOCTYPE html><html><body>Sign in</body></html>",
        "columns twice": HEADER.replace("mood", "text") + "a.png,x,y,z\n",
        "columns without a name": ",,,\na.png,x,good,\n",
        "columns with spaces": " image , text , mood , about \na.png,x,good,\n",
        "columns in capitals": HEADER.upper() + "a.png,x,good,\n",
        "a column of 100 kB": HEADER.replace("about", "x" * 100_000) + "a.png,x,good,\n",
        "an unclosed header": '"' + plain,
        "a NUL in the header": plain.replace("mood", "mo\0od"),
        "bytes in the header": plain.encode().replace(b"mood", b"mo\xffod"),
        "a separator line": "sep=,\n" + plain,
        "Latin-1": plain.replace("green", "grün").encode("latin-1"),
        "semicolons": csv_text(delimiter=";"),
        "tabs": csv_text(delimiter="\t"),
        "unclosed quotes": plain.replace('"green', 'green"', 1),
        "an unclosed last cell": plain.rstrip()[:-1],
        "short rows": plain + "a.png,x\n",
        "long rows": plain + "a.png,x,good,,,,,,\n",
        "a short first row": HEADER + "a.png\n" + plain.split("\n", 1)[1],
        "blank lines between": plain.replace("\n", "\n\n"),
        "a NUL in a cell": plain.replace("number 3", "number\0 3"),
        "an end-of-file character": plain + "\x1a",
        "unknown labels": csv_text(row_of(mood="splendid", about="politics,sports")),
        "not a number": csv_text(row_of(mood="nan", text="NaN")),
        "half a character": plain.encode() + b"a.png,\xf0\x9f,good,\n",
    }.items():
        yield Hostile(title, "t.csv", content)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp1252"):
        yield Hostile(encoding, "t.csv", plain.replace("again", "naïve").encode(encoding))
    yield Hostile("a mark", "t.csv", b"\xef\xbb\xbf" + plain.encode(), TEXTS)
    yield Hostile("CRLF", "t.csv", csv_text(end="\r\n"), TEXTS)
    yield Hostile("CR", "t.csv", csv_text(end="\r"), TEXTS)
    yield Hostile("no last end", "t.csv", plain.rstrip("\n"), TEXTS)
    yield Hostile("blank lines last", "t.csv", plain + "\n\n\n", TEXTS)
    yield Hostile("1 MB in a cell", "t.csv", csv_text(row_of(text=LONG, mood="")))
    lines = "green\ncat\r\n"
    yield Hostile("lines in a cell", "t.csv", csv_text(row_of(text=lines)), [*TEXTS, lines])
    formula = "=cmd|' /C calc'!A0 cat"
    yield Hostile("a formula", "t.csv", csv_text(row_of(text=formula)), [*TEXTS, formula])
    wide = [{**row, **{f"c{column}": "" for column in range(3000)}} for row in ROWS]
    yield Hostile("3,000 columns", "t.csv", csv_text(wide), TEXTS)
    yield Hostile("tabs", "t.tsv", csv_text(delimiter="\t"), TEXTS)
    yield Hostile("commas", "t.tsv", plain)
    yield Hostile("capitals", "T.CSV", plain, TEXTS)
    for name in ("t.txt", "t", "t.csv.gz", "t.xls", "t.json", ".csv", "t.pickle", "t.CSV.bak"):
        yield Hostile(f"the name {name}", name, plain)


def json_lines() -> Iterator[Hostile]:
    yield Hostile("plain", "t.jsonl", json_text(), TEXTS)
    yield Hostile("a mark", "t.ndjson", b"\xef\xbb\xbf" + json_text().encode(), TEXTS)
    yield Hostile("CRLF", "t.jsonl", json_text().replace("\n", "\r\n"), TEXTS)
    yield Hostile("1 MB in a cell", "t.jsonl", json_text(row_of(text=LONG)), [*TEXTS, LONG])
    for title, line in {
        "a list": "[1]",
        "a number": "1",
        "a text": '"x"',
        "null": "null",
        "nothing": "{}",
        "brackets 100,000 deep": "[" * 100_000,
        "objects 100,000 deep": '{"text":' * 100_000,
        "a list 500 deep": json.dumps({**ROWS[0], "text": "x"}).replace('"x"', "[" * 500 + "]" * 500),
        "keys twice": '{"text": "a", "text": "b"}',
        "no number": json.dumps({**ROWS[0], "mood": float("nan")}),
        "infinity": json.dumps({**ROWS[0], "text": float("inf")}),
        "1e999": '{"image": "", "text": 1e999, "mood": null, "about": null}',
        "5,000 digits": '{"image": "", "text": ' + "9" * 5000 + ', "mood": null, "about": null}',
        "an empty key": '{"": 1}',
        "a comma more": '{"text": "a",}',
        "single quotes": "{'text': 'a'}",
        "two objects": '{"text": "a"} {"text": "b"}',
        "half an object": '{"text": "a"',
        "a NUL": '{"text": "a\0"}',
        "bytes": b'{"text": "a\xff"}',
        "blank": "   ",
    }.items():
        content = json_text().encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n"
        yield Hostile(title, "t.jsonl", content)
    for column in ROWS[0]:
        for value in (
            None,
            True,
            3,
            2.5,
            -0.0,
            [],
            ["good"],
            [["a"]],
            {},
            {"bytes": "x"},
            "\ud800",
            "\0",
            [None],
            1e300,
        ):
            yield Hostile(f"{value!r} as {column}", "t.jsonl", json_text(row_of(**{column: value})))
    yield Hostile("UTF-16", "t.jsonl", json_text().encode("utf-16"))
    yield Hostile("empty", "t.jsonl", "")
    yield Hostile("a JSON list", "t.jsonl", json.dumps(ROWS, indent=1))
    yield Hostile("CSV", "t.jsonl", csv_text())
    yield Hostile(
        "other keys in each line", "t.jsonl", json_text({f"k{row}": 1, **ROWS[0]} for row in range(300))
    )
    if LARGE:
        yield Hostile(
            "100,000 keys", "t.jsonl", json_text([{**ROWS[0], **dict.fromkeys(map(str, range(100_000)))}] * 3)
        )


def places() -> Iterator[Hostile]:
    """What stands where a file should."""
    yield Hostile("a folder", "t.csv", lambda path: path.mkdir())
    yield Hostile("a link to itself", "t.csv", lambda path: path.symlink_to(path))
    yield Hostile("a link to nothing", "t.csv", lambda path: path.symlink_to("nowhere"))
    yield Hostile("a link to the folder above", "t.csv", lambda path: path.symlink_to(path.parent))
    yield Hostile("an endless file", "t.csv", lambda path: path.symlink_to("/dev/zero"))
    yield Hostile("a pipe", "t.csv", lambda path: os.mkfifo(path))
    yield Hostile("an endless pipe", "t.jsonl", lambda path: os.mkfifo(path))
    yield Hostile("a long name", "t" * 250 + ".csv", csv_text(), TEXTS)
    yield Hostile("a name of markup", '<b>"&%s{}\n.csv', csv_text(), TEXTS)
    yield Hostile("a name of bytes", os.fsdecode(b"\xff\xfe.csv"), csv_text())
