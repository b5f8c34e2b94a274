"""Damage to what commands leave: predictions and their chunks, results, and the list of a run's splits."""

import functools
import json
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from damage import DAMAGES, damaged
from harness import LARGE, Case, amount, check
from processes import PREDICT, TRAIN, Command, finished
from small_runs import Runs, quick_runs  # noqa: F401 (a fixture)

import mmorient.commands.predict
import mmorient.commands.score
import mmorient.prediction.predict
from mmorient.prediction.chunks import ChunkFolder
from mmorient.prediction.saved_models import load_saved_model
from tests.mmorient.predicting import TASKS, read_output, save_model, text_table

Attack = Callable[[Iterable[Case]], None]


class Predictions:
    """A prediction whose chunks are all there, and not yet its output.

    Args:
        folder: For the model, its table and outputs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, str(save_model(folder / "model"))
        self.table, *self.options = text_table(folder, 40)
        self.expected: dict[str, bytes] = {}
        for kind in ("csv", "parquet"):
            mmorient.commands.predict.main(self.arguments(folder / f"whole.{kind}"))
            self.expected[kind] = (folder / f"whole.{kind}").read_bytes()
            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(ChunkFolder, "join", interrupt)
                mmorient.commands.predict.main(self.arguments(folder / f"begun.{kind}"))

    def arguments(self, output: Path) -> list[str]:
        return [self.model, self.table, str(output), *self.options]

    def go_on(self, kind: str, seed: int, change: Callable[[Path], object]) -> None:
        """Changes the chunks, goes on, and where that is refused, starts anew."""
        output = self.folder / f"{seed}.{kind}"
        chunks = output.with_name(f"{output.name}.chunks")
        shutil.rmtree(chunks, ignore_errors=True)
        output.unlink(missing_ok=True)
        shutil.copytree(self.folder / f"begun.{kind}.chunks", chunks)
        change(chunks)
        try:
            mmorient.commands.predict.main(self.arguments(output))
        except (SystemExit, ValueError) as error:
            check(not output.exists(), "half an output")
            if "holds other files" in str(error):
                shutil.rmtree(chunks)
            mmorient.commands.predict.main([*self.arguments(output), "--restart"])
            check(output.read_bytes() == self.expected[kind], "another output after --restart")
            raise
        check(output.read_bytes() == self.expected[kind], "another output")


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Predictions]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 16)
        patch.setattr(mmorient.prediction.predict, "load_saved_model", functools.cache(load_saved_model))
        yield Predictions(tmp_path_factory.mktemp("predictions"))


def test_damaged_chunks(predictions: Predictions, attack: Attack) -> None:
    cases = []
    for number, damage in enumerate(list(DAMAGES) * amount(1, 60)):
        rng = random.Random(number)
        kind, name = (
            rng.choice(("csv", "parquet")),
            rng.choice(("manifest.json", "000000-*.parquet", "000002-*.parquet")),
        )

        def change(chunks: Path, damage: str = damage, name: str = name, rng: random.Random = rng) -> None:
            (path,) = chunks.glob(name)
            DAMAGES[damage](path, rng)

        attempt = functools.partial(predictions.go_on, kind, number, change)
        cases.append(Case("damaged outputs", f"{damage}: {name} of {kind}", number, ".chunks", attempt))
    attack(cases)


def test_foreign_files_among_chunks(predictions: Predictions, attack: Attack) -> None:
    other = save_model(predictions.folder / "other", seed=1)
    mmorient.commands.predict.main([str(other), *predictions.arguments(predictions.folder / "other.csv")[1:]])

    def alien(name: str, content: bytes = b"mine") -> Callable[[Path], object]:
        return lambda chunks: (chunks / name).write_bytes(content)

    def chunk(chunks: Path, index: int) -> Path:
        return next(chunks.glob(f"{index:06d}-*.parquet"))

    def note_of_another(chunks: Path) -> None:
        manifest = json.loads((chunks / "manifest.json").read_text())
        (chunks / "manifest.json").write_text(json.dumps({**manifest, "model": "0" * 64}))

    changes = {
        "a chunk too many": lambda chunks: shutil.copy(
            chunk(chunks, 0), chunks / chunk(chunks, 0).name.replace("00-", "07-")
        ),
        "half a joined file": alien("joined.csv"),
        "what a killed process left": alien("000001.parquet.tmp"),
        "another model's note": note_of_another,
        "a note that is a list": alien("manifest.json", b"[1]"),
        "a note of nothing": alien("manifest.json", b"{}"),
        "a Parquet file of something else": lambda chunks: shutil.copy(
            predictions.folder / "whole.parquet", chunk(chunks, 1)
        ),
    }
    attack(
        Case(
            "damaged outputs",
            title,
            number,
            ".chunks",
            functools.partial(predictions.go_on, "csv", 900 + number, change),
        )
        for number, (title, change) in enumerate(changes.items())
    )


def test_files_of_others_stay(predictions: Predictions, attack: Attack) -> None:
    def keep() -> None:
        predictions.go_on("csv", 990, lambda chunks: (chunks / "mine.txt").write_text("precious"))
        kept = predictions.folder / "990.csv.chunks" / "mine.txt"
        check(kept.exists() and kept.read_text() == "precious", "a file that is not ours was removed")

    attack([Case("damaged outputs", "a file of somebody else among the chunks", 0, ".chunks", keep)])


def test_damaged_predictions_are_scored_or_refused(predictions: Predictions, attack: Attack) -> None:
    folder = predictions.folder
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"tasks": {"mood": TASKS["mood"]}}))
    (folder / "truth.csv").write_text("mood\n" + "good\nbad\n" * 20)
    cases = []
    for seed in range(amount(6, 400)):
        rng = random.Random(seed)
        kind = rng.choice(("csv", "parquet"))
        table = folder / f"damaged{seed}.{kind}"
        table.write_bytes(damaged(predictions.expected[kind], rng))
        arguments = ["table", str(recipe), str(table), "--truth", str(folder / "truth.csv")]
        attempt = functools.partial(mmorient.commands.score.main, arguments)
        cases.append(Case("damaged outputs", f"scored {kind}", seed, table.name, attempt))
    attack(cases)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("train"))


def test_damaged_lists_of_splits(runs: Runs, attack: Attack) -> None:
    """A split is predicted as the run had it, and references are marked, or the file is refused."""
    run, table = runs.folder / "whole" / "out", runs.folder / "memes" / "train.csv"
    answers = {}
    for option in ([], ["--split", "training"]):
        output = runs.folder / f"predicted{len(option)}.parquet"
        finished(PREDICT, [str(run), str(table), str(output), *option], runs.folder / "log")
        answers[len(option)] = [row["is_reference"] for row in read_output(output)]
    cases = []
    for number, damage in enumerate((list(DAMAGES) * 20)[: amount(5, 180)]):
        rng = random.Random(number)
        name, option = rng.choice(("splits.csv", "tables.json")), rng.choice(([], ["--split", "training"]))

        def attempt(
            damage: str = damage,
            name: str = name,
            option: list[str] = option,
            rng: random.Random = rng,
            number: int = number,
        ) -> None:
            copied = runs.folder / f"copy{number}"
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(run, copied, ignore=shutil.ignore_patterns("checkpoint-*"))
            DAMAGES[damage](copied / name, rng)
            output = copied / "out.parquet"
            mmorient.commands.predict.main([str(copied), str(table), str(output), *option])
            found = [row["is_reference"] for row in read_output(output)]
            check(found == answers[len(option)], "other rows, or other rows are marked as references")

        title = f"{damage}: {name} of a run, {option}"
        # What is written in tables.json may name other columns, which the table has not.
        things = (name, "--split", "--image_column", "`encoding`", "`delimiter`", "`allow`")
        cases.append(Case("damaged outputs", title, number, things, attempt))
    attack(cases)


def test_damaged_results(runs: Runs, attack: Attack) -> None:
    """A finished run that is started again puts what it leaves in order."""
    names = (
        "results.json",
        "report/report.json",
        "report/index.html",
        "splits.csv",
        "tables.json",
        "run.json",
    )
    chosen = [(name, damage) for name in names for damage in DAMAGES]

    def again(name: str, damage: str, number: int) -> None:
        folder = runs.folder / f"again{number}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(runs.folder / "whole", folder)
        DAMAGES[damage](folder / "out" / name, random.Random(number))
        command = Command(TRAIN, runs.arguments(folder), folder / "log")
        if command.end():
            printed = command.printed
            check("Traceback" not in printed and printed.count("error: ") == 1, printed[-2000:])
            raise SystemExit(printed[printed.index("error: ") :])
        check(not runs.difference(folder / "out"), f"other {runs.difference(folder / 'out')}")

    attack(
        Case(
            "damaged outputs",
            f"{damage}: {name}",
            number,
            "out",
            functools.partial(again, name, damage, number),
        )
        for number, (name, damage) in enumerate(chosen if LARGE else random.Random(0).sample(chosen, 1))
    )
