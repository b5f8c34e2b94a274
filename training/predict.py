"""Predict every row of a table with a saved model: a table in, a table out.

    python training/predict.py MODEL TABLE OUTPUT [--image_dir DIR] [--image_column image]
                               [--text_columns text ...] [--allow missing_pictures ...] [--split test]
                               [--batch_size 64] [--device cuda]

OUTPUT (`.csv` or `.parquet`) has the rows of TABLE in their order, all of its columns, and beside them for
each task `predicted.{task}` and `probability.{task}.{label}`, and `is_reference` and `error`. Pictures that
TABLE holds whole are left out. A row that cannot be predicted (a malformed line, a picture that cannot be
read, neither picture nor text, logits that are not numbers) says so in `error` and is empty in the other new
columns; it stops nothing, and the exit status is 0. A label of a multi-label task is predicted where its
probability is above the label's threshold: one half, or what the run fitted (`thresholds` of the task in the
model's `config.json`).

TABLE is read as the recipe read its tables (columns, `allow`, delimiter, encoding), where the model's folder
says how (`tables.json`); the command line wins. `is_reference` marks rows that are references of the model:
it knows their labels. `--split` predicts the rows of TABLE that the run had in one split.

The table is read some rows at a time, whatever its length. What is finished is kept in `OUTPUT.parts`:
started again with the same arguments, an interrupted run goes on there, and the output is the same to the
byte, as long as the pictures stay as they are. Under `accelerate launch` the processes share the work.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from training.disk_failures import explained_failures
from training.feature_fingerprints import model_fingerprint
from training.known_references import KnownReferences, known_references
from training.prediction_columns import OutputColumns
from training.prediction_parts import PartFolder, PartNote
from training.prediction_sources import NO_COLUMN, Source, open_source
from training.predictions import Predictor
from training.problems import PROBLEM_KINDS, TableError
from training.saved_models import find_model, load_saved_model
from training.splits import PARTS
from training.table_settings import TableSettings
from training.tables import as_table

# Rows that are in memory at a time; also what an interrupted run loses at most.
CHUNK_ROWS = 1024


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
    settings = TableSettings.load(arguments.model, **find_model(arguments.model))
    source = open_source(arguments, settings)
    stream, columns = source.stream, source.columns
    model, processor = load_saved_model(arguments.model)
    if model.config.task_feature_dim:
        raise ValueError(
            f"{arguments.model!r} needs task features, and a table holds pictures and texts alone."
        )
    output = OutputColumns(stream, model.config.task_specs, parts.as_text)
    rows = stream.count_rows()
    if not rows:
        raise TableError(f"{stream.name} has no rows.")
    references = known_references(arguments.model, model, settings)
    job = {
        "model": model_fingerprint(model, processor),
        "table": _files_digest(stream.files),
        "image_column": columns.image,
        "image_dir": str(columns.image_dir.resolve()),
        "text_columns": list(columns.text),
        "allow": sorted(columns.allow),
        "rows": _digest_of(source.digests),
        "references": _digest_of(references.digests),
        "batch_size": arguments.batch_size,
        "device": device.type,
    }
    predictor = Predictor(model.to(device), processor, columns, arguments.batch_size, references)
    if not state.is_main_process:
        state.wait_for_everyone()
        _predict_parts(source, predictor, output, parts, rows, state)
        state.wait_for_everyone()
        return ""
    with parts.opened(job, arguments.restart):
        state.wait_for_everyone()
        count = _predict_parts(source, predictor, output, parts, rows, state)
        state.wait_for_everyone()
        note = parts.join(count, output.schema)
    return _summary(note, references, arguments.output)


def _predict_parts(
    source: Source,
    predictor: Predictor,
    output: OutputColumns,
    parts: PartFolder,
    rows: int,
    state: PartialState,
) -> int:
    """Write the parts that are not there, of every process its share; the number of all parts."""
    start, errors, index = 0, 0, -1
    with tqdm(desc="predictions", unit="row", total=rows, disable=not state.is_main_process) as bar:
        for index, chunk in enumerate(source.stream.chunks(CHUNK_ROWS)):
            size = len(chunk.numbers)
            note = parts.find(index, start, size)
            if note is None and index % state.num_processes == state.process_index:
                table = as_table(source.stream, chunk)
                predictions = predictor(table, chunk.malformed, source.digests)
                note = PartNote(
                    start,
                    size,
                    predictions.count_errors(),
                    predictions.count_without_picture(),
                    int(predictions.is_reference.sum()),
                )
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


def _digest_of(values: Iterable[str] | Mapping[str, str] | None) -> str | None:
    """What stands in the manifest for many strings; None where there are none to compare with."""
    if values is None:
        return None
    pairs = sorted(values.items() if isinstance(values, Mapping) else values)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _summary(note: PartNote, references: KnownReferences, output: Path) -> str:
    wrong = sum(note.errors.values())
    kinds = f" ({_counted(note.errors)})" if wrong else ""
    lines = [f"{note.rows} rows, {note.rows - wrong} predicted, {wrong} errors{kinds}: {output}"]
    if without := sum(note.without_picture.values()):
        lines.append(
            f"{without} of them predicted from the text alone, as the model's recipe or --allow allows "
            f"({_counted(note.without_picture)})"
        )
    if note.references:
        lines.append(
            f"{note.references} of them are references of the model, which knows their labels (column "
            "is_reference)"
        )
    if references.digests is None:
        lines.append(
            f"references are told by equality with what the model stores of them: {references.reason}"
        )
    return "\n".join(lines)


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(
        f"{number} {kind}" for kind, number in sorted(numbers.items(), key=lambda item: -item[1])
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        description="Predict every row of a table with a saved model. Rows that cannot be predicted say "
        "why in the output's column `error`. Pictures that the table holds whole are left out of the "
        "output. An interrupted run goes on where it stopped."
    )
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument(
        "table", help="CSV, TSV, JSON Lines, Parquet or .xlsx file, or a folder that `datasets` saved"
    )
    parser.add_argument("output", type=Path, help="file to write, .csv or .parquet")
    parser.add_argument("--image_dir", type=Path, help="folder of the pictures (`images` beside the table)")
    parser.add_argument(
        "--image_column",
        help=f"column of the pictures' file names, or of pictures; `{NO_COLUMN}` for none (as in the recipe)",
    )
    parser.add_argument(
        "--text_columns", nargs="*", help="the first that is not empty counts (as in the recipe)"
    )
    parser.add_argument(
        "--allow",
        nargs="*",
        choices=PROBLEM_KINDS,
        metavar="PROBLEM",
        help="missing_pictures, unreadable_pictures: predict such rows from their text (as in the recipe)",
    )
    parser.add_argument("--delimiter", help="between the cells of a CSV file (as in the recipe)")
    parser.add_argument("--encoding", help="of a text file (as in the recipe)")
    parser.add_argument(
        "--split", choices=PARTS, help="only the rows of the table that the run had in this split"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="rows at a time (64)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (a GPU if there is one)")
    parser.add_argument(
        "--restart", action="store_true", help="discard the output and the parts of an earlier run"
    )
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch_size is {arguments.batch_size}: give a number of at least 1")
    if arguments.split and (arguments.image_column or arguments.text_columns is not None):
        parser.error("--split reads what the run read: leave out --image_column and --text_columns")
    return arguments


def main(argv: Sequence[str]) -> None:
    arguments = parse(argv)
    try:
        with explained_failures({"output": str(arguments.output.parent)}):
            summary = predict(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if summary:
        print(summary)


if __name__ == "__main__":
    main(sys.argv[1:])
