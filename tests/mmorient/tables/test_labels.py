"""Labels: every way to spell a class, the kinds of tasks, and class weights."""

import json
from typing import Any

import pytest

from mmorient.kinds.cells import Label
from mmorient.recipes.tasks import task_specs
from mmorient.tables.labels import balanced_weights, read_labels
from mmorient.tables.table import Table

TOPICS = ["politics", "animals", "work"]


def labels_of(cells: list[Any], task: Any) -> Any:
    spec = task_specs({"mood": task})["mood"]
    return read_labels(Table("memes", {"mood": cells}, range(len(cells))), spec, task)


@pytest.mark.parametrize(
    ("cells", "task", "expected"),
    [
        (["bad", " good ", "", None], ["bad", "good"], [0, 1, -100, -100]),
        ([0, 1.0, float("nan"), "1"], ["0", "1"], [0, 1, -100, 1]),
        ([True, False], {"labels": ["no", "yes"], "values": {"true": "yes", "false": "no"}}, [1, 0]),
        (["great", "?"], {"labels": ["bad", "good"], "values": {"great": "good", "?": None}}, [1, -100]),
        ([3, "1"], {"labels": ["low", "high"], "kind": "ordinal", "values": {1: "low", 3: "high"}}, [1, 0]),
    ],
)
def test_cells_become_class_indices(cells: list[Any], task: Any, expected: list[int]) -> None:
    found = labels_of(cells, task)
    assert found.labels == expected and not found.unknown and not found.problems


def test_cells_of_a_multilabel_task_hold_any_number_of_labels() -> None:
    task = {
        "labels": TOPICS,
        "kind": "multilabel",
        "separator": "|",
        "values": {"none": None, "cats": "animals"},
    }
    cells = ["politics|work", "cats", "none", "", ["work", "cats"], [], None, " work | politics |"]
    known = [[1, 0, 1], [0, 1, 0], [0, 0, 0], [-100] * 3, [0, 1, 1], [0, 0, 0], [-100] * 3, [1, 0, 1]]
    assert labels_of(cells, task).labels == known
    comma = {"labels": TOPICS, "kind": "multilabel"}
    assert labels_of(["politics, animals"], comma).labels == [[1, 1, 0]]


def test_values_that_no_label_stands_for_are_not_labelled_and_reported() -> None:
    found = labels_of(["bad", "fine", "", "meh", "fine"], ["bad", "good"])
    assert found.labels == [0, -100, -100, -100, -100]
    assert found.unknown == {1: "fine", 3: "meh", 4: "fine"}
    (problem,) = found.problems
    assert problem.kind == "unknown_labels"
    assert "['fine', 'meh'] in rows 1, 3, 4" in problem.message
    many = labels_of([["work", "cats"], "work"], {"labels": TOPICS, "kind": "multilabel"})
    assert many.labels == [[-100] * 3, [0, 0, 1]] and many.unknown == {0: "cats"}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"labels": ["a", "b"], "values": {"x": "c"}}, r"maps 'x' to 'c': its labels are \['a', 'b'\]"),
        ({"labels": ["a", "b"], "values": {True: "a"}}, "YAML reads yes, no, on and off that way"),
        ({"labels": ["a", "b"], "values": ["a"]}, "map each spelling to a label"),
        ({"labels": ["a", "b"], "separator": "|"}, "only a multilabel task has a `separator`"),
        ({"labels": ["a", "b"], "kind": "multilabel", "separator": ""}, "give a string such as"),
        ({"labels": ["a", "b"], "column": "feeling"}, "no column 'feeling'"),
        (
            {"labels": ["a", "b"], "column": ["a", "b"]},
            r"the column \['a', 'b'\]: give the name of one column",
        ),
        ({"labels": ["a", "b"], "column": 2019}, "the column 2019: give the name of one column"),
        ({"labels": ["a", "b"], "column": None}, "the column None: give the name of one column"),
        (
            {"labels": ["a", "b"], "value": {"x": "a"}},
            r"the keys \['value'\].*'column', 'values'.*mean 'values'",
        ),
        (
            {"labels": ["a", "b"], True: 1, "zzz": 1},
            r"the keys \[True, 'zzz'\], which no task in a recipe has: (?!.*(temperature|thresholds))choose",
        ),
    ],
)
def test_tasks_that_do_not_fit_are_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_of(["a"], task)


def test_unhashable_cells_are_unknown_values() -> None:
    cell = json.loads('{"label": "a"}')
    assert labels_of([cell, ["a"]], ["a", "b"]).unknown == {0: "{'label': 'a'}", 1: "['a']"}


def test_balanced_weights_make_every_class_weigh_the_same() -> None:
    specs = task_specs(
        {"humour": ["no", "yes"], "mood": ["a", "b", "c"], "about": {"labels": TOPICS, "kind": "multilabel"}}
    )
    labels: dict[str, list[Label]] = {
        "humour": [int(i < 2) for i in range(8)],
        "mood": [-100 if i > 5 else i % 2 for i in range(8)],
        "about": [[-100] * 3 if i == 7 else [int(i < 2), 0, 1] for i in range(8)],
    }
    weights = balanced_weights(labels, specs)
    assert weights["humour"] == pytest.approx([8 / 12, 8 / 4])
    assert weights["mood"] == pytest.approx([1, 1, 1])
    assert 6 * weights["humour"][0] == pytest.approx(2 * weights["humour"][1])
    # Two positives of seven weigh as much together as the five negatives.
    assert weights["about"] == pytest.approx([5 / 2, 1, 1])
