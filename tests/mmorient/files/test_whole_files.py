"""Files that are whole or not there at all."""

import errno
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmorient.files.whole_files import LEFT_SECONDS, whole_file, write_text


def test_a_file_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        before = path.read_bytes() if path.exists() else None
        with whole_file(path) as file:
            file.write(content)
            file.flush()
            assert (path.read_bytes() if path.exists() else None) == before
        assert path.read_bytes() == content


def test_a_file_that_cannot_be_finished_leaves_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half of i")
        raise RuntimeError
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["file"]


def write_often(path: Path, writer: int) -> None:
    for _ in range(30):
        write_text(path, str(writer) * 5000)


def test_processes_and_threads_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=write_often, args=(path, writer)) for writer in range(4)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(4) as threads:
        for written in [threads.submit(write_often, path, writer) for writer in range(4, 8)]:
            written.result()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    content = path.read_text()
    assert content == content[0] * 5000 and os.listdir(tmp_path) == ["file"]


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "[a]*.json"
    old, new = (path.with_name(f"{path.name}.{token}.tmp") for token in ("0123", "4567"))
    other = tmp_path / "b.json.0123.tmp"
    for file in (old, new, other):
        file.write_text("half")
    for file in (old, other):
        os.utime(file, (time.time(), time.time() - LEFT_SECONDS - 60))
    write_text(path, "{}")
    assert set(os.listdir(tmp_path)) == {path.name, new.name, other.name}


def test_others_may_read_a_file_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match="No space") as caught, whole_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a write, which knows no name
    assert caught.value.filename == str(path) and not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written_to_is_said_without_the_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write_text(path, "")
    assert caught.value.filename == str(path)
