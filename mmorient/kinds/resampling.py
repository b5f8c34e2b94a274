"""Bootstrap resamples of rows, as weights; and F1 from counts, of many resamples or thresholds at once."""

from collections.abc import Iterator

import numpy as np

# Numbers in one block of resamples: bounds the memory, whatever the number of rows.
BLOCK = 4_000_000


def row_weights(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample draws each row: blocks of (some resamples, rows)."""
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // max(rows, 1))
    for start in range(0, resamples, size):
        number = min(size, resamples - start)
        draws = generator.integers(0, rows, (number, rows)) + rows * np.arange(number)[:, None]
        yield np.bincount(draws.ravel(), minlength=number * rows).reshape(number, rows).astype(np.float64)


def f1(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    """2 TP / (n + m) of a class that is answered n times and true m times; 0 where it does not occur."""
    return 2 * right / np.maximum(answered + true, 1)


def resampled_macro_f1(
    answered: np.ndarray, true: np.ndarray, weights: np.ndarray, every_class: bool
) -> np.ndarray:
    r"""Macro-F1 of resamples, (resamples,). With w_i how often row i was drawn, the counts of class c are

        TP_c = Σ_i w_i [answer_i = truth_i = c],   n_c = Σ_i w_i [answer_i = c],   m_c = Σ_i w_i [truth_i = c]

    which is one matrix product for all resamples, and F1_c = 2 TP_c / (n_c + m_c).

    Args:
        answered, true: (rows, C) bool: is class c answered, is it true?
        weights: w, (resamples, rows).
        every_class: Whether the mean is over all classes, F1 being 0 for one that does not occur; otherwise
            over those that occur among the answers or the truth of the resample, as in scikit-learn's
            `f1_score(average="macro")`.
    """
    outcomes = np.concatenate([answered & true, answered, true], axis=1).astype(np.float64)
    right, answers, truths = np.split(weights @ outcomes, 3, axis=1)
    scores = f1(right, answers, truths)
    number = scores.shape[-1] if every_class else np.maximum((answers + truths > 0).sum(-1), 1)
    return scores.sum(-1) / number
