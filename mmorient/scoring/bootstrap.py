"""Scores of many resamples of the scored rows at once."""

from collections.abc import Mapping

import numpy as np

from mmorient.kinds.kinds import toolkit_kind
from mmorient.kinds.resampling import row_weights
from mmorient.scoring.task_predictions import TaskDecisions, labelled_rows


def resampled_scores(
    predictions: Mapping[str, TaskDecisions], resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Scores by task of bootstrap resamples: as many rows as there are, drawn with replacement.

    Args:
        predictions: By task, for the same rows in the same order: every resample draws the same rows for all
            tasks.
        resamples: Their number.
        seed: Of the draws.

    Returns:
        By task and score, of the task's kind's `resampled_scores`, (resamples,); NaN where a resample has no
        labelled row of the task.

    Raises:
        ValueError: If the tasks have different numbers of rows.
    """
    numbers = {name: len(task.labels) for name, task in predictions.items()}
    if len(set(numbers.values())) > 1:
        raise ValueError(f"the tasks have different numbers of rows, {numbers}: give the same rows for all.")
    found: dict[str, dict[str, list[np.ndarray]]] = {
        name: {score: [] for score in toolkit_kind(task.spec).resampled_scores}
        for name, task in predictions.items()
    }
    for weights in row_weights(next(iter(numbers.values()), 0), resamples, seed):
        for name, task in predictions.items():
            drawn = weights[:, task.known]
            scores = toolkit_kind(task.spec).resampled(labelled_rows(task), drawn)
            for score, values in scores.items():
                found[name][score].append(np.where(drawn.any(-1), values, np.nan))
    return {
        name: {score: np.concatenate(blocks) for score, blocks in scores.items()}
        for name, scores in found.items()
    }
