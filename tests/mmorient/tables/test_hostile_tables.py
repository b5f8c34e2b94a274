"""Tables with hostile content, of every format: an answer, or an error with thing, value and remedy."""

import datetime
import decimal
import gzip
import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.problems import stop_on_problems
from mmorient.tables.records import RecordColumns, read_records
from mmorient.tables.table import read_well_formed

NAMES = ("t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.parquet", "t.xlsx", "t.CSV", "t", "t.json", "t.csv.gz")
CELLS: list[Any] = [
    *(
        "a.png",
        "",
        " ",
        "good",
        "bad",
        "=1+1",
        "\x00",
        "\ufeff",
        "\u202e",
        "\ud800",
        "é",
        "e\u0301",
        "x" * 5000,
    ),
    *('"', "'", ",", ";", "\t", "\n", "\r", "a\r\nb", "../secret.png", "/etc/passwd", "NaN", "null", "true"),
    *(None, True, False, 0, 1, -1, 10**30, 0.5, 1e308, math.nan, math.inf, -math.inf),
    *([], ["good"], [["good"]], {}, {"a": 1}, {"bytes": None, "path": None}),
]
ARROW_CELLS = [
    *(
        b"",
        b"\xff\x00",
        datetime.date(2020, 1, 1),
        datetime.datetime(1, 1, 1),
        datetime.timedelta(9),
        decimal.Decimal("1"),
    ),
]
COLUMNS = ("image", "text", "mood", "about")
TASKS = {"mood": ["bad", "good"], "about": {"labels": ["good", "work"], "kind": "multilabel"}}
REMEDIES = (
    *(
        "set `",
        "give ",
        "name it",
        "save ",
        "unpack it",
        "correct",
        "each needs a name",
        "has no rows",
        "fill a cell",
    ),
    *(
        "only that folder is read",
        "its columns are",
        "is empty",
        "is blank",
        "is no ",
        "is damaged",
        "add them",
    ),
    *("leave out", "remove", "no sheet with cells"),
)


def read(folder: Path, name: str, **options: Any) -> str:
    """What becomes of a table: `answer`, or the message of its error."""
    data = DataArguments(data_dir=str(folder), train_file=name, tasks=TASKS, **options)
    try:
        table = read_well_formed(name, folder, delimiter=data.delimiter, encoding=data.encoding)
        records = read_records(table, RecordColumns.of(data), FingerprintCache())
        # What no recipe may allow.
        stop_on_problems(records.problems, PROBLEM_KINDS)
    except ValueError as error:
        assert name in str(error) or "column" in str(error), error
        assert any(remedy in str(error).lower() for remedy in REMEDIES), error
        return str(error)
    assert all(str(problem) for problem in records.problems)
    return "answer"


def random_text(draw: random.Random) -> bytes:
    """CSV or JSON Lines, most of it well formed."""
    header = [
        *draw.sample(COLUMNS, draw.randint(1, 4)),
        *draw.choices(("", "image", "other"), k=draw.randint(0, 1)),
    ]
    form = draw.choice(("csv", "json", "mixed", "bytes"))
    separator = draw.choice((",", ",", "\t", ";"))
    lines = [separator.join(header)]
    for _ in range(draw.randint(0, 6)):
        cells = [draw.choice(CELLS) for _ in range(len(header) + draw.choice((0, 0, 0, 1, -1)))]
        if form == "json" or (form == "mixed" and draw.random() < 0.5):
            lines.append(json.dumps(dict(zip(header, cells, strict=False)), default=str))
        else:
            quoted = ['"' + str(cell).replace('"', '""') + '"' * (draw.random() < 0.95) for cell in cells]
            lines.append(separator.join(quoted))
    if form == "json":
        del lines[0]
    text = draw.choice(("\n", "\n", "\r\n", "\r")).join(lines) + draw.choice(("\n", "", "\n\n"))
    content = text.encode(
        draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")), "replace"
    )
    if form == "bytes":
        content = bytes(draw.randrange(256) for _ in range(draw.randint(0, 60)))
    if draw.random() < 0.1:
        content = gzip.compress(content, mtime=0)
    if draw.random() < 0.2 and content:
        place = draw.randrange(len(content))
        content = (
            content[:place]
            + draw.choice((b"", b"\x00", b"\xff", b'"'))
            + content[place + draw.randint(0, 3) :]
        )
    return content


def random_columns(draw: random.Random) -> dict[str, Any]:
    rows = draw.randint(0, 5)
    columns = {}
    for name in (*COLUMNS, "other"):
        kind = draw.choice((str, str, str, int, float, list, dict, bytes, type(draw.choice(ARROW_CELLS))))
        cells = [cell for cell in (*CELLS, *ARROW_CELLS) if type(cell) is kind and "\ud800" not in str(cell)]
        columns[name] = [draw.choice((*cells, None)) for _ in range(rows)]
    return columns


