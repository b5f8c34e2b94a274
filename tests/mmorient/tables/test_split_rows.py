"""Which row went where: every row once, by its table and by its content, and nowhere but at home."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmorient.tables.records import Record, Records, join_records
from mmorient.tables.split_rows import (
    SplitRow,
    read_split_rows,
    record_digest,
    split_rows,
    write_splits,
)
from mmorient.tables.table import tell_apart
from tests.hub_server import LocalHub, run_python

TASKS = {"mood": {"labels": ["bad", "good"]}}


def test_digests_are_of_picture_and_text_whatever_the_file_is_called(
    folder: Path, read: Callable[..., Records]
) -> None:
    (folder / "images" / "copy.png").write_bytes((folder / "images" / "a.png").read_bytes())
    rows = "image,text,mood\na.png,x,bad\ncopy.png,x,good\nb.png,x,bad\na.png,y,bad\n,x,bad\na.png,,bad\n"
    digests = [record_digest(record) for record in read(rows, tasks=TASKS).rows]
    assert digests[0] == digests[1] and len(set(digests)) == 5
    picture = folder / "images" / "a.png"
    for unread in (str(picture), picture.read_bytes()):
        assert record_digest(Record("2", unread, "x")) == digests[0]
        assert record_digest(Record("2", unread)) == digests[5]
    assert record_digest(Record("2", None, "x")) == digests[4]


def test_every_row_stands_in_a_line_with_its_reference(folder: Path, read: Callable[..., Records]) -> None:
    records = read("image,text,mood\na.png,x,bad\nb.png,y,bad\na.png,x,bad\n", tasks=TASKS)
    other = read("image,text,mood\na.png,x,bad\nc.png,z,bad\n", name="test.csv", tasks=TASKS)
    lines = split_rows({"training": records, "test": other}, "training")
    assert [(line.split, line.table, line.row, line.reference) for line in lines] == [
        ("training", "table.csv", "2", "2"),
        ("training", "table.csv", "3", "3"),
        ("training", "table.csv", "4", "4"),
        ("test", "test.csv", "2", "2"),  # a copy of a row that is one
        ("test", "test.csv", "3", ""),
    ]
    assert {line.reference for line in split_rows({"training": records, "test": other}, None)} == {""}
    digest = write_splits(folder, lines)
    assert read_split_rows(folder, digest) == read_split_rows(folder, None) == lines
    assert read_split_rows(folder / "images", digest) is None
    content = (folder / "splits.csv").read_text()
    for altered in (
        content.replace(",3,", ",5,"),
        content[: content.rstrip().rindex("\n") + 1],
        content + "\n",
    ):
        (folder / "splits.csv").write_text(altered)
        with pytest.raises(ValueError, match=r"splits\.csv is not what .* tables.json was altered"):
            read_split_rows(folder, digest)
    (folder / "splits.csv").write_text(content)
    assert str(folder) not in (folder / "splits.csv").read_text()


def test_rows_of_several_tables_keep_their_own_names(folder: Path, read: Callable[..., Records]) -> None:
    parts = []
    for language in ("en", "zh"):
        (folder / language).mkdir()
        content = f"image,text,mood\na.png,{language},bad\n"
        parts.append(read(content, name=f"{language}/train.csv", tasks=TASKS))
    labelled = tell_apart([records.table for records in parts])
    joined = join_records(
        [replace(records, table=table) for records, table in zip(parts, labelled, strict=True)]
    )
    lines = split_rows({"training": joined}, "training")
    assert [(line.table, line.row) for line in lines] == [("en/train.csv", "2"), ("zh/train.csv", "2")]
    assert [line.reference for line in lines] == ["en/train.csv:2", "zh/train.csv:2"]


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "split,table,row,reference,digest\ntest,t.csv\n", 'split,table,"row\n']
)
def test_other_files_of_that_name_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(ValueError, match=r"splits\.csv is not what a run writes"):
        read_split_rows(tmp_path, None)


def test_uploads_of_the_folder_leave_it_at_home(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".gitignore").write_text("checkpoint-*\n")
    (run / "config.json").write_text("{}")
    for _ in range(2):
        write_splits(run, [SplitRow("test", "t.csv", "2", "", "00")])
    assert (run / ".gitignore").read_text() == "checkpoint-*\n/splits.csv\n"
    code = (
        "import json, sys; from huggingface_hub import HfApi; api = HfApi()\n"
        "api.create_repo('tester/run'); api.upload_folder(repo_id='tester/run', folder_path=sys.argv[1])\n"
        "print(json.dumps(api.list_repo_files('tester/run')))"
    )
    with LocalHub() as hub:
        files = run_python(code, str(run), env=hub.environment(tmp_path / "home"))
    assert sorted(files) == [".gitignore", "config.json"]
