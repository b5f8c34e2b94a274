"""Tables of columns with hostile content: Parquet, folders that `datasets` saved, workbooks."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_tables import COUNT, ROWS, TEXTS, Hostile, csv_text, in_chunks, zipped


def parquet(**columns: Any) -> Callable[[Path], object]:
    """A Parquet table with columns in place of the usual ones."""
    usual = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}
    return lambda path: pq.write_table(pa.table({**usual, **columns}), path)


def described(features: Any) -> Callable[[Path], object]:
    """A Parquet table with this description for `datasets`."""

    def write(path: Path) -> None:
        table = pa.table({name: [str(row[name]) for row in ROWS] for name in ROWS[0]})
        note = (
            features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
        )
        pq.write_table(table.replace_schema_metadata({b"huggingface": note}), path)

    return write


def saved(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A folder that `datasets` saved, then changed."""

    def write(path: Path) -> None:
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
        change(path)

    return write


def edit(file: str, **values: Any) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        known = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps({**known, **values}))

    return change


def cut(path: Path) -> None:
    file = next(path.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-200])


def parquet_arrays() -> Iterator[Hostile]:
    """Columns of every type."""
    moment = np.datetime64("2020-01-01T00:00", "us")
    arrays: dict[str, Any] = {
        "nulls": pa.nulls(COUNT),
        "bools": [True, False] * (COUNT // 2),
        "integers": pa.array(range(COUNT), pa.uint64()),
        "not numbers": [float("nan"), float("inf"), -0.0] * (COUNT // 3),
        "halves": pa.array(np.arange(COUNT, dtype=np.float16)),
        "dates": pa.array([moment] * COUNT),
        "dates with a zone": pa.array([moment] * COUNT).cast(pa.timestamp("us", "UTC")),
        "durations": pa.array([np.timedelta64(1, "s")] * COUNT),
        "decimals": pa.array(range(COUNT)).cast(pa.decimal128(30, 5)),
        "bytes": pa.array([b"\xff"] * COUNT),
        "lists": [["good"], [None], None] * (COUNT // 3),
        "lists of lists": [[["good"]]] * COUNT,
        "records": [{"bytes": b"x", "path": "a.png"}] * COUNT,
        "other records": [{"a": 1}] * COUNT,
        "maps": pa.array([[("a", 1)]] * COUNT, pa.map_(pa.string(), pa.int64())),
        "dictionaries": pa.array(["good", "bad", None] * (COUNT // 3)).dictionary_encode(),
        "long strings": pa.array(["good"] * COUNT, pa.large_string()),
        "views": pa.array(["good"] * COUNT, pa.string_view()),
        "fixed lists": pa.array([[1, 2]] * COUNT, pa.list_(pa.int64(), 2)),
        "empty texts": ["", " ", "\u200b"] * (COUNT // 3),
    }
    for title, array in arrays.items():
        for column in ROWS[0]:
            yield Hostile(f"{title} as {column}", "t.parquet", parquet(**{column: array}))


def parquet_files() -> Iterator[Hostile]:
    """Files that are cut short, and columns and notes that nobody expects."""
    whole = in_chunks()
    yield Hostile("plain", "t.parquet", whole, TEXTS)
    for size in (0, 4, 8, len(whole) // 2, len(whole) - 1):
        yield Hostile(f"{size} bytes of it", "t.parquet", whole[:size])
    for name in ("", "a.b", "\0", "predicted.mood", "error", "x" * 10_000, "image_dir", "__index_level_0__"):
        yield Hostile(f"a column {name[:20]!r}", "t.parquet", parquet(**{name: pa.array(range(COUNT))}))
    twice = pa.Table.from_arrays([pa.array(TEXTS)] * 2, names=["text", "text"])
    yield Hostile("columns twice", "t.parquet", lambda path: pq.write_table(twice, path))
    yield Hostile("no columns", "t.parquet", lambda path: pq.write_table(pa.table({}), path))
    yield Hostile(
        "no rows", "t.parquet", lambda path: pq.write_table(pa.table({"text": pa.array([], "string")}), path)
    )
    for name in ("t.csv", "t.jsonl", "t"):
        yield Hostile(f"Parquet as {name}", name, whole)
    for note in (
        b"{",
        b"[]",
        b'{"info": 1}',
        b"\xff",
        {"text": {"_type": "PyFunc"}},
        {"text": {"_type": "ClassLabel"}},
        {"nowhere": {"_type": "Image"}},
    ):
        yield Hostile(f"the note {note!r}", "t.parquet", described(note))


def saved_folders() -> Iterator[Hostile]:
    """Folders that `datasets` saved, and then changed."""
    yield Hostile("plain", "saved", saved(lambda path: None), TEXTS)
    yield Hostile("cut short", "saved", saved(cut))
    yield Hostile("no Arrow file", "saved", saved(lambda path: next(path.glob("*.arrow")).unlink()))
    yield Hostile("no state", "saved", saved(lambda path: (path / "state.json").unlink()))
    yield Hostile("no description", "saved", saved(lambda path: (path / "dataset_info.json").unlink()))
    yield Hostile("a broken state", "saved", saved(lambda path: (path / "state.json").write_text("{")))
    yield Hostile("an empty state", "saved", saved(lambda path: (path / "state.json").write_text("{}")))
    yield Hostile(
        "files elsewhere", "saved", saved(edit("state.json", _data_files=[{"filename": "../../x.arrow"}]))
    )
    yield Hostile("no files", "saved", saved(edit("state.json", _data_files=[])))
    yield Hostile("a format", "saved", saved(edit("state.json", _format_type="evil")))
    yield Hostile(
        "features that are none",
        "saved",
        saved(edit("dataset_info.json", features={"a": {"_type": "PyFunc"}})),
    )
    yield Hostile(
        "features of another table",
        "saved",
        saved(edit("dataset_info.json", features={"a": {"dtype": "string", "_type": "Value"}})),
    )
    yield Hostile("an empty folder", "saved", lambda path: path.mkdir())
    yield Hostile(
        "splits",
        "saved",
        lambda path: datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(str(path)),
    )
    yield Hostile(
        "a list of splits that is none",
        "saved",
        lambda path: (path.mkdir(), (path / "dataset_dict.json").write_text("[")),
    )


def workbooks() -> Iterator[Hostile]:
    openpyxl = pytest.importorskip("openpyxl")

    def book(rows: Iterable[Iterable[Any]]) -> bytes:
        made, file = openpyxl.Workbook(), io.BytesIO()
        for row in rows:
            made.active.append(list(row))
        made.save(file)
        return file.getvalue()

    table = [ROWS[0].keys(), *(row.values() for row in ROWS)]
    whole = book(table)
    yield Hostile("plain", "t.xlsx", whole, TEXTS)
    yield Hostile("cut short", "t.xlsx", whole[: len(whole) // 2])
    yield Hostile("a zip file", "t.xlsx", zipped(csv_text().encode()))
    yield Hostile("CSV", "t.xlsx", csv_text())
    yield Hostile("empty", "t.xlsx", b"")
    yield Hostile("no cells", "t.xlsx", book([]))
    yield Hostile("header alone", "t.xlsx", book(table[:1]))
    yield Hostile("columns twice", "t.xlsx", book([["text", "text"], ["a", "b"]]))
    yield Hostile("columns without a name", "t.xlsx", book([["image", None, "text"], ["a.png", "b", "c"]]))
    yield Hostile("long rows", "t.xlsx", book([*table, ["a.png", *"123456"]]))
    yield Hostile("a formula", "t.xlsx", book([*table, ["a.png", "=1+1", "good", ""]]))
    yield Hostile("numbers and dates", "t.xlsx", book([*table, [1, np.datetime64("2020").item(), True, 2.5]]))
    yield Hostile("Parquet", "t.xlsx", in_chunks())
