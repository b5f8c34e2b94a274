"""Pictures that a table names a little differently from what they are called."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

# Files of a folder, and names that match none of them, that are looked at: enough to see what is wrong.
MOST_FILES, MOST_NAMES = 200_000, 1000


def near_misses(names: Sequence[str], folder: Path) -> str:
    """What files there are instead of the ones that a table names, for the end of a message; empty for none.

    Compared are names in another case, with spaces, backslashes or accents written otherwise, with a folder
    too many or too few, and with another suffix or without one.

    Args:
        names: Of pictures that are not there.
        folder: Where they should be.
    """
    files = _files(folder)
    lookups: dict[str, Callable[[str], str | None]] = {
        "written a little differently": _unique(files, _plain),
        "without a folder that the name begins with": lambda name: _without_folders(name, plain),
        "with another suffix": _unique(files, lambda name: os.path.splitext(_plain(name))[0]),
        "in another folder": _unique(files, lambda name: _plain(name).rpartition("/")[2]),
    }
    plain = lookups["written a little differently"]
    counts: dict[str, int] = defaultdict(int)
    examples: dict[str, str] = {}
    for name in names[:MOST_NAMES]:
        for kind, lookup in lookups.items():
            if (found := lookup(name)) is not None:
                counts[kind] += 1
                examples.setdefault(kind, f"{found!r} for {name!r}")
                break
    return "".join(f" {count} are there {kind}: {examples[kind]}." for kind, count in counts.items())


def _files(folder: Path) -> list[str]:
    files: list[str] = []
    for parent, _, names in os.walk(folder):
        within = os.path.relpath(parent, folder)
        files += [name if within == "." else f"{within}/{name}" for name in names]
        if len(files) >= MOST_FILES:
            break
    return files


def _plain(name: str) -> str:
    """A name without what differs by accident: case, spaces around it, kind of slash, form of accents."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./")).casefold()


def _unique(files: Sequence[str], key: Callable[[str], str]) -> Callable[[str], str | None]:
    """From a name to the only file of the same key."""
    by_key: dict[str, str | None] = {}
    for file in files:
        by_key[key(file)] = None if key(file) in by_key else file
    return lambda name: by_key.get(key(name))


def _without_folders(name: str, lookup: Callable[[str], str | None]) -> str | None:
    """The file of a name without its first folder, or its first folders."""
    parts = _plain(name).split("/")
    return next((found for start in range(1, len(parts)) if (found := lookup("/".join(parts[start:])))), None)
