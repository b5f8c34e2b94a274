"""Macro-F1 over labeled rows, as a metric that `evaluate` loads from its path, without a network.

metric = evaluate.load("training/macro_f1")
metric.compute(predictions=[0, 1, 1], references=[0, 1, -100])  # {"macro_f1": 1.0}
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score

NOT_LABELED = -100

_DESCRIPTION = """\
Macro-F1: the mean over classes of F1 = 2 TP / (2 TP + FP + FN), each class counting the same.

Rows whose reference is -100 are not labeled and are left out. The mean is over the classes that
occur among the references or the predictions of the remaining rows, as in scikit-learn's
`f1_score(average="macro")`, with which the organizers of SemEval's meme tasks score. With
`num_classes` it is over all of a task's classes, and a class that does not occur counts as 0.
"""

_INPUTS = """\
Args:
    predictions: predicted class index per row.
    references: true class index per row, -100 where the row is not labeled.
    num_classes: the task's number of classes; by default, those that occur.
    per_class: also return each class's F1. Default False.

Returns:
    macro_f1: float from 0 to 1.
    classes: list of int, the classes that the mean is over (with `per_class`).
    f1_per_class: list of float, in the order of `classes` (with `per_class`).

Raises:
    ValueError: no row is labeled, or a labeled row holds something that is no class index (a whole
        number from 0, below `num_classes`).
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class MacroF1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        # Taken as floats, because an integer column would silently cut a probability down to 0.
        index = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": index, "references": index}),
            reference_urls=[
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html"
            ],
        )

    def _compute(
        self,
        predictions: Any,
        references: Any,
        num_classes: int | None = None,
        per_class: bool = False,
    ) -> dict[str, Any]:
        predicted, true = np.asarray(predictions), np.asarray(references)
        labeled = true != NOT_LABELED
        if not labeled.any():
            raise ValueError(
                f"macro_f1 got {len(true)} rows, none of them labeled (every reference is "
                f"{NOT_LABELED}). Leave this task out, or score it on rows that have its label."
            )
        predicted, true = predicted[labeled], true[labeled]
        occurring = np.union1d(predicted, true)
        _check_indices(occurring, num_classes)

        classes = occurring.astype(int) if num_classes is None else np.arange(num_classes)
        scores = f1_score(true, predicted, labels=classes, average=None, zero_division=0)
        result: dict[str, Any] = {"macro_f1": float(np.mean(scores))}
        if per_class:
            result |= {"classes": classes.tolist(), "f1_per_class": scores.tolist()}
        return result


def _check_indices(occurring: Any, num_classes: int | None) -> None:
    limit = np.inf if num_classes is None else num_classes
    wrong = [float(index) for index in occurring if not (0 <= index < limit and index % 1 == 0)]
    if wrong:
        bounds = "0 or more" if num_classes is None else f"from 0 to {num_classes - 1}"
        raise ValueError(
            f"macro_f1 got {wrong[:5]} in labeled rows, but they must be whole numbers {bounds}. "
            f"Give class indices, not scores, and {NOT_LABELED} as reference of unlabeled rows."
        )
