"""Memes: cells to pictures, texts and labels; what is wrong with pictures stops, or is allowed."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.tables.memes import Memes, digest, read_memes
from mmorient.tables.problems import TableError, stop_on_problems
from mmorient.tables.table import read_table
from tests.mmorient.conftest import draw

HEADER = "image,text,other_text,mood\n"
OPTIONS: dict[str, Any] = {"tasks": {"mood": ["bad", "good"]}, "text_columns": ["text", "other_text"]}
Reader = Callable[..., Memes]


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw(seed).save(file, "PNG")
    return file.getvalue()


def test_rows_in_order_with_empty_cells_as_missing(read: Reader, folder: Path) -> None:
    content = 'a.png,"one, two",x,good\nb.png,,second choice,bad\nc.png,  ,,\n,NA,,good\n'
    rows = read(HEADER + content, **OPTIONS).to_dataset()
    assert rows["text"][:] == ["one, two", "second choice", None, "NA"]
    paths = [str((folder / "images" / name).resolve()) for name in ("a.png", "b.png", "c.png")]
    assert rows["image"][:] == [*paths, None]
    assert [row["mood"] for row in rows["labels"]] == [1, 0, -100, 1]


def test_the_digest_is_that_of_pictures_texts_and_labels_in_their_order(read: Reader, folder: Path) -> None:
    rows = ["a.png,x,,bad\n", "b.png,y,,good\n"]
    first = digest(read(HEADER + "".join(rows), **OPTIONS))
    others = {
        "order": rows[::-1],
        "label": [rows[0], "b.png,y,,bad\n"],
        "text": [rows[0], "b.png,z,,good\n"],
        "picture": [rows[0], "c.png,y,,good\n"],
        "no picture": [rows[0], ",y,,good\n"],
    }
    found = {name: digest(read(HEADER + "".join(lines), **OPTIONS)) for name, lines in others.items()}
    assert len({first, *found.values()}) == 1 + len(others)
    # Not of the files' names, but of what is in them.
    (folder / "images").rename(folder / "moved")
    (folder / "moved" / "b.png").rename(folder / "moved" / "renamed.png")
    moved = HEADER + rows[0] + "renamed.png,y,,good\n"
    assert digest(read(moved, image_dir="moved", **OPTIONS)) == first
    draw(9).save(folder / "moved" / "renamed.png")
    assert digest(read(moved, image_dir="moved", **OPTIONS)) != first


BROKEN: dict[str, bytes] = {
    "an empty file": b"",
    "a text": b"no picture at all",
    "a page": b"<!DOCTYPE html><html></html>",
    "a picture cut off": png(1)[:200],
    "a header alone": png(1)[:33],
    "a flipped byte": png(1)[:60] + b"\x00" + png(1)[61:],
    "vector graphics": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a program that draws": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "too many pixels": b"P5 100000 100000 255\n",
    "no pixels": b"P5 0 0 255\n",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_pictures_that_cannot_be_read_stop_the_run_by_name(
    read: Reader, folder: Path, content: bytes
) -> None:
    (folder / "images" / "broken.png").write_bytes(content)
    table = HEADER + "a.png,x,,bad\nbroken.png,y,,good\nbroken.png,z,,good\n"
    with pytest.raises(
        TableError, match=r"rows 3, 4 have pictures that cannot be read \(broken.png: .*allow"
    ):
        read(table, **OPTIONS)
    memes = read(table, allow=["unreadable_pictures"], **OPTIONS)
    assert list(memes.pictures.unreadable) == [1, 2]
    assert [image is None for image in memes.to_dataset()["image"]] == [False, True, True]


@pytest.mark.parametrize(
    "name", ["zz.png", "A.PNG", ".", "a.png/b", "https://host/a.png", "x" * 300, "a\0.png"]
)
def test_names_that_match_no_file_stop_the_run(read: Reader, name: str) -> None:
    content = f"{HEADER}a.png,x,,bad\n{name},y,,good\n"
    with pytest.raises(TableError, match=r"row 3 name pictures that are not in .*, 1 of 2 .*`image_dir`"):
        read(content, **OPTIONS)
    images = read(content, allow=["missing_pictures"], **OPTIONS).to_dataset()["image"]
    assert [image is None for image in images] == [False, True]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "../images/../secret.png", "link.png", "up/secret.png"]
)
def test_no_name_and_no_link_leads_out_of_the_picture_folder(read: Reader, folder: Path, name: str) -> None:
    (folder / "images" / "link.png").symlink_to(folder / "secret.png")
    (folder / "images" / "up").symlink_to(folder)
    with pytest.raises(TableError, match="row 3 name pictures outside"):
        read(f"{HEADER}a.png,x,,bad\n{name},y,,good\n", allow=["missing_pictures"], **OPTIONS)


def test_links_in_a_circle_match_no_file(read: Reader, folder: Path) -> None:
    (folder / "images" / "circle.png").symlink_to(folder / "images" / "circle.png")
    (folder / "images" / "up").symlink_to(folder)
    for name in ("circle.png", "circle.png/a.png", f"circle.png/{folder}/images/up/secret.png"):
        with pytest.raises(TableError, match="row 2 name pictures that are not in"):
            read(f"{HEADER}{name},x,,bad\n", **OPTIONS)


def test_rows_with_neither_picture_nor_text_stop_the_run_or_are_left_out(read: Reader) -> None:
    # The third text is a watermark, of which the processor leaves nothing.
    content = HEADER + "a.png,,,bad\n,,,good\n,imgflip.com,,good\n,word,,good\n"
    with pytest.raises(TableError, match="rows 3, 4 have neither picture nor text"):
        read(content, **OPTIONS)
    memes = read(content, allow=["empty_rows"], **OPTIONS)
    assert memes.left_out == 2 and memes.table.where([0, 1]) == "rows 2, 5"
    assert memes.to_dataset()["text"][:] == [None, "word"]
    with pytest.raises(TableError, match="no row has a usable picture or a text"):
        read(HEADER + ",,,bad\n", allow=["empty_rows"], **OPTIONS)


def test_every_problem_is_named_at_once(read: Reader) -> None:
    with pytest.raises(TableError) as caught:
        read(HEADER + "zz.png,x,,bad\na.png,x,,fine\n,,,good\n", **OPTIONS)
    lines = str(caught.value).splitlines()
    switches = [line.partition("allow: [")[2].partition("]")[0] for line in lines]
    assert switches == ["missing_pictures", "unknown_labels", "empty_rows"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a.png,x,,bad\n", {"image_column": "picture"}, "no column 'picture'"),
        ("a.png,x,,bad\n", {"text_columns": ["caption"]}, "no column 'caption'"),
        ("a.png,x,,bad\n", {"tasks": {"irony": ["no", "yes"]}}, "no column 'irony'"),
        ("a.png,x,,bad\n", {"image_dir": "nowhere"}, "no picture folder"),
        ("a.png,x,,fine\nb.png,x,,bad\n", {}, r"does not know, \['fine'\] in row 2"),
    ],
)
def test_recipes_that_do_not_fit_the_table_are_refused(
    read: Reader, content: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read(HEADER + content, **{**OPTIONS, **options})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"image": 3, "text": "x", "other_text": null, "mood": "bad"}',
            "line 1 have a int in column 'image'",
        ),
        ('{"image": ["a.png"], "text": "x", "other_text": null, "mood": "bad"}', "line 1 have a list"),
        (
            '{"image": "a.png", "text": ["x"], "other_text": null, "mood": "bad"}',
            "line 1 have a list in column 'text'",
        ),
        (
            '{"image": "a.png", "text": {}, "other_text": null, "mood": "bad"}',
            "line 1 have a dict in column 'text'",
        ),
    ],
)
def test_cells_of_the_wrong_kind_are_refused(read: Reader, line: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(line + "\n", name="t.jsonl", **OPTIONS)


def test_numbers_are_texts_and_not_a_number_is_none(read: Reader, folder: Path) -> None:
    columns = {"image": ["a.png", "b.png"], "text": [2.5, float("nan")], "mood": ["bad", "good"]}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    content = (folder / "t.parquet").read_bytes()
    memes = read(content, name="t.parquet", tasks=OPTIONS["tasks"])
    assert memes.texts == ["2.5", None]


def pictures_as_features() -> datasets.Dataset:
    pictures = [{"bytes": png(1), "path": "one.png"}, None, {"bytes": b"broken", "path": None}]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": pictures, "text": ["x", "y", "z"]}, features)
    return rows.add_column("mood", ["bad", "good", "bad"])


@pytest.mark.parametrize("name", ["saved", "t.parquet"])
def test_pictures_inside_the_table_are_used_as_they_are(folder: Path, name: str) -> None:
    if name == "saved":
        pictures_as_features().save_to_disk(str(folder / name))
    else:
        pictures_as_features().to_parquet(str(folder / name))
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"], allow=["unreadable_pictures"])
    memes = read_memes(read_table(name, folder), data)
    assert list(memes.pictures.unreadable) == [2] and memes.pictures.names[1] is None
    assert memes.to_dataset()["image"][:] == [png(1), None, None]
    assert memes.select([1, 0]).to_dataset()["image"][:] == [None, png(1)]
    with pytest.raises(TableError, match="row 2 have pictures that cannot be read"):
        stop_on_problems(memes.problems, [])


def test_bytes_without_a_feature_are_pictures_too(folder: Path) -> None:
    pq.write_table(pa.table({"image": [png(1)], "text": ["x"], "mood": ["bad"]}), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    assert read_memes(read_table("t.parquet", folder), data).to_dataset()["image"][:] == [png(1)]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([{"bytes": None, "path": "../secret.png"}], "outside"),
        (
            [{"bytes": b"x", "path": None}, {"bytes": None, "path": "a.png"}],
            "some pictures whole and names others",
        ),
        ([{"url": "https://host/a.png"}], r"holds records of \['url'\]"),
        ([7], "have a int in column 'image'"),
    ],
)
def test_records_that_are_no_pictures_are_refused(folder: Path, pictures: list[Any], message: str) -> None:
    columns = {"image": pictures, "text": ["x"] * len(pictures), "mood": ["bad"] * len(pictures)}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    with pytest.raises(TableError, match=message):
        read_memes(read_table("t.parquet", folder), data)


def test_paths_inside_features_are_sought_in_the_picture_folder(folder: Path) -> None:
    columns = {"image": [{"bytes": None, "path": "a.png"}], "text": ["x"], "mood": ["bad"]}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    images = read_memes(read_table("t.parquet", folder), data).to_dataset()["image"][:]
    assert images == [str((folder / "images" / "a.png").resolve())]
