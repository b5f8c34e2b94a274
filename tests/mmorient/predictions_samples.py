"""Predictions made up for the tests of the report."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmorient.kinds.kinds import toolkit_kind
from mmorient.report.numbers import task_numbers
from mmorient.scoring.task_predictions import TaskPredictions, labelled_rows
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class Predictions:
    spec: TaskSpec
    probabilities: np.ndarray
    decisions: np.ndarray
    labels: np.ndarray
    known: np.ndarray


def single_label(
    name: str = "a",
    labels: tuple[str, ...] = ("no", "yes", "maybe"),
    rows: int = 50,
    unknown: int = 0,
    seed: int = 0,
) -> Predictions:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(len(labels)), rows)
    truth = generator.integers(0, len(labels), rows)
    truth[:unknown] = -100
    return Predictions(TaskSpec(name, labels), probabilities, probabilities.argmax(-1), truth, truth != -100)


def multi_label(
    name: str = "m",
    labels: tuple[str, ...] = ("cats", "dogs"),
    rows: int = 50,
    unknown: int = 0,
    seed: int = 0,
) -> Predictions:
    generator = np.random.default_rng(seed)
    probabilities = generator.random((rows, len(labels)))
    truth = generator.integers(0, 2, (rows, len(labels)))
    truth[:unknown] = -100
    decisions = (probabilities > 0.5).astype(int)
    spec = TaskSpec(name, labels, "multilabel")
    return Predictions(spec, probabilities, decisions, truth, (truth != -100).all(-1))


def reliability(predictions: Any) -> dict[str, Any]:
    """How often what is probable is true, of a task with probabilities."""
    return task_numbers(predictions)["reliability"]


def macro_f1(predictions: TaskPredictions) -> float:
    """Of the labelled rows."""
    return toolkit_kind(predictions.spec).metrics(labelled_rows(predictions))["macro_f1"]
