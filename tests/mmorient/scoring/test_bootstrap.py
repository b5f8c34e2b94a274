"""Resampled macro-F1 against scikit-learn, one resample at a time."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmorient.kinds import resampling
from mmorient.scoring.bootstrap import resampled_scores
from mmorient.scoring.task_predictions import TaskDecisions
from modeling_mmorient.task_specs import TaskSpec


def one_class(rows: int, seed: int, absent: bool) -> TaskDecisions:
    generator = np.random.default_rng(seed)
    classes = [1, 4] if absent else [0, 1, 2, 3, 4]
    labels = generator.choice(classes, rows)
    labels[generator.random(rows) < 0.3] = -100
    # Answers name a class that is never true, and one that is true may never be answered.
    return TaskDecisions(TaskSpec("a", tuple("abcde")), generator.choice([1, 2, 3], rows), labels)


def many_labels(rows: int, seed: int) -> TaskDecisions:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (rows, 3))
    labels[:, 2] = 0
    labels[generator.random(rows) < 0.3] = -100
    return TaskDecisions(
        TaskSpec("a", tuple("abc"), "multilabel"), generator.integers(0, 2, (rows, 3)) * [1, 1, 0], labels
    )


def reference(task: TaskDecisions, rows: np.ndarray) -> float:
    rows = rows[task.known[rows]]
    if not len(rows):
        return float("nan")
    return float(f1_score(task.labels[rows], task.decisions[rows], average="macro", zero_division=0))


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_every_resample_has_the_macro_f1_of_scikit_learn(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "BLOCK", 7 * rows)  # several blocks, the last one smaller
    tasks = {
        "absent": one_class(rows, 1, True),
        "all": one_class(rows, 2, False),
        "many": many_labels(rows, 3),
    }
    found = resampled_scores(tasks, resamples=30, seed=5)
    generator = np.random.default_rng(5)
    draws = [sample for size in (7, 7, 7, 7, 2) for sample in generator.integers(0, rows, (size, rows))]
    for name, task in tasks.items():
        expected = np.array([reference(task, sample) for sample in draws])
        np.testing.assert_allclose(found[name]["macro_f1"], expected, rtol=1e-14, equal_nan=True)


def test_rows_are_drawn_alike_for_all_tasks() -> None:
    task = one_class(50, 0, False)
    found = resampled_scores({"a": task, "b": task}, resamples=10, seed=0)
    np.testing.assert_array_equal(found["a"]["macro_f1"], found["b"]["macro_f1"])
    assert len(set(found["a"]["macro_f1"])) > 1


def test_tasks_of_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different numbers of rows, \{'a': 5, 'b': 6\}"):
        resampled_scores({"a": one_class(5, 0, True), "b": one_class(6, 0, True)}, 2, 0)
