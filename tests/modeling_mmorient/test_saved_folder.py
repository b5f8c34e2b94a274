"""Folders that hold one save, whatever happens while they are saved to."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from modeling_mmorient import saved_folder
from modeling_mmorient.saved_folder import read_whole, save_whole

ROOT = Path(__file__).resolve().parents[2]
FILES = ("config.json", "model.safetensors", "references.json")


def write(text, names=FILES):
    def write_files(staging):
        for name in names:
            (staging / name).write_text(text)

    return write_files


def nothing(name):
    return False


def texts(folder):
    files = [path for path in folder.iterdir() if path.is_file() and path.name != saved_folder.LOCK]
    return {path.name: path.read_text() for path in files}


def read(folder):
    return read_whole(folder, lambda: texts(folder))


def test_a_save_replaces_files_of_its_own_and_those_that_it_makes_obsolete(tmp_path):
    save_whole(tmp_path, write("old", (*FILES, "shard-1", "shard-2")), nothing)
    (tmp_path / "notes.txt").write_text("mine")
    save_whole(tmp_path, write("new", (*FILES, "shard-1")), lambda name: name.startswith("shard"))
    assert texts(tmp_path) == {**dict.fromkeys((*FILES, "shard-1"), "new"), "notes.txt": "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "shard-1", "notes.txt"}


def test_a_save_that_fails_leaves_nothing(tmp_path):
    save_whole(tmp_path, write("old"), nothing)

    def fails(staging):
        (staging / FILES[0]).write_text("new")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_whole(tmp_path, fails, nothing)
    assert texts(tmp_path) == dict.fromkeys(FILES, "old")
    assert len(list(tmp_path.iterdir())) == len(FILES)


def test_a_disk_that_is_full_in_the_middle_of_a_write_is_named(tmp_path):
    save_whole(tmp_path, write("old"), nothing)

    def fails(staging):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write does, which knows no name

    with pytest.raises(
        OSError, match=f"nothing was saved to {re.escape(str(tmp_path))}.*No space left.*free"
    ):
        save_whole(tmp_path, fails, nothing)
    assert texts(tmp_path) == dict.fromkeys(FILES, "old")


def test_a_library_s_error_gets_the_folder_s_name(tmp_path):
    def fails(staging):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=rf"{re.escape(str(tmp_path))}.*os error 28.*free some space"):
        save_whole(tmp_path, fails, nothing)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        save_whole(tmp_path / "file", write("new"), nothing)


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.modeling_mmorient.kills import end_at
from tests.modeling_mmorient.test_saved_folder import FILES, write
from modeling_mmorient.saved_folder import save_whole

folder, outcomes = Path({folder!r}), []
step = 0
while True:
    step += 1
    old, new = f"old {{step}}", f"new {{step}}"
    save_whole(folder, write(old, (*FILES, "obsolete")), lambda name: True)
    child = os.fork()
    if not child:
        end_at(step)
        save_whole(folder, write(new), lambda name: True)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    from tests.modeling_mmorient.test_saved_folder import read
    found = read(folder)
    if found == dict.fromkeys((*FILES, "obsolete"), old):
        outcomes.append("old")
    elif found == dict.fromkeys(FILES, new):
        outcomes.append("new")
    else:
        outcomes.append(str(found))
    assert not (folder / ".saved").exists(), step
    if not code:
        break
# What the killed have left is gone with the next save.
save_whole(folder, write("last"), lambda name: True)
assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
print(" ".join(outcomes))
"""


