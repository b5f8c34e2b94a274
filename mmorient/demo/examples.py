"""Example memes of the demo in a folder: pictures, and a list of them with their texts."""

import json
from collections.abc import Sequence
from pathlib import Path

LIST = "examples.json"


def write_examples(folder: Path, memes: Sequence[tuple[Path, str]]) -> None:
    """List the pictures in a folder with their texts."""
    entries = [{"image": image.name, "text": text} for image, text in memes]
    (folder / LIST).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def read_examples(folder: Path) -> list[list[str]]:
    """Path and text of each."""
    entries = json.loads((folder / LIST).read_text(encoding="utf-8"))
    return [[str(folder / entry["image"]), entry["text"]] for entry in entries]
