"""Output of a long job in chunks, so that one that was interrupted goes on where it stopped.

    OUTPUT.chunks / manifest.json, 000000-DIGEST.parquet, 000001-DIGEST.parquet ...

Each file is whole or not there at all, and a chunk's name has the first 16 digits of its SHA-256: one that
was damaged is made anew. The manifest says what the chunks were made from. Files of others are left alone.
"""

import csv
import filecmp
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from transformers.utils import logging

from mmorient.files.whole_files import whole_file

logger = logging.get_logger(__name__)

MANIFEST, LOCK = "manifest.json", ".lock"
# Raise it when chunks are written otherwise than before.
CHUNKS_FORMAT = 2
# What is removed with the chunks; names without a digest are those of the first format.
OWN_FILE = re.compile(
    r"(manifest\.json|\d{6,}(-[0-9a-f]{16})?\.parquet|joined\.(csv|parquet))(\.[0-9a-f]+\.tmp)?"
)
KINDS = (".csv", ".parquet")
_NOTE = b"part"  # as earlier versions called a chunk


@dataclass(frozen=True)
class ChunkNote:
    """What is in a chunk.

    Args:
        start: Rows of the table before it.
        rows: Its own.
        errors: Number of rows without a prediction, by kind of error.
        without_picture: Number of rows that are answered without the picture that they name, by reason.
        references: Number of rows that are references of the model.
    """

    start: int
    rows: int
    errors: Mapping[str, int]
    without_picture: Mapping[str, int]
    references: int


