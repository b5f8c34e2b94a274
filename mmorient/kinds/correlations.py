"""Errors and correlations of many resamples of rows at once; rows are drawn as often as their weights say."""

import numpy as np


def mean_errors(answers: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error, (resamples,), of (rows,) and weights (resamples, rows)."""
    return weights @ np.abs(answers - truth) / np.maximum(weights.sum(-1), 1)


def pearson(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation, (resamples,); 0 where one side does not vary, and so says nothing.

    Args:
        first, second: (1, rows), or (resamples, rows) where each resample has values of its own.
        weights: (resamples, rows).
    """
    total = np.maximum(weights.sum(-1, keepdims=True), 1)
    # Around the mean of all rows first: sums of squares of large numbers would swallow small differences.
    one, two = (values - values.mean(-1, keepdims=True) for values in (first, second))
    one, two = (values - (weights * values).sum(-1, keepdims=True) / total for values in (one, two))
    squares = [(weights * values**2).sum(-1) for values in (one, two)]
    # What is left of equal numbers is rounding.
    varies = [
        square > 1e-20 * weights.sum(-1) * (values**2).max(-1)
        for square, values in zip(squares, (first, second), strict=True)
    ]
    size = np.sqrt(squares[0] * squares[1])
    together = (weights * one * two).sum(-1)
    return np.where(varies[0] & varies[1], together / np.where(size > 0, size, 1.0), 0.0).clip(-1, 1)


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank of each row in each resample, (resamples, rows); equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(first, len(ordered)))
    # Rows of each distinct value, of those below it, and so the mean of the ranks that they share.
    count = np.add.reduceat(weights[:, order], first, axis=1)
    shared = count.cumsum(1) - count + (count + 1) / 2
    found = np.empty_like(weights)
    found[:, order] = np.repeat(shared, sizes, axis=1)
    return found
