"""Scores: macro-F1 by task beside the majority class."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
from transformers import EvalPrediction

from modeling_mmorient.multitask import IGNORE_INDEX

METRIC_FOLDER = Path(__file__).resolve().parent / "macro_f1"


@cache
def _metric() -> evaluate.Metric:
    return evaluate.load(str(METRIC_FOLDER))


def macro_f1(predictions: Sequence[int] | np.ndarray, references: Sequence[int] | np.ndarray) -> float:
    """Macro-F1 of class indices over the rows whose reference is known."""
    result = _metric().compute(predictions=predictions, references=references)
    assert result is not None
    return float(result["macro_f1"])


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Macro-F1 of every task that has a labelled row, and their mean, from the logits of an evaluation."""
    logits, labels = prediction.predictions, prediction.label_ids
    assert isinstance(logits, Mapping) and isinstance(labels, Mapping)
    scores = {
        f"macro_f1_{task}": macro_f1(np.asarray(logits[task]).argmax(-1), labels[task])
        for task in logits
        if (np.asarray(labels[task]) != IGNORE_INDEX).any()
    }
    return {**scores, "macro_f1": float(np.mean(list(scores.values()))) if scores else float("nan")}


def majority_scores(
    train_labels: Sequence[Mapping[str, int]], labels: Sequence[Mapping[str, int]]
) -> dict[str, float]:
    """Macro-F1 by task of always answering the class that is most frequent in training."""
    scores = {}
    for task in labels[0] if labels else ():
        known = [row[task] for row in train_labels if row[task] != IGNORE_INDEX]
        truth = [row[task] for row in labels]
        if known and any(value != IGNORE_INDEX for value in truth):
            scores[task] = macro_f1([int(np.bincount(known).argmax())] * len(truth), truth)
    return scores


def score_table(metrics: Mapping[str, Any], majority: Mapping[str, float], prefix: str = "eval_") -> str:
    """A table of macro-F1 by task: the model's, and the majority class's."""
    width = max([len("mean"), *(len(task) for task in majority)])
    lines = [f"{'task':<{width}}  macro-F1  majority class"]
    for task, baseline in majority.items():
        lines.append(f"{task:<{width}}  {metrics[f'{prefix}macro_f1_{task}']:8.3f}  {baseline:14.3f}")
    mean = float(np.mean(list(majority.values()))) if majority else float("nan")
    lines.append(f"{'mean':<{width}}  {metrics[f'{prefix}macro_f1']:8.3f}  {mean:14.3f}")
    return "\n".join(lines)
