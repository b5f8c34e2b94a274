"""Every row of every kind of table comes out, in order: predicted as by itself, or with its error."""

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from tests.mmorient.conftest import draw
from tests.mmorient.predicting import (
    PREDICTED,
    PROBABILITIES,
    broken_model,
    read_output,
    run,
    texts,
    write_rows,
)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw(seed).save(file, "PNG")
    return file.getvalue()


def expected(model: Path, image: Any, text: str | None) -> dict[str, Any]:
    """What the model says about one meme by itself."""
    loaded = MMOrientForMultitaskClassification.from_pretrained(model).eval()
    inputs = MMOrientProcessor.from_pretrained(model)(images=[image], text=[text], return_tensors="pt")
    with torch.no_grad():
        logits = loaded(**inputs).logits
    mood = logits["mood"][0].softmax(-1).tolist()
    about = logits["about"][0].sigmoid().tolist()
    funny = (logits["funny"][0] / 2).softmax(-1).tolist()
    return {
        "predicted.mood": ["bad", "so-so", "good"][mood.index(max(mood))],
        "predicted.about": [
            label
            for label, value, limit in zip(["politics", "animals"], about, (0.49, 0.51), strict=True)
            if value > limit
        ],
        "predicted.funny": "yes" if funny[1] > funny[0] else "no",
        **dict(zip(PROBABILITIES, [*mood, *about, *funny], strict=True)),
    }


ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "text": 'one, "two"\nthree\r', "id": "007"},
    {"image": None, "text": "the cat votes", "id": None},
    {"image": "b.png", "text": None, "id": " x "},
    {"image": "c.png", "text": "Monday again é", "id": "|"},
]


def write_json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_separated(path: Path, delimiter: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "t.csv": lambda path: write_separated(path, ","),
    "t.tsv": lambda path: write_separated(path, "\t"),
    "t.jsonl": write_json_lines,
    "t.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_kind_of_table_comes_out_with_what_the_model_says_of_each_row_alone(
    folder: Path, saved_model: Path, name: str, kind: str
) -> None:
    WRITERS[name](folder / name)
    output = folder / f"out.{kind}"
    summary = run(saved_model, folder / name, output)
    assert summary == f"4 rows, 4 predicted, 0 errors: {output}"
    rows = read_output(output)
    assert list(rows[0]) == [
        "image", "text", "id",
        "predicted.mood", *PROBABILITIES[:3], "predicted.about", *PROBABILITIES[3:5],
        "predicted.funny", *PROBABILITIES[5:], "is_reference", "error",
    ]  # fmt: skip
    for row, given in zip(rows, ROWS, strict=True):
        assert {name: row[name] or None for name in given} == given and not row["error"]
        image = None if given["image"] is None else str(folder / "images" / given["image"])
        for column, value in expected(saved_model, image, given["text"]).items():
            if isinstance(value, float):
                assert math.isclose(float(row[column]), value, rel_tol=1e-4, abs_tol=1e-5), column
            elif kind == "csv" and isinstance(value, list):
                assert row[column] == "|".join(value)
            else:
                assert row[column] == value
    assert not (folder / f"out.{kind}.chunks").exists()