def test_a_kill_at_any_step_leaves_the_old_files_or_the_new_ones(tmp_path):
    script = KILLED.format(root=str(ROOT), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert set(outcomes) == {"old", "new"}
    assert outcomes == sorted(outcomes, reverse=True)  # once the new ones are there, they are there for good
    assert outcomes.count("old") > 10 and outcomes.count("new") > 8


SAVERS = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.modeling_mmorient.test_saved_folder import FILES, read, write
from modeling_mmorient.saved_folder import save_whole

folder = Path({folder!r})
save_whole(folder, write("first"), lambda name: True)
children = []
for saver in range(4):
    if not (child := os.fork()):
        for number in range({saves}):
            name = f"shard {{saver}} {{number}}"
            save_whole(folder, write(name, (*FILES, name)), lambda other: other.startswith("shard"))
        os._exit(0)
    children.append(child)
seen = set()
while children:
    found = read(folder)
    assert len(set(found.values())) == 1, found
    assert len(found) == len(FILES) + (set(found.values()) != {{"first"}}), found
    seen |= set(found.values())
    done, status = os.waitpid(-1, os.WNOHANG)
    if done:
        assert status == 0
        children.remove(done)
assert sorted(path.name for path in folder.iterdir()) == sorted(found)
print(len(seen))
"""


def test_four_processes_save_and_one_reads(tmp_path):
    saves = 500 if os.environ.get("ATTACK") == "large" else 25
    script = SAVERS.format(root=str(ROOT), folder=str(tmp_path), saves=saves)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


def half_moved(folder):
    save_whole(folder, write("old", (*FILES, "obsolete")), nothing)
    saved = folder / saved_folder.SAVED
    saved.mkdir()
    for name in FILES[1:]:
        (saved / name).write_text("new")
    (folder / FILES[0]).write_text("new")
    (saved / saved_folder.OBSOLETE).write_text(json.dumps(["obsolete", "../outside", 3]))
    return folder


def test_who_reads_finishes_a_save(tmp_path):
    (tmp_path / "outside").write_text("stays")
    folder = half_moved(tmp_path / "folder")
    assert read(folder) == dict.fromkeys(FILES, "new")
    assert (tmp_path / "outside").exists() and len(list(folder.iterdir())) == len(FILES)


@pytest.mark.parametrize("listed", ["", "[", "{}", "3", "[" * 10**5, '["..", ".", "", "config.json/", null]'])
def test_a_list_of_obsolete_files_that_is_none_removes_nothing(listed, tmp_path):
    folder = half_moved(tmp_path / "folder")
    (folder / saved_folder.SAVED / saved_folder.OBSOLETE).write_text(listed)
    assert read(folder) == {**dict.fromkeys(FILES, "new"), "obsolete": "old"}


def test_where_nothing_can_be_written_half_a_save_is_refused(tmp_path, monkeypatch):
    folder = half_moved(tmp_path / "folder")

    class ReadOnly:
        def __init__(self, *_, **__):
            pass

        def acquire(self, **_):
            raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(saved_folder, "FileLock", ReadOnly)
        with pytest.raises(
            ValueError, match=r"interrupted while its files were moved.*Read-only file system"
        ):
            read(folder)
    assert read(folder) == dict.fromkeys(FILES, "new")


def test_a_reader_that_cannot_write_waits_for_a_save(tmp_path, monkeypatch):
    save_whole(tmp_path, write("old"), nothing)
    monkeypatch.setattr(saved_folder, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(saved_folder, "FileLock", None)  # as if nothing could be written
    reads = []

    def meanwhile():
        reads.append(1)
        if len(reads) < 3:  # another process saves while this one reads
            (tmp_path / FILES[0]).write_text(f"newer {len(reads)}")
            os.utime(tmp_path / FILES[0], ns=(len(reads), len(reads)))
        return texts(tmp_path)

    monkeypatch.setattr(saved_folder, "_lock", cannot_lock)
    assert read_whole(tmp_path, meanwhile)[FILES[0]] == "newer 2"
    assert len(reads) == 3


def cannot_lock(folder):
    raise saved_folder._CannotLock(30, "Read-only file system")


def test_what_reading_raises_is_passed_on_once(tmp_path):
    calls = []

    def fails():
        calls.append(1)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        read_whole(tmp_path, fails)
    assert len(calls) == 1
    with pytest.raises(KeyError, match="broken"):
        read_whole(tmp_path / "no folder", fails)
