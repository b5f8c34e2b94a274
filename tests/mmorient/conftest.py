"""A folder of small pictures and a way to read tables beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmorient.recipes.arguments import DataArguments
from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.problems import stop_on_problems
from mmorient.tables.records import RecordColumns, Records, read_records, without_empty_rows
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


def records_of(name: str, folder: Path, data: DataArguments) -> Records:
    """The records of a table, as a run reads them."""
    records = read_records(read_table(name, folder), RecordColumns.of(data), FingerprintCache())
    return without_empty_rows(records)


@pytest.fixture
def read(folder: Path) -> Callable[..., Records]:
    """`read(content, name="table.csv", **options)`: the records of a table of that content."""

    def read_content(content: str | bytes, name: str = "table.csv", **options: Any) -> Records:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        data = DataArguments(data_dir=str(folder), train_file=name, **options)
        records = records_of(name, folder, data)
        stop_on_problems(records.problems, data.allow)
        return records

    return read_content


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))
