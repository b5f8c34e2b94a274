"""Linear models find what a plane can tell apart, whatever the labels are like."""

from typing import Any

import numpy as np
import pytest

from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.tasks import task_specs

SPECS: dict[str, Any] = task_specs(
    {
        "mood": ["bad", "so-so", "good"],
        "degree": {"labels": ["no", "some", "much"], "kind": "ordinal"},
        "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
        "stars": {"kind": "regression", "range": [1, 5]},
    }
)


def rows(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Features, and the position along a direction that decides all labels."""
    features = np.random.default_rng(seed).normal(size=(count, 12)) * 10.0 ** np.arange(-6, 6)
    return features, (features / features.std(0))[:, [1, 9]].sum(1)


def answers(task: str, labels: np.ndarray, features: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return toolkit_kind(SPECS[task]).linear(SPECS[task], features, labels, queries)


@pytest.mark.parametrize("task", ["mood", "degree"])
def test_classes_along_a_direction_are_told_apart(task: str) -> None:
    (features, along), (queries, true) = rows(0), rows(1)
    found = answers(task, np.digitize(along, [-1, 1]), features, queries)
    assert (found == np.digitize(true, [-1, 1])).mean() > 0.8


def test_labels_are_told_apart_one_by_one() -> None:
    (features, along), (queries, true) = rows(0), rows(1)
    found = answers("about", np.stack([along > 0, along < 1], 1).astype(int), features, queries)
    assert found.shape == (300, 2)
    assert ((found == 1) == np.stack([true > 0, true < 1], 1)).mean() > 0.9


def test_numbers_are_found_and_stay_in_their_range() -> None:
    (features, along), (queries, true) = rows(0), rows(1)
    found = answers("stars", (3 + along).clip(1, 5), features, queries)
    assert np.abs(found - (3 + true).clip(1, 5)).mean() < 0.4
    assert found.min() == 1 and found.max() == 5


def test_noise_is_nothing_to_learn_from() -> None:
    (features, _), (queries, _) = rows(0), rows(1)
    labels = np.random.default_rng(2).integers(0, 2, 300)
    assert 0.35 < (answers("mood", labels, features, queries) == 1).mean() < 0.65


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]])
def test_few_rows_of_a_class_are_no_error(labels: list[int]) -> None:
    features = np.array([[0.0], [1.0], [2.0], [3.0]])
    found = answers("mood", np.array(labels), features, np.array([[0.0], [3.0]]))
    assert found[1] == 1 and found[0] == labels[0]


def test_few_numbers_have_their_mean() -> None:
    assert answers("stars", np.array([2.0, 3.0]), np.zeros((2, 1)), np.zeros((3, 1))).tolist() == [2.5] * 3
