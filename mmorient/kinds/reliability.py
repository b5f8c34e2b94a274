"""How often what is probable is true."""

from typing import Any

import numpy as np

# Of the confidence, of equal width.
CONFIDENCE_BINS = 15


def reliability(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    r"""How often what is probable is true (Guo et al., On Calibration of Modern Neural Networks, 2017).

        ECE = \sum_b n_b / n |accuracy_b - confidence_b|

    over `CONFIDENCE_BINS` bins of equal width, each with its upper edge.

    Args:
        confidence: (n,) probabilities.
        right: (n,) bool: whether what they are of is true.

    Returns:
        `error` (ECE, None without a row), `count`, `not_finite` (probabilities left out), and `bins` of
        `low`, `high`, `count`, `confidence`, `accuracy` (None in an empty bin).
    """
    finite = np.isfinite(confidence)
    confidence, right = confidence[finite].astype(np.float64), right[finite]
    index = np.clip(np.ceil(confidence * CONFIDENCE_BINS).astype(int) - 1, 0, CONFIDENCE_BINS - 1)
    bins, error = [], 0.0
    for number in range(CONFIDENCE_BINS):
        inside = index == number
        mean, accuracy = _mean(confidence[inside]), _mean(right[inside])
        if mean is not None and accuracy is not None:
            error += inside.mean() * abs(accuracy - mean)
        bins.append(
            {
                "low": number / CONFIDENCE_BINS,
                "high": (number + 1) / CONFIDENCE_BINS,
                "count": int(inside.sum()),
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    return {
        "error": float(error) if len(confidence) else None,
        "count": len(confidence),
        "not_finite": int((~finite).sum()),
        "bins": bins,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
