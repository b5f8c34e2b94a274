"""Tables: what is read, and which message every malformed one gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.recipe import DataArguments
from training.tables import TableError, balanced_weights, hold_out, read_table, task_specs

TASKS = {
    "sentiment": {
        "column": "feeling",
        "labels": ["bad", "good"],
        "values": {"awful": "bad", "great": "good"},
    },
    "humour": ["no", "yes"],
}
HEADER = "image,text,other_text,feeling,humour\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{name}.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[..., Any]:
    def read_text(content: str | bytes, header: str = HEADER, **options: Any) -> Any:
        path = folder / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else (header + content).encode())
        arguments = {"tasks": TASKS, "text_columns": ["text", "other_text"], **options}
        return read_table(path, DataArguments(data_dir=str(folder), **arguments))

    return read_text


def test_rows_in_order_with_empty_cells_as_missing(read: Callable[..., Any], folder: Path) -> None:
    table = read(
        'a.png,"one, two\nthree",x,good,yes\nb.png,,second choice,awful,\nc.png,  ,,,no\n,NA,,great,yes\n'
    )
    assert table["text"][:] == ["one, two\nthree", "second choice", None, "NA"]
    images = [str((folder / "images" / name).resolve()) for name in ("a.png", "b.png", "c.png")]
    assert table["image"][:] == [*images, None]
    assert [row["sentiment"] for row in table["labels"]] == [1, 0, -100, 1]
    assert [row["humour"] for row in table["labels"]] == [1, -100, 0, 1]
    assert table["row"][:] == [2, 3, 4, 5]


def test_a_byte_order_mark_is_no_part_of_the_header(read: Callable[..., Any]) -> None:
    assert len(read(b"\xef\xbb\xbf" + (HEADER + "a.png,x,,good,yes\n").encode())) == 1


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a.png,x,,fine,yes\nb.png,x,,bad,no\n", {}, r"does not know, \['fine'\] in row 2"),
        ("a.png,x,,bad,yes\nzz.png,x,,bad,no\n", {}, r"row 3 name pictures that are not in"),
        ("../secret.png,x,,bad,yes\n", {}, "row 2 name pictures outside"),
        ("/etc/hostname,x,,bad,yes\n", {}, "outside"),
        (",,,bad,yes\n", {}, "row 2 have neither picture nor text"),
        ("a.png,x,,bad\n", {}, "row 2 have other than the header's 5 cells"),
        ("a.png,x,y,z,bad,yes\n", {}, "row 2 have other than the header's 5 cells"),
        ("", {}, "no rows"),
        (b"", {}, "no CSV file"),
        (b"\xff\xfe\x00", {}, "no CSV file in UTF-8"),
        ('a.png,"x,,bad,yes\n', {}, "no CSV file"),
        (
            b"image,text,text,feeling,humour\na.png,x,,bad,yes\n",
            {"text_columns": ["text"]},
            "name of its own",
        ),
        ("a.png,x,,bad,yes\n", {"image_column": "picture"}, "no column 'picture'"),
        ("a.png,x,,bad,yes\n", {"text_columns": ["caption"]}, "no column 'caption'"),
        ("a.png,x,,bad,yes\n", {"tasks": {"irony": ["no", "yes"]}}, "no column 'irony'"),
        ("a.png,x,,bad,yes\n", {"image_dir": "nowhere"}, "no picture folder"),
        (
            "a.png,x,,bad,yes\n",
            {"tasks": {"humour": {"labels": ["no", "yes"], "values": {"y": "oui"}}}},
            "maps 'y' to 'oui'",
        ),
        (
            "a.png,x,,bad,yes\n",
            {"tasks": {"humour": {"labels": ["no", "yes"], "kind": "multilabel"}}},
            "multilabel",
        ),
    ],
)
def test_malformed_tables_get_an_error_that_names_the_place(
    read: Callable[..., Any], content: str | bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read(content, **options)


def test_a_missing_table_is_named(folder: Path) -> None:
    with pytest.raises(TableError, match="no table at"):
        read_table(folder / "no.csv", DataArguments(data_dir=str(folder), tasks=TASKS))


def test_links_out_of_the_picture_folder_are_refused(read: Callable[..., Any], folder: Path) -> None:
    (folder / "images" / "link.png").symlink_to(folder / "secret.png")
    with pytest.raises(TableError, match="outside"):
        read("link.png,x,,bad,yes\n")


@pytest.mark.parametrize("seed", range(5))
def test_held_out_rows_share_no_picture_and_no_text(read: Callable[..., Any], seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.choice(["a.png", "b.png", "", "", "", "", "", ""], 40)
    texts = generator.choice([f"{word} text" for word in "abcdefghijklmnopqrst"], 40)
    rows = [f"{image},{text},,bad,no" for image, text in zip(images, texts, strict=True)]
    table = read("\n".join(rows) + "\n")
    train, held = hold_out(table, 0.2, seed)
    assert len(train) + len(held) == 40 and len(held) >= 8
    for column in ("image", "text"):
        values = [{value for value in part[column][:] if value} for part in (train, held)]
        assert not values[0] & values[1]


def test_holding_out_is_seeded_and_leaves_rows_to_train_on(read: Callable[..., Any]) -> None:
    table = read("".join(f",text {i},,bad,no\n" for i in range(50)))
    first, again, other = (hold_out(table, 0.2, seed)[1]["text"][:] for seed in (1, 1, 2))
    assert first == again != other and len(first) == 10
    with pytest.raises(TableError, match="leaves none"):
        hold_out(table.select([0]), 0.5, 1)


def test_balanced_weights_make_every_class_weigh_the_same() -> None:
    specs = task_specs({"humour": ["no", "yes"], "mood": ["a", "b", "c"]})
    labels = [{"humour": int(i < 2), "mood": -100 if i > 5 else i % 2} for i in range(8)]
    weights = balanced_weights(labels, specs)
    assert weights["humour"] == pytest.approx([8 / 12, 8 / 4])
    assert weights["mood"] == pytest.approx([1, 1, 1])
    assert 6 * weights["humour"][0] == pytest.approx(2 * weights["humour"][1])