# By case: the table's file, its content, and for each row the error's start ("" for a prediction).
HEADER = "image,text,id\n"
NONSENSE: dict[str, tuple[str, str | bytes, list[str]]] = {
    "too few cells": ("t.csv", HEADER + "a.png,x\na.png,y,2\n", ["malformed row: it has 2 cell(s)", ""]),
    "too many cells": (
        "t.csv",
        HEADER + "a.png,x,1,oops\n",
        ["malformed row: it has 4 cell(s), and the header 3; beyond the last column 'oops'"],
    ),
    "a blank line": ("t.csv", HEADER + "\na.png,y,2\n\n", ["malformed row: it is blank", ""]),
    "an open quote": (
        "t.csv",
        HEADER + 'a.png,"x,1\n' + "a.png,y,2\n" * 3,
        ["malformed row: unexpected end of data, in 'a.png,\"x,1'", "", "", ""],
    ),
    "a letter after a quote": (
        "t.csv",
        HEADER + 'a.png,"x"z,1\na.png,y,2\n',
        ["malformed row: ',' expected after", ""],
    ),
    "bytes that are not UTF-8": (
        "t.csv",
        HEADER.encode() + b"a.png,caf\xe9,1\na.png,y,2\n",
        ["malformed row: it is not UTF-8", ""],
    ),
    "a long text": ("t.csv", HEADER + f"a.png,{'x' * 200_000},1\na.png,y,2\n", ["", ""]),
    "a huge cell": (
        "t.csv",
        HEADER + f"a.png,{'x' * 2**24}x,1\na.png,y,2\n",
        ["malformed row: a cell of more than 16,777,216", ""],
    ),
    "no such picture": ("t.csv", HEADER + "zz.png,x,1\n", ["missing picture: there is no 'zz.png' in"]),
    "a picture cut off": ("t.csv", HEADER + "cut.png,x,1\na.png,y,2\n", ["unreadable: cannot decode", ""]),
    "a picture that is a page": ("t.csv", HEADER + "page.png,x,1\n", ["unreadable: cannot read a picture"]),
    "an empty picture": ("t.csv", HEADER + "empty.png,x,1\n", ["unreadable: cannot read a picture"]),
    "a way out": ("t.csv", HEADER + "../secret.png,x,1\n", ["picture outside the folder: '../secret.png'"]),
    "an absolute path": ("t.csv", HEADER + "/etc/hostname,x,1\n", ["picture outside the folder: "]),
    "an address": ("t.csv", HEADER + "https://host/a.png,x,1\n", ["missing picture: "]),
    "nothing to read": (
        "t.csv",
        HEADER + ",,1\n,imgflip.com,2\n, ,3\n,y,4\n",
        ["neither picture nor text"] * 3 + [""],
    ),
    "a null character": ("t.csv", HEADER + "a\0.png,x,1\na.png,x\0y,2\n", ["missing picture: ", ""]),
    "cells of another table": (
        "t.tsv",
        "image\ttext\na.png,x\na.png\ty\n",
        ["malformed row: it has 1 cell(s)", ""],
    ),
    "no JSON": (
        "t.jsonl",
        '{"image": "a.png", "text": "x"}\n{text: y}\n',
        ["", "malformed row: Expecting property name"],
    ),
    "a list": ("t.jsonl", '[1]\n{"image": "a.png", "text": "x"}\n', ["malformed row: it holds a list", ""]),
    "a line cut off": (
        "t.jsonl",
        '{"image": "a.png", "text": "x"}\n{"image": "a.p',
        ["", "malformed row: Unterminated string"],
    ),
    "a blank JSON line": (
        "t.jsonl",
        '\n{"image": "a.png", "text": "x"}\n',
        ["malformed row: it is blank", ""],
    ),
    "JSON that is not UTF-8": (
        "t.jsonl",
        b'{"image": "a.png", "text": "x"}\n{"text": "\xff"}\n',
        ["", "malformed row: it is not UTF-8"],
    ),
    "a number for a picture": (
        "t.jsonl",
        '{"image": 3, "text": "x"}\n',
        ["invalid cell: a int in column 'image'"],
    ),
    "a list for a text": (
        "t.jsonl",
        '{"image": "a.png", "text": ["x"]}\n',
        ["invalid cell: a list in column 'text'"],
    ),
    "half a surrogate pair": ("t.jsonl", '{"image": "a.png", "text": "x\\ud800"}\n', [""]),
}


@pytest.mark.parametrize("case", NONSENSE)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_bad_row_comes_out_with_its_error_and_stops_no_other(
    folder: Path, saved_model: Path, case: str, kind: str
) -> None:
    name, content, errors = NONSENSE[case]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "images" / "cut.png").write_bytes(png(1)[:200])
    (folder / "images" / "page.png").write_bytes(b"<!DOCTYPE html>")
    (folder / "images" / "empty.png").write_bytes(b"")
    output = folder / f"out.{kind}"
    summary = run(saved_model, folder / name, output)
    rows = read_output(output)
    assert len(rows) == len(errors)
    for row, error in zip(rows, errors, strict=True):
        said = re.sub(r", (row|line) \d+( \(line \d+\))?:", ":", row["error"] or "", count=1)
        assert said.startswith(error) and bool(row["error"]) == bool(error)
        assert all(bool(row[column]) != bool(error) for column in PREDICTED if column != "predicted.about")
        assert all((row[column] in (None, "")) == bool(error) for column in PROBABILITIES)
    kinds = [error.partition(":")[0] for error in errors if error]
    assert f"{len(rows)} rows, {errors.count('')} predicted, {len(kinds)} errors" in summary
    assert not kinds or f"{len(kinds)} {kinds[0]}" in summary


