"""Problems: every row is listed in a file, and malformed rows are a problem like the others."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.tables.inspection import inspection_report
from mmorient.tables.problems import (
    Problem,
    RowProblem,
    TableError,
    list_problems,
    listed_errors,
    stop_on_problems,
)
from mmorient.tables.splits import checked_splits, read_splits
from mmorient.tables.table import Table, read_table

BAD = [
    Problem(
        "empty_rows",
        "many",
        tuple(RowProblem("empty_rows", "t.csv", f"row {n}", "é, \udcff\n") for n in range(84)),
    )
]


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_in_the_file_that_the_message_names(tmp_path: Path) -> None:
    folder = tmp_path / "not yet" / "there"
    said = list_problems(BAD, folder)
    assert said == f"All 84 rows with their problems are listed in {folder / 'problems.csv'}."
    assert [row["row"] for row in listed(folder)] == [f"row {n}" for n in range(84)]
    with pytest.raises(TableError, match=r"(?s)many.*problems\.csv"):
        stop_on_problems(BAD, [], said)
    stop_on_problems(BAD, ["empty_rows"], said)
    assert list_problems([], folder) == "" and not (folder / "problems.csv").exists()


def test_a_list_that_cannot_be_written_does_not_hide_the_problems(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "could not be written" in list_problems(BAD, tmp_path / "file")


@pytest.fixture
def data(folder: Path) -> Callable[..., DataArguments]:
    rows = [f",text {n},{'good' if n % 2 else 'bad'}\n" for n in range(40)]
    rows += [f'a.png,"one\nmore {n}",good,beyond\n' for n in range(20)]
    (folder / "train.csv").write_text("image,text,mood\n" + "".join(rows) + "zz.png,x,fine\n")

    def make(**options: Any) -> DataArguments:
        return DataArguments(
            data_dir=str(folder), tasks={"mood": ["bad", "good"]}, validation_share=0.2, **options
        )

    return make


def test_malformed_rows_stop_with_the_files_lines_and_are_left_out_if_allowed(
    data: Callable[..., DataArguments], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(TableError) as stopped:
        checked_splits(data(), 0, tmp_path / "out")
    message = str(stopped.value)
    assert "20 malformed row(s)" in message and "row 43 (line 44): it has 4 cell(s)" in message
    assert "and 10 more" in message and "`allow: [malformed_rows]`: the rows are left out" in message
    assert message.endswith(
        f"All 22 rows with their problems are listed in {tmp_path / 'out' / 'problems.csv'}."
    )
    rows = listed(tmp_path / "out")
    assert [row["row"] for row in rows if row["problem"] == "malformed_rows"][-1] == "row 61 (line 80)"
    assert {row["problem"]: row["detail"] for row in rows[20:]} == {
        "missing_pictures": f"there is no 'zz.png' in {folder / 'images'}",
        "unknown_labels": "task 'mood': 'fine'",
    }
    allowed = data(allow=["malformed_rows", "missing_pictures", "unknown_labels"])
    parts = checked_splits(allowed, 0, tmp_path / "out").records
    assert sum(map(len, parts.values())) == 41 and len(listed(tmp_path / "out")) == 22


def test_malformed_rows_are_counted_once_where_a_column_divides_the_table(folder: Path) -> None:
    (folder / "train.csv").write_text("text,mood,part\nw,bad,train\nx,good,dev\ny\nz,bad,train\n")
    data = DataArguments(
        data_dir=str(folder),
        tasks={"mood": ["bad", "good"]},
        image_column="text",
        image_dir=".",
        split_column="part",
        validation_split="dev",
        allow=["missing_pictures", "malformed_rows"],
    )
    splits = read_splits(data, 0)
    assert [problem.kind for problem in splits.problems].count("malformed_rows") == 1
    report = " ".join(inspection_report(splits, data).split())
    assert "left out (malformed) 1" in report and "Nothing stops a run." in report


def test_a_table_of_malformed_rows_alone_is_refused_whatever_is_allowed(folder: Path) -> None:
    (folder / "train.csv").write_text("text,mood\nx\n")
    data = DataArguments(data_dir=str(folder), tasks={"mood": ["bad", "good"]}, allow=["malformed_rows"])
    with pytest.raises(TableError, match=r"1 malformed row\(s\)"):
        read_splits(data, 0)


def test_who_needs_whole_tables_gets_them_or_an_error(folder: Path) -> None:
    (folder / "t.csv").write_text('text,mood\n"a\nb",good\nx\n')
    with pytest.raises(TableError, match=r"row 3 \(line 4\): it has 1 cell"):
        read_table("t.csv", folder)


def test_all_that_no_recipe_may_allow_is_reported_together_and_listed(folder: Path) -> None:
    """Also of rows that no `allow` covers every one is in the file; nothing is left for the next try."""
    lines = [{"image": "../secret.png", "text": "x"} for _ in range(30)]
    lines += [{"image": "a.png", "text": ["x"]} for _ in range(20)] + [{"image": 3, "text": "y"}]
    lines += [{"image": "zz.png", "text": "z"}, {"image": "b.png", "text": "good", "mood": "bad"}]
    content = "".join(json.dumps({"mood": "good", **line}) + "\n" for line in lines)
    (folder / "train.jsonl").write_text(content + "no JSON\n")
    data = DataArguments(
        data_dir=str(folder),
        train_file="train.jsonl",
        tasks={"mood": ["bad", "good"]},
        allow=list(PROBLEM_KINDS),
        validation_share=0.2,
    )
    with pytest.raises(TableError) as stopped:
        checked_splits(data, 0, folder / "out")
    first, second, third, named = str(stopped.value).splitlines()
    assert "lines 31, 32" in first and "have a list in column 'text'" in first and "and 10 more" in first
    assert "line 51 have a int in column 'image'" in second
    assert "name pictures outside" in third and "and 20 more" in third
    assert "Or go on with" not in str(stopped.value)
    assert named == f"All 53 rows with their problems are listed in {folder / 'out' / 'problems.csv'}."
    kinds = Counter(row["problem"] for row in listed(folder / "out"))
    assert kinds == {"outside_pictures": 30, "invalid_cells": 21, "missing_pictures": 1, "malformed_rows": 1}
    assert [row["row"] for row in listed(folder / "out") if row["problem"] == "outside_pictures"] == [
        f"line {number}" for number in range(1, 31)
    ]


@pytest.mark.parametrize(
    ("name", "columns", "message", "rows"),
    [
        ("t.csv", None, "20 malformed row", 20),
        ("t.parquet", {"image": [{"url": "x"}] * 20 + [None]}, r"holds records of \['url'\]", 20),
    ],
)
def test_a_table_without_a_usable_row_is_listed_too(
    folder: Path, name: str, columns: Any, message: str, rows: int
) -> None:
    if columns is None:
        (folder / name).write_text("image,text,mood\n" + "x\n" * 20)
    else:
        pq.write_table(
            pa.table({**columns, "text": ["x"] * 21, "mood": ["bad", "good", "bad"] * 7}), folder / name
        )
    data = DataArguments(
        data_dir=str(folder), train_file=name, tasks={"mood": ["bad", "good"]}, allow=list(PROBLEM_KINDS)
    )
    with pytest.raises(TableError, match=rf"(?s){message}.*All {rows} rows .*out.problems\.csv"):
        checked_splits(data, 0, folder / "out")
    assert len(listed(folder / "out")) == rows


def test_a_list_goes_with_the_error_that_it_belongs_to(folder: Path) -> None:
    problem = Table("t", {}, range(2)).problem("invalid_cells", {0: "a list"}, "wrong")
    with pytest.raises(TableError, match=r"(?s)wrong.*problems\.csv"), listed_errors(folder):
        raise TableError("wrong", [problem])
    assert len(listed(folder)) == 1
    with pytest.raises(TableError, match=r"^of no row$"), listed_errors(folder):
        raise TableError("of no row")
    with listed_errors(folder):
        pass
    assert not (folder / "problems.csv").exists()
