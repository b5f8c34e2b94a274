"""Predict every row of a table with a saved model: a table in, a table out.

    python training/predict.py MODEL TABLE OUTPUT [--image_dir DIR] [--image_column image]
                               [--text_columns text ...] [--batch_size 64] [--device cuda]

OUTPUT (`.csv` or `.parquet`) has the rows of TABLE in their order, all of its columns, and beside them for
each task `predicted.{task}` and `probability.{task}.{label}`, and `error`. Pictures that TABLE holds whole
are left out. A row that cannot be predicted (a malformed line, a picture that cannot be read, neither
picture nor text) says so in `error` and is empty in the other new columns; it stops nothing, and the exit
status is 0.

The table is read some rows at a time, whatever its length. What is finished is kept in `OUTPUT.parts`:
started again with the same arguments, an interrupted run goes on there, and the output is the same to the
byte, as long as the pictures stay as they are. Under `accelerate launch` the processes share the work.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from training.feature_fingerprints import model_fingerprint
from training.prediction_columns import OutputColumns, has_bytes
from training.prediction_parts import PartFolder, PartNote
from training.predictions import MemeColumns, Predictor
from training.problems import TableError
from training.saved_models import load_saved_model
from training.table_stream import HUB_PREFIX, TableStream, open_table
from training.tables import as_table

# Rows that are in memory at a time; also what an interrupted run loses at most.
CHUNK_ROWS = 1024
NO_COLUMN = "none"


def predict(arguments: argparse.Namespace) -> str:
    """Write the output; a summary for a person.

    Args:
        arguments: Of [`parse`].

    Raises:
        ValueError: If the model, the table as a whole or an argument is unusable, or the output is there.
    """
    state = PartialState()
    device = state.device if arguments.device is None else _device(arguments.device)
    parts = PartFolder(arguments.output)
    stream, columns = _open(arguments)
    model, processor = load_saved_model(arguments.model)
    if model.config.task_feature_dim:
        raise ValueError(
            f"{arguments.model!r} needs task features, and a table holds pictures and texts alone."
        )
    output = OutputColumns(stream, model.config.task_specs, parts.as_text)
    rows = stream.count_rows()
    if not rows:
        raise TableError(f"{stream.name} has no rows.")
    job = {
        "model": model_fingerprint(model, processor),
        "table": _files_digest(stream.files),
        "image_column": columns.image,
        "image_dir": str(columns.image_dir.resolve()),
        "text_columns": list(columns.text),
        "batch_size": arguments.batch_size,
        "device": device.type,
    }
    predictor = Predictor(model.to(device), processor, columns, arguments.batch_size)
    if not state.is_main_process:
        state.wait_for_everyone()
        _predict_parts(stream, predictor, output, parts, rows, state)
        state.wait_for_everyone()
        return ""
    with parts.opened(job, arguments.restart):
        state.wait_for_everyone()
        count = _predict_parts(stream, predictor, output, parts, rows, state)
        state.wait_for_everyone()
        errors = parts.join(count, output.schema)
    return _summary(rows, errors, arguments.output)


def _open(arguments: argparse.Namespace) -> tuple[TableStream, MemeColumns]:
    if arguments.table.startswith(HUB_PREFIX):
        raise TableError(f"the table is {arguments.table!r}: save the dataset to disk, and name the folder.")
    path = Path(arguments.table)
    if not path.exists():
        raise TableError(f"there is no table at {path}.")
    if path.exists() and arguments.output.exists() and path.samefile(arguments.output):
        raise ValueError(f"{path} is both the table and the output: name another file for the output.")
    image = None if arguments.image_column == NO_COLUMN else arguments.image_column
    folder = path.parent / "images" if arguments.image_dir is None else arguments.image_dir
    stream = open_table(arguments.table, Path())
    for column in [*([] if image is None else [image]), *arguments.text_columns]:
        if column not in stream.column_names:
            raise TableError(
                f"{stream.name} has no column {column!r}: its columns are {list(stream.column_names)}. Set "
                f"--image_column (`{NO_COLUMN}` for a table without pictures) and --text_columns (nothing "
                "after it for a table without texts)."
            )
    if image is None and not arguments.text_columns:
        raise ValueError("neither --image_column nor --text_columns name a column: there is nothing to read.")
    holds_pictures = (
        image is not None and stream.schema is not None and has_bytes(stream.schema.field(image).type)
    )
    if image is not None and not holds_pictures and not folder.is_dir():
        raise ValueError(f"no picture folder at {folder}: set --image_dir, or --image_column {NO_COLUMN}.")
    return stream, MemeColumns(image, folder, arguments.text_columns)


def _predict_parts(
    stream: TableStream,
    predictor: Predictor,
    output: OutputColumns,
    parts: PartFolder,
    rows: int,
    state: PartialState,
) -> int:
    """Write the parts that are not there, of every process its share; the number of all parts."""
    start, errors, index = 0, 0, -1
    with tqdm(desc="predictions", unit="row", total=rows, disable=not state.is_main_process) as bar:
        for index, chunk in enumerate(stream.chunks(CHUNK_ROWS)):
            size = len(chunk.numbers)
            note = parts.find(index, start, size)
            if note is None and index % state.num_processes == state.process_index:
                table = as_table(stream, chunk)
                predictions = predictor(table, chunk.malformed)
                note = PartNote(start, size, predictions.count_errors())
                parts.write(index, output.build(table, predictions), note)
            start += size
            errors += sum(note.errors.values()) if note is not None else 0
            bar.set_postfix(errors=errors, refresh=False)
            bar.update(size)
    return index + 1


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device is {name!r}, which cannot be used: {error}") from None
    return device


def _files_digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _summary(rows: int, errors: Mapping[str, int], output: Path) -> str:
    kinds = ", ".join(
        f"{number} {kind}" for kind, number in sorted(errors.items(), key=lambda item: -item[1])
    )
    wrong = sum(errors.values())
    return f"{rows} rows, {rows - wrong} predicted, {wrong} errors{f' ({kinds})' * bool(kinds)}: {output}"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        description="Predict every row of a table with a saved model. Rows that cannot be predicted say "
        "why in the output's column `error`. Pictures that the table holds whole are left out of the "
        "output. An interrupted run goes on where it stopped."
    )
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument(
        "table", help="CSV, TSV, JSON Lines or Parquet file, or a folder that `datasets` saved"
    )
    parser.add_argument("output", type=Path, help="file to write, .csv or .parquet")
    parser.add_argument("--image_dir", type=Path, help="folder of the pictures (`images` beside the table)")
    parser.add_argument(
        "--image_column",
        default="image",
        help=f"column of the pictures' file names, or of pictures; `{NO_COLUMN}` for none (image)",
    )
    parser.add_argument(
        "--text_columns", nargs="*", default=["text"], help="the first that is not empty counts (text)"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="rows at a time (64)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (a GPU if there is one)")
    parser.add_argument(
        "--restart", action="store_true", help="discard the output and the parts of an earlier run"
    )
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch_size is {arguments.batch_size}: give a number of at least 1")
    return arguments


def main(argv: Sequence[str]) -> None:
    try:
        summary = predict(parse(argv))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if summary:
        print(summary)


if __name__ == "__main__":
    main(sys.argv[1:])
