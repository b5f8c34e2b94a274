"""Multi-label tasks from a column for each label."""

from typing import Any

import pytest

from mmorient.recipes.tasks import task_specs
from mmorient.tables.labels import read_labels
from mmorient.tables.table import Table

TASK = {"kind": "multilabel", "columns": ["Joy", "Sadness"]}


def column_of(joy: list[Any], sadness: list[Any], task: dict[str, Any] = TASK) -> Any:
    spec = task_specs({"mood": task})["mood"]
    return read_labels(Table("memes", {"Joy": joy, "Sadness": sadness}, range(len(joy))), spec, task)


def test_labels_are_called_as_their_columns_unless_they_are_named() -> None:
    assert task_specs({"mood": TASK})["mood"].labels == ("Joy", "Sadness")
    assert task_specs({"mood": {**TASK, "labels": ["joy", "grief"]}})["mood"].labels == ("joy", "grief")


def test_cells_say_yes_or_no_or_count() -> None:
    joy = [1, "0", "yes", "No", True, "false", 3, "12", 1.0, "1.0", "", None]
    sadness = [0, "1", "no", "YES", False, "true", 0, "0", 0.0, "0.0", "1", ""]
    yes = [1, 0, 1, 0, 1, 0, 1, 1, 1, 1]
    found = column_of(joy, sadness)
    # An empty cell beside a filled one is no; a row of empty ones is not labelled.
    assert found.labels == [*([holds, 1 - holds] for holds in yes), [0, 1], [-100, -100]]
    assert not found.problems


@pytest.mark.parametrize("cell", ["maybe", -1, 0.5, "1,2", ["yes"]])
def test_other_cells_are_unknown(cell: Any) -> None:
    found = column_of([cell, 1], [0, 0])
    assert found.labels == [[-100, -100], [1, 0]] and list(found.unknown) == [0]
    assert found.unknown[0].startswith("Joy: ")
    assert "columns ['Joy', 'Sadness'] have values" in found.problems[0].message
    assert "holds 0 or 1, yes or no" in found.problems[0].message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"column": "Joy"}, r"has `columns` and \['column'\]"),
        ({"separator": "|"}, r"has `columns` and \['separator'\]"),
        ({"labels": ["a"]}, "the name of one column for each of its labels"),
        ({"columns": ["Joy", 3], "labels": ["a", "b"]}, "the name of one column for each"),
        ({"kind": "multiclass"}, "only a multilabel task has a `columns`"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_specs({"mood": {**TASK, **more}})


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no column 'Anger'"):
        column_of([1], [0], {"kind": "multilabel", "columns": ["Joy", "Anger"]})
