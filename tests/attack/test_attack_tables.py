"""Tables of every format with hostile content: read for training, inspected, and predicted."""

import csv
import functools
import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from damage import damaged
from harness import LARGE, Case, amount, check

import mmorient.commands.predict
import mmorient.prediction.predict
from mmorient.commands import inspect
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.arguments import DataArguments
from mmorient.tables.problems import stop_on_problems
from mmorient.tables.stream import OPENERS
from tests.mmorient.conftest import draw, records_of
from tests.mmorient.predicting import read_output, save_model

TASKS = {"mood": ["bad", "so-so", "good"], "about": {"labels": ["politics", "animals"], "kind": "multilabel"}}
TEXTS = [f"green cat {'again ' * (row % 3)}number {row}" for row in range(12)]
ROWS: list[dict[str, Any]] = [
    {
        "image": ("a.png", "b.png", "")[row % 3],
        "text": text,
        "mood": ("good", "bad", "so-so", "")[row % 4],
        "about": ("politics", "", "animals,politics")[row % 3],
    }
    for row, text in enumerate(TEXTS)
]
HEADER = "image,text,mood,about\n"


class Hostile(NamedTuple):
    """A table.

    Args:
        title: What is hostile about it.
        file: Its name.
        content: Of the file; or a function that makes it at a path.
        texts: Of its rows, where it must be read; None where it may be refused as well.
    """

    title: str
    file: str
    content: bytes | str | Callable[[Path], object]
    texts: list[str] | None = None

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content if isinstance(self.content, bytes) else self.content.encode())
        return path


def csv_text(rows: Iterable[dict[str, Any]] = ROWS, delimiter: str = ",", end: str = "\n") -> str:
    kept = list(rows)
    lines = [[*kept[0]], *([f'"{cell}"' for cell in row.values()] for row in kept)]
    return "".join(delimiter.join(line) + end for line in lines)


def json_text(rows: Iterable[Any] = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def row_of(**cells: Any) -> list[dict[str, Any]]:
    return [*ROWS, {**ROWS[0], **cells}]


def parquet(**columns: Any) -> Callable[[Path], object]:
    """A Parquet table with columns in place of the usual ones."""
    usual = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}
    return lambda path: pq.write_table(pa.table({**usual, **columns}), path)


def described(features: Any) -> Callable[[Path], object]:
    """A Parquet table with this description for `datasets`."""

    def write(path: Path) -> None:
        table = pa.table({name: [str(row[name]) for row in ROWS] for name in ROWS[0]})
        note = (
            features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
        )
        pq.write_table(table.replace_schema_metadata({b"huggingface": note}), path)

    return write


