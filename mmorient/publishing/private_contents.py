"""What must not be in a repository: pickles, folders of this machine, tokens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

# Formats that run code when they are read.
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}")
# A vocabulary has entries that look like paths.
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")


def without_folders(value: Any) -> Any:
    """JSON values in which absolute paths are cut to their last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str) and is_absolute(value):
        return PureWindowsPath(value).name or value
    return value


def is_absolute(text: str) -> bool:
    """Whether a text is an absolute path of two folders or more; a label such as `/s` is none."""
    path = PureWindowsPath(text) if PureWindowsPath(text).drive else PurePosixPath(text)
    return path.is_absolute() and len(path.parts) > 2 and "\n" not in text


def check_contents(folder: Path) -> None:
    """Look through a repository's files before they leave this machine.

    Raises:
        ValueError: If one is a pickle, names a folder of this machine or holds a token of the Hub, with its
            path.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in PICKLES:
            raise ValueError(f"{name} may be a pickle, which runs code when it is read: take it out.")
        if not path.is_file() or path.suffix == ".safetensors":
            continue
        content = path.read_bytes()
        if TOKEN.search(content):
            raise ValueError(f"{name} holds what looks like a token of the Hub: take it out, and revoke it.")
        if path.suffix == ".json" and path.name not in VOCABULARIES:
            for key, value in _strings(json.loads(content)):
                if is_absolute(value):
                    raise ValueError(
                        f"{name} names a folder of this machine, {value!r} in {key}: empty it "
                        "there, or train with encoders from the Hub."
                    )


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _strings(entry, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _strings(entry, f"{key}[{number}]")
    elif isinstance(value, str):
        yield key, value
