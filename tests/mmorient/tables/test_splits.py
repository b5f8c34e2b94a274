"""Splits: given ones are used, held-out rows are stratified, and no duplicate crosses unnoticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.tables.duplicates import normalized_text
from mmorient.tables.problems import TableError
from mmorient.tables.records import Records, label_columns
from mmorient.tables.splits import checked_splits, read_splits, stratify
from tests.mmorient.conftest import draw

TASKS = {"mood": ["bad", "good"]}
HEADER = "image,text,mood\n"
Arguments = Callable[..., DataArguments]


@pytest.fixture
def arguments(folder: Path) -> Arguments:
    def make(**options: Any) -> DataArguments:
        return DataArguments(**{"data_dir": str(folder), "tasks": TASKS, **options})

    return make


def load_splits(data: DataArguments, seed: int) -> dict[str, Records]:
    return checked_splits(data, seed).records


def texts(*parts: Records) -> list[list[str | None]]:
    return [[record.text for record in records.rows] for records in parts]


def names(records: Records) -> list[str]:
    return [record.row for record in records.rows]


def test_a_file_of_its_own_is_used(folder: Path, arguments: Arguments) -> None:
    (folder / "train.csv").write_text(HEADER + ",one,bad\n,two,good\n")
    (folder / "dev.jsonl").write_text('{"text": "three", "mood": "bad", "image": null}\n')
    data = arguments(validation_file="dev.jsonl")
    assert texts(*load_splits(data, 0).values()) == [["one", "two"], ["three"]]


def test_a_column_names_the_split_and_other_rows_are_counted(folder: Path, arguments: Arguments) -> None:
    rows = ",one,bad,train\n,two,bad,dev\n,three,good,train\n,four,bad,test\n,five,bad,\n"
    (folder / "train.csv").write_text("image,text,mood,part\n" + rows)
    splits = read_splits(arguments(split_column="part", validation_split="dev"), 0)
    assert texts(*splits.records.values()) == [["one", "three"], ["two"]]
    assert splits.unused == {"test": 1, "": 1}
    assert splits.records["validation"].table.where([0]) == "row 3"
    with pytest.raises(TableError, match=r"the values \{'train': 2, 'dev': 1, 'test': 1, '': 1\}, not 'val'"):
        read_splits(arguments(split_column="part", validation_split="val"), 0)


def test_the_splits_of_a_saved_dataset_are_used(folder: Path, arguments: Arguments) -> None:
    parts = {
        name: datasets.Dataset.from_dict({"image": [None], "text": [name], "mood": ["bad"]})
        for name in ("train", "dev")
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder / "saved"))
    assert texts(*load_splits(arguments(train_file="saved", validation_split="dev"), 0).values()) == [
        ["train"],
        ["dev"],
    ]


def test_several_files_are_one_table_whose_rows_are_called_by_file_and_number(
    folder: Path, arguments: Arguments
) -> None:
    (folder / "one.csv").write_text(HEADER + "a.png,one,bad\n,two,good\n")
    (folder / "two.jsonl").write_text(
        '{"text": "three", "mood": "bad", "image": "b.png"}\n{"text": "four", "mood": "fine", "image": ""}\n'
        '{"text": null, "mood": "bad", "image": null}\n'
    )
    (folder / "dev.csv").write_text(HEADER + "b.png,five,bad\n")
    data = arguments(train_file=["one.csv", "two.jsonl"], validation_file="dev.csv", allow=["empty_rows"])
    splits = read_splits(data, 0)
    training = splits.records["training"]
    assert texts(training) == [["one", "two", "three", "four"]]
    assert training.table.numbers == ["one.csv:2", "one.csv:3", "two.jsonl:1", "two.jsonl:2"]
    assert label_columns(training.rows) == {"mood": [0, 1, 0, -100]}
    assert [record.unknown for record in training.rows] == [{}, {}, {}, {"mood": "fine"}]
    pictures = [record.picture and Path(str(record.picture)).name for record in training.rows]
    assert pictures == ["a.png", None, "b.png", None]
    kinds = {problem.kind: problem.message for problem in splits.problems}
    assert set(kinds) == {"unknown_labels", "empty_rows", "split_duplicates"}
    assert "two.jsonl" in kinds["unknown_labels"] and "line 2" in kinds["unknown_labels"]
    assert "row two.jsonl:1;" in kinds["split_duplicates"]
    assert names(training) == training.table.numbers and training.rows[1].labels == {"mood": 1}


def test_rows_of_files_of_one_name_are_called_by_their_folders_too(
    folder: Path, arguments: Arguments
) -> None:
    for language in ("en", "zh"):
        (folder / language).mkdir()
        (folder / language / "train.csv").write_text(
            f"text,image,mood\n{language} one,,bad\n{language} two,,good\n"
        )
    (folder / "dev.csv").write_text(HEADER + "b.png,five,bad\n")
    files = ["en/train.csv", "zh/train.csv"]
    splits = read_splits(arguments(train_file=files, validation_file="dev.csv"), 0)
    assert names(splits.records["training"]) == [
        "en/train.csv:2",
        "en/train.csv:3",
        "zh/train.csv:2",
        "zh/train.csv:3",
    ]
    assert names(splits.records["validation"]) == ["2"]
    with pytest.raises(TableError, match="the same table: name it once"):
        read_splits(arguments(train_file=[*files, "en/../zh/train.csv"], validation_file="dev.csv"), 0)


def test_rows_keep_the_names_of_their_files_where_a_part_has_rows_of_one_alone(
    folder: Path, arguments: Arguments
) -> None:
    (folder / "one.csv").write_text("text,image,mood,part\nx,,bad,train\n")
    (folder / "two.csv").write_text("text,image,mood,part\ny,,bad,dev\nz,,good,train\n")
    options = arguments(train_file=["one.csv", "two.csv"], split_column="part", validation_split="dev")
    parts = read_splits(options, 0).records
    assert [memes.table.numbers for memes in parts.values()] == [["one.csv:2", "two.csv:3"], ["two.csv:2"]]


def test_every_part_is_read_with_the_recipes_delimiter_and_encoding(
    folder: Path, arguments: Arguments
) -> None:
    for name in ("train", "dev", "test", "known"):
        content = f"image;text;mood\n;{name} ü;bad\n;{name} é;good\n"
        (folder / f"{name}.csv").write_bytes(content.encode("cp1252"))
    files = {"validation_file": "dev.csv", "test_file": "test.csv", "references_file": "known.csv"}
    parts = read_splits(arguments(delimiter=";", encoding="cp1252", **files), 0).records
    assert [records.rows[1].text for records in parts.values()] == ["train é", "dev é", "test é", "known é"]


def test_files_may_keep_pictures_in_different_ways(folder: Path, arguments: Arguments) -> None:
    (folder / "one.csv").write_text(HEADER + "a.png,one,bad\n")
    picture = {"bytes": (folder / "images" / "b.png").read_bytes(), "path": None}
    table = {"image": [picture], "text": ["two"], "mood": ["good"]}
    datasets.Dataset.from_dict(table).to_parquet(folder / "two.parquet")
    (folder / "dev.csv").write_text(HEADER + "c.png,three,bad\n")
    options = arguments(train_file=["one.csv", "two.parquet"], validation_file="dev.csv")
    named, held = checked_splits(options, 0).records["training"].rows
    assert (named.image, held.image) == (str(folder / "images" / "a.png"), picture["bytes"])


def test_three_parts_by_file_by_column_and_by_share(folder: Path, arguments: Arguments) -> None:
    rows = [f",text {i},{'bad' if i % 4 else 'good'},{('train', 'dev', 'test')[i % 3]}\n" for i in range(60)]
    (folder / "train.csv").write_text("image,text,mood,part\n" + "".join(rows))
    (folder / "other.csv").write_text(HEADER + ",other,bad\n")
    options: tuple[dict[str, Any], ...] = (
        {"split_column": "part", "validation_split": "dev", "test_split": "test"},
        {"split_column": "part", "test_split": "test", "validation_share": 0.2},
        {"test_file": "other.csv", "validation_share": 0.2},
        {"test_share": 0.2, "validation_share": 0.25},
    )
    sizes = []
    for option in options:
        parts = load_splits(arguments(**option), 0)
        assert list(parts) == ["training", "validation", "test"]
        held = list(map(set, texts(*parts.values())))
        assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
        sizes.append([len(part) for part in parts.values()])
    assert sizes == [[20, 20, 20], [16, 4, 20], [48, 12, 1], [36, 12, 12]]


def test_a_split_of_a_plain_table_is_refused(folder: Path, arguments: Arguments) -> None:
    (folder / "train.csv").write_text(HEADER + ",one,bad\n")
    with pytest.raises(TableError, match="is one table, so `validation_split` 'dev' says nothing"):
        read_splits(arguments(validation_split="dev"), 0)


@pytest.mark.parametrize(
    ("kind", "train", "dev"),
    [
        ("same picture", "a.png,one,bad", "a.png,two,bad"),
        ("near picture", "a.png,one,bad", "near.jpg,two,bad"),
        ("same text", "a.png,one,bad", "b.png,one,bad"),
        ("near text", "a.png,One!,bad", "b.png,one,bad"),
    ],
)
def test_duplicates_that_cross_a_given_split_stop_the_run(
    folder: Path, arguments: Arguments, kind: str, train: str, dev: str
) -> None:
    draw(0).save(folder / "images" / "near.jpg", quality=60)
    (folder / "train.csv").write_text(f"{HEADER}c.png,other,good\n{train}\n")
    (folder / "dev.csv").write_text(f"{HEADER}{dev}\n")
    (folder / "other.csv").write_text(f"{HEADER},nothing alike,bad\n")
    with pytest.raises(
        TableError, match=rf"\({kind}\): .*train.csv row 3; .*dev.csv row 2.*split_duplicates"
    ):
        load_splits(arguments(validation_file="dev.csv"), 0)
    with pytest.raises(TableError, match=rf"\({kind}\): .*train.csv row 3; .*dev.csv row 2"):
        load_splits(arguments(validation_file="other.csv", test_file="dev.csv"), 0)
    allowed = arguments(validation_file="dev.csv", allow=["split_duplicates"])
    assert [len(part) for part in load_splits(allowed, 0).values()] == [2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_held_out_rows_have_no_like_among_the_others(folder: Path, arguments: Arguments, seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.choice(["a.png", "b.png", "", "", "", "", "", ""], 40)
    words = generator.choice(
        [f"{word} text{end}" for word in "abcdefghijklmnopqrst" for end in ("", "!")], 40
    )
    moods = generator.choice(["bad", "good", ""], 40)
    rows = [",".join(row) for row in zip(images, words, moods, strict=True)]
    (folder / "train.csv").write_text(HEADER + "\n".join(rows) + "\n")
    data = arguments(validation_share=0.2)
    train, held = load_splits(data, seed).values()
    assert len(train) + len(held) == 40 and 4 <= len(held) <= 14
    for key in (lambda row: row.picture, lambda row: row.text and normalized_text(row.text)):
        values = [{key(record) for record in records.rows} - {None} for records in (train, held)]
        assert not values[0] & values[1]
    assert texts(*load_splits(data, seed).values()) == texts(train, held)


def test_held_out_rows_keep_their_order_and_follow_the_seed(folder: Path, arguments: Arguments) -> None:
    rows = "".join(f",text {i:02d},{'bad' if i % 4 else 'good'}\n" for i in range(60))
    (folder / "train.csv").write_text(HEADER + rows)
    first, again, other = (
        load_splits(arguments(validation_share=0.2), seed)["validation"] for seed in (1, 1, 2)
    )
    assert texts(first) == texts(again) != texts(other)
    assert names(first) == sorted(names(first), key=int)
    for held in (first, other):
        assert sorted(label_columns(held.rows)["mood"]) == [0] * 9 + [1] * 3


def test_rows_that_are_all_alike_leave_nothing_to_train_on(folder: Path, arguments: Arguments) -> None:
    (folder / "train.csv").write_text(HEADER + ",Same,bad\n,same!,good\n")
    with pytest.raises(TableError, match=r"1 group\(s\) of duplicates, leaves nothing to train on"):
        load_splits(arguments(), 0)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_every_class_of_every_task_is_as_frequent_on_both_sides(share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes = generator.random((1000, 6)) < np.array([0.5, 0.3, 0.1, 0.05, 0.02, 0.7])
    groups = np.minimum(generator.geometric(0.4, 1000).cumsum() // 2, 10**6)
    held = stratify(groups, classes, share, np.random.default_rng(seed))
    for name in np.unique(groups):
        assert len(set(held[groups == name])) == 1
    assert abs(held.mean() - share) < 0.02
    expected, found = share * classes.sum(0), classes[held].sum(0)
    assert (np.abs(found - expected) <= np.maximum(2, 0.05 * expected)).all()


@pytest.mark.parametrize(("share", "chosen"), [(0.01, 1), (0.99, 9)])
def test_neither_side_is_empty_where_there_are_two_groups(share: float, chosen: int) -> None:
    held = stratify(np.arange(10), np.zeros((10, 1), dtype=bool), share, np.random.default_rng(0))
    assert held.sum() == chosen
