"""Scores against scikit-learn, with partial labels."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from transformers import EvalPrediction

from mmorient.scoring.scores import (
    baseline_scores,
    metrics_of,
    score_table,
    scores,
)
from mmorient.scoring.task_predictions import TaskDecisions, TaskPredictions, task_predictions
from modeling_mmorient.task_specs import TaskSpec, parse_tasks
from tests.mmorient.predictions_samples import reliability

TASKS = parse_tasks({"a": ["x", "y"], "b": ["x", "y"], "m": {"labels": ["x", "y"], "kind": "multilabel"}})


def test_metrics_are_macro_f1_over_labeled_rows_and_their_mean() -> None:
    generator = np.random.default_rng(0)
    logits = {"a": generator.normal(size=(30, 3)), "b": generator.normal(size=(30, 2))}
    labels = {"a": generator.integers(0, 3, 30), "b": generator.integers(0, 2, 30)}
    labels["b"][::3] = -100
    known = labels["b"] != -100
    expected = {
        "macro_f1_a": f1_score(labels["a"], logits["a"].argmax(-1), average="macro"),
        "macro_f1_b": f1_score(labels["b"][known], logits["b"].argmax(-1)[known], average="macro"),
    }
    specs = parse_tasks({"a": ["x", "y", "z"], "b": ["x", "y"]})
    metrics = metrics_of(specs)(EvalPrediction(predictions=logits, label_ids=labels))
    assert metrics == pytest.approx({**expected, "macro_f1": np.mean(list(expected.values()))})


def test_a_task_without_a_label_has_no_score_and_no_part_in_the_mean() -> None:
    logits = {"a": np.eye(2), "b": np.eye(2)}
    labels = {"a": np.array([0, 1]), "b": np.array([-100, -100])}
    assert metrics_of(TASKS)(EvalPrediction(predictions=logits, label_ids=labels)) == {
        "macro_f1_a": 1.0,
        "macro_f1": 1.0,
    }


def test_a_multilabel_task_has_the_mean_f1_of_its_labels() -> None:
    generator = np.random.default_rng(0)
    logits, truth = generator.normal(size=(30, 3)), generator.integers(0, 2, (30, 3))
    truth[::4] = -100
    known = truth[:, 0] != -100
    scores = [f1_score(truth[known, index], logits[known, index] > 0) for index in range(3)]
    metrics = metrics_of({"a": SPECS["about"]})(
        EvalPrediction(predictions={"a": logits}, label_ids={"a": truth})
    )
    assert metrics["macro_f1_a"] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_no_answer(broken: float) -> None:
    logits = {"a": np.array([[0.0, 1.0], [broken, 0.0]]), "m": np.zeros((2, 2))}
    labels = {"a": np.array([1, 0]), "m": np.zeros((2, 2), int)}
    with pytest.raises(ValueError, match=r"task 'a' has logits that are not finite in 1 of 2 rows, .* row 1"):
        metrics_of(TASKS)(EvalPrediction(predictions=logits, label_ids=labels))


def test_the_majority_of_a_multilabel_task_is_that_of_each_label() -> None:
    train = {"a": [[1, 0], [1, 1], [0, 0], [-100, -100]]}
    validation = {"a": [[1, 1], [0, 0], [-100, -100]]}
    # Always [1, 0]: F1 is 2/3 for the first label and 0 for the second.
    specs = parse_tasks({"a": {"labels": ["x", "y"], "kind": "multilabel"}})
    assert baseline_scores(specs, train, validation) == {"majority": {"a": pytest.approx(1 / 3)}}


def test_the_majority_is_that_of_the_training_rows() -> None:
    train = {"a": [1, 1, 0, -100]}
    validation = {"a": [0, 0, 1, -100]}
    expected = pytest.approx(f1_score([0, 0, 1], [1, 1, 1], average="macro"))
    assert baseline_scores({"a": TASKS["a"]}, train, validation) == {"majority": {"a": expected}}


SPECS = parse_tasks(
    {
        "mood": ["bad", "fine", "good"],
        "level": {"labels": ["none", "some", "much", "extreme"], "kind": "ordinal"},
        "about": {"labels": ["politics", "animals", "work"], "kind": "multilabel"},
    }
)


def draw(rows: int, seed: int = 0, signal: float = 1.0) -> dict[str, TaskPredictions]:
    """Predictions that know something, a quarter of the rows of each task not labelled."""
    generator = np.random.default_rng(seed)
    labels, logits = {}, {}
    for name, spec in SPECS.items():
        many = spec.kind == "multilabel"
        size: Any = (rows, spec.num_labels) if many else rows
        truth = generator.integers(0, 2 if many else spec.num_labels, size)
        hint = 2 * truth - 1 if many else np.eye(spec.num_labels)[truth]
        logits[name] = generator.normal(size=(rows, spec.num_labels)) + signal * hint
        truth[generator.random(rows) < 0.25] = -100
        labels[name] = truth
    return task_predictions(SPECS, logits, labels)


def test_scores_are_those_of_scikit_learn_over_the_labelled_rows() -> None:
    predictions = draw(200)
    results = scores(predictions, resamples=20)
    for name, task in predictions.items():
        truth, answers = task.labels[task.known], task.decisions[task.known]
        expected = {
            "rows": len(truth),
            "macro_f1": f1_score(truth, answers, average="macro"),
            "weighted_f1": f1_score(truth, answers, average="weighted"),
            "subset_accuracy" if name == "about" else "accuracy": accuracy_score(truth, answers),
        }
        found = results["tasks"][name]
        assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert results["macro_f1"] == pytest.approx(np.mean([t["macro_f1"] for t in results["tasks"].values()]))
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_intervals_hold_the_score_narrow_with_rows_and_repeat() -> None:
    widths = []
    for rows in (60, 240, 960):
        results = scores(draw(rows), seed=3)
        assert results == scores(draw(rows), seed=3) != scores(draw(rows), seed=4)
        for part in (results, *results["tasks"].values()):
            low, high = part["macro_f1_interval"]
            assert low < part["macro_f1"] < high
        widths.append(np.subtract(*results["macro_f1_interval"][::-1]))
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_the_mean_takes_into_account_that_tasks_share_their_rows() -> None:
    """Two tasks with the same answers and truth are no better known than one; independent ones are."""
    first, second = draw(300, seed=1)["mood"], draw(300, seed=2)["mood"]
    width = {
        name: np.subtract(*scores(tasks)["macro_f1_interval"][::-1])
        for name, tasks in {
            "one": {"a": first},
            "twice": {"a": first, "b": first},
            "other": {"a": first, "b": second},
        }.items()
    }
    assert width["twice"] == pytest.approx(width["one"])
    assert width["other"] < 0.85 * width["one"]


def test_a_task_without_a_labelled_row_is_shown_without_scores() -> None:
    predictions = draw(50)
    mood = predictions["mood"]
    nothing = replace(mood, labels=np.full(50, -100))
    results = scores({"mood": mood, "level": nothing}, resamples=20)
    assert set(results["tasks"]["level"].values()) == {0, None}
    assert results["macro_f1"] == results["tasks"]["mood"]["macro_f1"]
    table = score_table(results, {"majority": {"mood": 0.2}})
    assert table.splitlines()[2].split() == ["level", *6 * ["-"], "0"]
    empty = scores({"level": nothing}, resamples=20)
    assert empty["macro_f1"] is None and empty["macro_f1_interval"] is None


def certain(probabilities: list[list[float]], labels: list[Any], kind: str = "multiclass") -> TaskPredictions:
    spec = TaskSpec("a", tuple("abc"[: len(probabilities[0])]), kind)
    values = np.array(probabilities, dtype=np.float32)
    answers = (values > 0.5).astype(int) if kind == "multilabel" else values.argmax(-1)
    return TaskPredictions(spec, answers, np.array(labels), values)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        # Confidence 0.8 in four rows, right in three: |3/4 - 0.8|.
        (certain([[0.8, 0.2]] * 4, [0, 0, 0, 1]), 0.05),
        # Two bins with two rows each: 1/2 |1 - 0.9| + 1/2 |0 - 0.7|.
        (certain([[0.9, 0.1]] * 2 + [[0.3, 0.7]] * 2, [0, 0, 0, 0]), 0.4),
        # In one bin, ]9/15, 10/15], too high and too low make up for one another.
        (certain([[0.61, 0.39], [0.64, 0.36]], [1, 0]), 0.125),
        # An edge belongs to the bin below it: 0.61 and 2/3 - 1e-4 share a bin, 0.67 is in the next.
        (certain([[0.61, 0.39], [0.67, 0.33]], [1, 0]), (0.61 + 0.33) / 2),
        # Rows without a label play no part.
        (certain([[1.0, 0.0], [1.0, 0.0]], [0, -100]), 0.0),
        # Pairs of row and label: 0.9 holds, 0.2 does not, 0.2 does.
        (certain([[0.9, 0.2], [0.9, 0.2]], [[1, 0], [1, 1]], "multilabel"), (0.1 + 0.3) / 2),
    ],
)
def test_calibration_error_by_hand(predictions: TaskPredictions, expected: float) -> None:
    assert reliability(predictions)["error"] == pytest.approx(expected, abs=1e-6)


def test_the_table_shows_every_task_and_the_mean() -> None:
    predictions: dict[str, TaskDecisions] = {
        "a": certain([[0.9, 0.1], [0.1, 0.9]], [0, 1]),
        "many": certain([[0.9, 0.1], [0.1, 0.9]], [[1, 0], [1, 1]], "multilabel"),
        "decided": TaskDecisions(TaskSpec("decided", ("x", "y")), np.array([0, 0]), np.array([1, 1])),
    }
    table = score_table(
        scores(predictions, resamples=20), {"majority": {"a": 0.5, "many": 0.25, "decided": 0.0}}
    )
    header, *lines, note = table.splitlines()
    assert [column.strip() for column in header.split("  ") if column] == [
        *("task", "macro-F1", "95% interval", "weighted F1", "accuracy", "ECE", "majority class", "rows")
    ]
    cells = [line.replace(" to ", "-").split() for line in lines]
    assert cells[0] == ["a", "1.000", "1.000-1.000", "1.000", "1.000", "0.100", "0.500", "2"]
    assert cells[1][4:] == ["0.500", "0.250", "0.250", "2"]
    assert cells[2] == ["decided", "0.000", "0.000-0.000", "0.000", "0.000", "-", "0.000", "2"]
    assert cells[3][:2] == ["mean", "0.611"] and cells[3][-1] == "0.250"
    assert "multilabel" in note
