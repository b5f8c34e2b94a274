"""Failures of the disk: one line with the file and the remedy, whichever library met them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch.utils.data import DataLoader

from mmorient.files.disk_failures import explained_failures, naming, one_line


def system_error(number: int, file: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device: free some space, or choose another `output_dir` on another"),
        (errno.EROFS, "Read-only file system: choose another `output_dir`"),
        (errno.EACCES, "Permission denied: get the permission"),
        (errno.ENOTDIR, "Not a directory: move what is there"),
        (errno.EIO, "Input/output error: look after the disk"),
    ],
)
def test_one_line_names_the_file_and_the_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    file = tmp_path / "out" / "checkpoint-2" / "model.safetensors"
    folders = {"feature_cache": str(tmp_path / "features"), "output_dir": str(tmp_path / "out")}
    with pytest.raises(ValueError) as caught, explained_failures(folders):
        raise system_error(number, str(file))
    assert str(caught.value).startswith(f"{file}: {remedy}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, "out: No space.*`output_dir`"),
        ("/elsewhere/file", "^/elsewhere/file: No space.*choose a place on another disk"),
    ],
)
def test_what_is_in_no_folder_of_the_run(tmp_path: Path, file: str | None, message: str) -> None:
    folders = {"output_dir": str(tmp_path / "out"), "feature_cache": str(tmp_path / "features")}
    with pytest.raises(ValueError, match=message), explained_failures(folders):
        raise system_error(errno.ENOSPC, file)


@pytest.mark.parametrize(
    "error", [RuntimeError("an own fault"), OSError("is no model"), ValueError("a seed")]
)
def test_what_is_no_failure_of_the_disk_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explained_failures({"output_dir": "out"}):
        raise error
    assert caught.value is error


def write_weights(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def write_random_state(path: Path) -> None:
    torch.save({"cpu": torch.zeros(3)}, path)


def write_tokenizer(path: Path) -> None:
    Tokenizer(models.BPE()).save(str(path))


@pytest.mark.parametrize("write", [write_weights, write_random_state, write_tokenizer])
def test_failures_inside_libraries_are_recognized(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Each of them says in its own way that a folder stands where the file should."""
    with pytest.raises(OSError, match="Is a directory") as caught, naming(tmp_path):
        write(tmp_path)
    assert caught.value.filename == str(tmp_path)


class Failing(torch.utils.data.Dataset[int]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, row: int) -> int:
        raise self.error


def test_an_error_of_a_data_loaders_process_is_one_line_too() -> None:
    full = DataLoader(Failing(system_error(errno.ENOSPC, "/cache/shard")), num_workers=1)
    with pytest.raises(ValueError, match=r"^/cache/shard: No space"), explained_failures({"a": "/cache"}):
        next(iter(full))
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        next(iter(DataLoader(Failing(ValueError("row 3: no picture")), num_workers=1)))
    assert one_line(caught.value) == "row 3: no picture"


def test_an_error_by_which_torch_ends_a_file_on_a_full_disk_is_known(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="No space left on device: free some space"),
        explained_failures({"output_dir": str(tmp_path)}),
    ):
        raise RuntimeError("basic_ios::clear: iostream error")
