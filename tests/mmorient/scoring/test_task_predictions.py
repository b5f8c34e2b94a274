"""Predictions: from logits, and what does not fit together."""

from typing import Any

import numpy as np
import pytest

from mmorient.scoring.task_predictions import TaskDecisions, TaskPredictions, task_predictions
from modeling_mmorient.task_specs import parse_tasks

SPECS = parse_tasks(
    {
        "mood": {"labels": ["bad", "fine", "good"], "temperature": 2.0},
        "funny": {"labels": ["no", "yes"], "thresholds": [0.8]},
        "about": {"labels": ["politics", "animals"], "kind": "multilabel", "thresholds": [0.5, 0.2]},
    }
)


def test_logits_become_calibrated_probabilities_and_decisions() -> None:
    logits = {"mood": [[0.0, 2.0, 4.0]] * 2, "funny": [[0.0, 1.0], [0.0, 2.0]], "about": [[-1.0, -1.0]] * 2}
    labels: dict[str, Any] = {"mood": [2, -100], "funny": [0, 1], "about": [[0, 1], [-100, -100]]}
    found = task_predictions(SPECS, logits, labels)
    powers = np.exp([0, 1, 2])
    np.testing.assert_allclose(found["mood"].probabilities, [powers / powers.sum()] * 2, rtol=1e-6)
    assert found["mood"].decisions.tolist() == [2, 2]
    assert found["funny"].decisions.tolist() == [0, 1]  # 0.73 is below 0.8, 0.88 above
    assert found["about"].decisions.tolist() == [[0, 1]] * 2
    assert {name: task.known.tolist() for name, task in found.items()} == {
        "mood": [True, False],
        "funny": [True, True],
        "about": [True, False],
    }
    assert all(task.probabilities.dtype == np.float32 for task in found.values())


def test_a_row_of_a_multilabel_task_is_labelled_where_all_its_labels_are_known() -> None:
    task = TaskDecisions(SPECS["about"], np.zeros((3, 2), int), np.array([[0, 1], [-100, 1], [-100, -100]]))
    assert task.known.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("name", "decisions", "labels", "message"),
    [
        ("mood", [0, 1], [0, 1, 2], "a multiclass task with 3 labels needs (3,) of both"),
        ("about", [0, 1], [0, 1], "a multilabel task with 2 labels needs (2, 2) of both"),
        ("mood", [0, 1], [0, 3], "has the labels [3]: give whole numbers from 0 to 2"),
        ("mood", [0, -1], [0, 1], "has the decisions [-1]"),
        ("about", [[0, 1]], [[2, 1]], "from 0 to 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, decisions: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        TaskDecisions(SPECS[name], np.array(decisions), np.array(labels))
    assert message in str(refused.value)


def test_broken_probabilities_and_logits_are_refused() -> None:
    answers, labels = np.array([0, 1]), np.array([0, 1])
    with pytest.raises(ValueError, match=r"probabilities of shape \(2, 2\): \(2, 3\) is expected"):
        TaskPredictions(SPECS["mood"], answers, labels, np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="no numbers from 0 to 1"):
        TaskPredictions(SPECS["funny"], answers, labels, np.array([[0.5, 0.5], [np.nan, 0.5]]))
    with pytest.raises(ValueError, match=r"'funny' has logits that are not finite in 1 of 2 rows.*row 1"):
        TaskPredictions.from_logits(SPECS["funny"], [[0.0, 1.0], [np.inf, 0.0]], labels)
