"""Fingerprints on disk: pictures are read once, and what is kept is never wrong."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mmorient.recipes.arguments import DataArguments
from mmorient.tables import fingerprint_cache
from mmorient.tables.fingerprint_cache import FILE, LOCK, kept_fingerprints
from mmorient.tables.image_fingerprints import Fingerprint, fingerprint
from mmorient.tables.records import digest
from mmorient.tables.splits import read_splits
from tests.mmorient.conftest import draw

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that the test has drawn just now count as old."""
    monkeypatch.setattr(fingerprint_cache, "SETTLED_NS", -1)


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("mmorient.tables.fingerprint_cache"), "propagate", True)
    return caplog


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pictures that are read."""
    read: list[Any] = []

    def remember(source: str | bytes) -> Fingerprint:
        read.append(source)
        return fingerprint(source)

    monkeypatch.setattr(fingerprint_cache, "fingerprint", remember)
    return read


@pytest.fixture
def pictures(folder: Path) -> list[str | bytes]:
    paths = [str(folder / "images" / f"{name}.png") for name in "abc"]
    return [*paths, (folder / "secret.png").read_bytes()]


def found(cache: Path | None, pictures: list[str | bytes]) -> list[bytes]:
    with kept_fingerprints(cache) as known:
        return [known.fingerprint(picture).to_record() for picture in pictures]


def expected(pictures: list[str | bytes]) -> list[bytes]:
    return [fingerprint(picture).to_record() for picture in pictures]


def test_a_fingerprint_and_its_record_are_one() -> None:
    file = io.BytesIO()
    draw(1).save(file, "PNG")
    first = fingerprint(file.getvalue())
    again = Fingerprint.from_record(first.to_record())
    assert again.digest == first.digest and again.to_record() == first.to_record()
    assert (again.gradient == first.gradient).all() and (again.cells == first.cells).all()
    assert first.gradient.shape == (32,) and first.cells.shape == (256, 3)


def test_pictures_are_read_once(pictures: list[Any], seen: list[Any], tmp_path: Path) -> None:
    first = found(tmp_path / "cache", pictures * 2)
    assert seen == pictures and first == expected(pictures * 2)
    written = (tmp_path / "cache" / FILE).stat().st_mtime_ns
    assert found(tmp_path / "cache", pictures[::-1]) == expected(pictures[::-1])
    assert seen == pictures and (tmp_path / "cache" / FILE).stat().st_mtime_ns == written
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {FILE, LOCK}


def test_a_changed_picture_is_read_again(pictures: list[Any], seen: list[Any], tmp_path: Path) -> None:
    found(tmp_path / "cache", pictures)
    path = Path(pictures[0])
    state = path.stat()
    content = bytearray(Path(pictures[1]).read_bytes()[: state.st_size].ljust(state.st_size, b"\0"))
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # of the same size and time as before
    assert found(tmp_path / "cache", pictures)[0] == fingerprint(str(path)).to_record()
    assert seen[len(pictures) :] == pictures[:1]


def test_what_changed_just_now_is_not_kept(
    pictures: list[Any], seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_cache, "SETTLED_NS", 2_000_000_000)
    found(tmp_path / "cache", pictures)
    found(tmp_path / "cache", pictures * 2)
    assert seen == [*pictures, *pictures[:3]]  # files; the picture's bytes are what they are


def test_what_changes_while_it_is_read_is_not_kept(
    pictures: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(source: str) -> Fingerprint:
        result = fingerprint(source)
        draw(77).save(source)
        return result

    monkeypatch.setattr(fingerprint_cache, "fingerprint", change)
    found(tmp_path / "cache", pictures[:1])
    monkeypatch.setattr(fingerprint_cache, "fingerprint", fingerprint)
    assert found(tmp_path / "cache", pictures[:1]) == expected(pictures[:1])


def test_pictures_that_cannot_be_read_are_looked_at_each_time(
    folder: Path, seen: list[Any], tmp_path: Path
) -> None:
    broken = folder / "images" / "broken.png"
    broken.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot read a picture"), kept_fingerprints(tmp_path) as known:
            known.fingerprint(str(broken))
    assert len(seen) == 2


def test_the_file_is_bounded_and_the_oldest_goes_first(
    pictures: list[Any], seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_cache, "MOST_ROWS", 3)
    for picture in pictures:
        found(tmp_path, [picture])
    sizes = (tmp_path / FILE).stat().st_size
    assert found(tmp_path, pictures[1:]) == expected(pictures[1:]) and len(seen) == 4
    found(tmp_path, pictures)  # more than that in one run are kept all the same
    assert len(seen) == 5 and found(tmp_path, pictures) == expected(pictures) and len(seen) == 5
    assert (tmp_path / FILE).stat().st_size > sizes


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_damaged_file_is_never_used(
    pictures: list[Any], seen: list[Any], tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    right = found(tmp_path, pictures)
    whole = (tmp_path / FILE).read_bytes()
    damages = [whole[:length] for length in (0, 7, 16, 40, len(whole) // 2, len(whole) - 1)]
    damages += [flip(whole, place) for place in range(0, len(whole), 97)] + [whole + b"\0", whole[::-1]]
    for content in damages:
        (tmp_path / FILE).write_bytes(content)
        seen.clear()
        warnings.clear()
        assert found(tmp_path, pictures) == right
        assert seen == pictures and f"{FILE} is damaged: the pictures are read again" in warnings.text
        assert (tmp_path / FILE).read_bytes() == whole


def test_another_version_has_fingerprints_of_its_own(
    pictures: list[Any], seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(tmp_path, pictures)
    monkeypatch.setattr(fingerprint_cache.PIL, "__version__", "0")
    found(tmp_path, pictures)
    assert seen == pictures * 2


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a link to nothing", "no folder at all", "no lock"])
def test_without_a_usable_file_pictures_are_read(
    pictures: list[Any], tmp_path: Path, warnings: pytest.LogCaptureFixture, what: str
) -> None:
    cache = tmp_path / "cache"
    if what == "no folder at all":
        cache.write_bytes(b"a file")
    else:
        cache.mkdir()
    if what == "a folder":
        (cache / FILE / "more").mkdir(parents=True)
    if what == "a pipe":
        os.mkfifo(cache / FILE)
    if what == "a link to nothing":
        (cache / FILE).symlink_to(cache / "nothing")
    if what == "no lock":
        (cache / LOCK).mkdir()
    assert found(cache, pictures) == expected(pictures)
    assert (what == "a link to nothing") or "cache" in warnings.text


def test_what_was_read_before_an_error_is_kept(pictures: list[Any], seen: list[Any], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), kept_fingerprints(tmp_path) as known:
        known.fingerprint(pictures[0])
        raise KeyboardInterrupt
    found(tmp_path, pictures)
    assert seen == pictures


def test_a_process_waits_for_the_one_that_reads(
    pictures: list[Any],
    seen: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found(tmp_path / "other", pictures)
    seen.clear()
    (tmp_path / "cache").mkdir()
    lock = FileLock(tmp_path / "cache" / LOCK)
    lock.acquire()
    monkeypatch.setattr(fingerprint_cache, "QUIET_SECONDS", 0.0)

    def finish(message: str) -> None:
        assert "waiting for another process" in message
        (tmp_path / "cache" / FILE).write_bytes((tmp_path / "other" / FILE).read_bytes())
        lock.release()

    monkeypatch.setattr(fingerprint_cache.logger, "warning", finish)
    assert found(tmp_path / "cache", pictures) == expected(pictures) and not seen


@pytest.fixture
def table(folder: Path) -> Iterator[DataArguments]:
    rows = "".join(f"{'abc'[row % 3]}.png,text {row},{('bad', 'good')[row % 2]}\n" for row in range(12))
    (folder / "train.csv").write_text("image,text,mood\n" + rows)
    yield DataArguments(data_dir=str(folder), tasks={"mood": ["bad", "good"]}, test_share=0.3)


def test_splits_from_kept_fingerprints_are_the_same(
    table: DataArguments, seen: list[Any], tmp_path: Path
) -> None:
    plain, first = (read_splits(table, 3, cache) for cache in (None, tmp_path / "c"))
    # Three pictures twice; threads that meet one at the same time may both read it.
    assert len(seen) >= 6
    seen.clear()
    again = read_splits(table, 3, tmp_path / "c")
    assert not seen
    for splits in (first, again):
        assert splits.duplicates == plain.duplicates
        assert {name: digest(records.rows) for name, records in splits.records.items()} == {
            name: digest(records.rows) for name, records in plain.records.items()
        }


READ = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from mmorient.tables import fingerprint_cache
fingerprint_cache.SETTLED_NS = -1
plain = fingerprint_cache.fingerprint
def fingerprint(source):
    print(source, flush=True)
    return plain(source)
fingerprint_cache.fingerprint = fingerprint
with fingerprint_cache.kept_fingerprints({cache!r}) as known:
    for path in sorted(Path({images!r}).iterdir()):
        known.fingerprint(str(path))
"""


@pytest.mark.slow
def test_of_several_processes_at_once_one_reads(folder: Path, tmp_path: Path) -> None:
    names = {"root": str(ROOT), "cache": str(tmp_path / "cache"), "images": str(folder / "images")}
    command = [sys.executable, "-c", READ.format(**names)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(map(len, outputs)) == [0, 0, 3]
