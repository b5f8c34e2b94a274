"""What a run leaves: fitted decisions in the model, honest scores, a report."""

import csv
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import AutoModel, AutoProcessor

from mmorient.commands.train import main
from mmorient.features.batches import raw_inputs
from mmorient.recipes.recipe import parse_recipe
from mmorient.scoring.task_predictions import TaskPredictions
from mmorient.tables.splits import checked_splits
from modeling_mmorient import __version__
from modeling_mmorient.task_specs import parse_tasks
from tests.mmorient.fitting.test_train import frozen_recipe
from tests.mmorient.predictions_samples import reliability

TASKS = {
    "sarcasm": {"labels": ["no", "yes"]},
    "sentiment": {"labels": ["negative", "neutral", "positive"], "label_smoothing": 0.1},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A run with test rows of its own, and an evaluation for every epoch."""
    folder = tmp_path_factory.mktemp("run")
    recipe = frozen_recipe(
        folder,
        rows=400,
        tasks=TASKS,
        validation_file=None,
        validation_share=0.4,
        test_share=0.25,
        max_steps=-1,
        num_train_epochs=3,
        eval_strategy="epoch",
        model_options={
            "learner_hidden_sizes": [8],
            "hima_hidden_size": 4,
            "graph_hidden_size": 4,
            "modality_dropout": 0.2,
            "uncertainty_weighting": True,
        },
    )
    main(recipe)
    return recipe, folder / "out"


def answers(recipe: list[str], output: Path, part: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Probabilities of the saved model for the raw rows of a part, and their labels."""
    data, _, _, training, *_ = parse_recipe(recipe)
    rows = checked_splits(data, training.seed).records[part].rows
    model, processor = AutoModel.from_pretrained(output), AutoProcessor.from_pretrained(output)
    with torch.no_grad():
        probabilities = model.probabilities(model(**raw_inputs(processor, rows)).logits)
    return probabilities, {task: [record.labels[task] for record in rows] for task in TASKS}


def test_the_saved_model_gives_the_test_rows_the_score_that_was_reported(
    finished: tuple[list[str], Path],
) -> None:
    recipe, output = finished
    results = json.loads((output / "results.json").read_text())
    probabilities, labels = answers(recipe, output, "test")
    decisions = AutoModel.from_pretrained(output).decisions(probabilities)
    for task in TASKS:
        scored = results["test"]["tasks"][task]
        expected = f1_score(labels[task], decisions[task], average="macro")
        assert scored["macro_f1"] == pytest.approx(expected, abs=1e-6)
        assert scored["rows"] == len(labels[task]) > 60
        low, high = scored["macro_f1_interval"]
        assert low < scored["macro_f1"] < high
    mean = sum(results["test"]["tasks"][task]["macro_f1"] for task in TASKS) / 2
    assert results["test"]["macro_f1"] == pytest.approx(mean)


def test_what_was_fitted_is_saved_with_the_model(finished: tuple[list[str], Path]) -> None:
    _, output = finished
    results = json.loads((output / "results.json").read_text())
    specs = AutoModel.from_pretrained(output).config.task_specs
    for task, fitted in results["fitted"].items():
        assert specs[task].temperature == fitted["temperature"] != 1.0
        assert specs[task].thresholds == (fitted["thresholds"] and tuple(fitted["thresholds"]))
    assert specs["sentiment"].label_smoothing == 0.1


def test_validation_rows_are_scored_without_what_was_fitted_on_them(
    finished: tuple[list[str], Path],
) -> None:
    recipe, output = finished
    results = json.loads((output / "results.json").read_text())
    probabilities, labels = answers(recipe, output, "validation")
    for task, spec in parse_tasks(TASKS).items():
        scored, truth = results["validation"]["tasks"][task], np.array(labels[task])
        plain = (results["fitted"][task]["temperature"] * probabilities[task].log()).softmax(-1).numpy()
        answered = plain.argmax(-1)
        assert scored["macro_f1"] == pytest.approx(f1_score(truth, answered, average="macro"), abs=1e-6)
        error = reliability(TaskPredictions(spec, answered, truth, plain))["error"]
        assert scored["expected_calibration_error"] == pytest.approx(error, abs=1e-4)


def test_the_report_holds_the_same_scores_the_curves_and_both_graphs(
    finished: tuple[list[str], Path],
) -> None:
    _, output = finished
    results = json.loads((output / "results.json").read_text())
    report = json.loads((output / "report" / "report.json").read_text())
    assert [split["name"] for split in report["splits"]] == ["validation", "test"]
    for split in report["splits"]:
        scored = results[split["name"]]
        assert split["mean"]["macro_f1"] == scored["macro_f1"]
        for task in TASKS:
            assert split["scores"][task]["macro_f1"] == scored["tasks"][task]["macro_f1"]
            assert split["scores"][task]["majority_macro_f1"] == scored["majority"][task]
            assert sum(map(sum, split["tasks"][task]["confusion"])) == scored["tasks"][task]["rows"]
    assert [epoch for epoch, _ in report["curves"]["eval_macro_f1"]] == [1, 2, 3]
    for graph in report["graphs"].values():
        assert graph["rows"] > 80 and graph["mean_degree"] > 1
    assert set(report["graphs"]) == {"image", "text"}
    assert report["versions"]["modeling-mmorient"] == __version__
    assert report["versions"]["torch"] == version("torch")
    page = (output / "report" / "index.html").read_text()
    assert "<svg" in page and "report.json" in page


def test_logs_for_tensorboard_on_request(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, report_to="tensorboard", logging_steps=1)
    main(recipe)
    assert list((tmp_path / "out").rglob("events.out.tfevents.*"))


def test_what_a_reader_must_know_is_in_the_report(tmp_path: Path) -> None:
    """Problems that the recipe allows, and what could not be fitted."""
    recipe = frozen_recipe(tmp_path, tasks=TASKS, allow=["unknown_labels"])
    table = tmp_path / "memes" / "train.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["sarcasm"] = "perhaps"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    main(recipe)
    notes = json.loads((tmp_path / "out" / "report" / "report.json").read_text())["notes"]
    assert any("'perhaps'" in note and "row 2" in note for note in notes)
    for task in TASKS:
        assert any(f"task {task}" in note and "fewer than 50" in note for note in notes)
