"""Temperature and decision thresholds of one task, fitted on known labels."""

from dataclasses import replace
from math import exp, log

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from mmorient.kinds.resampling import f1, resampled_macro_f1, row_weights
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec

# Labelled rows that a task needs, and rows on either side that a threshold needs: of fewer, noise is fitted.
LEAST_ROWS = 50
LEAST_ROWS_OF_A_SIDE = 10
TEMPERATURES = (0.05, 20.0)
RESAMPLES = 200


def fit_task(
    spec: TaskSpec,
    logits: np.ndarray,
    labels: np.ndarray,
    holds: np.ndarray,
    by_itself: bool,
    seed: int,
) -> tuple[TaskSpec, list[str]]:
    r"""A task with its temperature, and thresholds where it has some to choose; and what was not fitted.

    The temperature minimises the mean negative log-likelihood of the labels,

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
    than 10 rows on either side stays at one half.

    Args:
        spec: The task, with temperature 1 and without thresholds.
        logits: (rows, C) float32.
        labels: (rows, ...), all of them known.
        holds: (rows, C) bool: which labels hold by them.
        by_itself: Whether each label's threshold is for the label's own F1.
        seed: Of the bootstrap.
    """
    if len(labels) < LEAST_ROWS:
        return spec, [f"{len(labels)} labelled rows, fewer than {LEAST_ROWS}: temperature 1, no thresholds"]
    notes = []
    values = torch.from_numpy(logits)
    spec = replace(spec, temperature=_fit_temperature(spec, values, torch.from_numpy(labels)))
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
    kind, thresholds = kind_of(spec), []
    calibrated = kind.probabilities(spec, values).numpy()
    for label in kind.threshold_labels(spec.labels):
        index = spec.labels.index(label)
        number = int(holds[:, index].sum())
        if min(number, len(holds) - number) < LEAST_ROWS_OF_A_SIDE:
            thresholds.append(0.5)
            notes.append(
                f"{label!r} holds in {number} of {len(holds)} labelled rows, and "
                f"{LEAST_ROWS_OF_A_SIDE} are needed with and without it: threshold one half"
            )
        else:
            thresholds.append(_fit_threshold(calibrated[:, index], holds[:, index], by_itself, seed))
    chosen = tuple(thresholds) if any(threshold != 0.5 for threshold in thresholds) else None
    return replace(spec, thresholds=chosen), notes


def _fit_temperature(spec: TaskSpec, logits: torch.Tensor, labels: torch.Tensor) -> float:
    kind, scores = kind_of(spec), logits.double()
    plain = replace(spec, class_weights=None, label_smoothing=0.0)

    def nll(log_temperature: float) -> float:
        return float(kind.loss(plain, scores / exp(log_temperature), labels)) / labels.numel()

    # Convex in 1 / T, so there is one minimum.
    bounds = tuple(map(log, TEMPERATURES))
    return exp(minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def _fit_threshold(probability: np.ndarray, holds: np.ndarray, by_itself: bool, seed: int) -> float:
    """The threshold of one label: the best one, or one half where that is not clearly worse.

    Args:
        probability: (rows,) float32.
        holds: (rows,) bool.
        by_itself: Whether only the label's F1 counts, and not that of its absence (macro-F1 of two classes).
        seed: Of the bootstrap.
    """
    distinct = np.unique(probability)
    candidates = np.append(distinct[:-1] + (distinct[1:] - distinct[:-1]) / 2, np.float32(0.5))
    candidates = np.unique(candidates[(candidates > 0) & (candidates < 1)])
    scores = _f1_above(candidates, probability, holds, by_itself)
    tied = candidates[scores == scores.max()]
    best = float(tied[np.abs(tied - 0.5).argmin()])

    def sides(yes: np.ndarray) -> np.ndarray:
        return yes[:, None] if by_itself else np.stack([~yes, yes], axis=-1)

    gains = [
        resampled_macro_f1(sides(probability > best), sides(holds), weights, by_itself)
        - resampled_macro_f1(sides(probability > 0.5), sides(holds), weights, by_itself)
        for weights in row_weights(len(holds), RESAMPLES, seed)
    ]
    gained = scores.max() - scores[candidates == 0.5].item()
    return best if gained > np.concatenate(gains).std() else 0.5


def _f1_above(
    thresholds: np.ndarray, probability: np.ndarray, holds: np.ndarray, by_itself: bool
) -> np.ndarray:
    """F1 of "it holds where the probability is above", for each threshold; or macro-F1 of holding or not."""
    order = np.argsort(probability)
    below = np.searchsorted(probability[order], thresholds, side="right")
    positives = np.concatenate([[0], np.cumsum(holds[order])])
    rows, total = len(holds), positives[-1]
    above = f1(total - positives[below], rows - below, total)
    if by_itself:
        return above
    return (above + f1(below - positives[below], below, rows - total)) / 2
