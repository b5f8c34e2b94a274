"""The numbers of a report: of JSON types alone, None where there is no number."""

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from mmorient.kinds.kinds import toolkit_kind
from mmorient.scoring.task_predictions import TaskPredictions, labelled_rows

# Bins at most of a histogram of degrees.
DEGREE_BINS = 40


def plain(value: Any) -> Any:
    """A value in JSON types: arrays as lists, numbers that are not finite as None, the unknown as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def task_numbers(predictions: TaskPredictions) -> dict[str, Any]:
    """What the report says of one task's labelled rows beside their scores, as the task's kind has it."""
    scored = labelled_rows(predictions)
    kind = toolkit_kind(scored.spec)
    return {
        "kind": scored.spec.kind,
        "rows": len(scored.truth),
        "example_titles": list(kind.example_titles),
        **plain(kind.numbers(scored)),
    }


def graph_numbers(degrees: np.ndarray) -> dict[str, Any]:
    """Degree statistics of one relation graph.

    Args:
        degrees: Number of neighbours of each row that has the modality, itself not counted.

    Returns:
        `rows`; `mean_degree`, `median_degree`, `max_degree`, `isolated_share` (None without a row); and
        `histogram`, bins of `low` and `high` (whole numbers, both inside) and `count`.
    """
    degrees = np.asarray(degrees)
    if not len(degrees):
        nothing = dict.fromkeys(("mean_degree", "median_degree", "max_degree", "isolated_share"))
        return {"rows": 0, **nothing, "histogram": []}
    width = int(degrees.max()) // DEGREE_BINS + 1
    # Rows without a neighbour have a bin of their own.
    counts = np.bincount(np.where(degrees > 0, (degrees - 1) // width + 1, 0))
    edges = [(0, 0), *(((index - 1) * width + 1, index * width) for index in range(1, len(counts)))]
    return {
        "rows": len(degrees),
        "mean_degree": float(degrees.mean()),
        "median_degree": float(np.median(degrees)),
        "max_degree": int(degrees.max()),
        "isolated_share": float((degrees == 0).mean()),
        "histogram": [
            {"low": low, "high": high, "count": int(count)}
            for (low, high), count in zip(edges, counts, strict=True)
        ],
    }


CURVES = (
    *("loss", "learning_rate", "grad_norm", "eval_loss", "eval_macro_f1", "eval_mean_score", "eval_mae"),
    *("eval_spearman", "image_graph_", "text_graph_"),
)


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float | None]]]:
    """What was logged during training, by name: [epoch, value] pairs; of two at one epoch the later."""
    found: dict[str, dict[float, float | None]] = {}
    for entry in history:
        epoch = entry.get("epoch", entry.get("step"))
        if epoch is None:
            continue
        for name, value in entry.items():
            if name.startswith(CURVES) and isinstance(value, int | float):
                found.setdefault(name, {})[float(epoch)] = plain(float(value))
    return {name: [[epoch, value] for epoch, value in points.items()] for name, points in found.items()}
