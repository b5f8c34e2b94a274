"""Tasks whose answer is a number."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mmorient.kinds.base import Scored, Sureness, ToolkitKind
from mmorient.kinds.cells import CellOptions, Label, is_labelled, spelling
from mmorient.kinds.correlations import mean_errors, pearson, ranks
from mmorient.kinds.decisions import LEAST_ROWS
from mmorient.kinds.linear import regress
from mmorient.kinds.shown import number, span
from modeling_mmorient.task_kind import MAX_VALUE
from modeling_mmorient.task_specs import TaskSpec

# Share of the true values that an interval is to hold.
INTERVAL_LEVEL = 0.9
# Groups of equally many rows, by value, that splits keep as frequent on both sides.
STRATA = 5
# Of a scatter plot.
MAX_POINTS = 2000
# Values that differ by less, beside their size, are not told apart in float32.
LEAST_SPREAD = 1e-5
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Number(ToolkitKind):
    """A value in the table's unit; NaN where a row is not labelled."""

    table_keys = ("column",)
    score_names = ("mae", "pearson", "spearman", "interval_coverage")
    resampled_scores = ("mae", "pearson", "spearman")
    lower_is_better = frozenset({"mae"})
    baseline_name = "mean_predictor"
    baseline_score = "mae"
    unfitted: Mapping[str, Any] = MappingProxyType({"interval": None})
    prepared_fields: Mapping[str, Any] = MappingProxyType({"mean": 0.0, "deviation": 1.0})
    example_titles = ("Closest", "Furthest")
    table_heading = (
        *("mean error", "95% interval", "Pearson", "95% interval", "Spearman", "95% interval"),
        *("in interval", "mean predictor"),
    )

    # Tables

    def read(self, cell: Any, spec: TaskSpec, options: CellOptions) -> Label:
        spelled = spelling(cell)
        if spelled is None or spelled.lower() == "nan":
            return math.nan
        if not _NUMBER.fullmatch(spelled):
            raise KeyError(spelled)
        value = float(spelled)
        low, high = spec.range or (-MAX_VALUE, MAX_VALUE)
        # As the model compares: predictions are read back from float32 too.
        if not np.float32(low) <= np.float32(value) <= np.float32(high):
            raise KeyError(spelled)
        return value

    def remedy(self, spec: TaskSpec, options: CellOptions) -> str:
        low, high = spec.range or (-MAX_VALUE, MAX_VALUE)
        return f"give numbers from {low:g} to {high:g} with a decimal point, and empty cells for no value"

    def strata(self, spec: TaskSpec, labels: Sequence[Label]) -> np.ndarray:
        """By quantiles of the known values."""
        values = np.array(labels, dtype=float)
        known = ~np.isnan(values)
        found = np.zeros((len(values), STRATA), dtype=bool)
        if known.any():
            edges = np.quantile(values[known], np.arange(1, STRATA) / STRATA)
            found[known] = np.searchsorted(edges, values[known])[:, None] == np.arange(STRATA)
        return found

    def inspection(self, spec: TaskSpec, labels: Sequence[Label]) -> list[tuple[str, str]]:
        values = np.array([label for label in labels if is_labelled(label)], dtype=float)
        known = {"labelled": str(len(values))}
        for name, of in (("lowest", np.min), ("mean", np.mean), ("highest", np.max), ("deviation", np.std)):
            known[name] = f"{of(values):.4g}" if len(values) else "-"
        return [*known.items(), ("not labelled", str(len(labels) - len(values)))]

    def prepared(self, spec: TaskSpec, labels: Sequence[Label]) -> TaskSpec:
        """With mean and deviation of the labels."""
        values = np.array(labels, dtype=float)
        mean, deviation = float(values.mean()), float(values.std())
        if deviation <= LEAST_SPREAD * abs(mean):
            raise ValueError(
                f"task {spec.name!r}: the values of the {len(values)} labelled training rows are all but "
                f"equal (mean {mean:g}, standard deviation {deviation:g}): there is nothing to learn. Leave "
                "the task out, or subtract a constant from its column."
            )
        return replace(spec, mean=mean, deviation=deviation)

    # Scores

    def check(self, spec: TaskSpec, values: np.ndarray) -> str | None:
        wrong = values[~(np.abs(values) <= MAX_VALUE)]
        if not len(wrong):
            return None
        return f"{wrong[:5].tolist()}: give numbers of at most {MAX_VALUE:g}, and labels of NaN for none"

    def metrics(self, scored: Scored) -> dict[str, float]:
        every = self.resampled(scored, np.ones((1, len(scored.truth))))
        return {name: float(values[0]) for name, values in every.items()}

    def unit_score(self, scores: Mapping[str, Any]) -> Any:
        """Spearman's correlation, and 0 where it is negative."""
        return np.maximum(scores["spearman"], 0.0)

    def scores(self, scored: Scored) -> dict[str, float | None]:
        coverage, spans = None, self.model.intervals(scored.spec, torch.from_numpy(scored.answers))
        if spans is not None:
            low, high = spans.numpy().T
            coverage = float(((low <= scored.truth) & (scored.truth <= high)).mean())
        return {**self.metrics(scored), "interval_coverage": coverage}

    def resampled(self, scored: Scored, weights: np.ndarray) -> dict[str, np.ndarray]:
        answers, truth = (values.astype(np.float64) for values in (scored.answers, scored.truth))
        return {
            "mae": mean_errors(answers, truth, weights),
            "pearson": pearson(answers[None], truth[None], weights),
            "spearman": pearson(ranks(answers, weights), ranks(truth, weights), weights),
        }

    def baseline(self, spec: TaskSpec, training: np.ndarray) -> np.ndarray:
        """The mean."""
        return np.asarray(training.mean())

    def linear(
        self, spec: TaskSpec, features: np.ndarray, labels: np.ndarray, queries: np.ndarray
    ) -> np.ndarray:
        """By ridge regression, clipped to the task's range."""
        low, high = spec.range or (-MAX_VALUE, MAX_VALUE)
        return regress(features, labels, queries).clip(low, high)

    def fit(
        self, spec: TaskSpec, logits: np.ndarray, labels: np.ndarray, seed: int
    ) -> tuple[TaskSpec, list[str]]:
        """The interval, by split conformal prediction (Lei et al., Distribution-Free Predictive Inference for
        Regression, 2018): the ceil(0.9 (n + 1))-th smallest of the n errors |value - answer|.

        New rows of the same kind then lie within it in at least nine of ten draws of such rows and these.
        """
        if len(labels) < LEAST_ROWS:
            return spec, [f"{len(labels)} labelled rows, fewer than {LEAST_ROWS}: no interval"]
        answers = self.model.decisions(spec, self.model.probabilities(spec, torch.from_numpy(logits)))
        errors = np.sort(np.abs(answers.numpy() - labels))
        return replace(spec, interval=float(errors[math.ceil(INTERVAL_LEVEL * (len(errors) + 1)) - 1])), []

    def table_cells(self, scores: Mapping[str, Any], baseline: float | None) -> tuple[str, ...]:
        cells: list[str] = []
        for name in self.resampled_scores:
            cells += [number(scores[name]), span(scores[f"{name}_interval"])]
        return (*cells, number(scores["interval_coverage"]), number(baseline))

    # Report

    def numbers(self, scored: Scored) -> dict[str, Any]:
        """What was fitted, and points of true value and answer."""
        spec, rows = scored.spec, len(scored.truth)
        shown = np.linspace(0, rows - 1, min(rows, MAX_POINTS)).astype(int)
        return {
            "shown_as": "scatter",
            "range": spec.range,
            "mean": spec.mean,
            "deviation": spec.deviation,
            "interval": spec.interval,
            "points": np.stack([scored.truth, scored.answers], -1)[shown].tolist(),
        }

    def notes(self, numbers: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
        error, constant = scores.get("mae"), scores.get("mean_predictor_mae")
        high = (scores.get("mae_interval") or [None, None])[1]
        if error is None or constant is None:
            return []
        if error >= constant:
            return [
                f"the mean error {error:.3g} is not below {constant:.3g}, that of always answering the mean."
            ]
        if high is not None and high >= constant:
            return [
                f"the interval of the mean error ends at {high:.3g} and so holds {constant:.3g}, that of "
                "always answering the mean: on these rows the two cannot be told apart."
            ]
        return []

    def sureness(self, scored: Scored) -> Sureness:
        """The closest answers, and the furthest: nearer to the truth than half of them, or not."""
        errors = np.abs(scored.answers - scored.truth)
        close = errors <= (np.median(errors) if len(errors) else 0.0)
        return Sureness(close, np.where(close, -errors, errors), np.zeros(len(errors), dtype=int))

    # Prediction tables

    def interval_columns(self, spec: TaskSpec) -> tuple[str, ...]:
        return (f"interval.{spec.name}.low", f"interval.{spec.name}.high")

    def fields(self, spec: TaskSpec, as_text: bool) -> list[tuple[str, pa.DataType]]:
        names = [f"predicted.{spec.name}"]
        if spec.interval is not None:
            names += self.interval_columns(spec)
        return [(name, pa.float32()) for name in names]

    def columns(
        self, spec: TaskSpec, decisions: np.ndarray, probabilities: np.ndarray, as_text: bool
    ) -> list[list[Any]]:
        spans = self.model.intervals(spec, torch.from_numpy(decisions))
        found = [decisions, *(() if spans is None else spans.numpy().T)]
        return [[f"{value:.7g}" for value in column] if as_text else column.tolist() for column in found]
