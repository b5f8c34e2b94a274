"""Commands that are killed at random moments, time and again, end as if nothing had happened."""

import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
from harness import Case, amount, check
from processes import PREDICT, TRAIN, Command, finished
from small_runs import Runs, quick_runs  # noqa: F401 (a fixture)

import mmorient.prediction.predict
from tests.mmorient.predicting import save_model, text_table

KILLS = amount(2, 4)  # of one run, one after the other


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("train"))


def killed_training(runs: Runs, seed: int) -> None:
    rng, folder = random.Random(seed), runs.folder / f"killed{seed}"
    folder.mkdir()
    for kill in range(KILLS):
        moment = rng.randint(1, runs.steps)
        command = Command(TRAIN, runs.arguments(folder), folder / "log", moment)
        check(command.end() in (0, -9), f"kill {kill + 1} at {moment}: {command.printed[-1500:]}")
        wrong = runs.half_model(folder / "out")
        check(not wrong, f"kill {kill + 1} at {moment}: {wrong}")
    finished(TRAIN, runs.arguments(folder), folder / "log")
    other = runs.difference(folder / "out")
    check(not other, f"the run that was killed left other {other}")


def test_killed_training(runs: Runs, attack: Callable[[Iterable[Case]], None]) -> None:
    attack(
        Case("kills: training", f"{KILLS} kills", seed, "out", partial(killed_training, runs, seed), 400.0)
        for seed in range(amount(1, 20))
    )


@pytest.fixture
def killed_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """`killed_prediction(kind, seed)`: predicts, is killed, goes on."""
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 8)
    model = str(save_model(tmp_path / "model"))
    table, *options = text_table(tmp_path, 60)
    whole: dict[str, tuple[int, bytes]] = {}
    for kind in ("csv", "parquet"):
        command = finished(PREDICT, [model, table, str(tmp_path / f"w.{kind}"), *options], tmp_path / "w.log")
        whole[kind] = command.steps, (tmp_path / f"w.{kind}").read_bytes()

    def killed(kind: str, seed: int) -> None:
        rng, output = random.Random(seed), tmp_path / f"{seed}.{kind}"
        arguments = [model, table, str(output), *options]
        steps, expected = whole[kind]
        for kill in range(KILLS):
            # Loading the model takes the first half of the steps, and leaves nothing.
            command = Command(PREDICT, arguments, tmp_path / f"{seed}.log", rng.randint(steps // 2, steps))
            check(command.end() in (0, -9), f"kill {kill + 1}: {command.printed[-1500:]}")
            if output.exists():
                break
        else:
            finished(PREDICT, arguments, tmp_path / f"{seed}.log")
        check(output.read_bytes() == expected, "another output")

    return killed


def test_killed_predictions(
    killed_prediction: Callable[[str, int], None], attack: Callable[[Iterable[Case]], None]
) -> None:
    attack(
        Case(
            "kills: prediction", f"{kind}, {KILLS} kills", seed, "out", partial(killed_prediction, kind, seed)
        )
        for seed in range(amount(1, 100))
        for kind in ("csv", "parquet")[: amount(1, 2)]
    )
