"""Commands that run at the same time on the same folders: one works, the other waits or is refused."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from harness import Case, amount, check
from processes import EXPLAIN, PREDICT, TRAIN, Command, finished
from small_runs import Runs, quick_runs  # noqa: F401 (a fixture)

import mmorient.prediction.predict
from tests.mmorient.predicting import save_model, text_table


def ends(commands: list[Command], words: str) -> int:
    """How many of the commands end well; each of the others must be refused with these words."""
    well = 0
    for command in commands:
        status, printed = command.end(), command.printed
        well += status == 0
        lines = [line for line in printed.splitlines() if line.startswith("error: ")]
        refused = status == 1 and len(lines) == 1 and words in lines[0] and "Traceback" not in printed
        check(status == 0 or refused, f"status {status}: {printed[-2000:]}")
    return well


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("train"))


def test_two_runs_at_once(runs: Runs, attack: Callable[[Iterable[Case]], None]) -> None:
    """On the same folder one of them is refused; with a cache in common both end as if alone."""

    def same_folder() -> None:
        folder = runs.folder / "same"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        both = [Command(TRAIN, runs.arguments(folder), folder / f"{number}.log") for number in range(2)]
        well = ends(both, "another run")
        check(well > 0, "both are refused")
        check(not runs.difference(folder / "out"), f"other {runs.difference(folder / 'out')}")

    def same_cache() -> None:
        folders = [runs.folder / f"cache{number}" for number in range(2)]
        both = []
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            arguments = [*runs.arguments(folder), "--feature_cache", str(folders[0] / "cache")]
            both.append(Command(TRAIN, arguments, folder / "log"))
        check(ends(both, "no words") == 2, "one of them is refused")
        for folder in folders:
            check(not runs.difference(folder / "out"), f"other {runs.difference(folder / 'out')}")

    attack(
        Case("at once", title, seed, "out", attempt, 200.0)
        for seed in range(amount(1, 6))
        for title, attempt in (
            ("two runs to one folder", same_folder),
            ("two runs with one cache", same_cache),
        )
    )


def test_two_predictions_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Iterable[Case]], None]
) -> None:
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 8)
    model = str(save_model(tmp_path / "model"))
    table, *options = text_table(tmp_path, 60)
    finished(PREDICT, [model, table, str(tmp_path / "whole.csv"), *options], tmp_path / "log")
    expected = (tmp_path / "whole.csv").read_bytes()

    def same_output(seed: int, others: list[str]) -> None:
        output = tmp_path / f"{seed}{len(others)}.csv"
        arguments = [model, table, str(output), *options]
        several = [Command(PREDICT, [*arguments, *others], tmp_path / f"log{number}") for number in range(3)]
        # Who comes when the first one is done finds the output there.
        well = ends(several, str(output))
        check(well > 0 and output.read_bytes() == expected, f"{well} of 3 ended well, with another output")
        check(not output.with_name(f"{output.name}.chunks").exists(), "chunks are left")

    def same_pages(seed: int) -> None:
        arguments = [model, str(tmp_path / f"pages{seed}"), "--text", "when the build is green"]
        several = [Command(EXPLAIN, arguments, tmp_path / f"log{number}") for number in range(2)]
        check(ends(several, "no words") == 2, "one of them is refused")
        pages = sorted(path.name for path in (tmp_path / f"pages{seed}").iterdir())
        check(pages == ["index.html", "meme.html"], f"the pages are {pages}")

    attack(
        Case("at once", title, seed, "csv", attempt, 100.0)
        for seed in range(amount(1, 40))
        for title, attempt in (
            ("three predictions to one output", lambda seed=seed: same_output(seed, [])),
            ("three that start anew", lambda seed=seed: same_output(seed, ["--restart"])),
            ("two explanations to one folder", lambda seed=seed: same_pages(seed)),
        )[: amount(1, 3)]
    )
