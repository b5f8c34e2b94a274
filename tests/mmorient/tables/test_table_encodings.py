"""Delimiters and encodings: what is given is used, and what is wrong is met with the one to give."""

import gzip
import random
from pathlib import Path

import pytest

from mmorient.recipes.text_formats import check_delimiter, check_encoding
from mmorient.tables.problems import TableError
from mmorient.tables.stream import open_table
from mmorient.tables.table import read_table
from mmorient.tables.text_files import LONGEST_LINE

CONTENT = 'image;text\na.png;"Grüße; ""du"""\nb.png;é\n'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16", "utf-16-be", "UTF8"]
)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_a_table_is_read_with_its_delimiter_and_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(CONTENT.encode(encoding))
    table = read_table(name, tmp_path, delimiter=";", encoding=encoding)
    assert list(table.columns) == ["image", "text"] and table.cells("text") == ['Grüße; "du"', "é"]


def test_json_lines_are_read_with_their_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes('{"text": "é"}\n'.encode("utf-16"))
    assert read_table("t.jsonl", tmp_path, encoding="utf-16").cells("text") == ["é"]


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("t.csv", CONTENT.encode("utf-16"), "it is UTF-16: set `encoding` to utf-16"),
        ("t.csv", "\ufeff文\n字\n".encode("utf-16-be"), "it is UTF-16: set `encoding` to utf-16"),
        ("t.csv", "\ufeff文\n字\n".encode("utf-16-le"), "it is UTF-16: set `encoding` to utf-16"),
        ("t.csv", CONTENT.encode("utf-32"), "it is UTF-32: set `encoding` to utf-32"),
        ("t.csv", CONTENT.encode("utf-16-le"), "it is UTF-16-LE: set `encoding` to utf-16-le"),
        ("t.tsv", CONTENT.encode("utf-16-be"), "it is UTF-16-BE: set `encoding` to utf-16-be"),
        ("t.jsonl", '{"text": "é"}\n'.encode("utf-16"), "it is UTF-16: set `encoding` to utf-16"),
        ("t.csv", "text\nok\nGrüße\n".encode("cp1252"), r"row 3: it is not UTF-8: set `encoding` .* cp1252"),
        ("t.csv", "Grüße\nok\n".encode("cp1252"), "it is not UTF-8: set `encoding` .* cp1252"),
        ("t.jsonl", '{"text": "é"}\n'.encode("latin-1"), "line 1: it is not UTF-8: set `encoding`"),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip archive: unpack it"),
        ("t.jsonl", gzip.compress(b"{}\n", mtime=0), "gzip archive: unpack it"),
        ("t.csv", b"PK\x03\x04" + bytes(40), r"workbook: unpack it, or name it \.xlsx"),
        ("t.csv", b"\xd0\xcf\x11\xe0" + bytes(40), r"save it as \.xlsx"),
        ("t.csv", b"PAR1" + bytes(40) + b"PAR1", r"a Parquet file: name it \.parquet"),
        ("t.csv", b"text\n" + b"\x00" * 50, "set `encoding`"),
    ],
)
def test_another_encoding_or_kind_of_file_is_recognized(
    tmp_path: Path, name: str, content: bytes, remedy: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=rf"{name} .*(?s:.*){remedy}"):
        read_table(name, tmp_path)


def test_an_encoding_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("text\né\n".encode("utf-8-sig"))
    with pytest.raises(TableError, match="it is UTF-8: set `encoding` to utf-8"):
        read_table("t.csv", tmp_path, encoding="latin-1")
    (tmp_path / "odd.csv").write_bytes("text\nhi\n".encode("utf-16") + b"\x00")
    with pytest.raises(TableError, match=r"odd.csv cannot be read as utf-16.*Set `encoding`"):
        read_table("odd.csv", tmp_path, encoding="utf-16")
    (tmp_path / "plain.csv").write_bytes(b"text\nhi\n")
    with pytest.raises(TableError, match=r"plain.csv cannot be read as utf-16"):
        read_table("plain.csv", tmp_path, encoding="utf-16")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("image;text\na;b\n", "has no ',' and 1 of ';': set `delimiter` to ';'"),
        ("image\ttext\tmood\na\tb\tc\n", r"2 of '\\t': set `delimiter` to '\\t'"),
        ('{"image": "a"}\n{"image": "b"}\n', r"looks like JSON: name it \.jsonl"),
    ],
)
def test_a_table_with_another_delimiter_is_recognized(tmp_path: Path, content: str, hint: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(TableError, match=f"no column 'image'.*{hint}"):
        read_table("t.csv", tmp_path).cells("image")
    (tmp_path / "t.csv").write_text(content + '"x, y",z\n')
    with pytest.raises(TableError, match=rf"2 cell\(s\)(?s:.*){hint}"):
        read_table("t.csv", tmp_path)
    assert not open_table("t.csv", tmp_path, delimiter=";").hint or ";" not in content


def test_a_single_column_needs_no_hint(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\nx\n")
    assert open_table("t.csv", tmp_path).hint == ""


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r", "\0", "\\t"])
def test_what_cannot_stand_between_cells_is_refused(delimiter: str) -> None:
    with pytest.raises(ValueError, match="give one character that is no quote or line break"):
        check_delimiter(delimiter)


@pytest.mark.parametrize("encoding", ["", "utf8x", "rot13", "hex", "base64", "a\0b", "undefined", "😀"])
def test_what_is_no_text_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="give a text encoding that Python knows, such as utf-8"):
        check_encoding(encoding)


def test_a_file_without_line_breaks_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LONGEST_LINE < 1 << 27
    monkeypatch.setattr("mmorient.tables.text_files.LONGEST_LINE", 1000)
    for name, content in (("t.csv", "text\n" + "x" * 5000), ("t.jsonl", '{"text": "' + "x" * 5000)):
        (tmp_path / name).write_text(content)
        with pytest.raises(TableError, match=r"more than 1000 characters in line \d"):
            read_table(name, tmp_path)


def test_lines_are_those_of_the_file_whatever_ends_them(tmp_path: Path) -> None:
    """Against a plain count, over random tables with line breaks in cells, blank lines and broken quotes."""
    draw = random.Random(3)
    for _ in range(30):
        parts, expected, line = ["a,b\n"], [], 2
        for number in range(draw.randint(1, 12)):
            breaks = draw.choice((0, 0, 1, 3))
            end = draw.choice(("\n", "\r\n", "\r"))
            parts.append(f'{number},"x{end * breaks}"{end}')
            expected.append(line)
            line += breaks + 1
            if draw.random() < 0.2:
                parts.append(f'"{number},{end}')  # opened and never closed
                expected.append(line)
                line += 1
                parts.append(f"{number},y{end}")
                expected.append(line)
                line += 1
        (tmp_path / "t.csv").write_bytes("".join(parts).encode())
        found = [
            chunk.lines.get(place, number)
            for chunk in open_table("t.csv", tmp_path).chunks(3)
            for place, number in enumerate(chunk.numbers)
        ]
        assert found == expected, parts
