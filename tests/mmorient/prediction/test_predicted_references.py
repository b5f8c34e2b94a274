"""Rows that a model was trained on are told from others: in predictions, in scores, and by split."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmorient.commands.predict import parse
from mmorient.commands.score import main as score
from mmorient.commands.train import main
from mmorient.prediction.known_references import known_references
from mmorient.prediction.saved_models import load_saved_model
from mmorient.tables.settings import TableSettings
from tests.mmorient.fitting.test_train import frozen_recipe
from tests.mmorient.predicting import read_output, run, write_rows

TASKS = {"sentiment": {"labels": ["negative", "neutral", "positive"]}, "sarcasm": {"labels": ["no", "yes"]}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with test rows held out of one table: `recipe.yaml`, `memes/train.csv`, `out`."""
    folder = tmp_path_factory.mktemp("run")
    main(
        frozen_recipe(
            folder, rows=240, tasks=TASKS, validation_file=None, validation_share=0.3, test_share=0.3
        )
    )
    return folder


def predicted(folder: Path, output: Path, *options: str, model: Path | None = None) -> tuple[str, list[Any]]:
    """Summary and output of the run's table."""
    table = folder / "memes" / "train.csv"
    summary = run(model or folder / "out", table, output, "--image_dir", str(table.parent), *options)
    return summary, read_output(output)


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "splits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scored(folder: Path, output: Path) -> dict[str, Any]:
    score(["table", str(folder / "recipe.yaml"), str(output), "--json", str(output) + ".json"])
    return json.loads(Path(f"{output}.json").read_text())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_references_are_marked_and_scored_apart(
    trained: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {line["row"]: line["split"] for line in lines(trained)}
    summary, rows = predicted(trained, tmp_path / f"out.{kind}")
    known = [str(row["is_reference"]).lower() == "true" for row in rows]
    # The header is row 1.
    assert known == [splits[str(number)] == "training" for number in range(2, len(rows) + 2)]
    assert 0 < sum(known) < len(rows) and f"{sum(known)} of them are references" in summary
    results = scored(trained, tmp_path / f"out.{kind}")
    assert "warning: " in capsys.readouterr().out
    assert results["reference_rows"] == results["references"]["tasks"]["sarcasm"]["rows"] == sum(known)
    assert results["tasks"]["sarcasm"]["rows"] == len(rows) - sum(known)


def test_a_split_is_predicted_and_scored_as_the_run_scored_it(trained: Path, tmp_path: Path) -> None:
    expected = json.loads((trained / "out" / "results.json").read_text())["test"]
    summary, rows = predicted(trained, tmp_path / "test.csv", "--split", "test")
    numbers = [int(line["row"]) for line in lines(trained) if line["split"] == "test"]
    with (trained / "memes" / "train.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    # In the table's order, whatever the order of the split.
    assert [row["image"] for row in rows] == [table[number - 2]["image"] for number in sorted(numbers)]
    assert "references" not in summary
    results = scored(trained, tmp_path / "test.csv")
    assert results["reference_rows"] == 0 and results["not_predicted_rows"] == 0
    for task, values in expected["tasks"].items():
        assert results["tasks"][task]["macro_f1"] == pytest.approx(values["macro_f1"], abs=1e-6)
        assert results["tasks"][task]["rows"] == values["rows"]
    summary, rows = predicted(trained, tmp_path / "training.csv", "--split", "training")
    assert all(row["is_reference"] == "true" for row in rows)
    # Nothing but references: there is nothing else to score.
    results = scored(trained, tmp_path / "training.csv")
    assert results["macro_f1"] is None and results["references"]["macro_f1"] is not None


def test_rows_that_are_others_than_in_the_run_are_errors(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "memes", tmp_path / "memes")
    with (trained / "memes" / "train.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    rows = sorted(int(line["row"]) for line in lines(trained) if line["split"] == "test")
    table[rows[0] - 2]["text"] = "something\nelse"
    picture = tmp_path / "memes" / table[rows[1] - 2]["image"]
    shutil.copy(tmp_path / "memes" / table[rows[2] - 2]["image"], picture)
    write_rows(tmp_path / "memes" / "train.csv", table)
    model = trained / "out"
    summary, found = predicted(tmp_path, tmp_path / "test.csv", "--split", "test", model=model)
    assert [row["error"].partition(":")[0] for row in found[:3]] == [
        f"changed row, row {rows[0]}",
        f"changed row, row {rows[1]} (line {rows[1] + 1})",
        "",
    ]
    assert not found[0]["predicted.sarcasm"] and "2 changed row" in summary
    write_rows(tmp_path / "memes" / "train.csv", table[: rows[-1] - 2])
    with pytest.raises(ValueError, match=rf"has no row {rows[-1]}, 1 of {len(rows)} that the run had in its"):
        predicted(tmp_path, tmp_path / "other.csv", "--split", "test", model=model)


def test_a_split_needs_the_run_it_is_of(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the splits of .* are \['training', 'validation', 'test'\]"):
        predicted(trained, tmp_path / "out.csv", "--split", "references")
    shutil.copytree(trained / "out", tmp_path / "model", ignore=shutil.ignore_patterns("splits.csv"))
    with pytest.raises(ValueError, match=r"has no splits\.csv, which stays with the run"):
        predicted(trained, tmp_path / "out.csv", "--split", "test", model=tmp_path / "model")
    with pytest.raises(SystemExit):
        parse(["model", "table", "output.csv", "--split", "test", "--text_columns", "text"])


def test_the_runs_own_list_tells_references_by_picture_and_text(trained: Path) -> None:
    model, _ = load_saved_model(str(trained / "out"))
    known = known_references(str(trained / "out"), model, TableSettings.load(str(trained / "out")))
    assert known.digests == {line["digest"] for line in lines(trained) if line["split"] == "training"}


@pytest.mark.parametrize("without_splits", [True, False])
def test_without_the_runs_own_list_references_are_those_that_equal_what_is_stored(
    trained: Path, tmp_path: Path, without_splits: bool
) -> None:
    _, rows = predicted(trained, tmp_path / "before.csv")
    known = [row["is_reference"] for row in rows]
    shutil.copytree(trained / "out", tmp_path / "model")
    if without_splits:
        (tmp_path / "model" / "splits.csv").unlink()
        reason = "has no splits.csv"
    else:
        model, _ = load_saved_model(str(tmp_path / "model"))
        forgotten = model.references.ids[7]
        model.remove_references([forgotten])
        model.save_references(tmp_path / "model")
        known[int(forgotten) - 2] = "false"
        reason = "were edited since its splits.csv"
    summary, rows = predicted(trained, tmp_path / "after.csv", model=tmp_path / "model")
    assert [row["is_reference"] for row in rows] == known
    assert "by equality with what the model stores" in summary and reason in summary


def test_scores_say_where_references_are_not_known(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, rows = predicted(trained, tmp_path / "out.csv")
    unmarked = [{name: value for name, value in row.items() if name != "is_reference"} for row in rows]
    write_rows(tmp_path / "out.csv", unmarked)
    results = scored(trained, tmp_path / "out.csv")
    assert results["reference_rows"] is None and "has no column 'is_reference'" in capsys.readouterr().out
    write_rows(tmp_path / "out.csv", [{**row, "is_reference": "perhaps"} for row in rows])
    with pytest.raises(ValueError, match="column 'is_reference' has 'perhaps' in rows 2, 3"):
        scored(trained, tmp_path / "out.csv")
