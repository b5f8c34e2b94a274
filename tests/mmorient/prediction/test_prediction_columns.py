"""The output's columns: the input's as they were, and no two of one name."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

import mmorient.prediction.columns
import mmorient.prediction.predict
from tests.mmorient.predicting import read_output, run, save_model, text_table


def test_cells_of_malformed_rows_are_kept_as_far_as_they_go(folder: Path, saved_model: Path) -> None:
    (folder / "t.csv").write_bytes(b"image,text,id\na.png,x\na.png,x,1,2\na.png,caf\xe9,3\n")
    run(saved_model, folder / "t.csv", folder / "out.csv")
    cells = [(row["image"], row["text"], row["id"]) for row in read_output(folder / "out.csv")]
    assert cells == [("a.png", "x", ""), ("a.png", "x", "1"), ("a.png", "caf\ufffd", "3")]


def test_values_keep_their_types_in_parquet_and_class_indices_are_names_in_csv(
    folder: Path, saved_model: Path
) -> None:
    names = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": names, "score": datasets.Value("float64")}
    )
    table = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0], "score": [0.1, None]}, features)
    table.to_parquet(str(folder / "t.parquet"))
    run(saved_model, folder / "t.parquet", folder / "out.parquet", "--image_column", "none")
    assert (
        datasets.Dataset.from_parquet(str(folder / "out.parquet"), cache_dir=str(folder / "cache")).features[
            "label"
        ]
        == names
    )
    assert pq.read_table(folder / "out.parquet")["score"].to_pylist() == [0.1, None]
    run(saved_model, folder / "t.parquet", folder / "out.csv", "--image_column", "none")
    assert [(row["label"], row["score"]) for row in read_output(folder / "out.csv")] == [
        ("yes", "0.1"),
        ("no", ""),
    ]


@pytest.mark.parametrize(
    ("read_rows", "part"), [(1024, [None, str(2**60), "0.5"]), (1, [None, float(2**60), 0.5])]
)
def test_json_values_that_have_no_common_type_become_json(
    folder: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch, read_rows: int, part: list[Any]
) -> None:
    monkeypatch.setattr(mmorient.prediction.columns, "READ_ROWS", read_rows)
    lines = [
        {"text": "x", "n": 1, "mix": 1, "big": 2**70, "tags": ["a"], "box": {"w": 1}, "ok": True},
        {"text": "y", "n": 2**60 + 1, "mix": "1", "big": 1, "tags": [], "box": {}, "part": 2**60},
        {"text": "z", "part": 0.5},
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(saved_model, folder / "t.jsonl", folder / "out.parquet", "--image_column", "none")
    rows = read_output(folder / "out.parquet")
    assert [row["n"] for row in rows] == [1, 2**60 + 1, None]
    assert [row["ok"] for row in rows] == [True, None, None]
    assert [row["mix"] for row in rows] == ["1", '"1"', None]
    assert [row["tags"] for row in rows] == [["a"], [], None]
    assert [row["box"] for row in rows] == ['{"w": 1}', "{}", None]
    assert [row["part"] for row in rows] == part
    assert [row["big"] for row in rows] == [str(2**70), "1", None]


def test_labels_that_csv_cannot_tell_apart_are_refused_up_front(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m", {"about": {"labels": ["a|b", "c"], "kind": "multilabel"}})
    table, *options = text_table(tmp_path, 3)
    with pytest.raises(ValueError, match=r"label 'a\|b'.*write Parquet"):
        run(model, table, tmp_path / "out.csv", *options)
    run(model, table, tmp_path / "out.parquet", *options)


def test_columns_of_two_tasks_with_one_name_are_refused(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m", {"a": ["b.c", "d"], "a.b": ["c", "d"]})
    table, *options = text_table(tmp_path, 3)
    with pytest.raises(ValueError, match=r"probability\.a\.b\.c"):
        run(model, table, tmp_path / "out.csv", *options)
