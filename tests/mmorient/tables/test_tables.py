"""Tables: every format gives the same cells, and every malformed one gets the message that helps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.tables.problems import TableError
from mmorient.tables.stream import has_splits
from mmorient.tables.table import Table, read_table, tell_apart

ROWS = [
    {"image": "a.png", "text": 'one, "two"\nthree', "mood": "good"},
    {"image": None, "text": "NA", "mood": None},
    {"image": "b.png", "text": None, "mood": "007"},
]


def write_csv(path: Path) -> None:
    path.write_text('image,text,mood\na.png,"one, ""two""\nthree",good\n,NA,\nb.png,,007\n')


def write_tsv(path: Path) -> None:
    path.write_text('image\ttext\tmood\na.png\t"one, ""two""\nthree"\tgood\n\tNA\t\nb.png\t\t007\n')


def write_workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        book.active.append(row)
    book.save(path)


def write_json_lines(path: Path) -> None:
    # An absent key is an empty cell.
    lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in ROWS]
    path.write_text("\n".join(lines) + "\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "table.csv": write_csv,
    "table.TSV": write_tsv,
    "table.jsonl": write_json_lines,
    "table.ndjson": write_json_lines,
    "table.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "table.xlsx": write_workbook,
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_cells_in_order(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    table = read_table(name, tmp_path)
    assert len(table) == 3 and list(table.columns) == ["image", "text", "mood"]
    for column in table.columns:
        assert [cell or None for cell in table.cells(column)] == [row[column] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("table.csv", "row 4 (line 5)"),
        ("table.xlsx", "row 4"),
        ("table.jsonl", "line 3"),
        ("table.parquet", "row 2"),
        ("saved", "row 2"),
    ],
)
def test_rows_are_called_what_a_person_sees(tmp_path: Path, name: str, place: str) -> None:
    WRITERS[name](tmp_path / name)
    table = read_table(name, tmp_path)
    assert table.where([2]) == place
    selected = table.select([2, 0])
    assert selected.where([0]) == place and selected.select([1]).cells("mood") == ["good"]
    assert selected.cells("mood") == ["007", "good"]


def test_many_rows_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n" + "x\n" * 30)
    assert read_table("t.csv", tmp_path).where(range(30)) == "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more"


def test_a_byte_order_mark_and_blank_lines_at_the_end_are_no_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n\r\n")
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "1", "b": "2"}\r\n\n \n')
    for name in ("t.csv", "t.jsonl"):
        table = read_table(name, tmp_path)
        assert (table.cells("a"), table.cells("b")) == (["1"], ["2"])


def test_class_indices_become_names_and_minus_one_is_empty(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"one": names, "many": datasets.List(names)})
    saved = datasets.Dataset.from_dict({"one": [1, -1, None], "many": [[0, 1], [], None]}, features)
    saved.save_to_disk(str(tmp_path / "saved"))
    saved.to_parquet(str(tmp_path / "t.parquet"))
    for source in ("saved", "t.parquet"):
        table = read_table(source, tmp_path)
        assert table.cells("one") == ["yes", None, None]
        assert table.cells("many") == [["no", "yes"], [], None]


def test_a_split_of_a_saved_dataset_is_chosen_by_name(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "dev")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    assert has_splits("saved", tmp_path)
    assert read_table("saved", tmp_path, "dev").cells("text") == ["dev"]
    with pytest.raises(TableError, match=r"has the splits \['train', 'dev'\], not 'test'"):
        read_table("saved", tmp_path, "test")


def test_a_dataset_on_the_hub_is_read_by_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, **options: Any) -> datasets.Dataset:
        asked.append((name, options))
        return datasets.Dataset.from_dict({"text": ["x"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    table = read_table("hub:someone/memes", Path("."), "train")
    assert table.name == "hub:someone/memes[train]" and table.cells("text") == ["x"]
    # Nothing that would run code from there.
    assert asked == [("someone/memes", {"split": "train"})]


def test_a_hub_that_cannot_be_reached_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **options: Any) -> datasets.Dataset:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(TableError, match=r"'nobody/memes' cannot be loaded.*\n.*name a file"):
        read_table("hub:nobody/memes", Path("."), "train")


OBJECT = '{"text": "x"}\n'
MALFORMED: list[tuple[str, str | bytes, str]] = [
    ("t.csv", b"", "no CSV file in UTF-8 with a header"),
    ("t.csv", "a,b\n", "has no rows"),
    ("t.csv", "a,b\n\n\n", "has no rows"),
    ("t.csv", b"a\n\xff\xfe\x00", "row 2: it is not UTF-8"),
    ("t.csv", b"\xff\xfea\nx", "no CSV file in UTF-8 with a header"),
    ("t.csv", b"\na\n", "its first line is blank"),
    ("t.csv", 'a,b\n"x,y\n', r"row 2: unexpected end of data, in '\"x,y'"),
    ("t.csv", 'a,b\n"x" y,z\n', "row 2: .*expected after"),
    ("t.csv", "a,b\nx\n", r"2 cells of the header(?s:.*)row 2: it has 1 cell\(s\), and the header 2"),
    (
        "t.csv",
        "a,b\nx,y\nx,y,z\nx,y\nx,y,z\n",
        r"2 malformed row(?s:.*)row 3: it has 3 cell\(s\).*'z'\n  row 5: ",
    ),
    ("t.csv", "a,b\n\nx,y\n", "row 2: it is blank"),
    ("t.csv", "a,a\nx,y\n", "each needs a name of its own"),
    ("t.csv", "a\n" + "x" * 2**24 + "x\n", "a cell of more than 16,777,216 characters"),
    ("t.tsv", "a\tb\nx,y\n", "row 2: it has 1 cell"),
    ("t.tsv", b"", "no TSV file"),
    ("t.tsv", 'a\tb\n"x" said\ty\n', "row 2: .*expected after"),
    ("t.jsonl", "", "has no rows"),
    ("t.jsonl", "\n\n", "has no rows"),
    ("t.jsonl", b"\xff{}", "line 1: it is not UTF-8"),
    ("t.jsonl", OBJECT + "{text: 1}\n" + OBJECT, "1 malformed line.*\n  line 2: Expecting property name"),
    ("t.jsonl", OBJECT + '{"text": "x\n', "line 2: Unterminated string"),
    ("t.jsonl", OBJECT + "\n" + OBJECT, "line 2: it is blank"),
    ("t.jsonl", OBJECT + "[1, 2]\n", "line 2: it holds a list"),
    (
        "t.jsonl",
        "null\n" + OBJECT + "3\n",
        "2 malformed line.*\n  line 1: it holds a NoneType.*\n  line 3: it",
    ),
    ("t.jsonl", OBJECT + '{"text": "a", "text": "b"}\n', "line 2: it names a key twice"),
    ("t.jsonl", '{"text": NaN}\n', "line 1: NaN is no JSON value"),
    ("t.jsonl", OBJECT + OBJECT.strip() + OBJECT, "line 2: Extra data"),
    ("t.jsonl", "[" * 100_000 + "\n", "line 1: "),
    (
        "t.jsonl",
        OBJECT + '{"a": ' + "[" * 64 + "]" * 64 + "}",
        "line 2: it is nested more than 64 levels deep",
    ),
    ("t.jsonl", "x\n" * 25, r"25 malformed line(?s:.*)and 15 more"),
    ("t.parquet", b"", "no Parquet file"),
    ("t.parquet", b"PAR1 and nothing else", "no Parquet file"),
    ("t.txt", "a,b\nx,y\n", r"unknown kind: give one of \.csv"),
    ("t.json", '[{"text": "x"}]', "unknown kind"),
    ("t.xls", b"\xd0\xcf\x11\xe0", "unknown kind"),
    ("t", "a,b\nx,y\n", "unknown kind"),
]


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED)
def test_malformed_tables_get_an_error_that_names_the_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=message):
        read_table(name, tmp_path)


def test_a_parquet_file_cut_off_is_refused(tmp_path: Path) -> None:
    WRITERS["table.parquet"](tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(TableError, match="no Parquet file"):
        read_table("t.parquet", tmp_path)


def test_a_parquet_file_without_rows_or_with_equal_names_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    with pytest.raises(TableError, match="has no rows"):
        read_table("empty.parquet", tmp_path)
    pq.write_table(pa.table([["x"], ["y"]], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(TableError, match="name of its own"):
        read_table("twice.parquet", tmp_path)


def test_folders_that_hold_no_dataset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(TableError, match="no folder that `datasets` saved"):
        read_table("images", tmp_path)
    WRITERS["saved"](tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"cut")
    with pytest.raises(TableError, match="no folder that `datasets` saved"):
        read_table("saved", tmp_path)


def test_a_missing_table_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"no table at .*no\.csv: set `data_dir`"):
        read_table("no.csv", tmp_path)
    write_csv(tmp_path / "t.csv")
    with pytest.raises(TableError, match=r"no column 'picture': its columns are \['image', 'text', 'mood'\]"):
        read_table("t.csv", tmp_path).cells("picture")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["d/one.csv", "d/two.jsonl"], ["one.csv", "two.jsonl"]),
        (["d/en/train.csv", "d/zh/train.csv"], ["en/train.csv", "zh/train.csv"]),
        (["d/train.csv", "d/x/train.csv", "d/x/y/train.csv"], ["train.csv", "x/train.csv", "y/train.csv"]),
        (["/a/b/train.csv", "/a/c/train.csv", "/a/c/dev.csv"], ["b/train.csv", "c/train.csv", "dev.csv"]),
        (["en/x/train.csv", "zh/x/train.csv"], ["en/x/train.csv", "zh/x/train.csv"]),
        (["./en/../en/t.csv", "../t.csv"], ["en/t.csv", "../t.csv"]),
        (["hub:a/memes[train]", "hub:b/memes[train]"], ["hub:a/memes[train]", "hub:b/memes[train]"]),
        (["d/one/[x]", "one.csv"], ["[x]", "one.csv"]),
        (["d/one.csv"], [None]),
    ],
)
def test_tables_beside_each_other_are_told_apart_by_the_shortest_end_of_their_paths(
    names: list[str], labels: list[str | None]
) -> None:
    found = tell_apart([Table(name, {}, []) for name in names])
    assert [table.label for table in found] == labels
    # Wherever the folder that holds them all is.
    if not names[0].startswith(("/", ".", "hub:")):
        moved = tell_apart([Table(f"/else/where/{name}", {}, []) for name in names])
        assert [table.label for table in moved] == labels


def test_a_table_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\nx\n")
    (tmp_path / "link.csv").symlink_to("t.csv")
    for other in ("t.csv", "./t.csv", "link.csv"):
        with pytest.raises(TableError, match="are the same table: name it once"):
            tell_apart([read_table(name, tmp_path) for name in ("t.csv", other)])
