"""Predictions tables: what is read back, and what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.prediction.tables import read_predicted
from mmorient.tables.problems import TableError
from mmorient.tables.table import Table, read_table
from modeling_mmorient.task_specs import parse_tasks

SPECS = parse_tasks(
    {"mood": ["bad", "good"], "about": {"labels": ["politics", "animals"], "kind": "multilabel"}}
)
COLUMNS: dict[str, list[Any]] = {
    "predicted.mood": ["good", "", "bad"],
    "probability.mood.bad": ["0.25", "", "0.75"],
    "probability.mood.good": ["0.75", "", "0.25"],
    "predicted.about": ["politics|animals", "", ""],
    "probability.about.politics": ["0.9", "", "0.1"],
    "probability.about.animals": ["0.8", "", "0.2"],
    "error": ["", "unreadable", ""],
}


def table(**changes: Any) -> Table:
    columns = {name: changes.get(name.replace(".", "_"), cells) for name, cells in COLUMNS.items()}
    return Table("out.csv", {name: cells for name, cells in columns.items() if cells}, range(2, 5))


def test_labels_and_probabilities_are_read() -> None:
    mood = read_predicted(table(), SPECS["mood"])
    assert mood.decisions.tolist() == [1, -100, 0] and mood.failed.tolist() == [False, True, False]
    assert mood.probabilities is not None
    np.testing.assert_allclose(mood.probabilities[[0, 2]], [[0.25, 0.75], [0.75, 0.25]])
    assert np.isnan(mood.probabilities[1]).all()


def test_an_empty_cell_of_a_multilabel_task_is_no_label_or_no_prediction() -> None:
    about = read_predicted(table(), SPECS["about"])
    assert about.decisions.tolist() == [[1, 1], [-100, -100], [0, 0]]


def test_lists_and_numbers_of_parquet_are_read(tmp_path: Path) -> None:
    columns = {
        "predicted.about": pa.array([["politics", "animals"], None, []], pa.list_(pa.string())),
        "probability.about.politics": pa.array([0.9, None, 0.1], pa.float32()),
        "probability.about.animals": pa.array([0.8, None, 0.2], pa.float32()),
        "error": pa.array([None, "unreadable", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "out.parquet")
    found = read_predicted(read_table("out.parquet", tmp_path), SPECS["about"])
    expected = read_predicted(table(), SPECS["about"])
    for name in ("decisions", "probabilities", "failed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_decided_labels_alone_will_do() -> None:
    columns = {"predicted.mood": ["good", "bad"]}
    mood = read_predicted(Table("out.csv", columns, range(2, 4)), SPECS["mood"])
    assert mood.decisions.tolist() == [1, 0] and mood.probabilities is None and not mood.failed.any()


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("mood", {"predicted_mood": []}, "has no column 'predicted.mood'"),
        ("mood", {"predicted_mood": ["great", "", "bad"]}, "['great'] in row 2, but the task's labels are"),
        ("mood", {"predicted_mood": ["good", "", ""]}, "row 4 have no value in column 'predicted.mood'"),
        ("mood", {"error": []}, "row 3 have no value"),
        ("mood", {"probability_mood_bad": []}, "has no columns ['probability.mood.bad']"),
        ("mood", {"probability_mood_bad": ["x", "", "0.75"]}, "has 'x' in row 2: a probability is a number"),
        ("mood", {"probability_mood_bad": ["0.25", "", "1.5"]}, "has '1.5' in row 4"),
        ("mood", {"probability_mood_bad": ["0.25", "", "0.5"]}, "add up to 0.75, not to 1, in row 4"),
        ("about", {"predicted_about": ["politics,animals", "", ""]}, "['politics,animals'] in row 2"),
    ],
)
def test_columns_that_do_not_fit_are_refused(task: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as refused:
        read_predicted(table(**changes), SPECS[task])
    assert message in str(refused.value) and "out.csv" in str(refused.value)
