"""Rows as memes: found by place and by name, and told from references that they cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmorient.explanation.job import parse_places, select_places
from mmorient.explanation.memes import MemeTable, contradicts
from mmorient.recipes.tasks import task_specs
from mmorient.tables.memes import Memes, join_memes
from tests.mmorient.explaining import neighbor

TASKS = {
    "mood": ["bad", "good"],
    "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
}
CONTENT = "image,text,mood,about\na.png,one,bad,animals\n,two,,\nb.png,,good,\n"


@pytest.fixture
def table(read: Callable[..., Memes]) -> MemeTable:
    return MemeTable(read(CONTENT, tasks=TASKS), task_specs(TASKS))


def test_rows_are_memes_with_their_labels(table: MemeTable, folder: Path) -> None:
    assert len(table) == 3
    assert (table[0].name, table[0].image) == ("2", str(folder / "images" / "a.png"))
    assert (table[0].text, table[0].labels) == ("one", {"mood": ["bad"], "about": ["animals"]})
    assert (table[1].image, table[1].labels) == (None, {})
    assert (table[2].text, table[2].labels) == (None, {"mood": ["good"]})


def test_references_are_found_by_name(table: MemeTable, read: Callable[..., Memes]) -> None:
    assert table.find("4") == table[2]
    assert table.find("1") is None and table.find("a.png") is None
    both = join_memes([read(CONTENT, name, tasks=TASKS) for name in ("x.csv", "y.csv")])
    joined = MemeTable(both, task_specs(TASKS))
    assert joined.find("y.csv:2") == joined[3] and joined.find("2") is None


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
    table: MemeTable, labels: dict[str, str | list[str]], contradicted: bool
) -> None:
    assert contradicts(table[0], neighbor("2", **labels)) is contradicted
    assert not contradicts(table[1], neighbor("3", **labels))  # it has none


@pytest.mark.parametrize(
    ("text", "places"),
    [("0", [0]), ("0-2,4", [0, 1, 2, 4]), (" 3 , 1 - 2 ", [3, 1, 2]), ("1,0-2,1", [1, 0, 2])],
)
def test_places_keep_their_order_and_come_once(text: str, places: list[int]) -> None:
    assert select_places(parse_places(text), 5, "validation") == places


@pytest.mark.parametrize("text", ["", "a", "1,", "-1", "1-", "3-1", "1-2-3", "1.5", "²"])
def test_places_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--rows is .*: give places counted from 0, such as 0-9,17"):
        parse_places(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("5", "5"), ("0-4,7", "7"), ("3-9", "5-9"), ("0-99999999999999", "5-99999999999999")],
)
def test_places_that_there_are_not_are_named(text: str, missing: str) -> None:
    message = f"--rows names {missing}, and the test part has 5 rows: give places from 0 to 4"
    with pytest.raises(ValueError, match=message):
        select_places(parse_places(text), 5, "test")
