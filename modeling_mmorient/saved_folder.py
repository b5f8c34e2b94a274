"""A folder to which several files are saved together: a reader finds the files of one save.

    .saving-*      what a save has written so far
    .saved         everything that it wrote, being moved to its final names
    .saving.lock   held while one of them exists; one process saves at a time

Renaming the first to the second decides. A process killed before that leaves the old files, and one killed
after it the new ones: the process that saves or reads next moves what has not been moved yet.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers.utils import logging

logger = logging.get_logger(__name__)

T = TypeVar("T")

STAGING_PREFIX, SAVED, LOCK = ".saving-", ".saved", ".saving.lock"
# A file in `.saved`: names of the old files that the new ones make obsolete.
OBSOLETE = ".obsolete"
# How long to wait for another process to finish its save.
PATIENCE_SECONDS = 600.0
# Time between two checks whether it has finished; the second for a reader that cannot lock.
POLL_SECONDS, WAIT_SECONDS = 0.01, 0.5


def save_whole(folder: Path, write: Callable[[Path], object], replaced: Callable[[str], bool]) -> None:
    """Put what `write` writes into a folder: all of it or, whatever happens, nothing.

    Args:
        folder: Made if there is none.
        write: Is given an empty folder to write files into.
        replaced: Whether a file of this name in the folder makes room for those that are written.

    Raises:
        ValueError: If the folder's name is that of a file, or another process does not finish its save.
        OSError: If the disk is full, or the folder cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder to save to.")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        _move(folder)
        # Nobody else saves now: these belong to processes that were killed.
        for left in folder.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(left)
        staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
        try:
            write(staging)
            written = {path.name for path in staging.iterdir()}
            old = {path.name for path in folder.iterdir() if path.is_file()}
            obsolete = sorted(name for name in old - written if replaced(name))
            (staging / OBSOLETE).write_text(json.dumps(obsolete))
            for path in staging.iterdir():
                _flush(path)
            staging.rename(folder / SAVED)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            # Neither safetensors nor a write to a full disk names the file.
            if isinstance(error, SafetensorError) or (isinstance(error, OSError) and not error.filename):
                raise OSError(
                    f"nothing was saved to {folder}, which holds what it held before ({error}): free some "
                    "space or get the permission, and save again."
                ) from error
            raise
        _flush_names(folder)
        _move(folder)


def read_whole(folder: Path, read: Callable[[], T]) -> T:
    """What `read` makes of a folder, from files of one save, even if others save to it meanwhile.

    `read` may be called several times. What it raises is passed on; beside that:

    Raises:
        ValueError: If a save has to be finished, or waited for, and the folder cannot be written to.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while folder.is_dir():
        before = _state(folder)
        if not (folder / SAVED).exists():
            try:
                result = read()
            except Exception:
                if _state(folder) == before:
                    raise
            else:
                if _state(folder) == before:
                    return result
        try:
            with _lock(folder):
                _move(folder)
                return read()
        except _CannotLock as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{folder} changes all the time, and waiting for its saves is not possible ({error}): "
                    "load the model where it can be written to, or when nobody saves to it."
                ) from None
            if (folder / SAVED).exists() and _state(folder) == before:
                raise ValueError(
                    f"{folder} holds a save that was interrupted while its files were moved, and cannot be "
                    f"written to ({error}): load the model once from where it can (a copy of the folder with "
                    f"{SAVED} in it will do), which finishes the save."
                ) from None
            time.sleep(WAIT_SECONDS)
    return read()


class _CannotLock(OSError):
    """Nothing can be written to the folder."""


def _state(folder: Path) -> list[tuple[str, int, int, int]]:
    """What changes with every save."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == SAVED or entry.name.endswith((".json", ".safetensors")):
                with suppress(OSError):  # gone meanwhile, or a link that leads nowhere
                    status = entry.stat()
                    found.append((entry.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return sorted(found)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let this process alone save to the folder."""
    path = folder / LOCK
    lock = FileLock(path, timeout=PATIENCE_SECONDS)
    try:
        lock.acquire(poll_interval=POLL_SECONDS)
    except Timeout:
        raise ValueError(
            f"another process has been saving to {folder} for {PATIENCE_SECONDS / 60:.0f} minutes: wait for "
            "it, or end it."
        ) from None
    except OSError as error:
        raise _CannotLock(error.errno, error.strerror, error.filename) from error
    try:
        yield
    finally:
        # Otherwise it is published too. A process that waits for the lock sees that it is gone.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _move(folder: Path) -> None:
    """Bring a save to its end."""
    saved = folder / SAVED
    if saved.is_symlink() or not saved.is_dir():
        return
    names = saved / OBSOLETE
    for path in saved.iterdir():
        if path != names:
            path.replace(folder / path.name)
    if names.exists():
        for path in _obsolete_files(folder, names):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # some systems keep a file while anybody reads it
                logger.warning(f"{path} is no longer needed but cannot be removed: {error}")
        _flush_names(folder)
        names.unlink()
    saved.rmdir()
    _flush_names(folder)


def _obsolete_files(folder: Path, names: Path) -> list[Path]:
    try:
        listed = json.loads(names.read_bytes())
    except (ValueError, RecursionError):  # not written by a save
        listed = []
    if not isinstance(listed, list):
        listed = []
    # Whoever wrote the list, nothing outside the folder is touched.
    return [folder / name for name in listed if isinstance(name, str) and Path(name).name == name]


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # not every system supports it
        names = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(names)
        finally:
            os.close(names)
