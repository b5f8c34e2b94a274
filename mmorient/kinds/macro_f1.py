"""Macro-F1 of class indices, by the metric that `evaluate` loads from its folder."""

from functools import cache

import evaluate
import numpy as np

from mmorient.files.data_folders import data_folder


@cache
def _metric() -> evaluate.Metric:
    return evaluate.load(str(data_folder("macro_f1")))


def macro_f1(answers: np.ndarray, truth: np.ndarray) -> float:
    """The mean of F1 over the classes that occur among the answers or the truth, (rows,) each."""
    result = _metric().compute(predictions=answers, references=truth)
    assert result is not None
    return float(result["macro_f1"])
