"""Workbooks: the same cells as other tables, in constant memory, and a message for each that is none."""

import builtins
import datetime
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from mmorient.tables.problems import TableError
from mmorient.tables.stream import open_table
from mmorient.tables.table import read_table, read_well_formed
from mmorient.tables.workbooks import MOST_BYTES


def save(path: Path, rows: list[list[Any]], **sheets: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    for name, cells in {"Sheet": rows, **sheets}.items():
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for row in cells:
            sheet.append(row)
    book.save(path)


def test_rows_are_numbered_as_in_the_sheet_and_cells_keep_their_kind(tmp_path: Path) -> None:
    day = datetime.datetime(2020, 1, 2)
    save(
        tmp_path / "t.xlsx",
        [["image", "text", 7], ["a.png", "x\ny", 1], [None, 2.5, day], ["c.png", None, True]],
    )
    table = read_table("t.xlsx", tmp_path)
    assert list(table.columns) == ["image", "text", "7"]
    assert table.cells("image") == ["a.png", None, "c.png"] and table.cells("text") == ["x\ny", 2.5, None]
    assert [repr(cell) for cell in table.cells("7")] == ["1", repr(day), "True"]  # 1 is no 1.0
    assert table.where([2]) == "row 4"
    chunks = list(open_table("t.xlsx", tmp_path).chunks(2))
    assert [list(chunk.numbers) for chunk in chunks] == [[2, 3], [4]]


def test_blank_rows_and_cells_beyond_the_header_are_malformed(tmp_path: Path) -> None:
    save(
        tmp_path / "t.xlsx", [["text", "mood"], ["a"], [], ["b", None, "beyond"], ["c", "good"], [None, None]]
    )
    table = read_well_formed("t.xlsx", tmp_path)
    assert table.cells("text") == ["a", "c"] and table.cells("mood") == [None, "good"]
    (problem,) = table.problems
    assert [found.row for found in problem.rows] == ["row 3", "row 4"]
    assert "it is blank" in problem.message and "beyond the last column 'None, beyond'" not in problem.message
    assert "beyond the last column 'beyond'" in problem.message


def test_the_only_sheet_that_has_cells_and_is_not_hidden_is_the_table(tmp_path: Path) -> None:
    save(tmp_path / "t.xlsx", [], Memes=[["text"], ["x"]], Lists=[["choice"], ["y"]])
    with pytest.raises(TableError, match=r"cells on the sheets \['Memes', 'Lists'\]: save the one"):
        read_table("t.xlsx", tmp_path)
    book = openpyxl.load_workbook(tmp_path / "t.xlsx")
    book["Lists"].sheet_state = "hidden"
    book.save(tmp_path / "t.xlsx")
    assert read_table("t.xlsx", tmp_path).cells("text") == ["x"]
    save(tmp_path / "none.xlsx", [])
    with pytest.raises(TableError, match="has no sheet with cells"):
        read_table("none.xlsx", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["text"]], "has no rows"),
        ([["a", None, "b"], [1, 2, 3]], "column 2 has no name"),
        ([["a", "a"], [1, 2]], "each needs a name of its own"),
        ([[None, None], ["a", "b"]], "its first row is blank"),
    ],
)
def test_a_sheet_that_is_no_table_is_refused(tmp_path: Path, rows: list[list[Any]], message: str) -> None:
    save(tmp_path / "t.xlsx", rows)
    with pytest.raises(TableError, match=message):
        read_table("t.xlsx", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"text,mood\nx,good\n", b"\xd0\xcf\x11\xe0" + bytes(64)]
)
def test_a_file_that_is_no_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(TableError, match=r"t\.xlsx is no \.xlsx workbook.*save it again, or as CSV"):
        read_table("t.xlsx", tmp_path)


def rewrite(path: Path, part: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, old in parts.items():
            archive.writestr(name, content if name == part else old)


SHEET = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("xl/styles.xml", b"<" * 50, "is damaged"),
        ("xl/styles.xml", b" " * (MOST_BYTES // 8), "too much for a workbook"),
        (
            "xl/worksheets/sheet1.xml",
            SHEET % b'<row r="1"><c r="A1"><v>1</v></c></row><row r="99999999999"/>',
            "rows",
        ),
        ("xl/worksheets/sheet1.xml", SHEET % b'<row r="1"><c r="ZZZZZ1"><v>1</v></c></row>', "is damaged"),
        (
            "xl/worksheets/sheet1.xml",
            SHEET % b'<row r="1"><c r="A1" t="s"><v>999</v></c></row>',
            "is damaged",
        ),
        ("xl/worksheets/sheet1.xml", (SHEET % b"")[:60], "is damaged"),
        ("xl/workbook.xml", b"<workbook/>", "no sheet with cells"),
    ],
)
def test_a_hostile_workbook_is_refused(tmp_path: Path, part: str, content: bytes, message: str) -> None:
    save(tmp_path / "t.xlsx", [["text"], ["x"]])
    rewrite(tmp_path / "t.xlsx", part, content)
    with pytest.raises(TableError, match=message):
        list(open_table("t.xlsx", tmp_path).chunks(1000))


def test_what_a_sheet_says_of_its_size_is_not_believed(tmp_path: Path) -> None:
    save(tmp_path / "t.xlsx", [["text", "mood"], ["x", "good"]])
    with zipfile.ZipFile(tmp_path / "t.xlsx") as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    for said in (b"A1", b"A1:XFD1048576"):
        rewrite(tmp_path / "t.xlsx", "xl/worksheets/sheet1.xml", sheet.replace(b"A1:B2", said))
        assert read_table("t.xlsx", tmp_path).cells("mood") == ["good"]


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "t.xlsx", [["text"], ["x"]])
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TableError, match=r"pip install 'mmorient\[xlsx\]', or save it as CSV"):
        read_table("t.xlsx", tmp_path)
