"""Scores by task with their intervals, beside the best constant answer, and their mean over the tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from mmorient.kinds.base import Scored, ToolkitKind
from mmorient.kinds.cells import Label, known_rows
from mmorient.kinds.kinds import TOOLKIT_KINDS, toolkit_kind
from mmorient.kinds.shown import number, span
from mmorient.scoring.bootstrap import resampled_scores
from mmorient.scoring.task_predictions import (
    TaskDecisions,
    TaskPredictions,
    labelled_rows,
)
from modeling_mmorient.task_specs import TaskSpec

INTERVAL = (2.5, 97.5)  # percentiles


def metrics_of(specs: Mapping[str, TaskSpec]) -> Callable[[EvalPrediction], dict[str, float]]:
    """What a `Trainer` computes after each evaluation, as its `compute_metrics`.

    That is `{score}_{task}` for every task that has a labelled row, by the scores of the task's kind
    (macro-F1 of classes), and `macro_f1`, the mean of the tasks' macro-F1. It raises a
    ValueError if a logit is not finite: it decides nothing.

    Args:
        specs: The tasks as they are trained.
    """

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = prediction.predictions, prediction.label_ids
        assert isinstance(logits, Mapping) and isinstance(labels, Mapping)
        found: dict[str, dict[str, float]] = {}
        for name, values in logits.items():
            task = TaskPredictions.from_logits(specs[name], values, labels[name])
            if task.known.any():
                found[name] = toolkit_kind(specs[name]).metrics(labelled_rows(task))
        named = {
            f"{score}_{name}": value for name, values in found.items() for score, value in values.items()
        }
        return {**named, "macro_f1": _mean([values["macro_f1"] for values in found.values()])}

    return compute_metrics


def baseline_scores(
    specs: Mapping[str, TaskSpec],
    training: Sequence[Mapping[str, Label]],
    labels: Sequence[Mapping[str, Label]],
) -> dict[str, dict[str, float]]:
    """Scores of always giving the answer that is best in training.

    Args:
        specs: The tasks by name.
        training: Labels by task of the rows that the answer is chosen on.
        labels: The same of the rows that are scored.

    Returns:
        By what the answer is called, `majority`, and by task its macro-F1. Tasks without a labelled row on
        either side are left out.
    """
    found: dict[str, dict[str, float]] = {toolkit_kind(spec).baseline_name: {} for spec in specs.values()}
    for name, spec in specs.items():
        kind = toolkit_kind(spec)
        known, truth = (
            values[known_rows(values)]
            for values in (np.array([row[name] for row in rows]) for rows in (training, labels))
        )
        if len(known) and len(truth):
            answers = np.broadcast_to(kind.baseline(spec, known), truth.shape)
            scores = kind.metrics(Scored(spec, answers, truth))
            found[kind.baseline_name][name] = scores[kind.leading_score]
    return found


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
    sampled = resampled_scores(labelled, resamples, seed) if labelled else {}
    tasks = {name: _task_scores(task, sampled.get(name)) for name, task in predictions.items()}
    points = [tasks[name]["macro_f1"] for name in labelled]
    return {
        "tasks": tasks,
        "macro_f1": _mean(points) if points else None,
        "macro_f1_interval": _mean_interval([found["macro_f1"] for found in sampled.values()]),
        "resamples": resamples,
        "seed": seed,
    }


def _task_scores(task: TaskDecisions, sampled: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
    kind = toolkit_kind(task.spec)
    values = dict.fromkeys(kind.score_names) if sampled is None else kind.scores(labelled_rows(task))
    found: dict[str, Any] = {"rows": int(task.known.sum())}
    for name in kind.score_names:
        found[name] = values[name]
        if name in kind.resampled_scores:
            found[f"{name}_interval"] = None if sampled is None else _interval(sampled[name])
    return found


def _interval(sampled: np.ndarray) -> list[float]:
    return [float(value) for value in np.nanpercentile(sampled, INTERVAL)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _mean_interval(sampled: Sequence[np.ndarray]) -> list[float] | None:
    """Of the mean over the tasks that have a labelled row in a resample."""
    if not sampled:
        return None
    values = np.stack(sampled)
    return _interval(np.nanmean(values[:, ~np.isnan(values).all(0)], axis=0))


def score_table(results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]) -> str:
    """A table of `scores` for a person.

    Args:
        results: From [`scores`].
        baselines: From [`baseline_scores`].
    """
    constant = {name: score for scores in baselines.values() for name, score in scores.items()}
    lines: list[str] = []
    for kind, tasks in _by_heading(results["tasks"]).items():
        rows = [("task", *kind.table_heading, "rows")]
        for name, task in tasks.items():
            rows.append((name, *kind.table_cells(task, constant.get(name)), str(task["rows"])))
        if kind.leading_score == "macro_f1":
            rows.append(_mean_row(results, [constant[name] for name in tasks if name in constant]))
        lines += [*_aligned(rows), *kind.table_notes(list(tasks.values()))]
    return "\n".join(line.rstrip() for line in lines)


def _by_heading(tasks: Mapping[str, Any]) -> dict[ToolkitKind, dict[str, Any]]:
    """The tasks' scores by a kind that has the same heading as theirs."""
    kinds = {kind.table_heading: kind for kind in TOOLKIT_KINDS.values()}
    found: dict[ToolkitKind, dict[str, Any]] = {}
    for name, task in tasks.items():
        own = next(kind for kind in TOOLKIT_KINDS.values() if set(kind.score_names) <= set(task))
        found.setdefault(kinds[own.table_heading], {})[name] = task
    return found


def _mean_row(results: Mapping[str, Any], baselines: Sequence[float]) -> tuple[str, ...]:
    whole = (number(results["macro_f1"]), span(results["macro_f1_interval"]))
    return ("mean", *whole, "", "", "", number(_mean(baselines) if baselines else None), "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    ]
