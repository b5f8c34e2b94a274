"""Temperatures and thresholds that are known from how the rows were drawn."""

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from mmorient.scoring.decision_fitting import fit_decisions
from mmorient.scoring.task_predictions import TaskPredictions
from modeling_mmorient.task_specs import TaskSpec, parse_tasks
from tests.mmorient.predictions_samples import macro_f1, reliability

SPECS = parse_tasks(
    {
        "mood": ["bad", "fine", "good"],
        "level": {"labels": ["none", "some", "much", "extreme"], "kind": "ordinal"},
        "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
        "funny": ["no", "yes"],
    }
)


def calibrated(spec: TaskSpec, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from just the probabilities that they say."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(rows, spec.num_labels))
    if spec.kind == "multilabel":
        return logits, (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
    if spec.kind == "ordinal":
        logits = log_softmax(logits, axis=-1)
    cumulated = softmax(logits, axis=-1).cumsum(-1)
    return logits, (generator.random((rows, 1)) > cumulated[:, :-1]).sum(-1)


def likelihood(spec: TaskSpec, logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood."""
    found = TaskPredictions.from_logits(spec, logits, labels).probabilities.astype(float)
    if spec.kind == "multilabel":
        return float(-np.log(np.where(labels == 1, found, 1 - found)).mean())
    return float(-np.log(found[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("name", SPECS)
def test_logits_three_times_too_large_get_three_times_the_temperature(name: str) -> None:
    spec = SPECS[name]
    logits, labels = calibrated(spec, 3000)
    once = fit_decisions({name: spec}, {name: logits}, {name: labels}).specs[name]
    thrice = fit_decisions({name: spec}, {name: 3 * logits}, {name: labels}).specs[name]
    assert once.temperature == pytest.approx(1, abs=0.1)
    assert thrice.temperature == pytest.approx(3 * once.temperature, rel=1e-3)
    assert likelihood(thrice, 3 * logits, labels) < likelihood(spec, 3 * logits, labels) - 0.05
    for factor in (0.97, 1.03):
        other = TaskSpec(spec.name, spec.labels, spec.kind, temperature=thrice.temperature * factor)
        assert likelihood(thrice, 3 * logits, labels) < likelihood(other, 3 * logits, labels)
    errors = [
        reliability(TaskPredictions.from_logits(fitted, 3 * logits, labels))["error"]
        for fitted in (spec, thrice)
    ]
    assert errors[1] < errors[0] / 2


def test_rows_without_a_label_play_no_part_and_the_result_repeats() -> None:
    rows = {name: calibrated(spec, 300) for name, spec in SPECS.items()}
    logits, labels = ({name: pair[index] for name, pair in rows.items()} for index in (0, 1))
    more_logits = {name: np.concatenate([values, 100 - 9 * values]) for name, values in logits.items()}
    more_labels = {
        name: np.concatenate([values, np.full_like(values, -100)]) for name, values in labels.items()
    }
    first, second = fit_decisions(SPECS, logits, labels), fit_decisions(SPECS, more_logits, more_labels)
    assert first == second == fit_decisions(SPECS, logits, labels)
    assert not first.notes


def shifted(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A rare class whose probability a model says to be far too low."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(rows) < 0.2).astype(int)
    score = generator.normal(size=rows) + 3 * labels - 4
    return np.stack([np.zeros(rows), score], axis=-1), labels


def test_a_threshold_separates_what_one_half_does_not() -> None:
    logits, labels = shifted(600, 0)
    spec = fit_decisions(SPECS, {**_empty(), "funny": logits}, {**_none(), "funny": labels}).specs["funny"]
    assert spec.thresholds is not None
    new_logits, new_labels = shifted(4000, 1)
    before, after = (
        macro_f1(TaskPredictions.from_logits(each, new_logits, new_labels)) for each in (SPECS["funny"], spec)
    )
    assert after > before + 0.1


def test_each_label_of_a_multilabel_task_has_its_own_threshold() -> None:
    (first, one), (second, two) = shifted(600, 0), calibrated(TaskSpec("a", ("x",), "multilabel"), 600)
    logits, labels = np.stack([first[:, 1], second[:, 0]], -1), np.stack([one, two[:, 0]], -1)
    spec = fit_decisions({"about": SPECS["about"]}, {"about": logits}, {"about": labels}).specs["about"]
    assert spec.thresholds is not None
    assert spec.thresholds[0] < spec.thresholds[1] - 0.05

    # A cut that is perfect at one half stays there, whatever other cuts are as good.
    sure = np.stack([2.0 * one - 1, second[:, 0]], -1)
    spec = fit_decisions({"about": SPECS["about"]}, {"about": sure}, {"about": labels}).specs["about"]
    assert spec.thresholds is not None and spec.thresholds[0] == 0.5


def test_a_perfect_cut_is_found() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    score = np.where(labels == 1, 1 + generator.random(200), 0.5 - generator.random(200))
    logits = np.stack([np.zeros(200), score], -1)
    spec = fit_decisions({"funny": SPECS["funny"]}, {"funny": logits}, {"funny": labels}).specs["funny"]
    found = TaskPredictions.from_logits(spec, logits, labels)
    assert (found.decisions == labels).all()
    negative, positive = (found.probabilities[labels == side, 1] for side in (0, 1))
    assert negative.max() > 0.5  # or one half would do
    assert spec.thresholds == pytest.approx([(negative.max() + positive.min()) / 2])


@pytest.mark.parametrize("seed", range(12))
def test_thresholds_never_lower_macro_f1_on_the_rows_they_were_fitted_on(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = int(generator.integers(50, 200))
    share = generator.uniform(0.2, 0.8)
    logits = {
        "funny": np.round(generator.normal(size=(rows, 2)), int(generator.integers(0, 3))),
        "about": np.round(generator.normal(size=(rows, 2)) - 1, 1),
    }
    labels = {
        "funny": (generator.random(rows) < share).astype(int),
        "about": (generator.random((rows, 2)) < share).astype(int),
    }
    specs = {name: SPECS[name] for name in logits}
    fitted = fit_decisions(specs, logits, labels).specs
    for name, spec in fitted.items():
        half = TaskSpec(name, spec.labels, spec.kind, temperature=spec.temperature)
        before, after = (
            macro_f1(TaskPredictions.from_logits(each, logits[name], labels[name])) for each in (half, spec)
        )
        assert after >= before


def test_where_one_half_is_best_little_is_lost_on_other_rows() -> None:
    """Logits that are calibrated on balanced classes: every other threshold is chance."""
    spec = SPECS["funny"]
    new_logits, new_labels = calibrated(spec, 4000, 99)
    losses, unchanged = [], 0
    for seed in range(20):
        logits, labels = calibrated(spec, 100, seed)
        fitted = fit_decisions({"funny": spec}, {"funny": logits}, {"funny": labels}).specs["funny"]
        before, after = (
            macro_f1(TaskPredictions.from_logits(each, new_logits, new_labels)) for each in (spec, fitted)
        )
        losses.append(before - after)
        unchanged += fitted.thresholds is None
    assert np.mean(losses) < 0.01
    assert unchanged >= 3


def _empty() -> dict[str, Any]:
    return {name: np.zeros((60, spec.num_labels)) for name, spec in SPECS.items()}


def _none() -> dict[str, Any]:
    return {name: np.full((60, 2) if spec.kind == "multilabel" else 60, -100) for name, spec in SPECS.items()}


def test_few_rows_change_nothing_and_say_so() -> None:
    specs = parse_tasks({"funny": {"labels": ["no", "yes"], "temperature": 3.0, "thresholds": [0.2]}})
    fitted = fit_decisions(specs, {"funny": np.eye(2)[np.arange(49) % 2]}, {"funny": np.arange(49) % 2})
    assert fitted.specs == {"funny": SPECS["funny"]}
    assert fitted.notes == {"funny": ["49 labelled rows, fewer than 50: temperature 1, no thresholds"]}


def test_a_label_that_hardly_occurs_keeps_one_half() -> None:
    logits, labels = shifted(300, 0)
    many = np.stack([labels, np.arange(300) < 9], -1).astype(int)
    scores = np.stack([logits[:, 1], logits[:, 1]], -1)
    fitted = fit_decisions({"about": SPECS["about"]}, {"about": scores}, {"about": many})
    thresholds = fitted.specs["about"].thresholds
    assert thresholds is not None and thresholds[0] < 0.5 and thresholds[1] == 0.5
    (note,) = fitted.notes["about"]
    assert "'animals' holds in 9 of 300 labelled rows, and 10 are needed" in note


@pytest.mark.parametrize(("sign", "message"), [(1, "all but perfectly told apart"), (-1, "say nothing")])
def test_a_temperature_at_its_bound_is_reported(sign: int, message: str) -> None:
    labels = np.arange(60) % 3
    logits = {"mood": sign * np.eye(3)[labels]}
    fitted = fit_decisions({"mood": SPECS["mood"]}, logits, {"mood": labels})
    assert message in fitted.notes["mood"][0]


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'mood' has logits that are not finite in 1 of 3 rows"):
        fit_decisions({"mood": SPECS["mood"]}, {"mood": np.diag([1, np.nan, 1])}, {"mood": [0, 1, 2]})
