"""Files that are complete or absent."""

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mmorient.files.disk_failures import naming

# A temporary file unchanged for this long was left by a killed process: a writer would have added to it.
LEFT_SECONDS = 24 * 3600.0


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name (`.tmp` at the end), and rename it once it is on the disk.

    A reader sees the whole file, or the one that was there before, whenever the process ends. Several
    processes and threads may write it at once, each under a temporary name of its own: the last one to finish
    replaces the others' file. What a killed process leaves is removed by the first write a day later.

    Raises:
        OSError: With the file's name, if it cannot be written; no partial file is left then.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    with naming(path):
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            if isinstance(error, OSError) and error.filename == str(temporary):
                error.filename = str(path)
            with suppress(OSError):
                temporary.unlink()
            raise
    _remove_left(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as [`whole_file`] does."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def _remove_left(path: Path) -> None:
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # it may have been removed meanwhile
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()
