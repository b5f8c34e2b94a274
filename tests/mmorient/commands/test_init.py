"""A recipe from a table alone: guesses, and that the recipe is taken as it is."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import datasets
import pytest

from mmorient.commands.init import main
from mmorient.commands.inspect import main as inspect
from mmorient.commands.running import run
from mmorient.recipes.recipe import parse_recipe
from mmorient.samples.memes import draw_memes
from mmorient.tables.in_memory import table_file
from mmorient.tables.label_order import ordered_labels
from tests.mmorient.conftest import draw

ROWS = 60


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with a column of each kind."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    folder = tmp_path / "memes"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(ROWS):
        draw(number).save(folder / "images" / f"{number}.png")
        about = rng.sample(["politics", "animals", "work"], rng.randint(0, 3))
        rows.append(
            {
                "id": number,
                "picture": f"{number}.png",
                "ocr": f"meme number {number}, when the build is green",
                "ocr_corrected": f"the meme {number}: when the build is green" if number % 3 else "",
                "humour": ["not_funny", "funny", "very_funny"][number % 3],
                "stars": number % 5,
                "mood": ["sad", "happy"][number % 2],
                "is ironic": ["no", "yes"][number % 2],
                "about": "|".join(about),
                "score": rng.random(),
            }
        )
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "t.csv"


def test_columns_are_guessed_and_shown(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(table), "--output", "mine.yaml"])
    shown = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "whole numbers  60" in shown["id"] and "image" in shown["picture"] and "number" in shown["score"]
    assert "multilabel, 3 labels" in shown["about"] and "ordinal, 5 labels" in shown["stars"]
    recipe = parse_recipe(["mine.yaml"])
    data, tasks = recipe.data, recipe.data.tasks
    assert isinstance(tasks, dict)
    assert (data.data_dir, data.train_file, data.image_dir) == (str(table.parent), ["t.csv"], "images")
    assert (data.image_column, data.text_columns) == ("picture", ["ocr_corrected", "ocr"])
    assert tasks == {
        "humour": {"labels": ["not_funny", "funny", "very_funny"], "kind": "ordinal"},
        "stars": {"labels": ["0", "1", "2", "3", "4"], "kind": "ordinal"},
        "mood": {"labels": ["sad", "happy"]},
        "is ironic": {"labels": ["no", "yes"]},
        "about": {"labels": ["animals", "politics", "work"], "kind": "multilabel", "separator": "|"},
    }
    assert recipe.training.output_dir == "runs/mine" and not any((recipe.model.joint, recipe.model.text))
    text = Path("mine.yaml").read_text()
    hint = "  # score: {kind: regression}"
    assert f"{hint:<34} # 60 different numbers" in text
    Path("with_score.yaml").write_text(text.replace("  # score:", "  score:"))
    assert parse_recipe(["with_score.yaml"]).data.tasks == {**tasks, "score": {"kind": "regression"}}
    inspect(["mine.yaml"])
    assert "Nothing stops a run." in capsys.readouterr().out


def test_pretrained_encoders_take_the_place_of_small_ones(table: Path) -> None:
    main([str(table), "--text", "some/bert", "--vision", "some/vit"])
    model = parse_recipe(["recipe.yaml"]).model
    assert (model.joint, model.text, model.vision) == (None, "some/bert", "some/vit")
    with pytest.raises(ValueError, match="give --text together with --joint or with --vision"):
        main([str(table), "--output", "other.yaml", "--vision", "some/vit"])
    assert not Path("other.yaml").exists()


def test_files_are_not_replaced_without_being_told(table: Path) -> None:
    Path("recipe.yaml").write_text("mine")
    with pytest.raises(
        SystemExit, match=r"error: recipe\.yaml is there already: .* --overwrite to replace it"
    ):
        run(main, [str(table)])
    assert Path("recipe.yaml").read_text() == "mine"
    main([str(table), "--overwrite"])
    assert parse_recipe(["recipe.yaml"]).data.tasks


def test_other_formats_folders_and_splits(table: Path, tmp_path: Path) -> None:
    with table.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["split"] = "dev" if number % 4 == 0 else "train"
        row["about"] = [label for label in row["about"].split("|") if label]
    (tmp_path / "pictures").mkdir()
    (table.parent / "images").rename(tmp_path / "pictures" / "all")
    (table.parent / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["memes/t.jsonl", "--image_dir", "pictures/all"])
    data = parse_recipe(["recipe.yaml"]).data
    assert (data.split_column, data.train_split, data.validation_split) == ("split", "train", "dev")
    assert data.path(data.image_dir).resolve() == tmp_path / "pictures" / "all"
    assert isinstance(data.tasks, dict)
    assert data.tasks["about"] == {"labels": ["animals", "politics", "work"], "kind": "multilabel"}
    pictures = [str(tmp_path / "pictures" / "all" / row["picture"]) for row in rows]
    held = datasets.Dataset.from_dict({"meme": pictures, "mood": [row["mood"] for row in rows]})
    held = table_file(held.cast_column("meme", datasets.Image()), tmp_path)
    main([str(held), "--overwrite"])
    data = parse_recipe(["recipe.yaml"]).data
    assert (data.image_column, data.text_columns, data.tasks) == (
        "meme",
        [],
        {"mood": {"labels": ["sad", "happy"]}},
    )
    inspect(["recipe.yaml"])
    (tmp_path / "table.csv").write_text(
        "image;mood\n" + "".join(f"{n}.png;{'ab'[n % 2]}\n" for n in range(9))
    )
    main(["table.csv", "--overwrite", "--delimiter", ";"])
    text = Path("recipe.yaml").read_text()
    assert "delimiter: ;" in text and "9 of the first 9 pictures are not there" in text
    assert parse_recipe(["recipe.yaml"]).data.data_dir == "."


def test_names_that_yaml_would_read_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{n}.png,{'yes' if n % 2 else 'no'},{'1.5' if n % 2 else '#: [x'},{'a' if n % 3 else 'é'}"
        for n in range(30)
    ]
    Path("t.csv").write_text("\n".join(["no,on,a: b,null", *lines]), encoding="utf-8")
    main(["t.csv"])
    data = parse_recipe(["recipe.yaml"]).data
    assert data.image_column == "no" and isinstance(data.tasks, dict)
    assert {name: set(task["labels"]) for name, task in data.tasks.items()} == {
        "on": {"no", "yes"},
        "a: b": {"1.5", "#: [x"},
        "null": {"a", "é"},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,mood\n" + "a text,good\nother text,bad\n" * 9, "no column seems to hold pictures"),
        (
            "image,text\n" + "".join(f"{n}.png,text number {n}\n" for n in range(9)),
            "no column seems to hold labels",
        ),
        ("", "it is empty"),
    ],
)
def test_tables_without_pictures_or_labels_are_shown_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        main(["t.csv"])
    assert not Path("recipe.yaml").exists()


@pytest.mark.parametrize(
    ("labels", "ordered", "is_scale"),
    [
        (["very", "slightly", "not"], ["not", "slightly", "very"], True),
        (
            ["hateful", "slight", "not_offensive", "very_offensive"],
            ["not_offensive", "slight", "very_offensive", "hateful"],
            True,
        ),
        (
            ["positive", "very_negative", "neutral", "negative", "very_positive"],
            ["very_negative", "negative", "neutral", "positive", "very_positive"],
            True,
        ),
        (["positive", "neutral", "negative"], ["negative", "neutral", "positive"], False),
        (["10", "9", "-1"], ["-1", "9", "10"], True),
        (["1", "0"], ["0", "1"], False),
        (
            ["general", "not_sarcastic", "twisted_meaning"],
            ["general", "not_sarcastic", "twisted_meaning"],
            False,
        ),
        (["yes", "no"], ["no", "yes"], False),
    ],
)
def test_labels_are_ordered_by_what_they_say(labels: list[str], ordered: list[str], is_scale: bool) -> None:
    found = ordered_labels(labels)
    assert (found.labels, found.is_scale) == (ordered, is_scale)


@pytest.mark.slow
def test_drawn_memes_are_trained_on_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmorient.commands.train import main as train

    monkeypatch.chdir(tmp_path)
    draw_memes(tmp_path / "memes", 80, 0, 0.0)
    main(["memes/train.csv"])
    train(["recipe.yaml", "--num_train_epochs", "1"])
    assert (tmp_path / "runs" / "recipe" / "report" / "index.html").is_file()


def test_files_of_other_splits_beside_the_table_are_named(table: Path, tmp_path: Path) -> None:
    train = table.rename(table.with_name("Train.csv"))
    for name in ("val.csv", "test.csv", "test.tsv", "notes.csv"):
        (table.parent / name).write_bytes(train.read_bytes())
    main([str(train)])
    data = parse_recipe(["recipe.yaml"]).data
    assert (data.validation_file, data.test_file) == ("val.csv", "test.csv")
    assert "_share" not in Path("recipe.yaml").read_text()


def test_columns_of_yes_and_no_may_be_one_task(table: Path) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"joy": number % 2, "anger": number % 3 // 2, "fear": number % 5 // 4}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    main([str(table)])
    text = Path("recipe.yaml").read_text()
    hint = "  # all_of_them: {columns: [is ironic, joy, anger, fear], kind: multilabel}"
    assert f"{hint} # in place of the tasks" in text
    Path("one.yaml").write_text(text.replace("  # all_of_them:", "  all_of_them:"))
    tasks = parse_recipe(["one.yaml"]).data.tasks
    assert isinstance(tasks, dict)
    assert tasks["all_of_them"]["columns"] == ["is ironic", "joy", "anger", "fear"]
