"""Files that are whole or not there at all."""

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mmorient.files.disk_failures import naming

# Of a process that was killed, since nobody writes a file for so long without adding to it.
LEFT_SECONDS = 24 * 3600.0


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name (`.tmp` at the end), and give it its own when it is on the disk.

    Whoever looks sees the whole file, or the one that was there before, whenever the process ends. Several
    processes and threads may write it at once, each under a name that nobody else has: the last one to end
    replaces the others' file. What a process leaves that is killed goes with the first write a day later.

    Raises:
        OSError: With the file's name, if it cannot be written; nothing is left of it then.
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
    """Write a text file in UTF-8 in that way."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def _remove_left(path: Path) -> None:
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # gone meanwhile, say
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()
