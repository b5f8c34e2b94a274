"""Macro-F1 of many resamples of the scored rows at once."""

from collections.abc import Iterator, Mapping

import numpy as np

from mmorient.scoring.task_predictions import TaskDecisions

# Numbers in one block of resamples: bounds the memory, whatever the number of rows.
BLOCK = 4_000_000


def resampled_macro_f1(
    predictions: Mapping[str, TaskDecisions], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    r"""Macro-F1 by task of bootstrap resamples: as many rows as there are, drawn with replacement.

    With w_i how often row i was drawn, the counts of class c are

        TP_c = Σ_i w_i [answer_i = truth_i = c],   n_c = Σ_i w_i [answer_i = c],   m_c = Σ_i w_i [truth_i = c]

    over the labelled rows, which is one matrix product for all resamples, and F1_c = 2 TP_c / (n_c + m_c).
    The mean is over the classes that occur among the answers or the truth of the resample, as in
    scikit-learn's `f1_score(average="macro")`; for `multilabel` over all labels, F1 being 0 for one that does
    not occur.

    Args:
        predictions: By task, for the same rows in the same order: every resample draws the same rows for all
            tasks.
        resamples: Their number.
        seed: Of the draws.

    Returns:
        (resamples,) by task; NaN where a resample has no labelled row of the task.

    Raises:
        ValueError: If the tasks have different numbers of rows.
    """
    numbers = {name: len(task.labels) for name, task in predictions.items()}
    if len(set(numbers.values())) > 1:
        raise ValueError(f"the tasks have different numbers of rows, {numbers}: give the same rows for all.")
    outcomes = {name: _outcomes(task) for name, task in predictions.items()}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in predictions}
    for weights in _row_weights(next(iter(numbers.values()), 0), resamples, seed):
        for name, task in predictions.items():
            counts = (weights @ outcomes[name].reshape(len(outcomes[name]), -1)).reshape(
                len(weights), *outcomes[name].shape[1:]
            )
            labelled = (weights @ task.known.astype(np.float64)) > 0
            values = _macro_f1(counts, every_class=task.spec.kind == "multilabel")
            scores[name].append(np.where(labelled, values, np.nan))
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def _row_weights(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample draws each row: blocks of (some resamples, rows)."""
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // max(rows, 1))
    for start in range(0, resamples, size):
        number = min(size, resamples - start)
        draws = generator.integers(0, rows, (number, rows)) + rows * np.arange(number)[:, None]
        yield np.bincount(draws.ravel(), minlength=number * rows).reshape(number, rows).astype(np.float64)


def _outcomes(task: TaskDecisions) -> np.ndarray:
    """(rows, 3, C) of 0 and 1: is class c right, answered, true? All 0 in rows that are not labelled."""
    if task.spec.kind == "multilabel":
        answered, true = task.decisions == 1, task.labels == 1
    else:
        classes = np.arange(task.spec.num_labels)
        answered, true = task.decisions[:, None] == classes, task.labels[:, None] == classes
    stacked = np.stack([answered & true, answered, true], axis=1)
    return (stacked & task.known[:, None, None]).astype(np.float64)


def _macro_f1(counts: np.ndarray, every_class: bool) -> np.ndarray:
    """(...) from (..., 3, C) counts of right, answered and true rows."""
    right, answered, true = np.moveaxis(counts, -2, 0)
    occurrences = answered + true
    f1 = 2 * right / np.maximum(occurrences, 1)
    classes = f1.shape[-1] if every_class else np.maximum((occurrences > 0).sum(-1), 1)
    return f1.sum(-1) / classes
