"""The commands as functions: tables by path and in memory give the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from mmorient import predict, score, train
from mmorient.files.data_folders import data_folder
from mmorient.recipes.files import read_recipe
from mmorient.recipes.recipe import parse_recipe
from mmorient.samples.memes import draw_memes
from mmorient.tables.in_memory import table_file
from mmorient.tables.problems import TableError
from tests.mmorient.predicting import TASKS, read_output, texts, write_rows

RECIPE = {"tasks": {"mood": {"labels": TASKS["mood"]}}, "output_dir": "unused"}


@pytest.fixture
def rows(folder: Path) -> list[dict[str, Any]]:
    """Rows with the pictures of `folder`."""
    moods = TASKS["mood"]
    return [
        {"image": f"{'abc'[index % 3]}.png", "text": text, "mood": moods[index % 3]}
        for index, text in enumerate(texts(12))
    ]


def test_importing_the_package_loads_no_torch() -> None:
    code = "import mmorient, sys; assert 'torch' not in sys.modules; assert 'datasets' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(ImportError, match="forecast"):
        from mmorient import forecast  # type: ignore[attr-defined]  # noqa: F401


def test_predictions_of_tables_in_memory_are_those_of_files(
    folder: Path, saved_model: Path, rows: list[dict[str, Any]]
) -> None:
    write_rows(folder / "t.csv", rows)
    images = folder / "images"
    assert predict(saved_model, folder / "t.csv", folder / "out.parquet") == folder / "out.parquet"
    expected = read_output(folder / "out.parquet")
    index = [f"row {number}" for number in range(len(rows))]
    frame = pandas.DataFrame(rows, index=index)
    frame["mood"] = frame["mood"].astype("category")
    answered = predict(saved_model, frame, image_dir=images)
    assert list(answered.index) == index and "predicted.mood" not in frame
    assert answered["predicted.mood"].tolist() == [row["predicted.mood"] for row in expected]
    dataset = datasets.Dataset.from_list(rows)
    found = predict(saved_model, dataset.select(range(3, 9)), image_dir=str(images))
    assert isinstance(found, datasets.Dataset)
    for row, other in zip(found, expected[3:9], strict=True):
        shares = {name: value for name, value in row.items() if isinstance(value, float)}
        assert shares == pytest.approx({name: other[name] for name in shares}, abs=1e-5) and len(shares) == 7
        assert {**other, **row} == {**other, **shares}


def test_pictures_of_a_dataset_are_predicted_and_kept(
    folder: Path, saved_model: Path, rows: list[dict[str, Any]]
) -> None:
    named = predict(saved_model, datasets.Dataset.from_list(rows), image_dir=folder / "images")
    paths = [{**row, "image": str(folder / "images" / row["image"])} for row in rows]
    dataset = datasets.Dataset.from_list(paths).cast_column("image", datasets.Image())
    found = predict(saved_model, dataset)
    assert found["error"][:] == [None] * 12 or found["error"][:] == [""] * 12
    assert found["predicted.mood"][:] == named["predicted.mood"][:]
    assert found[0]["image"].size == (48, 48)


def test_scores_of_tables_in_memory_are_those_of_files(
    folder: Path, saved_model: Path, rows: list[dict[str, Any]]
) -> None:
    write_rows(folder / "t.csv", rows)
    predict(saved_model, folder / "t.csv", folder / "out.csv")
    by_path = score(RECIPE, folder / "out.csv")
    frame = predict(saved_model, pandas.DataFrame(rows), image_dir=folder / "images")
    for scored in (
        score(RECIPE, frame),
        score(RECIPE, frame.drop(columns="mood"), truth=pandas.DataFrame(rows)),
    ):
        for name in ("rows", "macro_f1", "weighted_f1", "accuracy"):
            assert scored["tasks"]["mood"][name] == by_path["tasks"]["mood"][name]
        assert scored["majority"] == by_path["majority"]
    assert 0 <= by_path["tasks"]["mood"]["macro_f1"] <= 1 and by_path["not_predicted_rows"] == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (datasets.DatasetDict(), "a DatasetDict: give a path, a pandas DataFrame or a"),
        ({"text": ["a"]}, "the table is a dict"),
        (pandas.DataFrame({3: ["a"]}), "give names that are strings"),
        (pandas.DataFrame({"text": ["a", object()]}), "column 'text' cannot be stored"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, table: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        predict("model", table)
    assert not list(tmp_path.iterdir())


def test_an_output_is_for_paths(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="name the `output` to write"):
        predict("model", "t.csv")
    with pytest.raises(ValueError, match="a table in memory is returned"):
        predict("model", pandas.DataFrame(rows), "out.csv")
    with pytest.raises(ValueError, match="--batch_size is 0"):
        predict("model", "t.csv", "out.csv", batch_size=0)


def test_the_same_rows_give_the_same_file(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    frame, dataset = pandas.DataFrame(rows), datasets.Dataset.from_list(rows)
    first = table_file(frame, tmp_path)
    assert table_file(frame.copy(), tmp_path) == first
    assert table_file(dataset, tmp_path) == table_file(dataset.select(range(12)), tmp_path)
    assert table_file(frame[::-1], tmp_path) != first
    assert pandas.read_parquet(first).to_dict("records") == rows


@pytest.mark.slow
def test_training_on_tables_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_memes(tmp_path / "memes", 60, 0, 0.0)
    recipe = read_recipe(data_folder("recipes") / "quickstart.yaml")
    fields = {"data_dir": "memes", "num_train_epochs": 1, "disable_tqdm": True}
    by_path = train("quickstart", output_dir="by_path", **fields)
    frames = [pandas.read_csv(tmp_path / "memes" / f"{name}.csv") for name in ("train", "validation")]
    run = train(recipe, frames[0], validation_file=frames[1], output_dir=Path("run"), **fields)
    assert run.folder == Path("run") and run.scores == json.loads(Path("run/results.json").read_text())
    assert run.scores["validation"]["tasks"] == by_path.scores["validation"]["tasks"]
    left = [path for path in Path("run").rglob("*") if path.is_file()]
    assert not any(path.suffix == ".parquet" for path in left)
    assert str(tmp_path) not in Path("run/results.json").read_text()
    assert parse_recipe(["run/recipe.yaml"]).identity == run.scores["arguments"]
    answered = predict(run.folder, frames[1], image_dir="memes")
    assert score(recipe, answered)["reference_rows"] == 0
    # The same rows again: the run has ended, and is taken over as it is.
    again = train(recipe, frames[0], validation_file=frames[1], output_dir="run", **fields).scores
    assert again == run.scores