def test_errors_name_the_row_and_the_files_line(folder: Path, saved_model: Path) -> None:
    """A spreadsheet counts rows, an editor lines, and cells may have line breaks."""
    (folder / "t.csv").write_text('image,text\na.png,"x\ny"\nzz.png,x\na.png\n')
    run(saved_model, folder / "t.csv", folder / "out.csv")
    errors = [row["error"].partition(":")[0] for row in read_output(folder / "out.csv")]
    assert errors == ["", "missing picture, row 3 (line 4)", "malformed row, row 4 (line 5)"]
    (folder / "t.jsonl").write_text('{"image": "a.png", "text": "x"}\n{"image": "zz.png", "text": "x"}\n')
    run(saved_model, folder / "t.jsonl", folder / "lines.csv")
    assert read_output(folder / "lines.csv")[1]["error"].startswith("missing picture, line 2: ")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_logits_that_are_no_numbers_are_errors_and_never_a_label(folder: Path, kind: str) -> None:
    model = broken_model(folder / "model")
    write_rows(folder / "t.csv", [{"image": "a.png", "text": "x"}, {"image": "", "text": "y"}])
    summary = run(model, folder / "t.csv", folder / f"out.{kind}")
    assert "0 predicted, 2 errors (2 not a number)" in summary
    for number, row in enumerate(read_output(folder / f"out.{kind}"), 2):
        assert row["error"].startswith(f"not a number, row {number}: the model's logits of task 'mood'")
        assert not any(row[name] for name in (*PREDICTED, *PROBABILITIES))


def test_features_that_are_no_numbers_are_errors_of_their_row_alone(
    folder: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some picture is too much for an encoder: the rows beside it in the batch are answered as ever."""
    write_rows(folder / "t.csv", [{"image": f"{name}.png", "text": "x"} for name in "abc"])
    run(saved_model, folder / "t.csv", folder / "before.csv")
    encode = MMOrientForMultitaskClassification.encode

    def overflowing(self: MMOrientForMultitaskClassification, **inputs: Any) -> Any:
        features = encode(self, **inputs)
        features.image_embeds[1] = torch.inf
        return features

    monkeypatch.setattr(MMOrientForMultitaskClassification, "encode", overflowing)
    run(saved_model, folder / "t.csv", folder / "after.csv")
    before, after = read_output(folder / "before.csv"), read_output(folder / "after.csv")
    assert after[1]["error"].startswith("not a number, row 3: ") and not after[1]["predicted.mood"]
    for row in (0, 2):
        assert all(after[row][name] == before[row][name] for name in (*PREDICTED, "error"))


@pytest.mark.parametrize("mixed", [False, True])
def test_pictures_inside_a_table_are_predicted_and_left_out(
    folder: Path, saved_model: Path, mixed: bool
) -> None:
    image = [{"bytes": png(1), "path": "one.png"}, {"bytes": b"broken", "path": None}, None]
    image += [{"bytes": None, "path": "a.png"}] * mixed
    columns = {"image": image, "text": [None, "x", "y", "z"][: len(image)], "raw": [b"\0"] * len(image)}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    run(saved_model, folder / "t.parquet", folder / "out.parquet")
    rows = read_output(folder / "out.parquet")
    assert [row["image"] for row in rows][:3] == ["one.png", None, None] and "raw" not in rows[0]
    assert [bool(row["error"]) for row in rows] == [False, True, False, False][: len(image)]
    assert rows[0]["predicted.mood"] == expected(saved_model, png(1), None)["predicted.mood"]
    if mixed:
        path = str(folder / "images" / "a.png")
        assert math.isclose(
            rows[3][PROBABILITIES[0]], expected(saved_model, path, "z")[PROBABILITIES[0]], rel_tol=1e-4
        )


def test_order_and_answers_do_not_depend_on_batches(folder: Path, saved_model: Path) -> None:
    rows = [
        {"id": index, "image": "" if index % 3 else f"{'abc'[index % 2]}.png", "text": text}
        for index, text in enumerate(texts(40))
    ]
    write_rows(folder / "t.csv", rows)
    outputs = []
    for size in ("1", "7", "64"):
        run(saved_model, folder / "t.csv", folder / f"{size}.csv", "--batch_size", size)
        outputs.append(read_output(folder / f"{size}.csv"))
    assert len({row["predicted.mood"] for row in outputs[0]}) > 1
    for one, *others in zip(*outputs, strict=True):
        for other in others:
            assert all(one[name] == other[name] for name in ["id", "image", "text", *PREDICTED, "error"])
            assert all(
                math.isclose(float(one[name]), float(other[name]), rel_tol=1e-4, abs_tol=1e-5)
                for name in PROBABILITIES
            )
    assert [row["id"] for row in outputs[0]] == [str(index) for index in range(40)]
