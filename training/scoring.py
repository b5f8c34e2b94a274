"""Scores: macro-F1 by task beside the majority class."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
from sklearn.metrics import f1_score
from transformers import EvalPrediction

from modeling_mmorient.multitask import IGNORE_INDEX
from training.labels import Label, is_labelled

METRIC_FOLDER = Path(__file__).resolve().parent / "macro_f1"


@cache
def _metric() -> evaluate.Metric:
    return evaluate.load(str(METRIC_FOLDER))


def macro_f1(predictions: Sequence[int] | np.ndarray, references: Sequence[int] | np.ndarray) -> float:
    """Macro-F1 of class indices over the rows whose reference is known."""
    result = _metric().compute(predictions=predictions, references=references)
    assert result is not None
    return float(result["macro_f1"])


def task_score(predictions: np.ndarray, references: np.ndarray) -> float:
    """Macro-F1 of one task over its labelled rows.

    Args:
        predictions: (rows,) class indices; or for a multi-label task (rows, labels) of 0 and 1.
        references: The same, -100 where a row is not labelled.

    Returns:
        The mean of F1 over the classes; for a multi-label task over the labels, of each label's F1.
    """
    if references.ndim == 1:
        return macro_f1(predictions, references)
    known = (references != IGNORE_INDEX).all(-1)
    return float(f1_score(references[known], predictions[known], average="macro", zero_division=0))


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Macro-F1 of every task that has a labelled row, and their mean, from the logits of an evaluation.

    A label of a multi-label task is predicted where its logit is above 0, a probability of one half.
    """
    logits, labels = prediction.predictions, prediction.label_ids
    assert isinstance(logits, Mapping) and isinstance(labels, Mapping)
    scores = {}
    for task, values in logits.items():
        truth, values = np.asarray(labels[task]), np.asarray(values)
        if (truth != IGNORE_INDEX).any():
            predicted = values.argmax(-1) if truth.ndim == 1 else (values > 0).astype(int)
            scores[f"macro_f1_{task}"] = task_score(predicted, truth)
    return {**scores, "macro_f1": float(np.mean(list(scores.values()))) if scores else float("nan")}


def majority_scores(
    train_labels: Sequence[Mapping[str, Label]], labels: Sequence[Mapping[str, Label]]
) -> dict[str, float]:
    """Macro-F1 by task of always answering what is most frequent in training, for each label by itself."""
    scores = {}
    for task in labels[0] if labels else ():
        known = np.array([row[task] for row in train_labels if is_labelled(row[task])])
        truth = np.array([row[task] for row in labels])
        if len(known) and (truth != IGNORE_INDEX).any():
            answer = np.bincount(known).argmax() if truth.ndim == 1 else (known.mean(0) > 0.5).astype(int)
            scores[task] = task_score(np.broadcast_to(answer, truth.shape), truth)
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
