"""Disks that are full, and places that cannot be written to: one line from `train`, in every phase."""

import errno
import os
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmorient.commands.train import main
from tests.mmorient.fitting.test_train import frozen_recipe

SMALL = {"learner_hidden_sizes": [8], "hima_hidden_size": 4, "graph_hidden_size": 4}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more to a file fails, as on a disk that is full, wherever it is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`recipe.yaml` of a run with a checkpoint, its cached features, and its `out` at the end."""
    folder = tmp_path_factory.mktemp("run")
    options = {"feature_cache": str(folder / "features"), "model_options": SMALL, "max_steps": 1}
    main(frozen_recipe(folder, rows=36, save_strategy="steps", save_steps=1, **options))
    return folder


def refused(folder: Path, places: Mapping[str, str]) -> str:
    arguments = [part for name, value in places.items() for part in (f"--{name}", value)]
    with pytest.raises(ValueError) as caught:
        main([str(folder / "recipe.yaml"), *arguments])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "argument"),
    [
        ("features/.*[.]arrow", "feature_cache"),
        ("out/run[.]json", "output_dir"),
        ("out/checkpoint-1/whole[.]json", "output_dir"),
        ("out/splits[.]csv", "output_dir"),
        ("out/report/index[.]html", "output_dir"),
    ],
)
def test_a_full_disk_is_one_line_whatever_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, argument: str
) -> None:
    flush, written = os.fsync, re.compile(rf"{tmp_path}/{file}.*[.]tmp")

    def fail(number: int) -> None:
        if written.match(os.readlink(f"/proc/self/fd/{number}")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(number)

    monkeypatch.setattr(os, "fsync", fail)
    places = {"output_dir": str(tmp_path / "out")}
    if argument == "feature_cache":
        places["feature_cache"] = str(tmp_path / "features")
    message = refused(folder, places)
    remedy = f"free some space, or choose another `{argument}` on another disk, and start again[.]"
    assert re.fullmatch(f"{tmp_path}/{file}: No space left on device: {remedy}", message), message
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("place", ["checkpoint-1", ""])
def test_a_full_disk_is_one_line_where_a_library_writes(folder: Path, tmp_path: Path, place: str) -> None:
    out = folder / "out" / place
    size = max(file.stat().st_size for file in out.glob("*.safetensors"))
    places = {"output_dir": str(tmp_path), "save_strategy": "steps" if place else "no"}
    with files_of_at_most(size - 1):
        message = refused(folder, places)
    assert message.startswith(f"{tmp_path / place}: File too large: raise the limit")
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_run_goes_on_when_there_is_space_again(folder: Path, tmp_path: Path) -> None:
    with files_of_at_most((folder / "out" / "checkpoint-1" / "model.safetensors").stat().st_size - 1):
        refused(folder, {"output_dir": str(tmp_path)})
    main([str(folder / "recipe.yaml"), "--output_dir", str(tmp_path)])
    weights = [out / "model.safetensors" for out in (folder / "out", tmp_path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("argument", ["output_dir", "feature_cache"])
def test_a_file_in_the_place_of_a_folder(folder: Path, tmp_path: Path, argument: str) -> None:
    place = tmp_path / "place"
    place.write_text("mine")
    message = refused(folder, {"output_dir": str(tmp_path / "out"), argument: str(place)})
    assert message.startswith(str(place)) and f"move what is there, or choose another `{argument}`" in message
    assert place.read_text() == "mine"
