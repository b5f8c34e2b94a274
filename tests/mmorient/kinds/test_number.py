"""Regression outside the model: cells, splits, scores against scipy, intervals, report, predictions."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import pearsonr, spearmanr
from transformers import EvalPrediction

from mmorient.kinds.kinds import toolkit_kind
from mmorient.prediction.tables import read_predicted
from mmorient.recipes.tasks import task_specs
from mmorient.report.report import RunReport, ScoredSplit, write_report
from mmorient.scoring.bootstrap import resampled_scores
from mmorient.scoring.decision_fitting import fit_decisions
from mmorient.scoring.scores import baseline_scores, mean_scores, metrics_of, score_table, scores
from mmorient.scoring.task_predictions import TaskDecisions, TaskPredictions
from mmorient.tables.labels import read_labels
from mmorient.tables.problems import TableError
from mmorient.tables.records import Record
from mmorient.tables.table import Table
from modeling_mmorient.task_specs import TaskSpec, parse_tasks

NAN = math.nan
AGE = {"kind": "regression", "range": [0, 10]}
SPEC = parse_tasks({"age": AGE})["age"]
KIND = toolkit_kind(SPEC)


def column_of(cells: list[Any], task: dict[str, Any] = AGE) -> Any:
    spec = task_specs({"age": task})["age"]
    return read_labels(Table("memes", {"age": cells}, range(len(cells))), spec, task)


def test_cells_become_values() -> None:
    found = column_of(["3.5", " 4 ", "", None, 2, 0.25, "1e1", "nan", NAN, ".5"])
    np.testing.assert_equal(found.labels, [3.5, 4.0, NAN, NAN, 2.0, 0.25, 10.0, NAN, NAN, 0.5])
    assert not found.problems


@pytest.mark.parametrize("cell", ["old", "3,5", "1_0", "inf", "11", -1, True, "0x1", "1 2", [3]])
def test_other_cells_are_unknown_values(cell: Any) -> None:
    found = column_of([cell, "3"])
    assert list(found.unknown) == [0] and math.isnan(found.labels[0])
    assert "give numbers from 0 to 10 with a decimal point" in found.problems[0].message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"values": {"?": None}}, "task 'age' is regression: only a .* task has a `values`"),
        ({"separator": "|"}, "only a multilabel task has a `separator`"),
        ({"labels": ["a", "b"]}, "a regression task has some of"),
    ],
)
def test_what_other_kinds_have_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_specs({"age": {**AGE, **more}})


def test_a_split_keeps_fifths_of_the_values() -> None:
    labels = [*np.random.default_rng(0).permutation(100).astype(float).tolist(), NAN]
    strata = KIND.strata(SPEC, labels)
    assert strata.sum(0).tolist() == [20] * 5 and not strata[-1].any()
    assert not KIND.strata(SPEC, [NAN, NAN]).any()


def test_mean_and_deviation_are_those_of_the_training_rows() -> None:
    prepared = KIND.prepared(SPEC, [1.0, 3.0, 8.0])
    assert (prepared.mean, prepared.deviation) == (4.0, pytest.approx(np.std([1, 3, 8])))
    for equal in ([3.0, 3.0], [1e8, 1e8 + 1]):
        with pytest.raises(ValueError, match=r"'age': the values of the 2 .* are all but equal"):
            KIND.prepared(SPEC, equal)


def predicted(rows: int = 80, seed: int = 0, noise: float = 1.0) -> TaskDecisions:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 11, rows).astype(float)  # with equal values among them
    answers = (truth + generator.normal(size=rows) * noise).clip(0, 10)
    truth[generator.random(rows) < 0.2] = NAN
    return TaskDecisions(SPEC, answers, truth)


@pytest.mark.parametrize("rows", [2, 7, 80])
def test_every_resample_has_the_scores_of_scipy(rows: int) -> None:
    task = predicted(rows, seed=3)
    found = resampled_scores({"age": task}, resamples=20, seed=5)["age"]
    draws = np.random.default_rng(5).integers(0, rows, (20, rows))
    for place, drawn in enumerate(draws):
        drawn = drawn[task.known[drawn]]
        answers, truth = task.decisions[drawn], task.labels[drawn]
        values = {name: values[place] for name, values in found.items()}
        if not len(drawn):
            assert np.isnan(list(values.values())).all()
            continue
        varies = len(set(answers)) > 1 and len(set(truth)) > 1
        expected = {
            "mae": np.abs(answers - truth).mean(),
            "pearson": pearsonr(answers, truth)[0] if varies else 0.0,
            "spearman": spearmanr(answers, truth)[0] if varies else 0.0,
        }
        assert values == pytest.approx(expected, abs=1e-9)


def test_answers_that_are_all_equal_correlate_with_nothing() -> None:
    for constant in (0.0, 3.3, 1e6 + 0.1):
        task = TaskDecisions(TaskSpec("a", kind="regression"), np.full(5, constant), np.arange(5.0))
        assert scores({"a": task}, resamples=5)["tasks"]["a"]["spearman"] == 0.0


def test_scores_stand_beside_the_mean_predictor_and_make_a_mean_with_classes() -> None:
    task, mood = predicted(), TaskSpec("mood", ("bad", "good"))
    decided = TaskDecisions(mood, np.arange(80) % 2, np.repeat([0, 1], 40))
    results = scores({"age": task, "mood": decided}, resamples=50)
    age = results["tasks"]["age"]
    assert results["macro_f1"] == results["tasks"]["mood"]["macro_f1"]
    assert results["mean_score"] == pytest.approx((age["spearman"] + results["macro_f1"]) / 2)
    low, high = results["mean_score_interval"]
    assert low < results["mean_score"] < high
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    labels = {"age": task.labels}
    baselines = baseline_scores({"age": SPEC}, labels, labels)
    known = task.labels[task.known]
    assert baselines == {"mean_predictor": {"age": pytest.approx(np.abs(known - known.mean()).mean())}}
    table = score_table(results, baselines)
    assert "mean predictor" in table and "mean score" in table and "majority class" in table


def test_regression_alone_has_no_macro_f1_and_a_negative_correlation_counts_as_none() -> None:
    backwards = TaskDecisions(SPEC, np.arange(9.0), np.arange(9.0)[::-1])
    results = scores({"age": backwards}, resamples=10)
    assert "macro_f1" not in results and results["mean_score"] == 0.0
    assert results["tasks"]["age"]["spearman"] == pytest.approx(-1)
    nothing = scores({"age": replace(backwards, labels=np.full(9, NAN))}, resamples=10)
    assert nothing["mean_score"] is None and nothing["tasks"]["age"] == {
        **dict.fromkeys(nothing["tasks"]["age"]),
        "rows": 0,
    }
    # With classes alone the mean is called as it always was.
    assert mean_scores({"mood": TaskSpec("mood", ("a", "b"))}, {"mood": {"macro_f1": 0.5}}) == {
        "macro_f1": 0.5
    }


def test_training_logs_the_scores_of_each_kind() -> None:
    specs = parse_tasks({"age": {**AGE, "mean": 5.0, "deviation": 2.0}, "mood": ["bad", "good"]})
    logits = {"age": np.array([[0.0], [1.0], [-1.0]]), "mood": np.eye(2)[[0, 1, 1]]}
    labels = {"age": np.array([5.0, 9.0, NAN]), "mood": np.array([0, 1, 1])}
    logged = metrics_of(specs)(EvalPrediction(predictions=logits, label_ids=labels))
    assert logged == pytest.approx(
        {
            **{"mae_age": 1.0, "pearson_age": 1.0, "spearman_age": 1.0, "macro_f1_mood": 1.0},
            **{"macro_f1": 1.0, "mean_score": 1.0},
        }
    )


def test_the_interval_holds_nine_of_ten_new_values() -> None:
    spec = parse_tasks({"age": {"kind": "regression", "mean": 4.0, "deviation": 2.0}})["age"]

    def draw(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        logits = generator.normal(size=(rows, 1)).astype(np.float32)
        return logits, 4 + 2 * logits[:, 0] + generator.standard_t(3, rows)

    logits, labels = draw(400, 0)
    fitted = fit_decisions({"age": spec}, {"age": logits}, {"age": labels}).specs["age"]
    errors = np.sort(np.abs(labels - (4 + 2 * logits[:, 0])))
    assert fitted.interval == pytest.approx(errors[361 - 1], rel=1e-5)  # ceil(0.9 * 401)
    new_logits, new_labels = draw(4000, 1)
    task = TaskPredictions.from_logits(fitted, new_logits, new_labels)
    coverage = scores({"age": task}, resamples=5)["tasks"]["age"]["interval_coverage"]
    assert 0.87 < coverage < 0.93
    few = fit_decisions({"age": spec}, {"age": logits[:49]}, {"age": labels[:49]})
    assert few.specs["age"].interval is None and "fewer than 50" in few.notes["age"][0]


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has the decisions \[nan\]: give numbers"):
        TaskDecisions(SPEC, np.array([NAN, 1.0]), np.array([1.0, NAN]))


@pytest.mark.parametrize("as_text", [True, False])
def test_predictions_are_written_and_read_back(as_text: bool) -> None:
    spec = replace(SPEC, interval=1.5)
    names = [name for name, _ in KIND.fields(spec, as_text)]
    assert names == ["predicted.age", "interval.age.low", "interval.age.high"]
    answers = np.array([0.1, 9.5], dtype=np.float32)
    cells = KIND.columns(spec, answers, answers[:, None], as_text)
    columns = {**dict(zip(names, cells, strict=True)), "error": [None, None]}
    if not as_text:
        columns = pa.table(columns).to_pydict()
    np.testing.assert_allclose(np.array(columns["interval.age.high"], dtype=float), [1.6, 10.0], rtol=1e-6)
    read = read_predicted(Table("out", columns, range(2)), replace(SPEC, range=(0.1, 10.0)))
    np.testing.assert_allclose(read.decisions, answers, rtol=1e-6)
    assert read.probabilities is None
    with pytest.raises(ValueError, match=r"have no value in column 'predicted\.age'"):
        read_predicted(Table("out", {**columns, "predicted.age": [None, 1.0]}, range(2)), SPEC)


def test_the_report_draws_values_and_residuals(tmp_path: Path) -> None:
    spec = replace(SPEC, mean=5.0, deviation=3.0, interval=2.0)
    generator = np.random.default_rng(0)
    labels = generator.uniform(0, 10, 30)
    labels[:5] = NAN
    task = TaskPredictions.from_logits(spec, generator.normal(size=(30, 1)), labels)
    found = scores({"age": task}, resamples=20)
    rows = [Record(str(row), text=f"text {row}") for row in range(30)]
    split = ScoredSplit(
        "test",
        {"age": task},
        rows,
        {"age": {**found["tasks"]["age"], "mean_predictor_mae": 0.1}},
        mean={name: found[name] for name in ("mean_score", "mean_score_interval")},
    )
    write_report(tmp_path, RunReport("A run", [split]))
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert len(numbers["splits"][0]["tasks"]["age"]["points"]) == 25
    assert "is not below 0.1, that of always answering the mean" in numbers["notes"][0]
    page = (tmp_path / "index.html").read_text()
    for said in ("Answers and true values", "Residuals", "Closest", "Furthest", "Mean score, test"):
        assert said in page
    write_report(
        tmp_path,
        RunReport("A run", [replace(split, predictions={"age": replace(task, labels=np.full(30, NAN))})]),
    )
    assert "No row is labelled" in (tmp_path / "index.html").read_text()


def test_the_interval_of_a_predictions_table_is_read() -> None:
    spec = replace(SPEC, range=(0.0, 10.0))
    columns: dict[str, Any] = {
        "predicted.age": ["1", "", "9.5"],
        "interval.age.low": ["0", "", "7.5"],  # cut off at the range's end
        "interval.age.high": ["3", "", "10"],
        "error": ["", "unreadable", ""],
    }
    assert read_predicted(Table("out", columns, range(3)), spec).interval == 2
    without = {name: cells for name, cells in columns.items() if "interval" not in name}
    assert read_predicted(Table("out", without, range(3)), spec).interval is None
    for change, message in (
        ({"interval.age.high": ["3", "", "9"]}, r"no interval that holds the answer \('7.5' to '9'"),
        ({"interval.age.low": ["x", "", "7.5"]}, r"no interval that holds the answer \('x' to '3'"),
        ({"interval.age.low": None}, "has no column 'interval.age.low'"),
    ):
        changed = {name: cells for name, cells in {**columns, **change}.items() if cells is not None}
        with pytest.raises(TableError, match=message):
            read_predicted(Table("out", changed, range(3)), spec)
