"""How a model's tables are read is saved with it, and is what prediction starts from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.tables.settings import TableSettings
from tests.mmorient.predicting import read_output, run, save_model, write_rows

DATA: dict[str, Any] = {
    "tasks": {"mood": {"labels": ["bad", "good"]}},
    "data_dir": "/somebody/memes",
    "image_dir": "pictures",
    "image_column": "picture",
    "text_columns": ["corrected", "caption"],
    "allow": ["missing_pictures", "unreadable_pictures"],
}
ROWS = [
    {"picture": "a.png", "corrected": "", "caption": "the cat votes"},
    {"picture": "zz.png", "corrected": "Monday again", "caption": "x"},
    {"picture": "zz.png", "corrected": "", "caption": " "},
    {"picture": "page.png", "corrected": "hooray", "caption": ""},
    {"picture": "page.png", "corrected": "", "caption": ""},
    {"picture": "../secret.png", "corrected": "hooray", "caption": ""},
]


@pytest.fixture
def model(folder: Path) -> Path:
    (folder / "images" / "page.png").write_bytes(b"<!DOCTYPE html>")
    write_rows(folder / "t.csv", ROWS)
    saved = save_model(folder / "model")
    TableSettings.of_run(DataArguments(**DATA), None, None).save(saved)
    return saved


def test_they_are_those_of_the_recipe_without_a_folder_of_the_machine(model: Path) -> None:
    settings = TableSettings.load(str(model))
    assert settings == TableSettings(
        "picture", ("corrected", "caption"), ("missing_pictures", "unreadable_pictures")
    )
    content = (model / "tables.json").read_text()
    assert "somebody" not in content and 'pictures",' not in content.replace("_pictures", "")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_are_answered_as_the_recipe_allows(folder: Path, model: Path, kind: str) -> None:
    summary = run(model, folder / "t.csv", folder / f"out.{kind}")
    rows = read_output(folder / f"out.{kind}")
    errors = [(row["error"] or "").partition(",")[0] for row in rows]
    assert errors == ["", "", "missing picture", "", "unreadable", "picture outside the folder"]
    assert "6 rows, 3 predicted, 3 errors" in summary
    assert "2 of them predicted from the text alone" in summary
    assert "1 missing picture" in summary and "1 unreadable picture" in summary
    # As rows whose picture's cell is empty.
    write_rows(folder / "t.csv", [{**row, "picture": ""} for row in ROWS])
    run(model, folder / "t.csv", folder / f"empty.{kind}")
    for place in (1, 3):
        expected = {**read_output(folder / f"empty.{kind}")[place], "picture": ROWS[place]["picture"]}
        for name, value in expected.items():
            if name.startswith("probability"):
                assert float(rows[place][name]) == pytest.approx(float(value), rel=1e-4, abs=1e-5)
            else:
                assert rows[place][name] == value


def test_the_command_line_wins(folder: Path, model: Path) -> None:
    run(model, folder / "t.csv", folder / "out.csv", "--allow")
    errors = [row["error"].partition(",")[0] for row in read_output(folder / "out.csv")]
    assert errors[1] == "missing picture" and errors[3] == "unreadable"
    run(model, folder / "t.csv", folder / "texts.csv", "--image_column", "none", "--text_columns", "caption")
    errors = [row["error"].partition(",")[0] for row in read_output(folder / "texts.csv")]
    assert errors == ["", "", *["neither picture nor text"] * 4]


def test_delimiter_and_encoding_are_those_of_the_recipe(folder: Path) -> None:
    saved = save_model(folder / "model")
    TableSettings(text_columns=("text",), delimiter=";", encoding="cp1252").save(saved)
    (folder / "t.csv").write_bytes("image;text\na.png;café\n".encode("cp1252"))
    run(saved, folder / "t.csv", folder / "out.csv")
    assert read_output(folder / "out.csv")[0]["text"] == "café"
    (folder / "t.csv").write_text("image,text\na.png,café\n")
    run(saved, folder / "t.csv", folder / "other.csv", "--delimiter", ",", "--encoding", "utf-8")
    assert read_output(folder / "other.csv")[0]["text"] == "café"


def test_models_saved_without_are_read_with_the_defaults(saved_model: Path) -> None:
    assert TableSettings.load(str(saved_model)) == TableSettings("image", ("text",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: "{", "is no JSON"),
        (lambda saved: "[" * 100_000, "is no JSON"),
        (lambda saved: "[]", "holds a list"),
        (lambda saved: json.dumps({**saved, "image_column": 3}), "has the image_column 3"),
        (lambda saved: json.dumps({**saved, "text_columns": "text"}), "has the text_columns 'text'"),
        (lambda saved: json.dumps({**saved, "allow": ["everything"]}), r"has the allow \['everything'\]"),
        (lambda saved: json.dumps({**saved, "encoding": None}), "has the encoding None"),
    ],
)
def test_what_no_run_wrote_is_refused(model: Path, change: Callable[[Any], str], message: str) -> None:
    saved = json.loads((model / "tables.json").read_text())
    (model / "tables.json").write_text(change(saved))
    with pytest.raises(ValueError, match=message):
        TableSettings.load(str(model))
    # What a later release adds says nothing to this one.
    (model / "tables.json").write_text(json.dumps({**saved, "more": 1}))
    assert TableSettings.load(str(model)).image_column == "picture"