def write_arrow(draw: random.Random, path: Path) -> None:
    arrays = {}
    for name, cells in random_columns(draw).items():
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowException, OverflowError):
            arrays[name] = pa.array([str(cell) for cell in cells])
    table = pa.table(arrays)
    if path.suffix == ".parquet":
        try:
            pq.write_table(table, path)
        except pa.ArrowException:  # a type that Parquet does not know
            return write_arrow(draw, path)
        damage(draw, path)
        return None
    try:
        datasets.Dataset(table).save_to_disk(str(path))
    except (ValueError, TypeError, pa.ArrowException):
        return write_arrow(draw, path)
    damage(draw, draw.choice(sorted(path.iterdir())))
    return None


def write_workbook(draw: random.Random, path: Path) -> None:
    book = openpyxl.Workbook()
    for _ in range(draw.randint(1, 6)):
        row = []
        for cell in draw.choices([*COLUMNS, *CELLS], k=draw.randint(0, 5)):
            kept = cell if isinstance(cell, str | int | float | None) else str(cell)
            row.append("".join(filter(str.isprintable, kept)) if isinstance(kept, str) else kept)
        book.active.append(row)
    book.save(path)
    damage(draw, path)


def damage(draw: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((0, 0, 1, 3))):
        if content:
            content[draw.randrange(len(content))] = draw.randrange(256)
    cut = draw.randrange(len(content) + 1) if draw.random() < 0.1 else len(content)
    path.write_bytes(bytes(content[:cut]))


@pytest.mark.parametrize("seed", range(6))
def test_texts_of_any_content_and_name_end_in_an_answer_or_a_message(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    ends = []
    for _ in range(60):
        name = draw.choice(NAMES)
        (folder / name).write_bytes(random_text(draw))
        options: dict[str, Any] = {}
        if draw.random() < 0.3:
            options["delimiter"] = draw.choice((";", "\t", "|", " "))
        if draw.random() < 0.3:
            options["encoding"] = draw.choice(
                ("utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32", "ascii", "utf-7")
            )
        ends.append(read(folder, name, **options))
    assert "answer" in ends or len(set(ends)) > 20


@pytest.mark.parametrize("write", [write_arrow, write_workbook])
@pytest.mark.parametrize("seed", range(3))
def test_files_of_any_cells_and_damage_end_in_an_answer_or_a_message(
    folder: Path, seed: int, write: Callable[[random.Random, Path], None]
) -> None:
    draw = random.Random(seed)
    for index in range(25):
        suffix = ".xlsx" if write is write_workbook else draw.choice((".parquet", ""))
        name = f"t{index}{suffix}"
        write(draw, folder / name)
        read(folder, name)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.xlsx"])
def test_what_is_no_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    assert "no folder that `datasets` saved" in read(folder, name)
    (folder / name).rmdir()
    (folder / name).symlink_to(folder / name)
    assert "no table at" in read(folder, name)
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "gone")
    assert "no table at" in read(folder, name)
    assert "no table at" in read(folder, "x" * 300 + name)
    assert "no table at" in read(folder, f"\0{name}")


def test_a_large_cell_and_many_columns_end_in_an_answer_or_a_message(folder: Path) -> None:
    large = "x" * (1 << 20)
    (folder / "t.csv").write_text(f"image,text,mood,about\na.png,{large},good,work\na.png,x,bad,\n")
    assert read(folder, "t.csv") == "answer"
    (folder / "t.jsonl").write_text(
        json.dumps({"image": None, "text": large, "mood": "bad", "about": []}) + "\n"
    )
    assert read(folder, "t.jsonl") == "answer"
    names = [f"c{number}" for number in range(20_000)]
    (folder / "t.csv").write_text(",".join(names) + "\n1\n")
    assert "more than 16384 columns: leave out" in read(folder, "t.csv")
    (folder / "t.jsonl").write_text("".join(json.dumps({name: 1}) + "\n" for name in names))
    assert "more than 16384 columns: leave out" in read(folder, "t.jsonl")


def test_a_parquet_file_whose_description_is_hostile_is_refused_or_read(folder: Path) -> None:
    table = pa.table({"image": [""], "text": ["x"], "mood": ["good"], "about": ["work"]})
    for described in (
        b"{",
        b"[]",
        b'{"info": 5}',
        b'{"info": {"features": {"text": {"_type": "Nope"}}}}',
        b"\xff",
    ):
        pq.write_table(table.replace_schema_metadata({b"huggingface": described}), folder / "t.parquet")
        end = read(folder, "t.parquet")
        assert end == "answer" or "is no Parquet file" in end
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([2**62], pa.timestamp("us"))}), file)
    (folder / "t.parquet").write_bytes(file.getvalue())
    assert "cannot be read" in read(folder, "t.parquet")


@pytest.mark.parametrize("name", ["t.jsonl", "t.xlsx"])
def test_short_rows_of_many_columns_do_not_fill_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    columns = [f"c{number}" for number in range(1000)]
    if name == "t.jsonl":
        (folder / name).write_text(json.dumps(dict.fromkeys(columns)) + "\n" + "{}\n" * 800)
    else:
        book = openpyxl.Workbook()
        for row in (columns, *([1],) * 800):
            book.active.append(row)
        book.save(folder / name)
    assert len(read_well_formed(name, folder)) >= 800
    monkeypatch.setattr("mmorient.tables.table.MOST_CELLS", 500_000)
    assert "1000 columns and, with those of all rows, more than 500000 cells" in read(folder, name)
