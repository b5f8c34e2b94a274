"""Which row went to which split of a run: `splits.csv` in its `output_dir`.

    split,table,row,reference,digest
    training,train.csv,2,2,9f86d0...
    test,train.csv,3,,60303a...

One line a row: its split, its table's file and what it is called there (as in error messages), the id of the
reference that holds the same picture and text (empty: none does), and a digest of picture and text. Digests
tell whoever knows a meme that it was trained on, so the file stays with the run: a `.gitignore` beside it
keeps it out of uploads.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mmorient.files.kept_at_home import keep_at_home
from mmorient.files.whole_files import write_text
from mmorient.tables.image_fingerprints import file_digest
from mmorient.tables.records import Record, Records
from mmorient.tables.stream import HUB_PREFIX
from mmorient.tables.table import Table

SPLITS = "splits.csv"


@dataclass(frozen=True)
class SplitRow:
    """One line of `splits.csv`.

    Args:
        split: `training`, `validation`, `test` or `references`.
        table: File name of the row's table, without this machine's folders.
        row: What the row is called there.
        reference: Id of the model's reference with this picture and text; empty where there is none.
        digest: Of the row's picture and text, from [`content_digest`].
    """

    split: str
    table: str
    row: str
    reference: str
    digest: str


def content_digest(picture: bytes | None, text: str | None) -> str:
    """SHA-256, in hexadecimal digits, of a row's picture and text, wherever they are stored.

    Args:
        picture: `image_fingerprints.file_digest` of the picture's file; None where the row has no picture.
        text: As read; None where the row has none.
    """
    content = [None if picture is None else picture.hex(), text]
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def record_digest(record: Record) -> str:
    """The digest of a row. A picture that has its fingerprint is not read anew.

    Raises:
        OSError: If the picture's file cannot be read.
    """
    if record.fingerprint is not None:
        return content_digest(record.fingerprint.digest, record.text)
    image = record.image
    content = Path(image).read_bytes() if isinstance(image, str) else image
    return content_digest(None if content is None else file_digest(content), record.text)


def split_rows(splits: Mapping[str, Records], references: str | None) -> list[SplitRow]:
    """The lines of a run, split by split.

    Args:
        splits: The rows of every split.
        references: The split whose rows are the model's references, which have their row's number as id; None
            where the model has no references.
    """
    digests = {split: list(map(record_digest, records.rows)) for split, records in splits.items()}
    known: dict[str, str] = {}
    if references is not None:
        for record, digest in zip(splits[references].rows, digests[references], strict=True):
            known.setdefault(digest, record.row)
    rows = []
    for split, records in splits.items():
        names = _row_names(records.table)
        for record, (table, row), digest in zip(records.rows, names, digests[split], strict=True):
            reference = record.row if split == references else known.get(digest, "")
            rows.append(SplitRow(split, table, row, reference, digest))
    return rows


def write_splits(folder: Path, rows: Iterable[SplitRow]) -> str:
    """Write `splits.csv` into a run's folder, and keep it out of its uploads; the file's SHA-256."""
    keep_at_home(folder, SPLITS)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(SplitRow)])
    writer.writerows(map(astuple, rows))
    write_text(folder / SPLITS, text.getvalue())
    return hashlib.sha256(text.getvalue().encode("utf-8")).hexdigest()


def read_split_rows(folder: Path, digest: str | None) -> list[SplitRow] | None:
    """What `write_splits` wrote; None where the folder has no such file.

    Args:
        folder: Of the run.
        digest: That `write_splits` returned; None where a run ended before it was noted.

    Raises:
        ValueError: If the file is not what a run writes.
    """
    path = folder / SPLITS
    if not path.is_file():
        return None
    names = [field.name for field in fields(SplitRow)]
    content = path.read_bytes()
    try:
        header, *lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        header, lines, problem = [], [], f": {error}"
    else:
        problem = ""
    if not problem and digest not in (None, hashlib.sha256(content).hexdigest()):
        problem = "; it or the digest of it in tables.json was altered"
    if problem or header != names or any(len(line) != len(names) for line in lines):
        raise ValueError(
            f"{path} is not what a run writes, lines of {','.join(names)}{problem}: put the run's own file "
            "back, or remove it."
        )
    return [SplitRow(*line) for line in lines]


def _row_names(table: Table) -> list[tuple[str, str]]:
    """The file that each row stands in, and what the row is called there."""
    if any(isinstance(number, str) for number in table.numbers):  # of several files, each row with its own
        names = [str(number).rpartition(":") for number in table.numbers]
        return [(file, number) for file, _, number in names]
    name = table.name if table.name.startswith(HUB_PREFIX) else Path(table.name).name
    # A split of a folder that `datasets` saved is a folder in there.
    if not table.name.startswith(HUB_PREFIX) and name.endswith("]"):
        folder, _, split = name.removesuffix("]").rpartition("[")
        name = f"{folder}/{split}" if folder else name
    return [(name, str(number)) for number in table.numbers]
