"""Fingerprints of pictures, kept on disk: a picture is decoded once, not at every start of every process.

    FOLDER / fingerprints.bin, fingerprints.lock

A picture file is found by its path, size and times of change, a picture inside a table by its bytes.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import PIL
import xxhash
from filelock import FileLock, Timeout
from transformers.utils import logging

from mmorient.files.whole_files import whole_file
from mmorient.tables.image_fingerprints import RECORD_BYTES, Fingerprint, file_digest, fingerprint

logger = logging.get_logger(__name__)

FILE, LOCK = "fingerprints.bin", "fingerprints.lock"
KEY_BYTES = CHECKSUM_BYTES = 16
# Some 85 MB. A run with more pictures than that keeps all of its own, and none of others.
MOST_ROWS = 100_000
# A file that changed so lately may change again without a new time: a clock has steps of some milliseconds,
# of two seconds on old file systems.
SETTLED_NS = 2_000_000_000
# Other processes of a run wait in silence for so many seconds while the first one reads the pictures.
QUIET_SECONDS = 10.0


class FingerprintCache:
    """Fingerprints of pictures that were read before, in this process or in others.

    Args:
        path: File that [`save`] writes; None keeps them in memory alone. A file that is damaged or of another
            version counts as empty; of a damaged one a warning tells.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stored = {} if path is None else _read(path)
        self._used: dict[bytes, bytes] = {}
        self._passing: dict[bytes, bytes] = {}

    def fingerprint(self, source: str | bytes) -> Fingerprint:
        """The fingerprint of a picture: kept, or made by reading it.

        Args:
            source: Its path, or its file's bytes.

        Raises:
            OSError, ValueError: As in `image_fingerprints.fingerprint`. Such pictures are not kept.
        """
        key, settled = _key(source)
        record = self._used.get(key) or self._passing.get(key) or self._stored.get(key)
        if record is None:
            found = fingerprint(source)
            record = found.to_record()
            settled = settled and _key(source)[0] == key  # it may have changed meanwhile
        else:
            found = Fingerprint.from_record(record)
        (self._used if settled else self._passing)[key] = record
        return found

    def save(self) -> None:
        """Write the file if there is anything new: what was used, and of the rest what was used last."""
        if self._path is None or self._used.keys() <= self._stored.keys():
            return
        others = (entry for entry in self._stored.items() if entry[0] not in self._used)
        kept = [*self._used.items(), *islice(others, max(0, MOST_ROWS - len(self._used)))]
        content = _header() + b"".join(key + record for key, record in kept)
        try:
            with whole_file(self._path) as file:
                file.write(xxhash.xxh3_128_digest(content) + content)
        except OSError as error:
            logger.warning(
                f"{self._path} cannot be written ({error}): the next run reads the pictures again."
            )


@contextmanager
def kept_fingerprints(folder: str | Path | None) -> Iterator[FingerprintCache]:
    """The fingerprints that a folder keeps, for one process at a time: the first one reads the pictures, and
    the others find what it has left. What was read is written at the end, also after an error.

    Args:
        folder: Made if it is missing. Where it cannot be used, a warning tells so, and nothing is kept; as
            with None.
    """
    with ExitStack() as stack:
        path = None
        if folder is not None:
            folder = Path(folder).expanduser()
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(folder / LOCK))
                path = folder / FILE
            except OSError as error:
                logger.warning(f"fingerprints of pictures cannot be kept in {folder}: {error}.")
        cache = FingerprintCache(path)
        try:
            yield cache
        finally:
            cache.save()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=QUIET_SECONDS)
    except Timeout:
        logger.warning(f"waiting for another process that reads pictures and holds {path}.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _key(source: str | bytes) -> tuple[bytes, bool]:
    """What a picture is found by, and whether it can be found by it later."""
    if isinstance(source, bytes):
        return file_digest(source), True
    state = os.stat(source)
    changed = max(state.st_mtime_ns, state.st_ctime_ns)
    named = os.fsencode(source) + f"\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}".encode()
    key = hashlib.blake2b(named, digest_size=KEY_BYTES, person=b"path")
    return key.digest(), time.time_ns() - changed > SETTLED_NS


def _header() -> bytes:
    """Version of the file and of what reads pictures; each has fingerprints of its own."""
    return f"fingerprints 1, Pillow {PIL.__version__}\n".encode()


def _read(path: Path) -> dict[bytes, bytes]:
    try:
        if not path.exists():
            return {}
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        content = path.read_bytes()
    except OSError as error:
        logger.warning(f"{path} cannot be read ({error}): the pictures are read again.")
        return {}
    checksum, content = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    if xxhash.xxh3_128_digest(content) != checksum:
        logger.warning(f"{path} is damaged: the pictures are read again, and the file is written anew.")
        return {}
    header = _header()
    if not content.startswith(header):  # another version's
        return {}
    size = KEY_BYTES + RECORD_BYTES
    rows = (content[start : start + size] for start in range(len(header), len(content), size))
    return {row[:KEY_BYTES]: row[KEY_BYTES:] for row in rows}
