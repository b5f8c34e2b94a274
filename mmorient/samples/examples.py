"""A few drawn memes to ask a model about, beside those that somebody trains on."""

import csv
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mmorient.samples.memes import MIN_ROWS, draw_memes

NUMBER = 3
# Memes that the quick start, and whoever draws with a seed of their own, do not train on.
SEED = 20_250_828


def draw_examples(folder: Path) -> list[tuple[Path, str]]:
    """Draw memes into a new folder; the file and the text of each."""
    folder.mkdir(parents=True)
    found = []
    with TemporaryDirectory() as name:
        table = draw_memes(name, rows=MIN_ROWS, seed=SEED)["train"]
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[:NUMBER]
        for number, row in enumerate(rows, start=1):
            image = folder / f"drawn-{number}.png"
            shutil.copyfile(Path(name) / row["image"], image)
            found.append((image, row["text"]))
    return found
