"""Scores against scikit-learn, with partial labels."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from transformers import EvalPrediction

from training.scoring import compute_metrics, majority_scores, score_table


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
    metrics = compute_metrics(EvalPrediction(predictions=logits, label_ids=labels))
    assert metrics == pytest.approx({**expected, "macro_f1": np.mean(list(expected.values()))})


def test_a_task_without_a_label_has_no_score_and_no_part_in_the_mean() -> None:
    logits = {"a": np.eye(2), "b": np.eye(2)}
    labels = {"a": np.array([0, 1]), "b": np.array([-100, -100])}
    assert compute_metrics(EvalPrediction(predictions=logits, label_ids=labels)) == {
        "macro_f1_a": 1.0,
        "macro_f1": 1.0,
    }


def test_a_multilabel_task_has_the_mean_f1_of_its_labels() -> None:
    generator = np.random.default_rng(0)
    logits, truth = generator.normal(size=(30, 3)), generator.integers(0, 2, (30, 3))
    truth[::4] = -100
    known = truth[:, 0] != -100
    scores = [f1_score(truth[known, index], logits[known, index] > 0) for index in range(3)]
    metrics = compute_metrics(EvalPrediction(predictions={"a": logits}, label_ids={"a": truth}))
    assert metrics["macro_f1_a"] == pytest.approx(np.mean(scores))


def test_the_majority_of_a_multilabel_task_is_that_of_each_label() -> None:
    train = [{"a": [1, 0]}, {"a": [1, 1]}, {"a": [0, 0]}, {"a": [-100, -100]}]
    validation = [{"a": [1, 1]}, {"a": [0, 0]}, {"a": [-100, -100]}]
    # Always [1, 0]: F1 is 2/3 for the first label and 0 for the second.
    assert majority_scores(train, validation) == {"a": pytest.approx(1 / 3)}


def test_the_majority_is_that_of_the_training_rows() -> None:
    train = [{"a": 1}, {"a": 1}, {"a": 0}, {"a": -100}]
    validation = [{"a": 0}, {"a": 0}, {"a": 1}, {"a": -100}]
    assert majority_scores(train, validation) == {
        "a": pytest.approx(f1_score([0, 0, 1], [1, 1, 1], average="macro"))
    }


def test_the_table_shows_every_task_and_the_mean() -> None:
    table = score_table(
        {"eval_macro_f1_a": 0.5, "eval_macro_f1_bcd": 0.25, "eval_macro_f1": 0.375}, {"a": 0.1, "bcd": 0.3}
    )
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["a", "0.500", "0.100"],
        ["bcd", "0.250", "0.300"],
        ["mean", "0.375", "0.200"],
    ]
