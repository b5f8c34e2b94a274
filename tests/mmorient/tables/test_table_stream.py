"""Streams: rows arrive in order, a chunk at a time, and a malformed one takes no other with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.tables.problems import TableError
from mmorient.tables.stream import open_table

COUNT = 10
WRITERS: dict[str, Callable[[Path], Any]] = {
    "t.csv": lambda path: path.write_text("a,b\n" + "".join(f"{n},x\n" for n in range(COUNT))),
    "t.tsv": lambda path: path.write_text("a\tb\n" + "".join(f"{n}\tx\n" for n in range(COUNT))),
    "t.jsonl": lambda path: path.write_text("".join(f'{{"a": {n}, "b": "x"}}\n' for n in range(COUNT))),
    # Row groups end elsewhere than chunks do.
    "t.parquet": lambda path: pq.write_table(
        pa.table({"a": range(COUNT), "b": ["x"] * COUNT}), path, row_group_size=3
    ),
    "saved": lambda path: datasets.Dataset.from_dict(
        {"a": list(range(COUNT)), "b": ["x"] * COUNT}
    ).save_to_disk(str(path)),
}
FIRST = {"t.csv": 2, "t.tsv": 2, "t.jsonl": 1, "t.parquet": 0, "saved": 0}


def cells(column: Any) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.ChunkedArray) else list(column)


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_are_of_the_size_asked_for_and_in_order_as_often_as_one_likes(
    tmp_path: Path, name: str
) -> None:
    WRITERS[name](tmp_path / name)
    stream = open_table(name, tmp_path)
    assert list(stream.column_names) == ["a", "b"] and stream.count_rows() == COUNT
    for size, sizes in ((4, [4, 4, 2]), (5, [5, 5]), (64, [10])):
        chunks = list(stream.chunks(size))
        assert [len(chunk.numbers) for chunk in chunks] == sizes
        numbers = [number for chunk in chunks for number in chunk.numbers]
        assert numbers == list(range(FIRST[name], FIRST[name] + COUNT))
        assert [int(cell) for chunk in chunks for cell in cells(chunk.columns["a"])] == list(range(COUNT))
        assert not any(chunk.malformed for chunk in chunks)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_first_chunk_is_there_before_the_rest_is_read(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    chunks = open_table(name, tmp_path).chunks(2)
    first = next(chunks)
    with (tmp_path / name).open("a") as file:
        file.write("x" * 10 if name == "t.csv" else "{")
    assert len(first.numbers) == 2 and not first.malformed
    assert [row for chunk in chunks for row in chunk.malformed.values()]


LINES = [
    # A quote that nobody closes takes its own line alone.
    ('"open,1\n2,b\n3,c\n', {0: "unexpected end of data"}, ["", "2", "3"]),
    ('1,a\n2,"open\n3,c\n4,d\n', {1: "unexpected end of data"}, ["1", "", "3", "4"]),
    # The quote of the next line closes it, in the wrong place.
    ('1,"open\n2,"b"\n3,c\n', {0: "expected after"}, ["", "2", "3"]),
    ('1,"a\nb\nc"\n2,b\n', {}, ["1", "2"]),
    ("1,a\n\n\n2,b\n\n\n", {1: "blank", 2: "blank"}, ["1", "", "", "2"]),
    ("1,a\r2,b\r\n3,c", {}, ["1", "2", "3"]),
    ("1,a\n2\n3,c,d,e\n", {1: "1 cell", 2: "3 cell|4 cell"}, ["1", "2", "3"]),
    ('"' + "x" * 2**24 + "x\n2,b\n", {0: "16,777,216 characters: is a quote not closed"}, ["", "2"]),
    ('"x\n' + "y,y\n" * 60_000 + "2,b\n", {0: "unexpected end"}, ["", *["y"] * 60_000, "2"]),
    # More than Python's own limit.
    ("x" * 200_000 + ",a\n2,b\n", {}, ["x" * 200_000, "2"]),
]


@pytest.mark.parametrize(("content", "malformed", "first"), LINES)
def test_a_malformed_row_of_csv_takes_no_other_with_it(
    tmp_path: Path, content: str, malformed: dict[int, str], first: list[str]
) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + content.encode())
    (chunk,) = open_table("t.csv", tmp_path).chunks(100_000)
    assert list(chunk.columns["a"]) == first
    assert list(chunk.malformed) == list(malformed)
    for row, reason in malformed.items():
        assert any(part in chunk.malformed[row] for part in reason.split("|"))


def test_a_parquet_file_damaged_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [str(n) for n in range(9000)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(bytes(content))
    with pytest.raises(TableError, match=r"t\.parquet is damaged"):
        list(open_table("t.parquet", tmp_path).chunks(100))
