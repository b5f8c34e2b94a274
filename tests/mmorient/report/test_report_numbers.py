"""The report's numbers against scikit-learn and against plain Python."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_recall_fscore_support
from transformers.trainer_utils import IntervalStrategy

from mmorient.report.numbers import curves, graph_numbers, plain, task_numbers
from modeling_mmorient.task_specs import TaskSpec
from tests.mmorient.predictions_samples import Predictions, multi_label, reliability, single_label


def test_json_types_hold_no_number_that_is_none() -> None:
    value = {
        1: np.float32(0.5),
        "array": np.array([1.0, np.nan, np.inf]),
        "more": (True, None, Path("folder"), IntervalStrategy.EPOCH),
    }
    assert plain(value) == {"1": 0.5, "array": [1.0, None, None], "more": [True, None, "folder", "epoch"]}
    json.dumps(plain(value), allow_nan=False)


def test_confusion_and_classes_are_those_of_the_labelled_rows() -> None:
    predictions = single_label(unknown=7)
    numbers = task_numbers(predictions)
    truth, answers = predictions.labels[7:], predictions.decisions[7:]
    assert numbers["rows"] == 43
    assert numbers["confusion"] == confusion_matrix(truth, answers).tolist()
    for name, expected in zip(
        ("precision", "recall", "f1", "rows"), precision_recall_fscore_support(truth, answers), strict=True
    ):
        assert [entry[name] for entry in numbers["classes"]] == pytest.approx(expected)


def test_a_multilabel_task_has_a_confusion_for_each_label() -> None:
    predictions = multi_label(unknown=7)
    numbers = task_numbers(predictions)
    truth, answers = predictions.labels[7:], predictions.decisions[7:]
    assert numbers["confusion"] == multilabel_confusion_matrix(truth, answers).tolist()
    for name, expected in zip(
        ("precision", "recall", "f1", "rows"), precision_recall_fscore_support(truth, answers), strict=True
    ):
        assert [entry[name] for entry in numbers["classes"]] == pytest.approx(expected)


def test_what_is_undefined_is_none() -> None:
    """A class that neither occurs nor is answered, and one that only occurs."""
    spec, known = TaskSpec("a", ("x", "y", "z")), np.ones(2, dtype=bool)
    probabilities = np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2]])
    numbers = task_numbers(Predictions(spec, probabilities, np.array([0, 0]), np.array([0, 1]), known))
    x, y, z = numbers["classes"]
    assert (x["precision"], x["recall"]) == (0.5, 1.0)
    assert (y["precision"], y["recall"], y["f1"]) == (None, 0.0, 0.0)
    assert (z["precision"], z["recall"], z["f1"], z["rows"], z["answers"]) == (None, None, None, 0, 0)


@pytest.mark.parametrize("sample", [single_label, multi_label])
def test_without_a_labelled_row_there_are_zeros_and_no_error(sample) -> None:
    numbers = task_numbers(sample(unknown=50))
    assert numbers["rows"] == 0 and not np.any(numbers["confusion"])
    assert numbers["reliability"]["error"] is None and numbers["reliability"]["count"] == 0


def _plain_reliability(confidences: list[float], right: list[bool]) -> float:
    bins: dict[int, list[int]] = {}
    for row, confidence in enumerate(confidences):
        inside = [number for number in range(15) if number / 15 < confidence <= (number + 1) / 15]
        bins.setdefault(inside[0] if inside else 0, []).append(row)
    return sum(
        abs(sum(right[row] for row in rows) - sum(confidences[row] for row in rows)) for rows in bins.values()
    ) / len(confidences)


def test_calibration_error_of_a_single_label_task_is_that_of_the_most_probable_class() -> None:
    predictions = single_label(rows=200, unknown=20)
    # What the task answers by its thresholds is another matter.
    numbers = reliability(replace(predictions, decisions=np.zeros(200, dtype=int)))
    confidences = predictions.probabilities[20:].max(-1).tolist()
    right = (predictions.probabilities.argmax(-1) == predictions.labels)[20:].tolist()
    assert numbers["error"] == pytest.approx(_plain_reliability(confidences, right))
    assert sum(entry["count"] for entry in numbers["bins"]) == numbers["count"] == 180


def test_calibration_error_of_a_multilabel_task_is_over_pairs_of_row_and_label() -> None:
    predictions = multi_label(rows=200, unknown=20)
    numbers = reliability(predictions)
    confidences = predictions.probabilities[20:].reshape(-1).tolist()
    right = (predictions.labels[20:].reshape(-1) == 1).tolist()
    assert numbers["error"] == pytest.approx(_plain_reliability(confidences, right))
    assert numbers["count"] == 360


def test_edges_of_bins_and_probabilities_that_are_none() -> None:
    spec = TaskSpec("m", ("x",), "multilabel")
    probabilities = np.array([[0.0], [1.0], [1 / 15], [np.nan]])
    labels = np.ones((4, 1), dtype=int)
    numbers = reliability(Predictions(spec, probabilities, labels, labels, np.ones(4, dtype=bool)))
    counts = [entry["count"] for entry in numbers["bins"]]
    assert counts == [2, *[0] * 13, 1]
    assert (numbers["count"], numbers["not_finite"]) == (3, 1)


def test_a_histogram_of_degrees_counts_every_row_once_and_the_isolated_apart() -> None:
    generator = np.random.default_rng(0)
    for highest in (1, 16, 40, 41, 4000):
        degrees = generator.integers(0, highest + 1, 500)
        degrees[:3] = 0
        numbers = graph_numbers(degrees)
        assert numbers["isolated_share"] == (degrees == 0).mean()
        assert numbers["mean_degree"] == pytest.approx(degrees.mean())
        bins = numbers["histogram"]
        assert len(bins) <= 42 and (bins[0]["low"], bins[0]["high"]) == (0, 0)
        for before, after in itertools.pairwise(bins):
            assert after["low"] == before["high"] + 1
        for entry in bins:
            assert entry["count"] == ((degrees >= entry["low"]) & (degrees <= entry["high"])).sum()
        assert sum(entry["count"] for entry in bins) == 500


def test_graphs_without_an_edge_or_a_row() -> None:
    assert graph_numbers(np.zeros(3, dtype=int))["histogram"] == [{"low": 0, "high": 0, "count": 3}]
    empty = graph_numbers(np.array([], dtype=int))
    assert (empty["rows"], empty["isolated_share"], empty["histogram"]) == (0, None, [])


def test_curves_are_what_was_logged_by_epoch() -> None:
    history = [
        {"loss": 2.0, "learning_rate": 0.1, "epoch": 0.5, "step": 1},
        {"loss": float("nan"), "epoch": 1.0, "step": 2},
        {"eval_loss": 1.5, "eval_macro_f1": 0.1, "eval_runtime": 3.0, "epoch": 1.0, "step": 2},
        {"eval_loss": 1.25, "eval_macro_f1_a": 0.2, "epoch": 1.0, "step": 2},
        {"train_loss": 1.0, "total_flos": 0, "epoch": 1.0, "step": 2},
        {"image_graph_mean_degree": 16, "step": 2},
        {"note": "no epoch"},
    ]
    assert curves(history) == {
        "loss": [[0.5, 2.0], [1.0, None]],
        "learning_rate": [[0.5, 0.1]],
        "eval_loss": [[1.0, 1.25]],
        "eval_macro_f1": [[1.0, 0.1]],
        "eval_macro_f1_a": [[1.0, 0.2]],
        "image_graph_mean_degree": [[2.0, 16.0]],
    }
