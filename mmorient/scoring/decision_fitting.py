"""Temperature and decision thresholds, fitted after training on rows that were not trained on."""

from collections.abc import Mapping
from dataclasses import replace
from math import exp, log
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmorient.scoring.bootstrap import resampled_macro_f1
from mmorient.scoring.task_predictions import TaskDecisions, finite_logits
from modeling_mmorient.calibration import probabilities
from modeling_mmorient.multitask import IGNORE_INDEX
from modeling_mmorient.task_specs import TaskSpec

# Labelled rows that a task needs, and rows on either side that a threshold needs: of fewer, noise is fitted.
LEAST_ROWS = 50
LEAST_ROWS_OF_A_SIDE = 10
TEMPERATURES = (0.05, 20.0)
RESAMPLES = 200


class FittedDecisions(NamedTuple):
    """Tasks with what was fitted.

    Args:
        specs: By name, with `temperature` and `thresholds`.
        notes: By name, what was not fitted and why, for a person; only tasks of which there is something to
            say.
    """

    specs: dict[str, TaskSpec]
    notes: dict[str, list[str]]


def fit_decisions(
    specs: Mapping[str, TaskSpec],
    logits: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    seed: int = 0,
) -> FittedDecisions:
    r"""Temperature of every task, and thresholds of those that have a threshold to choose.

    The temperature minimises the mean negative log-likelihood of the known labels,

        T = argmin_T -1/n Σ_i log p_i(T)[label_i],   p_i(T) = softmax(logits_i / T)

    (`multilabel`: sigmoid, and the mean over rows and labels), within [0.05, 20]. It does not change which
    class is the most probable, and it cannot undo what class weights do to a model: trained with them, it
    gives rare classes more probability than their frequency warrants, and a divisor that is the same for all
    classes moves none of it back. Expect a calibration error to remain; thresholds can mend decisions.

    A threshold is on the calibrated probability: of the second label of a task with two, for macro-F1; of
    each label of a `multilabel` task, for the label's F1. Candidates are one half and the midpoints between
    neighbouring probabilities; of equally good ones the closest to one half counts. The best of many
    candidates on a few hundred rows owes something to chance, so one half stays unless the best one's F1 is
    higher by more than one standard error, by the bootstrap, of the difference between the two on the same
    rows. On these rows F1 is therefore never below that at one half.

    A task with fewer than 50 labelled rows keeps temperature 1 and no thresholds, and a threshold with fewer
    than 10 rows on either side stays at one half; `notes` says so. What the tasks had before is replaced.

    Args:
        specs: By name.
        logits: By name (rows, C), before any temperature, of rows that were neither trained on nor will be
            scored.
        labels: By name (rows,) class indices, for `multilabel` (rows, C) of 0 and 1; -100 = not labelled.
        seed: Of the bootstrap; the same input gives the same result.

    Raises:
        ValueError: If a logit is not finite or the arrays do not fit.
    """
    fitted, notes = {}, {}
    for name, spec in specs.items():
        plain = replace(spec, temperature=1.0, thresholds=None)
        fitted[name], said = _fit_task(
            plain, finite_logits(name, logits[name]), np.asarray(labels[name]), seed
        )
        if said:
            notes[name] = said
    return FittedDecisions(fitted, notes)


