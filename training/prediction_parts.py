"""Output of a long job in parts, so that one that was interrupted goes on where it stopped.

    OUTPUT.parts / manifest.json, 000000.parquet, 000001.parquet ...

Each file is whole or not there at all. What the parts were made from stands in the manifest.
"""

import csv
import filecmp
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from training.whole_files import whole_file

MANIFEST, LOCK = "manifest.json", ".lock"
# Raise it when parts are written otherwise than before.
PARTS_FORMAT = 1
KINDS = (".csv", ".parquet")
_NOTE = b"part"


@dataclass(frozen=True)
class PartNote:
    """What is in a part.

    Args:
        start: Rows of the table before it.
        rows: Its own.
        errors: Number of rows without a prediction, by kind of error.
    """

    start: int
    rows: int
    errors: Mapping[str, int]


class PartFolder:
    """The parts of one output file.

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
        self.folder = output.with_name(f"{output.name}.parts")

    @contextmanager
    def opened(self, job: Mapping[str, Any], restart: bool) -> Iterator[None]:
        """Hold the folder for one run: new, or with the parts that an earlier run of the same job left.

        Args:
            job: All that the output depends on, as JSON types.
            restart: Discard the output and the parts of an earlier run.

        Raises:
            ValueError: If the output is there already, the parts are of another job, or another run is at
                work.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another run is writing {self.output}: wait for it.") from None
        try:
            self._prepare({"format": PARTS_FORMAT, **job}, restart)
            yield
        finally:
            lock.release()
            if self.folder.is_dir() and not (self.folder / MANIFEST).is_file():  # nothing was begun
                (self.folder / LOCK).unlink(missing_ok=True)
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def find(self, index: int, start: int, rows: int) -> PartNote | None:
        """What is in a part, if it is there and of these rows."""
        try:
            note = _note(self._path(index))
        except (OSError, pa.ArrowException):
            return None
        return note if (note.start, note.rows) == (start, rows) else None

    def write(self, index: int, table: pa.Table, note: PartNote) -> None:
        """Write a part."""
        content = json.dumps({"start": note.start, "rows": note.rows, "errors": dict(note.errors)})
        with whole_file(self._path(index)) as file:
            pq.write_table(table.replace_schema_metadata({_NOTE: content.encode()}), file)

    def join(self, count: int, schema: pa.Schema) -> Counter[str]:
        """Make the output of all parts, and remove them.

        Args:
            count: Number of parts.
            schema: Of the output.

        Returns:
            Number of rows without a prediction, by kind of error.

        Raises:
            ValueError: If something else has taken the output's place in the meantime.
        """
        paths = [self._path(index) for index in range(count)]
        errors: Counter[str] = Counter()
        for path in paths:
            errors.update(_note(path).errors)
        joined = self.folder / f"joined{self.output.suffix.lower()}"
        with whole_file(joined) as file:
            (_join_csv if self.as_text else _join_parquet)(paths, schema, file)
        # A run that was interrupted just here finds what it has written itself.
        if self.output.exists() and not filecmp.cmp(joined, self.output, shallow=False):
            raise ValueError(f"{self.output} has come to be in the meantime: move it away, and start again.")
        joined.replace(self.output)
        shutil.rmtree(self.folder)
        return errors

    def _prepare(self, job: Mapping[str, Any], restart: bool) -> None:
        manifest = self.folder / MANIFEST
        if self._content() and not manifest.is_file():
            raise ValueError(
                f"{self.folder} holds other files: move it away, or give the output another name."
            )
        if restart:
            self.output.unlink(missing_ok=True)
            for path in self._content():
                path.unlink()
        if not manifest.is_file():
            if self.output.exists():
                raise ValueError(f"the output {self.output} is there already: write it anew with --restart.")
            with whole_file(manifest) as file:
                file.write(json.dumps(job, indent=2).encode())
            return
        earlier = json.loads(manifest.read_bytes())
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

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.parquet"


def _note(path: Path) -> PartNote:
    return PartNote(**json.loads(pq.read_schema(path).metadata[_NOTE]))


def _join_csv(paths: list[Path], schema: pa.Schema, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # With the lines' ends of the standard (RFC 4180) cells that hold one of its two characters are quoted.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(schema.names)
    for path in paths:
        columns = pq.read_table(path).columns
        writer.writerows(zip(*(column.to_pylist() for column in columns), strict=True))
    text.flush()
    text.detach()


def _join_parquet(paths: list[Path], schema: pa.Schema, file: BinaryIO) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        for path in paths:
            writer.write_table(pq.read_table(path).replace_schema_metadata(schema.metadata))
