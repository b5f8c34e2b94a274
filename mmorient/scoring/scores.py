"""Scores by task: macro-F1 with its interval, weighted F1, accuracy, calibration, and the majority class."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score
from transformers import EvalPrediction

from mmorient.files.data_folders import data_folder
from mmorient.scoring.bootstrap import resampled_macro_f1
from mmorient.scoring.reliability import reliability
from mmorient.scoring.task_predictions import TaskDecisions, TaskPredictions, finite_logits
from mmorient.tables.labels import Label, is_labelled
from modeling_mmorient.multitask import IGNORE_INDEX

METRIC_FOLDER = data_folder("macro_f1")
INTERVAL = (2.5, 97.5)  # percentiles


@cache
def _metric() -> evaluate.Metric:
    return evaluate.load(str(METRIC_FOLDER))


def macro_f1(predictions: Sequence[int] | np.ndarray, references: Sequence[int] | np.ndarray) -> float:
    """Macro-F1 of class indices over the rows whose reference is known."""
    result = _metric().compute(predictions=predictions, references=references)
    assert result is not None
    return float(result["macro_f1"])


def task_score(predictions: np.ndarray, references: np.ndarray) -> float:
    """Macro-F1 of one task over its labelled rows.

    Args:
        predictions: (rows,) class indices; or for a multi-label task (rows, labels) of 0 and 1.
        references: The same, -100 where a row is not labelled.

    Returns:
        The mean of F1 over the classes; for a multi-label task over the labels, of each label's F1.
    """
    if references.ndim == 1:
        return macro_f1(predictions, references)
    known = (references != IGNORE_INDEX).all(-1)
    return float(f1_score(references[known], predictions[known], average="macro", zero_division=0))


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Macro-F1 of every task that has a labelled row, and their mean, from the logits of an evaluation.

    A label of a multi-label task is predicted where its logit is above 0, a probability of one half.

    Raises:
        ValueError: If a logit is not finite: it decides nothing.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    assert isinstance(logits, Mapping) and isinstance(labels, Mapping)
    scores = {}
    for task, values in logits.items():
        truth, values = np.asarray(labels[task]), finite_logits(task, values)
        if (truth != IGNORE_INDEX).any():
            predicted = values.argmax(-1) if truth.ndim == 1 else (values > 0).astype(int)
            scores[f"macro_f1_{task}"] = task_score(predicted, truth)
    return {**scores, "macro_f1": float(np.mean(list(scores.values()))) if scores else float("nan")}


def majority_scores(
    train_labels: Sequence[Mapping[str, Label]], labels: Sequence[Mapping[str, Label]]
) -> dict[str, float]:
    """Macro-F1 by task of always answering what is most frequent in training, for each label by itself."""
    scores = {}
    for task in labels[0] if labels else ():
        known = np.array([row[task] for row in train_labels if is_labelled(row[task])])
        truth = np.array([row[task] for row in labels])
        if len(known) and (truth != IGNORE_INDEX).any():
            answer = np.bincount(known).argmax() if truth.ndim == 1 else (known.mean(0) > 0.5).astype(int)
            scores[task] = task_score(np.broadcast_to(answer, truth.shape), truth)
    return scores


def scores(predictions: Mapping[str, TaskDecisions], seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """The scores of every task over its labelled rows, and their mean macro-F1.

    Args:
        predictions: By task, for the same rows in the same order.
        seed: Of the bootstrap.
        resamples: Of the rows. Every resample draws the same rows for all tasks, so that the mean's interval
            takes into account that a hard row may be hard in all of them.

    Returns:
        Of JSON types, None for what there is not:

        - `tasks`: by task `rows` (labelled ones), `macro_f1`, `macro_f1_interval` (the 2.5th and 97.5th
          percentile over the resamples, without those that have no labelled row), `weighted_f1` (weighted by
          the classes' rows), `accuracy` (for `multilabel` instead `subset_accuracy`: all labels of a row are
          right) and `expected_calibration_error` (None without probabilities). A task without a labelled row
          has None for all but `rows`.
        - `macro_f1`, `macro_f1_interval`: of the mean over the tasks that have a labelled row.
        - `resamples`, `seed`.

    The interval says what other rows of the same kind would change, not what another training run would.
    With few rows of a class it is too narrow: what is not among the rows cannot be drawn.
    """
    labelled = {name: task for name, task in predictions.items() if task.known.any()}
    sampled = resampled_macro_f1(labelled, resamples, seed) if labelled else {}
    tasks = {name: _task_scores(task, sampled.get(name)) for name, task in predictions.items()}
    points = [task["macro_f1"] for task in tasks.values() if task["rows"]]
    return {
        "tasks": tasks,
        "macro_f1": float(np.mean(points)) if points else None,
        "macro_f1_interval": _interval(_mean(list(sampled.values()))) if points else None,
        "resamples": resamples,
        "seed": seed,
    }


def _task_scores(task: TaskDecisions, sampled: np.ndarray | None) -> dict[str, Any]:
    known = task.known
    accuracy = "subset_accuracy" if task.spec.kind == "multilabel" else "accuracy"
    names = ("macro_f1", "macro_f1_interval", "weighted_f1", accuracy, "expected_calibration_error")
    if sampled is None:
        return {"rows": 0, **dict.fromkeys(names)}
    truth, answers = task.labels[known], task.decisions[known]
    values = (
        task_score(answers, truth),
        _interval(sampled),
        float(f1_score(truth, answers, average="weighted", zero_division=0)),
        float(accuracy_score(truth, answers)),
        reliability(task)["error"] if isinstance(task, TaskPredictions) else None,
    )
    return {"rows": int(known.sum()), **dict(zip(names, values, strict=True))}


def _interval(sampled: np.ndarray) -> list[float]:
    return [float(value) for value in np.nanpercentile(sampled, INTERVAL)]


def _mean(sampled: list[np.ndarray]) -> np.ndarray:
    """By resample, the mean over the tasks that have a labelled row in it."""
    values = np.stack(sampled)
    return np.nanmean(values[:, ~np.isnan(values).all(0)], axis=0)


def score_table(results: Mapping[str, Any], majority: Mapping[str, float]) -> str:
    """A table of `scores` for a person.

    Args:
        results: From [`scores`].
        majority: Macro-F1 of the majority class by task, from [`majority_scores`].
    """
    rows = [("task", "macro-F1", "95% interval", "weighted F1", "accuracy", "ECE", "majority class", "rows")]
    for name, task in results["tasks"].items():
        accuracy = task.get("accuracy", task.get("subset_accuracy"))
        others = (task["weighted_f1"], accuracy, task["expected_calibration_error"], majority.get(name))
        rows.append(
            (
                name,
                _number(task["macro_f1"]),
                _range(task["macro_f1_interval"]),
                *map(_number, others),
                str(task["rows"]),
            )
        )
    mean = float(np.mean(list(majority.values()))) if majority else None
    whole = (_number(results["macro_f1"]), _range(results["macro_f1_interval"]))
    rows.append(("mean", *whole, "", "", "", _number(mean), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    ]
    if any("subset_accuracy" in task for task in results["tasks"].values()):
        lines.append("(accuracy of a multilabel task: rows of which all labels are right)")
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else " to ".join(f"{value:.3f}" for value in interval)
