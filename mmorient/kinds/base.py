"""What a kind of task means to tables, scores, reports and predictions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mmorient.kinds.cells import CellOptions, Label
from modeling_mmorient.task_kind import TaskKind
from modeling_mmorient.task_kinds import TASK_KINDS
from modeling_mmorient.task_specs import TaskSpec


class Scored(NamedTuple):
    """The labelled rows of one task: what is answered and what is true.

    Args:
        spec: The task.
        answers: (rows, ...), in the form of labels.
        truth: (rows, ...).
        probabilities: (rows, C) that the answers were made by; None where they are not known.
    """

    spec: TaskSpec
    answers: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray | None = None


class Sureness(NamedTuple):
    """Which rows make good examples.

    Args:
        right: (rows,) bool.
        sure: (rows,) how sure the model is of what an example shows; the surest rows come first.
        turns: (rows,) groups that take turns.
    """

    right: np.ndarray
    sure: np.ndarray
    turns: np.ndarray


class ToolkitKind(ABC):
    """What a kind of task means outside the model; what it means to the model is its `model` kind.

    Args:
        name: The kind's.
    """

    # What a task in a recipe may say about its table.
    table_keys: tuple[str, ...] = ("column", "values")
    # Points of `scores` that the bootstrap gives intervals of.
    resampled_scores: tuple[str, ...]
    # All keys of `scores` but intervals.
    score_names: tuple[str, ...]
    # Beside which constant answer scores are shown, and the score that is compared.
    baseline_name: str
    baseline_score: str
    # Of `resampled_scores`, those that are errors.
    lower_is_better: frozenset[str] = frozenset()
    # Above the examples that `sureness` calls right, and above the others.
    example_titles = ("Right", "Wrong")

    def __init__(self, name: str) -> None:
        self.model: TaskKind = TASK_KINDS[name]

    # Tables

    @abstractmethod
    def read(self, cell: Any, spec: TaskSpec, options: CellOptions) -> Label:
        """The label that a cell spells.

        Args:
            cell: A row's cell; where each label has a column, those of all of them.
            spec: The task.
            options: What the recipe says about the columns.

        Raises:
            KeyError: With the spelling, if no label has it.
        """

    def unlabelled(self, spec: TaskSpec) -> Label:
        """The label of a row that is not labelled."""
        return self.model.unlabelled(spec, 1)[0].tolist()

    @abstractmethod
    def strata(self, spec: TaskSpec, labels: Sequence[Label]) -> np.ndarray:
        """(rows, groups) bool: what a split keeps as frequent on both sides; nothing for unlabelled rows."""

    @abstractmethod
    def inspection(self, spec: TaskSpec, labels: Sequence[Label]) -> list[tuple[str, str]]:
        """What a person wants to know of a column's labels, by names that are the same for every column."""

    def balanced_weights(self, spec: TaskSpec, labels: Sequence[Label]) -> list[float] | None:
        """Class weights with which all classes weigh the same, from known labels; None without classes."""
        return None

    # Fields of a task that `prepared` sets, as they are before.
    prepared_fields: Mapping[str, Any] = MappingProxyType({})

    def prepared(self, spec: TaskSpec, labels: Sequence[Label]) -> TaskSpec:
        """The task with what its known training labels say about it.

        Raises:
            ValueError: If nothing can be learned from them.
        """
        return spec

    def remedy(self, spec: TaskSpec, options: CellOptions) -> str:
        """What a person may do about cells that spell no label."""
        return "add them to the task's `labels`, or say in `values` what they stand for"

    # Scores

    @abstractmethod
    def check(self, spec: TaskSpec, values: np.ndarray) -> str | None:
        """What is wrong with known labels or answers, for a person; None: nothing."""

    # Columns of the table of scores, between the task's name and its rows.
    table_heading: tuple[str, ...]

    @abstractmethod
    def table_cells(self, scores: Mapping[str, Any], baseline: float | None) -> tuple[str, ...]:
        """The cells below `table_heading`, from `scores` with intervals and the best constant answer's."""

    def table_notes(self, scores: Sequence[Mapping[str, Any]]) -> list[str]:
        """What must be said below the table of these tasks' scores."""
        return []

    @abstractmethod
    def metrics(self, scored: Scored) -> dict[str, float]:
        """Scores that training logs after each evaluation, by name, the leading one first."""

    @abstractmethod
    def unit_score(self, scores: Mapping[str, Any]) -> Any:
        """Of `metrics` or `resampled` what means over tasks are of: 0 says nothing, 1 is perfect."""

    @abstractmethod
    def scores(self, scored: Scored) -> dict[str, float | None]:
        """All scores of at least one labelled row, by `score_names`."""

    @abstractmethod
    def resampled(self, scored: Scored, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Of each of `resampled_scores` its value in every resample, from weights (resamples, rows)."""

    @abstractmethod
    def baseline(self, spec: TaskSpec, training: np.ndarray) -> np.ndarray:
        """The best constant answer to known training labels (rows, ...), of one row's shape."""

    @abstractmethod
    def linear(
        self, spec: TaskSpec, features: np.ndarray, labels: np.ndarray, queries: np.ndarray
    ) -> np.ndarray:
        """What a linear model answers, in the form of labels; see `linear.py`.

        Args:
            spec: The task.
            features: (rows, d) of the training rows.
            labels: Theirs, all known.
            queries: (queries, d).
        """

    # Fields of a task that `fit` sets, as they are before.
    unfitted: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def fit(
        self, spec: TaskSpec, logits: np.ndarray, labels: np.ndarray, seed: int
    ) -> tuple[TaskSpec, list[str]]:
        """The task with what is fitted after training on known labels, and what was not fitted and why.

        Args:
            spec: The task as it was trained.
            logits: (rows, C) float32, of rows that were not trained on.
            labels: (rows, ...).
            seed: Of the bootstrap.
        """

    # Report

    @abstractmethod
    def numbers(self, scored: Scored) -> dict[str, Any]:
        """What the report says of one task beside its scores, without a labelled row too."""

    @abstractmethod
    def notes(self, numbers: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
        """What a reader must see, from `numbers` and the task's scores, if a row is labelled."""

    @abstractmethod
    def sureness(self, scored: Scored) -> Sureness:
        """Which rows make good examples, of answers with probabilities."""

    # Prediction tables

    # What reading the column of answers needs to be told, as a recipe's task does.
    predicted_options: Mapping[str, str] = MappingProxyType({})
    # Whether the probabilities of all labels add up to 1.
    sums_to_one = False

    def empty_answer(self, spec: TaskSpec) -> Label | None:
        """What an empty cell of an answered row says; None: nothing, there is always an answer."""
        return None

    def probability_columns(self, spec: TaskSpec) -> list[str]:
        """Names of the columns of probabilities, in the order of labels; empty where there are none."""
        return []

    def interval_columns(self, spec: TaskSpec) -> tuple[str, ...]:
        """Names of the columns of an interval's low and high end; empty where the kind has none."""
        return ()

    @abstractmethod
    def fields(self, spec: TaskSpec, as_text: bool) -> list[tuple[str, pa.DataType]]:
        """Names and types of the columns of an answer.

        Raises:
            ValueError: If CSV (`as_text`) cannot hold them.
        """

    @abstractmethod
    def columns(
        self, spec: TaskSpec, decisions: np.ndarray, probabilities: np.ndarray, as_text: bool
    ) -> list[list[Any]]:
        """The cells of those columns, from answers (rows, ...) and probabilities (rows, C)."""
