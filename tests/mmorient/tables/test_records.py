"""Records: cells to pictures, texts and labels; what is wrong with pictures stops, or is allowed."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.tables.problems import TableError, stop_on_problems
from mmorient.tables.records import Records, digest, has_problem, label_columns
from tests.mmorient.conftest import draw, records_of

HEADER = "image,text,other_text,mood\n"
OPTIONS: dict[str, Any] = {"tasks": {"mood": ["bad", "good"]}, "text_columns": ["text", "other_text"]}
Reader = Callable[..., Records]


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw(seed).save(file, "PNG")
    return file.getvalue()


def images(records: Records) -> list[str | bytes | None]:
    return [record.image for record in records.rows]


def unreadable(records: Records) -> list[int]:
    return [row for row, record in enumerate(records.rows) if has_problem(record, "unreadable_pictures")]


def test_rows_in_order_with_empty_cells_as_missing(read: Reader, folder: Path) -> None:
    content = 'a.png,"one, two",x,good\nb.png,,second choice,bad\nc.png,  ,,\n,NA,,good\n'
    records = read(HEADER + content, **OPTIONS)
    assert [record.text for record in records.rows] == ["one, two", "second choice", None, "NA"]
    paths = [str((folder / "images" / name).resolve()) for name in ("a.png", "b.png", "c.png")]
    assert images(records) == [*paths, None]
    assert label_columns(records.rows) == {"mood": [1, 0, -100, 1]}


def test_the_digest_is_that_of_pictures_texts_and_labels_in_their_order(read: Reader, folder: Path) -> None:
    rows = ["a.png,x,,bad\n", "b.png,y,,good\n"]
    first = digest(read(HEADER + "".join(rows), **OPTIONS).rows)
    others = {
        "order": rows[::-1],
        "label": [rows[0], "b.png,y,,bad\n"],
        "text": [rows[0], "b.png,z,,good\n"],
        "picture": [rows[0], "c.png,y,,good\n"],
        "no picture": [rows[0], ",y,,good\n"],
    }
    found = {name: digest(read(HEADER + "".join(lines), **OPTIONS).rows) for name, lines in others.items()}
    assert len({first, *found.values()}) == 1 + len(others)
    # Not of the files' names, but of what is in them.
    (folder / "images").rename(folder / "moved")
    (folder / "moved" / "b.png").rename(folder / "moved" / "renamed.png")
    moved = HEADER + rows[0] + "renamed.png,y,,good\n"
    assert digest(read(moved, image_dir="moved", **OPTIONS).rows) == first
    draw(9).save(folder / "moved" / "renamed.png")
    assert digest(read(moved, image_dir="moved", **OPTIONS).rows) != first


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
    records = read(table, allow=["unreadable_pictures"], **OPTIONS)
    assert unreadable(records) == [1, 2]
    assert [image is None for image in images(records)] == [False, True, True]


@pytest.mark.parametrize(
    "name", ["zz.png", "A.PNG", ".", "a.png/b", "https://host/a.png", "x" * 300, "a\0.png"]
)
def test_names_that_match_no_file_stop_the_run(read: Reader, name: str) -> None:
    content = f"{HEADER}a.png,x,,bad\n{name},y,,good\n"
    with pytest.raises(TableError, match=r"row 3 name pictures that are not in .*, 1 of 2 .*`image_dir`"):
        read(content, **OPTIONS)
    found = images(read(content, allow=["missing_pictures"], **OPTIONS))
    assert [image is None for image in found] == [False, True]


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
    records = read(content, allow=["empty_rows"], **OPTIONS)
    assert records.left_out == 2 and records.table.where([0, 1]) == "rows 2, 5"
    assert [record.text for record in records.rows] == [None, "word"]
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
    records = read(content, name="t.parquet", tasks=OPTIONS["tasks"])
    assert [record.text for record in records.rows] == ["2.5", None]


def images_as_features() -> datasets.Dataset:
    pictures = [{"bytes": png(1), "path": "one.png"}, None, {"bytes": b"broken", "path": None}]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": pictures, "text": ["x", "y", "z"]}, features)
    return rows.add_column("mood", ["bad", "good", "bad"])


@pytest.mark.parametrize("name", ["saved", "t.parquet"])
def test_pictures_inside_the_table_are_used_as_they_are(folder: Path, name: str) -> None:
    if name == "saved":
        images_as_features().save_to_disk(str(folder / name))
    else:
        images_as_features().to_parquet(str(folder / name))
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"], allow=["unreadable_pictures"])
    records = records_of(name, folder, data)
    assert unreadable(records) == [2] and not records.rows[1].problems
    assert images(records) == [png(1), None, None]
    assert images(records.select([1, 0])) == [None, png(1)]
    with pytest.raises(TableError, match="row 2 have pictures that cannot be read"):
        stop_on_problems(records.problems, [])


def test_bytes_without_a_feature_are_pictures_too(folder: Path) -> None:
    pq.write_table(pa.table({"image": [png(1)], "text": ["x"], "mood": ["bad"]}), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    assert images(records_of("t.parquet", folder, data)) == [png(1)]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([{"bytes": None, "path": "../secret.png"}], "outside"),
        ([{"url": "https://host/a.png"}], r"holds records of \['url'\]"),
        ([7], "have a int in column 'image'"),
    ],
)
def test_records_that_are_no_pictures_are_refused(folder: Path, pictures: list[Any], message: str) -> None:
    columns = {"image": pictures, "text": ["x"] * len(pictures), "mood": ["bad"] * len(pictures)}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    with pytest.raises(TableError, match=message):
        stop_on_problems(records_of("t.parquet", folder, data).problems, PROBLEM_KINDS)


def test_paths_inside_features_are_sought_in_the_picture_folder(folder: Path) -> None:
    columns = {"image": [{"bytes": None, "path": "a.png"}], "text": ["x"], "mood": ["bad"]}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    assert images(records_of("t.parquet", folder, data)) == [str((folder / "images" / "a.png").resolve())]


def test_a_column_may_hold_some_pictures_and_name_others(folder: Path) -> None:
    pictures = [{"bytes": png(1), "path": "x.png"}, {"bytes": None, "path": "a.png"}, None]
    columns = {"image": pictures, "text": ["x", "y", "z"], "mood": ["bad", "good", "bad"]}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    data = DataArguments(data_dir=str(folder), tasks=OPTIONS["tasks"])
    records = records_of("t.parquet", folder, data)
    assert images(records) == [png(1), str((folder / "images" / "a.png").resolve()), None]
    assert not records.problems and all(record.fingerprint for record in records.rows[:2])
