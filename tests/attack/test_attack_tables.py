"""Tables of every format with hostile content: read for training, inspected, and predicted."""

import csv
import functools
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from damage import damaged
from harness import LARGE, Case, amount, check
from hostile_columns import parquet_arrays, parquet_files, saved_folders, workbooks
from hostile_tables import LONG, TASKS, Hostile, csv_text, in_chunks, json_lines, json_text, places, separated

import mmorient.commands.predict
import mmorient.prediction.predict
from mmorient.commands import inspect
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.arguments import DataArguments
from mmorient.tables.problems import stop_on_problems
from mmorient.tables.stream import OPENERS
from tests.mmorient.conftest import draw, records_of
from tests.mmorient.predicting import read_output, save_model


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


@pytest.mark.parametrize(
    "tables", [separated, json_lines, parquet_arrays, parquet_files, saved_folders, places, workbooks]
)
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