def saved(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A folder that `datasets` saved, then changed."""

    def write(path: Path) -> None:
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
        change(path)

    return write


def edit(file: str, **values: Any) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        known = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps({**known, **values}))

    return change


def cut(path: Path) -> None:
    file = next(path.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-200])


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("t.csv", content)
    return file.getvalue()


def in_chunks() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=5)
    return file.getvalue()


COUNT = len(ROWS)
LONG = "green " * 180_000  # over 1 MB


def separated() -> Iterator[Hostile]:
    plain = csv_text()
    yield Hostile("plain", "t.csv", plain, TEXTS)
    for title, content in {
        "empty": b"",
        "header alone": HEADER,
        "header without an end": HEADER.strip(),
        "blank lines alone": "\n\n\n",
        "a mark alone": b"\xef\xbb\xbf",
        "a NUL alone": b"\0",
        "a quote alone": '"',
        "NULs": b"\0" * 5000,
        "random bytes": random.Random(0).randbytes(5000),
        "gzip": gzip.compress(plain.encode(), mtime=0),
        "zip": zipped(plain.encode()),
        "Parquet": in_chunks(),
        "JSON Lines": json_text(),
        "a JSON list": json.dumps(ROWS),
        "a web page": "<!DOCTYPE html><html><body>Sign in</body></html>",
        "columns twice": HEADER.replace("mood", "text") + "a.png,x,y,z\n",
        "columns without a name": ",,,\na.png,x,good,\n",
        "columns with spaces": " image , text , mood , about \na.png,x,good,\n",
        "columns in capitals": HEADER.upper() + "a.png,x,good,\n",
        "a column of 100 kB": HEADER.replace("about", "x" * 100_000) + "a.png,x,good,\n",
        "an unclosed header": '"' + plain,
        "a NUL in the header": plain.replace("mood", "mo\0od"),
        "bytes in the header": plain.encode().replace(b"mood", b"mo\xffod"),
        "a separator line": "sep=,\n" + plain,
        "Latin-1": plain.replace("green", "grün").encode("latin-1"),
        "semicolons": csv_text(delimiter=";"),
        "tabs": csv_text(delimiter="\t"),
        "unclosed quotes": plain.replace('"green', 'green"', 1),
        "an unclosed last cell": plain.rstrip()[:-1],
        "short rows": plain + "a.png,x\n",
        "long rows": plain + "a.png,x,good,,,,,,\n",
        "a short first row": HEADER + "a.png\n" + plain.split("\n", 1)[1],
        "blank lines between": plain.replace("\n", "\n\n"),
        "a NUL in a cell": plain.replace("number 3", "number\0 3"),
        "an end-of-file character": plain + "\x1a",
        "unknown labels": csv_text(row_of(mood="splendid", about="politics,sports")),
        "not a number": csv_text(row_of(mood="nan", text="NaN")),
        "half a character": plain.encode() + b"a.png,\xf0\x9f,good,\n",
    }.items():
        yield Hostile(title, "t.csv", content)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp1252"):
        yield Hostile(encoding, "t.csv", plain.replace("again", "naïve").encode(encoding))
    yield Hostile("a mark", "t.csv", b"\xef\xbb\xbf" + plain.encode(), TEXTS)
    yield Hostile("CRLF", "t.csv", csv_text(end="\r\n"), TEXTS)
    yield Hostile("CR", "t.csv", csv_text(end="\r"), TEXTS)
    yield Hostile("no last end", "t.csv", plain.rstrip("\n"), TEXTS)
    yield Hostile("blank lines last", "t.csv", plain + "\n\n\n", TEXTS)
    yield Hostile("1 MB in a cell", "t.csv", csv_text(row_of(text=LONG, mood="")))
    lines = "green\ncat\r\n"
    yield Hostile("lines in a cell", "t.csv", csv_text(row_of(text=lines)), [*TEXTS, lines])
    formula = "=cmd|' /C calc'!A0 cat"
    yield Hostile("a formula", "t.csv", csv_text(row_of(text=formula)), [*TEXTS, formula])
    wide = [{**row, **{f"c{column}": "" for column in range(3000)}} for row in ROWS]
    yield Hostile("3,000 columns", "t.csv", csv_text(wide), TEXTS)
    yield Hostile("tabs", "t.tsv", csv_text(delimiter="\t"), TEXTS)
    yield Hostile("commas", "t.tsv", plain)
    yield Hostile("capitals", "T.CSV", plain, TEXTS)
    for name in ("t.txt", "t", "t.csv.gz", "t.xls", "t.json", ".csv", "t.pickle", "t.CSV.bak"):
        yield Hostile(f"the name {name}", name, plain)


def json_lines() -> Iterator[Hostile]:
    yield Hostile("plain", "t.jsonl", json_text(), TEXTS)
    yield Hostile("a mark", "t.ndjson", b"\xef\xbb\xbf" + json_text().encode(), TEXTS)
    yield Hostile("CRLF", "t.jsonl", json_text().replace("\n", "\r\n"), TEXTS)
    yield Hostile("1 MB in a cell", "t.jsonl", json_text(row_of(text=LONG)), [*TEXTS, LONG])
    for title, line in {
        "a list": "[1]",
        "a number": "1",
        "a text": '"x"',
        "null": "null",
        "nothing": "{}",
        "brackets 100,000 deep": "[" * 100_000,
        "objects 100,000 deep": '{"text":' * 100_000,
        "a list 500 deep": json.dumps({**ROWS[0], "text": "x"}).replace('"x"', "[" * 500 + "]" * 500),
        "keys twice": '{"text": "a", "text": "b"}',
        "no number": json.dumps({**ROWS[0], "mood": float("nan")}),
        "infinity": json.dumps({**ROWS[0], "text": float("inf")}),
        "1e999": '{"image": "", "text": 1e999, "mood": null, "about": null}',
        "5,000 digits": '{"image": "", "text": ' + "9" * 5000 + ', "mood": null, "about": null}',
        "an empty key": '{"": 1}',
        "a comma more": '{"text": "a",}',
        "single quotes": "{'text': 'a'}",
        "two objects": '{"text": "a"} {"text": "b"}',
        "half an object": '{"text": "a"',
        "a NUL": '{"text": "a\0"}',
        "bytes": b'{"text": "a\xff"}',
        "blank": "   ",
    }.items():
        content = json_text().encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n"
        yield Hostile(title, "t.jsonl", content)
    for column in ROWS[0]:
        for value in (
            None,
            True,
            3,
            2.5,
            -0.0,
            [],
            ["good"],
            [["a"]],
            {},
            {"bytes": "x"},
            "\ud800",
            "\0",
            [None],
            1e300,
        ):
            yield Hostile(f"{value!r} as {column}", "t.jsonl", json_text(row_of(**{column: value})))
    yield Hostile("UTF-16", "t.jsonl", json_text().encode("utf-16"))
    yield Hostile("empty", "t.jsonl", "")
    yield Hostile("a JSON list", "t.jsonl", json.dumps(ROWS, indent=1))
    yield Hostile("CSV", "t.jsonl", csv_text())
    yield Hostile(
        "other keys in each line", "t.jsonl", json_text({f"k{row}": 1, **ROWS[0]} for row in range(300))
    )
    if LARGE:
        yield Hostile(
            "100,000 keys", "t.jsonl", json_text([{**ROWS[0], **dict.fromkeys(map(str, range(100_000)))}] * 3)
        )


def columns() -> Iterator[Hostile]:
    """Parquet, and folders that `datasets` saved."""
    whole = in_chunks()
    yield Hostile("plain", "t.parquet", whole, TEXTS)
    for size in (0, 4, 8, len(whole) // 2, len(whole) - 1):
        yield Hostile(f"{size} bytes of it", "t.parquet", whole[:size])
    moment = np.datetime64("2020-01-01T00:00", "us")
    arrays: dict[str, Any] = {
        "nulls": pa.nulls(COUNT),
        "bools": [True, False] * (COUNT // 2),
        "integers": pa.array(range(COUNT), pa.uint64()),
        "not numbers": [float("nan"), float("inf"), -0.0] * (COUNT // 3),
        "halves": pa.array(np.arange(COUNT, dtype=np.float16)),
        "dates": pa.array([moment] * COUNT),
        "dates with a zone": pa.array([moment] * COUNT).cast(pa.timestamp("us", "UTC")),
        "durations": pa.array([np.timedelta64(1, "s")] * COUNT),
        "decimals": pa.array(range(COUNT)).cast(pa.decimal128(30, 5)),
        "bytes": pa.array([b"\xff"] * COUNT),
        "lists": [["good"], [None], None] * (COUNT // 3),
        "lists of lists": [[["good"]]] * COUNT,
        "records": [{"bytes": b"x", "path": "a.png"}] * COUNT,
        "other records": [{"a": 1}] * COUNT,
        "maps": pa.array([[("a", 1)]] * COUNT, pa.map_(pa.string(), pa.int64())),
        "dictionaries": pa.array(["good", "bad", None] * (COUNT // 3)).dictionary_encode(),
        "long strings": pa.array(["good"] * COUNT, pa.large_string()),
        "views": pa.array(["good"] * COUNT, pa.string_view()),
        "fixed lists": pa.array([[1, 2]] * COUNT, pa.list_(pa.int64(), 2)),
        "empty texts": ["", " ", "\u200b"] * (COUNT // 3),
    }
    for title, array in arrays.items():
        for column in ROWS[0]:
            yield Hostile(f"{title} as {column}", "t.parquet", parquet(**{column: array}))
    for name in ("", "a.b", "\0", "predicted.mood", "error", "x" * 10_000, "image_dir", "__index_level_0__"):
        yield Hostile(f"a column {name[:20]!r}", "t.parquet", parquet(**{name: pa.array(range(COUNT))}))
    twice = pa.Table.from_arrays([pa.array(TEXTS)] * 2, names=["text", "text"])
    yield Hostile("columns twice", "t.parquet", lambda path: pq.write_table(twice, path))
    yield Hostile("no columns", "t.parquet", lambda path: pq.write_table(pa.table({}), path))
    yield Hostile(
        "no rows", "t.parquet", lambda path: pq.write_table(pa.table({"text": pa.array([], "string")}), path)
    )
    for note in (
        b"{",
        b"[]",
        b'{"info": 1}',
        b"\xff",
        {"text": {"_type": "PyFunc"}},
        {"text": {"_type": "ClassLabel"}},
        {"nowhere": {"_type": "Image"}},
    ):
        yield Hostile(f"the note {note!r}", "t.parquet", described(note))
    for name in ("t.csv", "t.jsonl", "t"):
        yield Hostile(f"Parquet as {name}", name, whole)
    yield Hostile("plain", "saved", saved(lambda path: None), TEXTS)
    yield Hostile("cut short", "saved", saved(cut))
    yield Hostile("no Arrow file", "saved", saved(lambda path: next(path.glob("*.arrow")).unlink()))
    yield Hostile("no state", "saved", saved(lambda path: (path / "state.json").unlink()))
    yield Hostile("no description", "saved", saved(lambda path: (path / "dataset_info.json").unlink()))
    yield Hostile("a broken state", "saved", saved(lambda path: (path / "state.json").write_text("{")))
    yield Hostile("an empty state", "saved", saved(lambda path: (path / "state.json").write_text("{}")))
    yield Hostile(
        "files elsewhere", "saved", saved(edit("state.json", _data_files=[{"filename": "../../x.arrow"}]))
    )
    yield Hostile("no files", "saved", saved(edit("state.json", _data_files=[])))
    yield Hostile("a format", "saved", saved(edit("state.json", _format_type="evil")))
    yield Hostile(
        "features that are none",
        "saved",
        saved(edit("dataset_info.json", features={"a": {"_type": "PyFunc"}})),
    )
    yield Hostile(
        "features of another table",
        "saved",
        saved(edit("dataset_info.json", features={"a": {"dtype": "string", "_type": "Value"}})),
    )
    yield Hostile("an empty folder", "saved", lambda path: path.mkdir())
    yield Hostile(
        "splits",
        "saved",
        lambda path: datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(str(path)),
    )
    yield Hostile(
        "a list of splits that is none",
        "saved",
        lambda path: (path.mkdir(), (path / "dataset_dict.json").write_text("[")),
    )


def places() -> Iterator[Hostile]:
    """What stands where a file should."""
    yield Hostile("a folder", "t.csv", lambda path: path.mkdir())
    yield Hostile("a link to itself", "t.csv", lambda path: path.symlink_to(path))
    yield Hostile("a link to nothing", "t.csv", lambda path: path.symlink_to("nowhere"))
    yield Hostile("a link to the folder above", "t.csv", lambda path: path.symlink_to(path.parent))
    yield Hostile("an endless file", "t.csv", lambda path: path.symlink_to("/dev/zero"))
    yield Hostile("a pipe", "t.csv", lambda path: os.mkfifo(path))
    yield Hostile("an endless pipe", "t.jsonl", lambda path: os.mkfifo(path))
    yield Hostile("a long name", "t" * 250 + ".csv", csv_text(), TEXTS)
    yield Hostile("a name of markup", '<b>"&%s{}\n.csv', csv_text(), TEXTS)
    yield Hostile("a name of bytes", os.fsdecode(b"\xff\xfe.csv"), csv_text())


def workbooks() -> Iterator[Hostile]:
    openpyxl = pytest.importorskip("openpyxl")

    def book(rows: Iterable[Iterable[Any]]) -> bytes:
        made, file = openpyxl.Workbook(), io.BytesIO()
        for row in rows:
            made.active.append(list(row))
        made.save(file)
        return file.getvalue()

    table = [ROWS[0].keys(), *(row.values() for row in ROWS)]
    whole = book(table)
    yield Hostile("plain", "t.xlsx", whole, TEXTS)
    yield Hostile("cut short", "t.xlsx", whole[: len(whole) // 2])
    yield Hostile("a zip file", "t.xlsx", zipped(csv_text().encode()))
    yield Hostile("CSV", "t.xlsx", csv_text())
    yield Hostile("empty", "t.xlsx", b"")
    yield Hostile("no cells", "t.xlsx", book([]))
    yield Hostile("header alone", "t.xlsx", book(table[:1]))
    yield Hostile("columns twice", "t.xlsx", book([["text", "text"], ["a", "b"]]))
    yield Hostile("columns without a name", "t.xlsx", book([["image", None, "text"], ["a.png", "b", "c"]]))
    yield Hostile("long rows", "t.xlsx", book([*table, ["a.png", *"123456"]]))
    yield Hostile("a formula", "t.xlsx", book([*table, ["a.png", "=1+1", "good", ""]]))
    yield Hostile("numbers and dates", "t.xlsx", book([*table, [1, np.datetime64("2020").item(), True, 2.5]]))
    yield Hostile("Parquet", "t.xlsx", in_chunks())


class Attempts:
    """What a person does with a table.

    Args:
        folder: For tables, their pictures and outputs.
        model: A saved model.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.count = folder, model, 0
        (folder / "images").mkdir()
        for seed, name in enumerate(("a.png", "b.png")):
            draw(seed).save(folder / "images" / name)
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"tasks": TASKS, "validation_share": 0.3}))

    def place(self, table: Hostile) -> Path:
        """The table, in a new folder beside the pictures."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        (folder / "images").symlink_to(self.folder / "images")
        return table.write(folder)

    def read(self, table: Hostile) -> None:
        path = self.place(table)
        data = DataArguments(data_dir=str(path.parent), train_file=[path.name], tasks=TASKS)
        records = records_of(path.name, path.parent, data)
        stop_on_problems(records.problems, data.allow)
        if table.texts is not None:
            texts = [record.text for record in records.rows]
            check(texts == table.texts, f"other texts: {str(texts)[:300]}")

    def inspect(self, table: Hostile) -> None:
        path = self.place(table)
        recipe = [str(self.folder / "recipe.yaml"), "--data_dir", str(path.parent)]
        inspect.main([*recipe, "--train_file", path.name, "--output_dir", str(path.parent / "out")])

    def predict(self, table: Hostile, kind: str) -> None:
        path = self.place(table)
        output = path.parent / f"out{kind}"
        try:
            mmorient.commands.predict.main([str(self.model), str(path), str(output)])
        except (SystemExit, ValueError):
            check(not output.exists(), "a table that was refused has an output")
            raise
        limit = csv.field_size_limit(2 * len(LONG))  # the output may hold longer cells than a CSV input
        try:
            self.check_output(read_output(output), table)
        finally:
            csv.field_size_limit(limit)

    def check_output(self, rows: list[dict[str, Any]], table: Hostile) -> None:
        for row in rows:
            answers = [row[name] for name in row if name.startswith(("predicted.mood", "probability."))]
            check(
                all(answer in (None, "") for answer in answers) if row["error"] else all(answers),
                f"neither a prediction nor an error, or both: {str(row)[:300]}",
            )
            if row["error"]:
                continue
            shares = shares_of(row)
            check(abs(sum(shares) - 1) < 1e-4, f"probabilities {shares}")
            expected = self.answers.get((row["image"] or "", row["text"]), shares)
            check(np.allclose(shares, expected, atol=1e-4), f"probabilities {shares} in place of {expected}")
        if table.texts is not None:
            check([row["text"] for row in rows] == table.texts, "the output has other texts")
            check(not any(row["error"] for row in rows), f"errors {[row['error'] for row in rows]}")

    @functools.cached_property
    def answers(self) -> dict[tuple[str, str], list[float]]:
        """What is answered to the usual rows in a table that nobody tampered with."""
        path = self.place(Hostile("plain", "t.csv", csv_text()))
        output = path.with_name("out.csv")
        mmorient.commands.predict.main([str(self.model), str(path), str(output)])
        return {(row["image"], row["text"]): shares_of(row) for row in read_output(output)}


def shares_of(row: dict[str, Any]) -> list[float]:
    return [float(row[f"probability.mood.{label}"]) for label in TASKS["mood"]]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmorient.prediction.predict, "load_saved_model", functools.cache(load_saved_model))
        yield Attempts(folder, save_model(folder / "model", TASKS))


def attempted(attempt: Callable[[Hostile], None], table: Hostile) -> None:
    """The attempt, which must not end in a refusal where the table's texts are known."""
    try:
        attempt(table)
    except (SystemExit, ValueError) as error:
        check(table.texts is None, f"a good table is refused: {error}")
        raise


