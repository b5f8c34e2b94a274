"""Full disks: one line names the file and the remedy, what was there stays usable, and with space again the
command ends as if nothing had happened."""

import random
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import Case, amount, check
from processes import PREDICT, TRAIN, Command, finished, refusal
from small_runs import Runs, quick_runs  # noqa: F401 (a fixture)

import mmorient.prediction.predict
from modeling_mmorient import MMOrientForMultitaskClassification
from tests.mmorient.predicting import save_model, text_table

LARGE_ENOUGH = 256 << 20
REMEDIES = ("free some space", "another disk", "ulimit")


class Disk:
    """A small disk of its own; where none may be mounted, a limit on the size of files.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.file_limit = folder, None
        options = ["-t", "tmpfs", "-o", f"size={LARGE_ENOUGH}", "tmpfs", str(folder)]
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
        self.mounted = done.returncode == 0

    def resize(self, size: int) -> None:
        """Leave room for so many bytes in all; without a mount, for files of a quarter of that."""
        if self.mounted:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)
        else:
            self.file_limit = None if size == LARGE_ENOUGH else size // 4

    def used(self) -> int:
        blocks = subprocess.run(["du", "-sB1", str(self.folder)], capture_output=True, check=True).stdout
        return int(blocks.split()[0])

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    """`disks()`: a new one."""
    made: list[Disk] = []

    def make() -> Disk:
        made.append(Disk(tmp_path / f"disk{len(made)}"))
        return made[-1]

    yield make
    for disk in made:
        disk.unmount()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("train"))


def check_refusal(line: str, disk: Disk) -> None:
    check(str(disk.folder) in line, f"the file is not named: {line}")
    check(any(remedy in line for remedy in REMEDIES), f"no remedy is named: {line}")


def full_training(runs: Runs, disks: Callable[[], Disk], seed: int) -> None:
    """Sizes that are too small, then one that is not."""
    rng, disk, log = random.Random(seed), disks(), runs.folder / f"full{seed}.log"
    whole = sum(path.stat().st_size for path in (runs.folder / "whole").rglob("*") if path.is_file())
    for share in sorted(rng.uniform(0.02, 0.9) for _ in range(amount(1, 3))):
        disk.resize(max(4096, int(share * whole)))
        check_refusal(refusal(Command(TRAIN, runs.arguments(disk.folder), log, None, disk.file_limit)), disk)
        check(not runs.half_model(disk.folder / "out"), runs.half_model(disk.folder / "out"))
    disk.resize(LARGE_ENOUGH)
    finished(TRAIN, runs.arguments(disk.folder), log)
    other = runs.difference(disk.folder / "out")
    check(not other, f"the run that was starved left other {other}")


def test_full_disks_in_training(
    runs: Runs, disks: Callable[[], Disk], attack: Callable[[Iterable[Case]], None]
) -> None:
    attack(
        Case("full disks", "training", seed, "error", partial(full_training, runs, disks, seed), 400.0)
        for seed in range(amount(1, 20))
    )


def test_full_disks_in_prediction(
    tmp_path: Path,
    disks: Callable[[], Disk],
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Iterable[Case]], None],
) -> None:
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 8)
    model = str(save_model(tmp_path / "model"))
    table, *options = text_table(tmp_path, 60)

    def starved(kind: str, seed: int) -> None:
        disk, log, whole = disks(), tmp_path / "log", tmp_path / f"whole.{kind}"
        if not whole.exists():
            finished(PREDICT, [model, table, str(whole), *options], log)
        output = disk.folder / whole.name
        arguments = [model, table, str(output), *options]
        disk.resize(max(4096, int(random.Random(seed).uniform(0.3, 2) * whole.stat().st_size)))
        command = Command(PREDICT, arguments, log, None, disk.file_limit)
        check_refusal(refusal(command), disk)
        check(not output.exists(), "half an output")
        disk.resize(LARGE_ENOUGH)
        finished(PREDICT, arguments, log)
        check(output.read_bytes() == whole.read_bytes(), "another output")

    attack(
        Case("full disks", f"prediction to {kind}", seed, "error", partial(starved, kind, seed), 200.0)
        for seed in range(amount(1, 40))
        for kind in ("csv", "parquet")[: amount(1, 2)]
    )


def test_full_disks_in_saving(
    tmp_path: Path, disks: Callable[[], Disk], attack: Callable[[Iterable[Case]], None]
) -> None:
    """The model of before stays, or the new one is there; what is in between is refused."""
    save_model(tmp_path / "model")
    new = MMOrientForMultitaskClassification.from_pretrained(tmp_path / "model")
    old_weights = {name: values.clone() for name, values in new.state_dict().items()}
    for parameter in new.heads.parameters():
        parameter.data += 1

    def starved(seed: int) -> None:
        disk = disks()
        if not disk.mounted:
            pytest.skip("no small disk may be mounted here")
        old = MMOrientForMultitaskClassification.from_pretrained(tmp_path / "model")
        old.save_pretrained(disk.folder)
        room = int(random.Random(seed).uniform(0, 1.2) * disk.used())
        disk.resize(disk.used() + max(4096, room))
        try:
            new.save_pretrained(disk.folder)
        except OSError as error:
            check(str(disk.folder) in str(error) and "space" in str(error).lower(), f"names no file: {error}")
        found = MMOrientForMultitaskClassification.from_pretrained(disk.folder).state_dict()
        states = [old_weights, new.state_dict()]
        equal = [all(bool((found[name] == state[name]).all()) for name in state) for state in states]
        check(any(equal), "neither the model of before nor the new one")
        disk.resize(LARGE_ENOUGH)
        new.save_pretrained(disk.folder)
        found = MMOrientForMultitaskClassification.from_pretrained(disk.folder).state_dict()
        check(
            all(bool((found[name] == values).all()) for name, values in states[1].items()), "not the new one"
        )

    attack(
        Case("full disks", "saving", seed, "disk", partial(starved, seed), 60.0)
        for seed in range(amount(2, 20))
    )