def _fit_task(
    spec: TaskSpec, logits: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[TaskSpec, list[str]]:
    known = labels != IGNORE_INDEX
    rows = known.all(-1) if known.ndim == 2 else known
    if rows.sum() < LEAST_ROWS:
        note = f"{rows.sum()} labelled rows, fewer than {LEAST_ROWS}: temperature 1, no thresholds"
        return spec, [note]
    notes = []
    values, truth = torch.from_numpy(logits[rows]), labels[rows]
    spec = replace(spec, temperature=_fit_temperature(spec, values, torch.from_numpy(truth)))
    lowest, highest = TEMPERATURES
    if not 1.01 * lowest < spec.temperature < highest / 1.01:
        notes.append(
            f"temperature {spec.temperature:.3g} is at the end of [{lowest}, {highest}]: "
            + (
                "these rows are all but perfectly told apart"
                if spec.temperature < 1
                else "the logits say nothing"
            )
        )
    if spec.kind == "multilabel":
        sides = [(label, index, truth[:, index]) for index, label in enumerate(spec.labels)]
    elif spec.num_labels == 2:
        sides = [(spec.labels[1], 1, truth)]
    else:
        return spec, notes
    calibrated = probabilities(spec, values).numpy()
    thresholds = []
    for label, index, holds in sides:
        fewest = min(int(holds.sum()), int((1 - holds).sum()))
        if fewest < LEAST_ROWS_OF_A_SIDE:
            thresholds.append(0.5)
            notes.append(
                f"{label!r} holds in {int(holds.sum())} of {len(holds)} labelled rows, and "
                f"{LEAST_ROWS_OF_A_SIDE} are needed with and without it: threshold one half"
            )
        else:
            both = spec.kind != "multilabel"
            thresholds.append(_fit_threshold(calibrated[:, index], holds, both, seed))
    chosen = tuple(thresholds) if any(threshold != 0.5 for threshold in thresholds) else None
    return replace(spec, thresholds=chosen), notes


def _fit_temperature(spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> float:
    scores = logits.double()

    def nll(log_temperature: float) -> float:
        scaled = scores / exp(log_temperature)
        if spec.kind == "multilabel":
            return float(binary_cross_entropy_with_logits(scaled, labels.double()))
        return float(cross_entropy(scaled, labels.long()))

    # Convex in 1 / T, so there is one minimum.
    bounds = tuple(map(log, TEMPERATURES))
    return exp(minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def _fit_threshold(probability: np.ndarray, holds: np.ndarray, both: bool, seed: int) -> float:
    """The threshold of one label: the best one, or one half where that is not clearly worse.

    Args:
        probability: (rows,) float32.
        holds: (rows,) of 0 and 1.
        both: Whether the F1 of the label's absence counts as well (macro-F1 of two classes).
    """
    distinct = np.unique(probability)
    candidates = np.append(distinct[:-1] + (distinct[1:] - distinct[:-1]) / 2, np.float32(0.5))
    candidates = np.unique(candidates[(candidates > 0) & (candidates < 1)])
    scores = _f1_above(candidates, probability, holds, both)
    tied = candidates[scores == scores.max()]
    best = float(tied[np.abs(tied - 0.5).argmin()])
    # Two classes, or a single label that holds or not.
    spec = TaskSpec("label", ("no", "yes")) if both else TaskSpec("label", ("yes",), "multilabel")
    answers = {limit: (probability > limit).astype(np.int64) for limit in (best, 0.5)}
    tasks = {
        str(limit): TaskDecisions(spec, *((answer, holds) if both else (answer[:, None], holds[:, None])))
        for limit, answer in answers.items()
    }
    sampled = resampled_macro_f1(tasks, RESAMPLES, seed)
    gains = sampled[str(best)] - sampled["0.5"]
    return best if scores.max() - scores[candidates == 0.5].item() > np.nanstd(gains) else 0.5


def _f1_above(thresholds: np.ndarray, probability: np.ndarray, holds: np.ndarray, both: bool) -> np.ndarray:
    """F1 of "it holds where the probability is above", for each threshold; with `both`, macro-F1."""
    order = np.argsort(probability)
    below = np.searchsorted(probability[order], thresholds, side="right")
    positives = np.concatenate([[0], np.cumsum(holds[order])])
    rows, total = len(holds), positives[-1]
    right_above, right_below = total - positives[below], below - positives[below]
    f1 = 2 * right_above / np.maximum(rows - below + total, 1)
    if not both:
        return f1
    return (f1 + 2 * right_below / np.maximum(below + rows - total, 1)) / 2
