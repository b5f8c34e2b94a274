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
MEAN_SCORE = "of macro-F1 for classes and Spearman's correlation, at least 0, for regression"


def metrics_of(specs: Mapping[str, TaskSpec]) -> Callable[[EvalPrediction], dict[str, float]]:
    """What a `Trainer` computes after each evaluation, as its `compute_metrics`.

    That is `{score}_{task}` for every task that has a labelled row, by the scores of the task's kind
    (`macro_f1` of classes; `mae`, `pearson` and `spearman` of regression), and `mean_scores`. It raises a
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
        return {**named, **mean_scores(specs, found)}

    return compute_metrics


def baseline_scores(
    specs: Mapping[str, TaskSpec],
    training: Mapping[str, Sequence[Label] | np.ndarray],
    labels: Mapping[str, Sequence[Label] | np.ndarray],
) -> dict[str, dict[str, float]]:
    """Scores of always giving the answer that is best in training.

    Args:
        specs: The tasks by name.
        training: By task the labels of the rows that the answer is chosen on.
        labels: The same of the rows that are scored.

    Returns:
        By what the answer is called and by task: for `majority` its macro-F1, for `mean_predictor` (of
        regression tasks) its mean absolute error. Tasks without a labelled row on either side are left out.
    """
    found: dict[str, dict[str, float]] = {toolkit_kind(spec).baseline_name: {} for spec in specs.values()}
    for name, spec in specs.items():
        kind = toolkit_kind(spec)
        known, truth = (
            values[known_rows(values)]
            for values in (np.array(columns[name]) for columns in (training, labels))
        )
        if len(known) and len(truth):
            answers = np.broadcast_to(kind.baseline(spec, known), truth.shape)
            scores = kind.metrics(Scored(spec, answers, truth))
            found[kind.baseline_name][name] = scores[kind.baseline_score]
    return found


def scores(predictions: Mapping[str, TaskDecisions], seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """The scores of every task over its labelled rows, and their means.

    Args:
        predictions: By task, for the same rows in the same order.
        seed: Of the bootstrap.
        resamples: Of the rows. Every resample draws the same rows for all tasks, so that the mean's interval
            takes into account that a hard row may be hard in all of them.

    Returns:
        Of JSON types, None for what there is not:

        - `tasks`: by task `rows` (labelled ones) and, for classes, `macro_f1`, `macro_f1_interval` (the
          2.5th and 97.5th percentile over the resamples, without those that have no labelled row),
          `weighted_f1` (weighted by the classes' rows), `accuracy` (for `multilabel` instead
          `subset_accuracy`: all labels of a row are right) and `expected_calibration_error` (None without
          probabilities); for regression `mae` (mean absolute error), `pearson` and `spearman`, each with its
          interval, and `interval_coverage`, the share of true values in the task's interval (None without
          one). A correlation with answers that are all equal is 0. A task without a labelled row has None for
          all but `rows`.
        - `macro_f1`, `mean_score` and their intervals: see [`mean_scores`].
        - `resamples`, `seed`.

    The interval says what other rows of the same kind would change, not what another training run would.
    With few rows of a class it is too narrow: what is not among the rows cannot be drawn.
    """
    labelled = {name: task for name, task in predictions.items() if task.known.any()}
    sampled = resampled_scores(labelled, resamples, seed) if labelled else {}
    tasks = {name: _task_scores(task, sampled.get(name)) for name, task in predictions.items()}
    specs = {name: task.spec for name, task in predictions.items()}
    means: dict[str, Any] = {}
    for name, value in mean_scores(specs, {name: tasks[name] for name in labelled}).items():
        means[name] = value if labelled else None
        means[f"{name}_interval"] = _interval(mean_scores(specs, sampled)[name]) if labelled else None
    return {"tasks": tasks, **means, "resamples": resamples, "seed": seed}


def mean_scores(specs: Mapping[str, TaskSpec], scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the tasks, by which the best model is chosen.

    - `macro_f1`: of macro-F1, over the tasks with classes; left out where there are none.
    - `mean_score`: over all tasks, of macro-F1 for classes and of Spearman's correlation for regression (0
      where it is negative), which are 0 for an answer that says nothing and 1 for a perfect one; only where
      there is a regression task.

    Args:
        specs: All tasks, by name.
        scores: By task and name, of the tasks that have a labelled row; numbers, or arrays (resamples,) in
            which NaN stands for a resample without a labelled row.

    Returns:
        By name a number or an array; NaN where no task has a labelled row.
    """
    with_classes = {name for name, spec in specs.items() if "macro_f1" in toolkit_kind(spec).resampled_scores}
    means: dict[str, Any] = {}
    if with_classes:
        means["macro_f1"] = _mean(
            [values["macro_f1"] for name, values in scores.items() if name in with_classes]
        )
    if len(with_classes) < len(specs):
        means["mean_score"] = _mean([toolkit_kind(specs[name]).unit_score(scores[name]) for name in scores])
    return means


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


def _mean(values: Sequence[Any]) -> Any:
    """Over tasks; in each resample over those that have a labelled row in it."""
    if not values:
        return float("nan")
    stacked = np.stack([np.asarray(value, dtype=float) for value in values])
    if stacked.ndim == 1:
        return float(stacked.mean())
    return np.nanmean(stacked[:, ~np.isnan(stacked).all(0)], axis=0)


def score_table(results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]) -> str:
    """A table of `scores` for a person.

    Args:
        results: From [`scores`].
        baselines: From [`baseline_scores`].
    """
    lines: list[str] = []
    for rows, notes in score_rows(results, baselines):
        lines += [*_aligned(rows), *notes]
    return "\n".join(line.rstrip() for line in lines)


def score_rows(
    results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]
) -> list[tuple[list[tuple[str, ...]], list[str]]]:
    """The rows of tables of `scores`, headings first, with notes below: a table for tasks that are alike."""
    constant = {name: score for scores in baselines.values() for name, score in scores.items()}
    tables = []
    for kind, tasks in _by_heading(results["tasks"]).items():
        rows = [("task", *kind.table_heading, "rows")]
        for name, task in tasks.items():
            rows.append((name, *kind.table_cells(task, constant.get(name)), str(task["rows"])))
        if "macro_f1" in kind.resampled_scores:
            rows.append(_mean_row(results, [constant[name] for name in tasks if name in constant]))
        tables.append((rows, list(kind.table_notes(list(tasks.values())))))
    if "mean_score" in results:
        mean, interval = results["mean_score"], results["mean_score_interval"]
        tables[-1][1].append(f"mean score {number(mean)} ({span(interval)}): {MEAN_SCORE}")
    return tables


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
