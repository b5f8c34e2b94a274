"""Files that are whole or not there at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name (`.tmp` at the end), and give it its own when it is on the disk.

    Whoever looks sees the whole file, or the one that was there before, whenever the process ends.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 in that way."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
