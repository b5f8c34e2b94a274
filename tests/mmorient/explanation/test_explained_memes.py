"""Rows that explanations are of: found by index and by name, and told from references that they cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmorient.explanation.job import parse_indices, select_indices
from mmorient.explanation.rows import SplitRows
from mmorient.recipes.tasks import task_specs
from mmorient.tables.records import Records, join_records

TASKS = {
    "mood": ["bad", "good"],
    "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
}
CONTENT = "image,text,mood,about\na.png,one,bad,animals\n,two,,\nb.png,,good,\n"


@pytest.fixture
def table(read: Callable[..., Records]) -> SplitRows:
    return SplitRows(read(CONTENT, tasks=TASKS), task_specs(TASKS))


def test_rows_have_the_names_of_their_labels(table: SplitRows, folder: Path) -> None:
    first, second, third = table.records.rows
    assert (first.row, first.image) == ("2", str(folder / "images" / "a.png"))
    assert (first.text, table.truth(first)) == ("one", {"mood": ["bad"], "about": ["animals"]})
    assert (second.image, table.truth(second)) == (None, {})
    assert (third.text, table.truth(third)) == (None, {"mood": ["good"]})


def test_references_are_found_by_name(table: SplitRows, read: Callable[..., Records]) -> None:
    assert table.find("4") is table.records.rows[2]
    assert table.find("1") is None and table.find("a.png") is None
    both = join_records([read(CONTENT, name, tasks=TASKS) for name in ("x.csv", "y.csv")])
    joined = SplitRows(both, task_specs(TASKS))
    assert joined.find("y.csv:2") is both.rows[3] and joined.find("2") is None


@pytest.mark.parametrize(
    ("labels", "contradicted"),
    [
        ({}, False),
        ({"mood": "bad"}, False),
        ({"mood": "bad", "about": ["animals"]}, False),
        ({"other": "x"}, False),
        ({"mood": "good"}, True),
        ({"about": []}, True),
        ({"mood": "bad", "about": ["animals", "politics"]}, True),
    ],
)
def test_other_labels_are_another_meme(
    table: SplitRows, labels: dict[str, str | list[str]], contradicted: bool
) -> None:
    first, unlabelled, _ = table.records.rows
    assert table.is_other(first, labels) is contradicted
    assert not table.is_other(unlabelled, labels)


@pytest.mark.parametrize(
    ("text", "indices"),
    [("0", [0]), ("0-2,4", [0, 1, 2, 4]), (" 3 , 1 - 2 ", [3, 1, 2]), ("1,0-2,1", [1, 0, 2])],
)
def test_indices_keep_their_order_and_come_once(text: str, indices: list[int]) -> None:
    assert select_indices(parse_indices(text), 5, "validation") == indices


@pytest.mark.parametrize("text", ["", "a", "1,", "-1", "1-", "3-1", "1-2-3", "1.5", "²"])
def test_indices_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--rows is .*: give indices counted from 0, such as 0-9,17"):
        parse_indices(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("5", "5"), ("0-4,7", "7"), ("3-9", "5-9"), ("0-99999999999999", "5-99999999999999")],
)
def test_indices_that_there_are_not_are_named(text: str, missing: str) -> None:
    message = f"--rows names {missing}, and the test split has 5 rows: give indices from 0 to 4"
    with pytest.raises(ValueError, match=message):
        select_indices(parse_indices(text), 5, "test")