def cases(attempts: Attempts, tables: Iterable[Hostile]) -> Iterator[Case]:
    """Each table under each attempt; in the small run, good ones under two and every second one under one."""
    ways: list[tuple[str, Callable[[Hostile], None]]] = [
        ("read", attempts.read),
        ("predict to CSV", functools.partial(attempts.predict, kind=".csv")),
        ("inspect", attempts.inspect),
        ("predict to Parquet", functools.partial(attempts.predict, kind=".parquet")),
    ]
    for number, table in enumerate(tables):
        chosen = ways[:2] if table.texts is not None else [ways[number // 2 % len(ways)]] * (number % 2)
        for way, attempt in ways if LARGE else chosen:
            title = f"{way}: {table.file[:20]!r} with {table.title}"
            thing = (table.file, repr(table.file)[1:-1])
            yield Case("tables", title, 0, thing, functools.partial(attempted, attempt, table))


@pytest.mark.parametrize("tables", [separated, json_lines, columns, places, workbooks])
def test_hostile_tables(
    attempts: Attempts, tables: Callable[[], Iterator[Hostile]], attack: Callable[[Iterable[Case]], None]
) -> None:
    if tables is workbooks and ".xlsx" not in OPENERS:
        pytest.skip("workbooks are not read")
    attack(cases(attempts, tables()))


def test_damaged_tables(attempts: Attempts, attack: Callable[[Iterable[Case]], None]) -> None:
    contents = {"t.csv": csv_text().encode(), "t.jsonl": json_text().encode(), "t.parquet": in_chunks()}
    drawn = []
    for seed in range(amount(12, 1500)):
        rng = random.Random(seed)
        name = rng.choice(list(contents))
        table = Hostile("damage", name, damaged(contents[name], rng))
        way = rng.choice((attempts.read, attempts.inspect, functools.partial(attempts.predict, kind=".csv")))
        drawn.append(Case("damaged tables", f"damaged {name}", seed, name, functools.partial(way, table)))
    attack(drawn)
