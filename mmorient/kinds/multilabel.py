"""Tasks of which any number of labels holds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import f1_score, multilabel_confusion_matrix

from mmorient.kinds.base import Scored, Sureness
from mmorient.kinds.cells import CellOptions, Label, spelling, value
from mmorient.kinds.classes import ClassKind
from mmorient.kinds.linear import classify
from modeling_mmorient.task_specs import TaskSpec

SEPARATOR = "|"  # of the labels in a CSV cell of predictions
# What a column of a single label says, beside counts.
YES, NO = ("yes", "true"), ("no", "false")


class ManyLabels(ClassKind):
    """A 0 or 1 for each label."""

    table_keys = ("column", "values", "separator", "columns")
    every_class = True
    accuracy = "subset_accuracy"  # all labels of a row are right
    sums_to_one = False
    shown_as = "matrix_by_label"
    predicted_options: Mapping[str, str] = MappingProxyType({"separator": SEPARATOR})

    def read(self, cell: Any, spec: TaskSpec, options: CellOptions) -> Label:
        if options.by_label:
            return self._read_indicators(cell, spec)
        cell = value(cell, options.spellings)
        if isinstance(cell, list):
            parts = [spelling(entry) for entry in cell]
        else:
            whole = spelling(cell)
            if whole is None:
                return self.unlabelled(spec)
            parts = [spelling(part) for part in whole.split(options.separator)]
        found = {options.spellings[part] for part in parts if part is not None}
        return [int(index in found) for index in range(spec.num_labels)]

    def _read_indicators(self, cells: Sequence[Any], spec: TaskSpec) -> Label:
        """From a cell for each label: empty beside others that are not means no."""
        spelled = [spelling(value(cell, ())) for cell in cells]
        if not any(spelled):
            return self.unlabelled(spec)
        held = [_holds(text) for text in spelled]
        if None in held:
            place = held.index(None)
            raise KeyError(f"{spec.labels[place]}: {spelled[place]}")
        return [int(bool(holds)) for holds in held]

    def remedy(self, spec: TaskSpec, options: CellOptions) -> str:
        if options.by_label:
            return "a column for each label holds 0 or 1, yes or no, true or false, or counts"
        return super().remedy(spec, options)

    def holds(self, spec: TaskSpec, values: np.ndarray) -> np.ndarray:
        return values == 1

    def highest(self, spec: TaskSpec) -> int:
        return 1

    def balanced_weights(self, spec: TaskSpec, labels: Sequence[Label]) -> list[float] | None:
        """Of a label's positives, (n - n_c) / n_c, with which they weigh as much as the negatives; 1 for a
        label that all rows have or none."""
        counts = self.counts(spec, labels)
        return [(len(labels) - n) / n if 0 < n < len(labels) else 1.0 for n in counts]

    def baseline(self, spec: TaskSpec, training: np.ndarray) -> np.ndarray:
        """For each label by itself what is more frequent."""
        return (training.mean(0) > 0.5).astype(int)

    def linear(
        self, spec: TaskSpec, features: np.ndarray, labels: np.ndarray, queries: np.ndarray
    ) -> np.ndarray:
        """By logistic regression, for each label by itself."""
        return np.stack([classify(features, label, queries) for label in labels.T], axis=1)

    def confidences(self, scored: Scored) -> tuple[np.ndarray, np.ndarray]:
        """Of every pair of a row and a label."""
        assert scored.probabilities is not None
        return scored.probabilities.reshape(-1), scored.truth.reshape(-1) == 1

    def macro_f1(self, scored: Scored) -> float:
        """Over all labels."""
        return float(f1_score(scored.truth, scored.answers, average="macro", zero_division=0))

    def confusion(self, scored: Scored) -> np.ndarray:
        """(C, 2, 2): by label, a row of the memes without it and one of those with it; said last."""
        if not len(scored.truth):
            return np.zeros((scored.spec.num_labels, 2, 2), dtype=int)
        pairs = zip(scored.truth.T, scored.answers.T, strict=True)
        # Of one label at a time: a single one would be taken for classes.
        return np.stack(
            [multilabel_confusion_matrix(true, answers, labels=[1])[0] for true, answers in pairs]
        )

    def sureness(self, scored: Scored) -> Sureness:
        """Of the least sure label where all are right, of the surest wrong one otherwise."""
        assert scored.probabilities is not None
        of_answer = np.where(scored.answers == 1, scored.probabilities, 1 - scored.probabilities)
        wrong = scored.truth != scored.answers
        sure = np.where(
            wrong.any(-1), np.where(wrong, of_answer, -np.inf).max(-1), of_answer.min(-1, initial=1.0)
        )
        return Sureness(~wrong.any(-1), sure, np.zeros(len(wrong), dtype=int))

    def fields(self, spec: TaskSpec, as_text: bool) -> list[tuple[str, pa.DataType]]:
        if as_text and (unclear := [label for label in spec.labels if SEPARATOR in label]):
            raise ValueError(
                f"task {spec.name!r} has the label {unclear[0]!r}, and in CSV {SEPARATOR!r} stands between "
                "labels: write Parquet."
            )
        return super().fields(spec, as_text)

    def empty_answer(self, spec: TaskSpec) -> Label | None:
        """None of the labels holds."""
        return [0] * spec.num_labels

    def answer_type(self) -> pa.DataType:
        return pa.list_(pa.string())

    def answer_cell(self, names: list[str], as_text: bool) -> Any:
        return SEPARATOR.join(names) if as_text else names


def _holds(spelled: str | None) -> bool | None:
    """Whether a label holds by the cell of its column; None: the cell says something else."""
    text = (spelled or "0").lower()
    if text in (*YES, *NO):
        return text in YES
    return int(text) > 0 if text.isascii() and text.isdigit() else None
