"""Tables as people keep them: CSV, TSV, JSON Lines, Parquet, workbooks, `datasets`; some rows at a time."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from mmorient.recipes.text_formats import UTF8, check_delimiter, check_encoding
from mmorient.tables.arrow import HUB_PREFIX, open_hub, open_parquet, open_saved
from mmorient.tables.chunks import (
    MOST_COLUMNS,
    RowCells,
    TableStream,
    check_columns,
    gather_chunks,
    rows_below_header,
)
from mmorient.tables.problems import TableError
from mmorient.tables.text_files import csv_records, delimiter_hint, json_records, why_no_text
from mmorient.tables.workbooks import open_workbook


def open_table(
    source: str, folder: Path, split: str | None = None, *, delimiter: str | None = None, encoding: str = UTF8
) -> TableStream:
    """Open a table, and read no more of it than tells its columns.

    Rows are numbered as a person sees them: in CSV, TSV and workbooks as a spreadsheet does (the header is
    row 1), in JSON Lines by line, in Parquet and `datasets` from 0.

    Args:
        source: A file (`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`, `.xlsx`) or a folder that `datasets`
            saved, seen from `folder`; or `hub:` and the name of a dataset on the Hub. No code from there is
            run.
        folder: Where relative paths start.
        split: The split to read of a source that has splits.
        delimiter: What stands between the cells of CSV and TSV files, a single character; None: a comma, and
            a tab in TSV.
        encoding: Of CSV, TSV and JSON Lines files.

    Raises:
        TableError: If the source cannot be read as what it is named.
        ValueError: If there is no such encoding, or the delimiter cannot be one.
    """
    check_delimiter(delimiter)
    check_encoding(encoding)
    if source.startswith(HUB_PREFIX):
        return open_hub(source, split)
    path = folder / source
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise TableError(f"no table at {path}: {error}. Set `data_dir` and the file's name.") from None
    if is_folder:
        return open_saved(path, split)
    if not is_file:
        raise TableError(
            f"no table at {path}: set `data_dir` and the file's name; a dataset on the Hub is "
            f"written {HUB_PREFIX}OWNER/NAME."
        )
    if path.suffix.lower() not in OPENERS:
        raise TableError(
            f"{path} is of an unknown kind: give one of {', '.join(OPENERS)}, or a folder that "
            "`datasets` saved."
        )
    return OPENERS[path.suffix.lower()](path, delimiter, encoding)


def has_splits(source: str, folder: Path) -> bool:
    """Whether a source is several tables, each with a name."""
    return source.startswith(HUB_PREFIX) or (folder / source / "dataset_dict.json").is_file()


def _open_separated(path: Path, delimiter: str, encoding: str) -> TableStream:
    problem = why_no_text(path, encoding)
    header: list[str] = []
    if problem is None:
        _, header, problem = next(csv_records(path, delimiter, encoding), (1, [], "it is empty"))
    if problem is None and not header:
        problem = "its first line is blank"
    if problem is not None:
        kind = "TSV" if delimiter == "\t" else "CSV"
        raise TableError(f"{path} is no {kind} file in {encoding.upper()} with a header: {problem}")
    check_columns(header, path)
    return TableStream(
        str(path),
        header,
        lambda size: gather_chunks(_csv_rows(path, delimiter, encoding, len(header)), header, size),
        [path],
        form=f"each has the {len(header)} cells of the header, and texts that contain separators, quotes or "
        "line breaks stand in double quotes",
        hint=delimiter_hint(header, delimiter),
    )


def _csv_rows(path: Path, delimiter: str, encoding: str, width: int) -> Iterator[RowCells]:
    return rows_below_header(islice(csv_records(path, delimiter, encoding), 1, None), width, "")


def _open_json_lines(path: Path, encoding: str) -> TableStream:
    if (problem := why_no_text(path, encoding)) is not None:
        raise TableError(f"{path} is no JSON Lines file in {encoding.upper()}: {problem}")
    found: dict[str, None] = {}
    for _, record, _ in json_records(path, encoding):
        if not found.keys() >= record.keys():
            found |= dict.fromkeys(record)
            if len(found) > MOST_COLUMNS:
                break
    check_columns(names := list(found), path)
    return TableStream(
        str(path),
        names,
        lambda size: gather_chunks(_json_rows(path, encoding, names), names, size),
        [path],
        unit="line",
        form=f"each is one JSON object in {encoding.upper()}",
    )


def _json_rows(path: Path, encoding: str, names: list[str]) -> Iterator[RowCells]:
    for number, record, problem in json_records(path, encoding):
        yield RowCells(number, [record.get(name) for name in names], problem, number)


# By suffix, from a file, a delimiter (or None) and an encoding.
OPENERS: dict[str, Callable[[Path, str | None, str], TableStream]] = {
    ".csv": lambda path, delimiter, encoding: _open_separated(path, delimiter or ",", encoding),
    ".tsv": lambda path, delimiter, encoding: _open_separated(path, delimiter or "\t", encoding),
    ".jsonl": lambda path, delimiter, encoding: _open_json_lines(path, encoding),
    ".ndjson": lambda path, delimiter, encoding: _open_json_lines(path, encoding),
    ".parquet": lambda path, delimiter, encoding: open_parquet(path),
    ".xlsx": lambda path, delimiter, encoding: open_workbook(path),
}
