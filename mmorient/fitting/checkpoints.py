"""Runs that can be killed at any moment: which checkpoints are complete, and which run they belong to.

output_dir / run.json                    what the run was started with
output_dir / checkpoint-N / whole.json   sizes and digests of its files, written last
output_dir / set-aside-checkpoint-N      a checkpoint that was complete once, and is damaged now
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from mmorient.files.whole_files import write_text

logger = logging.get_logger(__name__)

MANIFEST, IDENTITY, SET_ASIDE = "whole.json", "run.json", "set-aside"
# Most differences that an error lists; a run has hundreds of arguments.
SHOWN_DIFFERENCES = 5


@contextmanager
def only_run(output_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder, by a lock that the operating system releases when this process ends.

    Raises:
        ValueError: If another run uses the folder.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another run writes to {output_dir}: wait, or choose another `output_dir`."
        ) from None
    with lock:
        yield


def write_manifest(checkpoint: Path) -> None:
    """Write sizes and digests of a checkpoint's files once all are on disk, which marks it as complete."""
    files = {path.relative_to(checkpoint).as_posix(): _describe(path) for path in _files(checkpoint)}
    for path in _files(checkpoint):
        _flush(path)
    write_text(checkpoint / MANIFEST, json.dumps(files, indent=2) + "\n")


def find_damage(checkpoint: Path) -> str | None:
    """Why a checkpoint is not complete (no manifest, or a missing, changed or unreadable file), or None."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"there is no {MANIFEST}"
    except OSError as error:
        return f"{MANIFEST} cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return f"{MANIFEST} is damaged"
    if not isinstance(files, dict):
        return f"{MANIFEST} is damaged"
    for name, described in files.items():
        try:
            if _describe(checkpoint / name) != described:
                return f"{name} is not as it was written"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def start_or_resume(output_dir: Path, identity: Mapping[str, Any], restart: bool) -> Path | None:
    """The checkpoint to go on from, or None where there is nothing to go on from.

    Checkpoints that were cut off while being written are removed: the run will write them again. Others that
    are not complete are set aside under another name, whatever is wrong with them: what cannot be read now
    may be readable later.

    Every process of a run calls this: the first one reads and writes, and broadcasts the outcome.

    Args:
        output_dir: The run's folder; made if it is missing.
        identity: The arguments that decide the outcome of the run, as JSON types.
        restart: Remove the checkpoints of any earlier run here, except those set aside, and start anew.

    Raises:
        ValueError: If the checkpoints are those of a run with another identity.
        OSError: If the folder cannot be written to.
    """
    outcome: list[Path | Exception | None] = [None]
    if PartialState().is_main_process:
        try:
            outcome = [_start_or_resume(output_dir, identity, restart)]
        except (ValueError, OSError) as error:
            outcome = [error]  # or the others would wait for ever
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def remove_older(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Remove a run's oldest checkpoints down to a limit, but never the latest or the best one.

    Args:
        output_dir: Of the run.
        limit: How many stay; None: all.
        best: The best checkpoint; its folder may have been moved since.
    """
    checkpoints = sorted(filter(_is_checkpoint, output_dir.iterdir()), key=_step)
    kept = {checkpoint.name for checkpoint in checkpoints[-1:]} | ({Path(best).name} if best else set())
    others = [checkpoint for checkpoint in checkpoints if checkpoint.name not in kept]
    excess = 0 if limit is None else len(checkpoints) - max(limit, len(checkpoints) - len(others))
    for checkpoint in others[: max(excess, 0)]:
        try:
            _remove(checkpoint)
        except OSError as error:  # it only costs space
            logger.warning(f"the older {checkpoint} cannot be removed: {error}")


def _start_or_resume(output_dir: Path, identity: Mapping[str, Any], restart: bool) -> Path | None:
    output_dir.mkdir(parents=True, exist_ok=True)
    checkpoints = sorted(filter(_is_checkpoint, output_dir.iterdir()), key=_step, reverse=True)
    if restart:
        for checkpoint in checkpoints:
            _remove(checkpoint)
        checkpoints = []
    if checkpoints:
        _require_same(output_dir, identity)
    else:
        write_text(output_dir / IDENTITY, json.dumps(identity, indent=2, sort_keys=True) + "\n")
    for checkpoint in checkpoints:
        damage = find_damage(checkpoint)
        if damage is None:
            logger.warning(f"going on from {checkpoint}.")
            return checkpoint
        if _was_cut_off(checkpoint):
            _remove(checkpoint)
            logger.warning(f"{checkpoint} was cut off while being written: removed.")
        else:
            aside = _set_aside(checkpoint)
            logger.warning(
                f"{checkpoint} is not whole ({damage}): set aside as {aside.name}. To go on from it, end "
                "this run, put it in order, and give it its name back."
            )
    return None


def has_ended(checkpoint: Path) -> bool:
    """Whether a checkpoint is the last one of its run: all steps done, or stopped early."""
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    if state["global_step"] >= state["max_steps"]:
        return True
    callback = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback")
    if callback is None:
        return False
    waited = callback["attributes"]["early_stopping_patience_counter"]
    return bool(waited >= callback["args"]["early_stopping_patience"])


def _require_same(output_dir: Path, identity: Mapping[str, Any]) -> None:
    remedy = "choose another `output_dir`, or remove those checkpoints with `--restart true`."
    try:
        known = json.loads((output_dir / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{output_dir} holds checkpoints of an unknown run: {remedy}") from None
    given = json.loads(json.dumps(identity))
    different = [key for key in sorted({*known, *given}) if known.get(key) != given.get(key)]
    if different:
        shown = "; ".join(
            f"{key} was {known.get(key)!r} and is {given.get(key)!r}" for key in different[:SHOWN_DIFFERENCES]
        )
        more = (
            f"; and {len(different) - SHOWN_DIFFERENCES} more" if len(different) > SHOWN_DIFFERENCES else ""
        )
        raise ValueError(f"{output_dir} holds checkpoints of another run ({shown}{more}): {remedy}")


def _was_cut_off(checkpoint: Path) -> bool:
    """Whether a checkpoint was never complete: it has no manifest, which is written last."""
    try:
        return MANIFEST not in os.listdir(checkpoint)
    except OSError:
        return False


def _remove(checkpoint: Path) -> None:
    # Without its manifest, what an interrupted removal leaves counts as cut off.
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _set_aside(checkpoint: Path) -> Path:
    number, aside = 1, checkpoint.with_name(f"{SET_ASIDE}-{checkpoint.name}")
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"{SET_ASIDE}-{checkpoint.name}-{number}")
    return checkpoint.rename(aside)


def _is_checkpoint(path: Path) -> bool:
    prefix, _, number = path.name.rpartition("-")
    return prefix == PREFIX_CHECKPOINT_DIR and number.isdigit() and path.is_dir()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