class ChunkFolder:
    """The chunks of one output file.

    Args:
        output: The file, `.csv` or `.parquet`.

    Raises:
        ValueError: If it is of another kind, or a folder.
    """

    def __init__(self, output: Path) -> None:
        if output.suffix.lower() not in KINDS:
            raise ValueError(f"the output is {output}: name a file that ends in {' or '.join(KINDS)}.")
        if output.is_dir():
            raise ValueError(f"the output {output} is a folder: name a file.")
        self.output, self.as_text = output, output.suffix.lower() == ".csv"
        self.folder = output.with_name(f"{output.name}.chunks")
        # As earlier versions called it, whose interrupted jobs are finished too.
        self.earlier = output.with_name(f"{output.name}.parts")

    @contextmanager
    def opened(self, job: Mapping[str, Any], restart: bool) -> Iterator[None]:
        """Hold the folder for one run: new, or with the chunks that an earlier run of the same job left.

        Args:
            job: All that the output depends on, as JSON types.
            restart: Discard the output and the chunks of an earlier run.

        Raises:
            ValueError: If the output is there already, the chunks are of another job, or another run is at
                work.
        """
        if (self.earlier / MANIFEST).is_file() and not self.folder.exists():
            self.earlier.rename(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another run is writing {self.output}: wait for it.") from None
        try:
            self._prepare({"format": CHUNKS_FORMAT, **job}, restart)
            yield
        finally:
            lock.release()
            if self.folder.is_dir() and not (self.folder / MANIFEST).is_file():  # nothing was begun
                (self.folder / LOCK).unlink(missing_ok=True)
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def find(self, index: int, start: int, rows: int) -> ChunkNote | None:
        """What is in a chunk, if it is there, undamaged and of these rows; a damaged one is removed."""
        for path in self._paths(index):
            content = _content(path)
            if content is None:
                logger.warning(f"{path} is damaged: its rows are predicted again.")
                path.unlink(missing_ok=True)
                continue
            note = _note(content)
            if (note.start, note.rows) == (start, rows):
                return note
        return None

    def write(self, index: int, table: pa.Table, note: ChunkNote) -> None:
        """Write a chunk, in place of what is there of it."""
        sink = io.BytesIO()
        described = {_NOTE: json.dumps(vars(note)).encode()}
        pq.write_table(table.replace_schema_metadata(described), sink)
        content = sink.getvalue()
        path = self.folder / f"{index:06d}-{_digest(content)}.parquet"
        with whole_file(path) as file:
            file.write(content)
        for other in self._paths(index):
            if other != path:
                other.unlink(missing_ok=True)

    def join(self, count: int, schema: pa.Schema) -> ChunkNote:
        """Make the output of all chunks, and remove them.

        Args:
            count: Number of chunks.
            schema: Of the output.

        Returns:
            What is in all of them together.

        Raises:
            ValueError: If in the meantime a chunk was damaged or removed, or something else has taken the
                output's place.
        """
        paths = [self._paths(index)[:1] for index in range(count)]
        chunks = _Chunks([path for found in paths for path in found], count)
        notes = [_note(content) for content in chunks]
        errors: Counter[str] = Counter()
        without_picture: Counter[str] = Counter()
        for note in notes:
            errors.update(note.errors)
            without_picture.update(note.without_picture)
        rows, references = sum(note.rows for note in notes), sum(note.references for note in notes)
        joined = self.folder / f"joined{self.output.suffix.lower()}"
        with whole_file(joined) as file:
            (_join_csv if self.as_text else _join_parquet)(chunks, schema, file)
        # A run that was interrupted just here finds what it has written itself.
        if self.output.exists() and not filecmp.cmp(joined, self.output, shallow=False):
            raise ValueError(f"{self.output} has come to be in the meantime: move it away, and start again.")
        joined.replace(self.output)
        self._discard()
        return ChunkNote(0, rows, errors, without_picture, references)

    def _prepare(self, job: Mapping[str, Any], restart: bool) -> None:
        manifest = self.folder / MANIFEST
        if self._content() and not manifest.is_file():
            raise ValueError(
                f"{self.folder} holds other files: move it away, or give the output another name."
            )
        if restart:
            self.output.unlink(missing_ok=True)
            self._discard()
        if not manifest.is_file():
            if self.output.exists():
                raise ValueError(f"the output {self.output} is there already: write it anew with --restart.")
            with whole_file(manifest) as file:
                file.write(json.dumps(job, indent=2).encode())
            return
        earlier = _read_manifest(manifest)
        changed = [name for name in {**earlier, **job} if earlier.get(name) != job.get(name)]
        if changed:
            raise ValueError(
                f"{self.folder} holds the beginning of another job, which had "
                + ", ".join(f"{name} {earlier.get(name)!r} (now {job.get(name)!r})" for name in changed)
                + ": finish that one as it was started, or discard it and start anew with --restart."
            )

    def _content(self) -> list[Path]:
        """The folder's files but for the lock and what was being written when a run ended."""
        return [path for path in self.folder.iterdir() if path.name != LOCK and path.suffix != ".tmp"]

    def _discard(self) -> None:
        """Remove all files of ours but the lock; the manifest last, since without it they are no chunks."""
        own = [path for path in self.folder.iterdir() if OWN_FILE.fullmatch(path.name)]
        for path in sorted(own, key=lambda path: path.name == MANIFEST):
            path.unlink()

    def _paths(self, index: int) -> list[Path]:
        return sorted(self.folder.glob(f"{index:06d}-*.parquet"))


class _Chunks:
    """The contents of chunks, one after the other, each as it was written.

    Args:
        paths: Of the chunks.
        count: How many there have to be.

    Raises:
        ValueError: If one is missing or damaged.
    """

    def __init__(self, paths: list[Path], count: int) -> None:
        self.paths = paths
        if len(paths) != count:
            raise ValueError(
                f"chunks are missing ({len(paths)} of {count} are there): start the command again."
            )

    def __iter__(self) -> Iterator[bytes]:
        for path in self.paths:
            content = _content(path)
            if content is None:
                raise ValueError(
                    f"{path} was damaged meanwhile: start the command again, which makes it anew."
                )
            yield content


def _content(path: Path) -> bytes | None:
    """A chunk as it was written; None if it is not that any more."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if path.stem.partition("-")[2] == _digest(content) else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _note(content: bytes) -> ChunkNote:
    return ChunkNote(**json.loads(pq.read_schema(io.BytesIO(content)).metadata[_NOTE]))


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        earlier = json.loads(path.read_bytes())
        if not isinstance(earlier, dict):
            raise ValueError(f"it holds a {type(earlier).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}), so nobody knows what the chunks beside it are of: discard "
            "them with --restart."
        ) from None
    return earlier


def _join_csv(chunks: Iterable[bytes], schema: pa.Schema, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # With the lines' ends of the standard (RFC 4180) cells that hold one of its two characters are quoted.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(schema.names)
    for content in chunks:
        columns = pq.read_table(io.BytesIO(content)).columns
        writer.writerows(zip(*(column.to_pylist() for column in columns), strict=True))
    text.flush()
    text.detach()


def _join_parquet(chunks: Iterable[bytes], schema: pa.Schema, file: BinaryIO) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        for content in chunks:
            table = pq.read_table(io.BytesIO(content))
            writer.write_table(table.replace_schema_metadata(schema.metadata))
