"""A folder of small pictures and a way to read tables beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmorient.recipes.arguments import DataArguments
from mmorient.tables.memes import Memes, read_memes
from mmorient.tables.problems import stop_on_problems
from mmorient.tables.table import read_table
from tests.mmorient.predicting import save_model


def draw(seed: int, size: int = 48) -> Image.Image:
    """A picture unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`images/{a,b,c}.png`, all different, and `secret.png` outside of it."""
    (tmp_path / "images").mkdir()
    for seed, name in enumerate(("images/a", "images/b", "images/c", "secret")):
        draw(seed).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[..., Memes]:
    """`read(content, name="table.csv", **options)`: the memes of a table of that content."""

    def read_content(content: str | bytes, name: str = "table.csv", **options: Any) -> Memes:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        data = DataArguments(data_dir=str(folder), train_file=name, **options)
        memes = read_memes(read_table(name, folder), data)
        stop_on_problems(memes.problems, data.allow)
        return memes

    return read_content


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))
