"""Damage to files, drawn by a seed."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes after some changes: another value, a part that is gone, there twice or in another place."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(changed) or 1)
        part = changed[start : start + rng.choice((1, 1, 3, 40))]
        way = rng.randrange(5)
        if way == 0:
            changed[start : start + len(part)] = rng.randbytes(len(part))
        elif way == 1:
            del changed[start : start + len(part)]
        elif way == 2:
            changed[start:start] = part * rng.choice((1, 50))
        elif way == 3:
            signs = (b'"', b",", b"\n", b"\0", b"\xff", b"{", b"\r", b"\\", b"\xef\xbb\xbf")
            changed[start:start] = rng.choice(signs)
        else:
            del changed[start:]
    return bytes(changed)


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def lose_line(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    path.write_bytes(b"".join(lines))


def exchange(path: Path, rng: random.Random) -> None:
    """The content of another file of the folder."""
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    if others:
        shutil.copy(rng.choice(others), path)


def fold(path: Path, _rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path, _rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "flipped": flip,
    "cut off": truncate,
    "a line lost": lose_line,
    "gone": lambda path, _rng: path.unlink(),
    "empty": lambda path, _rng: path.write_bytes(b""),
    "overwritten": lambda path, rng: path.write_bytes(damaged(path.read_bytes(), rng)),
    "exchanged": exchange,
    "a folder": fold,
    "a link to itself": loop,
}
