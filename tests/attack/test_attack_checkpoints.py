"""Damage to checkpoints: what a run goes on from is whole, and what might be wanted is still there."""

import errno
import functools
import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from damage import DAMAGES, flip, truncate
from harness import Case, amount, check

from mmorient.fitting.checkpoints import IDENTITY, MANIFEST, start_or_resume, write_manifest

STEPS = (2, 4, 10)
NUMBERS = (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTCONN)
RUN = {"seed": 1}


def write_run(output: Path, rng: random.Random) -> dict[bytes, Path]:
    """A run's folder with three checkpoints; their large files, each of other content."""
    start_or_resume(output, RUN, restart=False)
    weights = {}
    for step in STEPS:
        folder = output / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
            (folder / name).write_bytes(rng.randbytes(200))
        write_manifest(folder)
        weights[(folder / "model.safetensors").read_bytes()] = folder
    return weights


def started(output: Path, weights: dict[bytes, Path], cut_off: set[Path]) -> None:
    """Start the run, and check what it goes on from and what is left.

    Args:
        output: The run's folder.
        weights: By content, of the files that are still as they were: the checkpoint.
        cut_off: Checkpoints that are known to be cut off.
    """
    found = start_or_resume(output, RUN, restart=False)
    left = {path.read_bytes() for path in output.rglob("model.safetensors") if path.is_file()}
    if found is not None:
        check((found / MANIFEST).is_file(), f"{found} has no manifest")
        check(weights.get((found / "model.safetensors").read_bytes()) == found, f"{found} is damaged")
    for content, folder in weights.items():
        check(content in left or folder in cut_off, f"the weights of {folder} are gone")
    again = start_or_resume(output, RUN, restart=False)
    check(again == found, f"a second start goes on from {again}, and the first from {found}")


def harmed(output: Path, seed: int) -> None:
    rng = random.Random(seed)
    weights = write_run(output, rng)
    for step in rng.sample(STEPS, rng.randint(1, 3)):
        folder = output / f"checkpoint-{step}"
        path = rng.choice(sorted(folder.iterdir()))
        rng.choice(list(DAMAGES.values()))(path, rng)
    if rng.random() < 0.2:
        rng.choice((flip, truncate))(output / IDENTITY, rng)
    kept = {
        content: folder
        for content, folder in weights.items()
        if (file := folder / "model.safetensors").is_file() and file.read_bytes() == content
    }
    started(output, kept, {folder for folder in weights.values() if not (folder / MANIFEST).exists()})


def unreadable(output: Path, seed: int) -> None:
    """Files that cannot be read for a while."""
    rng = random.Random(seed)
    weights = write_run(output, rng)
    files = [path for path in sorted(output.rglob("*")) if path.is_file() and path.name != ".lock"]
    refused = set(rng.sample(files, rng.randint(1, 4)))
    number, open_file = rng.choice(NUMBERS), Path.open

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path in refused and "r" in (arguments[0] if arguments else options.get("mode", "r")):
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, *arguments, **options)

    with mock.patch.object(Path, "open", fail):
        found = start_or_resume(output, RUN, restart=False)
    check(found is None or not any(found in path.parents for path in refused), f"{found} was not read whole")
    started(output, weights, set())


def cases(folder: Path) -> Iterator[Case]:
    for seed in range(amount(60, 500)):
        for what in (harmed, unreadable):
            attempt = functools.partial(what, folder / f"{what.__name__}-{seed}", seed)
            yield Case("damaged checkpoints", what.__name__, seed, ("checkpoints", IDENTITY), attempt)


def test_damaged_checkpoints(attack: Callable[[Iterable[Case]], None], tmp_path: Path) -> None:
    attack(cases(tmp_path))
