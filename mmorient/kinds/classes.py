"""Kinds whose answer is one of several classes, and what they share with multi-label tasks."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from mmorient.kinds.base import Scored, Sureness, ToolkitKind
from mmorient.kinds.cells import CellOptions, Label, is_labelled, spelling, value
from mmorient.kinds.decisions import fit_task
from mmorient.kinds.linear import classify
from mmorient.kinds.macro_f1 import macro_f1
from mmorient.kinds.reliability import reliability
from mmorient.kinds.resampling import resampled_macro_f1
from mmorient.kinds.shown import number, span
from modeling_mmorient.task_kind import IGNORE_INDEX
from modeling_mmorient.task_specs import TaskSpec


class ClassKind(ToolkitKind):
    """A kind with labels that hold or not: F1, a probability of each label."""

    resampled_scores = ("macro_f1",)
    baseline_name = "majority"
    baseline_score = "macro_f1"
    table_heading = ("macro-F1", "95% interval", "weighted F1", "accuracy", "ECE", "majority class")
    unfitted: Mapping[str, Any] = MappingProxyType({"temperature": 1.0, "thresholds": None})
    # Whether macro-F1 is over all labels, also over those that do not occur.
    every_class = False
    # What the share of rows with a right answer is called.
    accuracy = "accuracy"
    # How the report draws the confusion.
    shown_as = "matrix"
    sums_to_one = True

    @property
    def score_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("macro_f1", "weighted_f1", self.accuracy, "expected_calibration_error")

    @abstractmethod
    def holds(self, spec: TaskSpec, values: np.ndarray) -> np.ndarray:
        """(rows, C) bool: which labels hold by known labels or answers (rows, ...)."""

    @abstractmethod
    def highest(self, spec: TaskSpec) -> int:
        """The largest number in a label."""

    @abstractmethod
    def confidences(self, scored: Scored) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and whether what they are of is true, both (n,), to judge the calibration by."""

    @abstractmethod
    def confusion(self, scored: Scored) -> np.ndarray:
        """Counts of labelled rows by what is true and what is answered."""

    def counts(self, spec: TaskSpec, labels: Sequence[Label]) -> list[int]:
        """Rows of each class (of a multi-label task: with each label)."""
        return self.strata(spec, labels).sum(0).tolist()

    def strata(self, spec: TaskSpec, labels: Sequence[Label]) -> np.ndarray:
        known = np.array([is_labelled(label) for label in labels], dtype=bool)
        found = np.zeros((len(labels), spec.num_labels), dtype=bool)
        if known.any():
            values = [label for label, there in zip(labels, known, strict=True) if there]
            found[known] = self.holds(spec, np.array(values))
        return found

    def inspection(self, spec: TaskSpec, labels: Sequence[Label]) -> list[tuple[str, str]]:
        known = sum(map(is_labelled, labels))
        counts = self.counts(spec, labels)
        shares = [f"{count} {count / known:6.1%}" if known else "0" for count in counts]
        imbalance = f"{max(counts) / min(counts):.1f} : 1" if all(counts) else "a class has no row"
        return [
            *zip(spec.labels, shares, strict=True),
            ("not labelled", str(len(labels) - known)),
            ("most : fewest", imbalance),
        ]

    def check(self, spec: TaskSpec, values: np.ndarray) -> str | None:
        wrong = np.unique(values[(values < 0) | (values > self.highest(spec))])
        if not len(wrong):
            return None
        return (
            f"{wrong[:5].tolist()}: give whole numbers from 0 to {self.highest(spec)}, and labels of "
            f"{IGNORE_INDEX} for rows that are not labelled"
        )

    @abstractmethod
    def macro_f1(self, scored: Scored) -> float:
        """The mean of F1 over the classes."""

    def table_cells(self, scores: Mapping[str, Any], baseline: float | None) -> tuple[str, ...]:
        accuracy = scores.get("accuracy", scores.get("subset_accuracy"))
        others = (scores["weighted_f1"], accuracy, scores["expected_calibration_error"], baseline)
        return (number(scores["macro_f1"]), span(scores["macro_f1_interval"]), *map(number, others))

    def table_notes(self, scores: Sequence[Mapping[str, Any]]) -> list[str]:
        if any("subset_accuracy" in task for task in scores):
            return ["(accuracy of a multilabel task: rows of which all labels are right)"]
        return []

    def metrics(self, scored: Scored) -> dict[str, float]:
        return {"macro_f1": self.macro_f1(scored)}

    def unit_score(self, scores: Mapping[str, Any]) -> Any:
        """Macro-F1."""
        return scores["macro_f1"]

    def scores(self, scored: Scored) -> dict[str, float | None]:
        calibration = None
        if scored.probabilities is not None:
            calibration = reliability(*self.confidences(scored))["error"]
        return {
            "macro_f1": self.macro_f1(scored),
            "weighted_f1": float(f1_score(scored.truth, scored.answers, average="weighted", zero_division=0)),
            self.accuracy: float(accuracy_score(scored.truth, scored.answers)),
            "expected_calibration_error": calibration,
        }

    def resampled(self, scored: Scored, weights: np.ndarray) -> dict[str, np.ndarray]:
        answered, true = (self.holds(scored.spec, values) for values in (scored.answers, scored.truth))
        return {"macro_f1": resampled_macro_f1(answered, true, weights, self.every_class)}

    def fit(
        self, spec: TaskSpec, logits: np.ndarray, labels: np.ndarray, seed: int
    ) -> tuple[TaskSpec, list[str]]:
        return fit_task(spec, logits, labels, self.holds(spec, labels), self.every_class, seed)

    def numbers(self, scored: Scored) -> dict[str, Any]:
        """Confusions, scores by class, and reliability."""
        spec, (answered, true) = (
            scored.spec,
            (self.holds(scored.spec, values) for values in (scored.answers, scored.truth)),
        )
        columns = (answered.sum(0), true.sum(0), *class_scores(answered, true))
        names = ("answers", "rows", "precision", "recall", "f1")
        return {
            "shown_as": self.shown_as,
            "labels": list(spec.labels),
            "temperature": spec.temperature,
            "thresholds": None if spec.thresholds is None else list(spec.thresholds),
            "confusion": self.confusion(scored).tolist(),
            "classes": [
                {
                    "label": label,
                    **{name: _number(column[place]) for name, column in zip(names, columns, strict=True)},
                }
                for place, label in enumerate(spec.labels)
            ],
            "reliability": reliability(*self.confidences(scored)),
        }

    def notes(self, numbers: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
        notes, classes = [], numbers["classes"]
        if absent := [entry["label"] for entry in classes if not entry["rows"]]:
            notes.append(f"no row has the class {_listed(absent)}: nothing is known about it.")
        if silent := [entry["label"] for entry in classes if entry["rows"] and not entry["answers"]]:
            notes.append(f"the model never answers {_listed(silent)}.")
        if count := numbers["reliability"]["not_finite"]:
            notes.append(
                f"{count} probabilities are not finite; they are missing in the reliability diagram."
            )
        score, majority = scores.get("macro_f1"), scores.get("majority_macro_f1")
        low = (scores.get("macro_f1_interval") or [None])[0]
        if score is not None and majority is not None:
            if score <= majority:
                notes.append(f"macro-F1 {score:.3f} is not above the majority class's {majority:.3f}.")
            elif low is not None and low <= majority:
                notes.append(
                    f"the interval of macro-F1 begins at {low:.3f} and so holds the majority class's "
                    f"{majority:.3f}: on these rows the two cannot be told apart."
                )
        return notes

    def fields(self, spec: TaskSpec, as_text: bool) -> list[tuple[str, pa.DataType]]:
        answer = (f"predicted.{spec.name}", self.answer_type())
        return [answer, *((name, pa.float32()) for name in self.probability_columns(spec))]

    def probability_columns(self, spec: TaskSpec) -> list[str]:
        return [f"probability.{spec.name}.{label}" for label in spec.labels]

    def answer_type(self) -> pa.DataType:
        """Of the column of answers."""
        return pa.string()

    @abstractmethod
    def answer_cell(self, names: list[str], as_text: bool) -> Any:
        """The cell of an answer with these labels."""

    def columns(
        self, spec: TaskSpec, decisions: np.ndarray, probabilities: np.ndarray, as_text: bool
    ) -> list[list[Any]]:
        answers = [self.answer_cell(self.model.names(spec, decision), as_text) for decision in decisions]
        shares = [
            [f"{share:.6g}" for share in column] if as_text else column.tolist() for column in probabilities.T
        ]
        return [answers, *shares]


class OneClass(ClassKind):
    """One of several classes, with an order among them or without."""

    def read(self, cell: Any, spec: TaskSpec, options: CellOptions) -> Label:
        spelled = spelling(value(cell, options.spellings))
        index = None if spelled is None else options.spellings[spelled]
        return IGNORE_INDEX if index is None else index

    def holds(self, spec: TaskSpec, values: np.ndarray) -> np.ndarray:
        return values[:, None] == np.arange(spec.num_labels)

    def highest(self, spec: TaskSpec) -> int:
        return spec.num_labels - 1

    def balanced_weights(self, spec: TaskSpec, labels: Sequence[Label]) -> list[float] | None:
        """n / (C n_c); a class without a row weighs 1."""
        counts = self.counts(spec, labels)
        occurring = sum(map(bool, counts))
        return [len(labels) / (occurring * n) if n else 1.0 for n in counts]

    def baseline(self, spec: TaskSpec, training: np.ndarray) -> np.ndarray:
        """The most frequent class."""
        return np.asarray(np.bincount(training).argmax())

    def linear(
        self, spec: TaskSpec, features: np.ndarray, labels: np.ndarray, queries: np.ndarray
    ) -> np.ndarray:
        """By logistic regression."""
        return classify(features, labels, queries)

    def confidences(self, scored: Scored) -> tuple[np.ndarray, np.ndarray]:
        """Of the most probable class of each row."""
        assert scored.probabilities is not None
        return scored.probabilities.max(-1), scored.probabilities.argmax(-1) == scored.truth

    def macro_f1(self, scored: Scored) -> float:
        """Over the classes that occur."""
        return macro_f1(scored.answers, scored.truth)

    def confusion(self, scored: Scored) -> np.ndarray:
        """(C, C), true class by row."""
        classes = np.arange(scored.spec.num_labels)
        if not len(scored.truth):
            return np.zeros((len(classes), len(classes)), dtype=int)
        return confusion_matrix(scored.truth, scored.answers, labels=classes)

    def sureness(self, scored: Scored) -> Sureness:
        assert scored.probabilities is not None
        sure = np.take_along_axis(scored.probabilities, scored.answers[:, None], axis=-1)[:, 0]
        return Sureness(scored.truth == scored.answers, sure, scored.truth)

    def answer_cell(self, names: list[str], as_text: bool) -> Any:
        return names[0]


def class_scores(answered: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, (C,), from (rows, C) bool; NaN where one is undefined."""
    if not len(true):
        nothing = np.full(true.shape[1], np.nan)
        return nothing, nothing, nothing
    if true.shape[1] == 1:  # which scikit-learn takes for two classes
        found = precision_recall_fscore_support(
            true[:, 0], answered[:, 0], labels=[True], zero_division=np.nan
        )
    else:
        found = precision_recall_fscore_support(true, answered, zero_division=np.nan)
    precision, recall, f1, _ = found
    return precision, recall, f1


def _number(value: Any) -> float | int | None:
    number = value.item()
    return None if number != number else number


def _listed(labels: list[str], shown: int = 5) -> str:
    more = f" and {len(labels) - shown} more" if len(labels) > shown else ""
    return ", ".join(repr(label) for label in labels[:shown]) + more
