"""Predict every row of a table with a saved model, some rows at a time, resumable."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from mmorient.features.fingerprints import model_fingerprint
from mmorient.prediction.chunks import ChunkFolder, ChunkNote
from mmorient.prediction.columns import OutputColumns
from mmorient.prediction.job import PredictionJob
from mmorient.prediction.known_references import KnownReferences, known_references
from mmorient.prediction.predictor import Predictor
from mmorient.prediction.saved_models import find_model, load_saved_model
from mmorient.prediction.sources import Source, open_source
from mmorient.tables.problems import TableError
from mmorient.tables.settings import TableSettings
from mmorient.tables.table import as_table

# Rows that are in memory at a time; also what an interrupted run loses at most.
CHUNK_ROWS = 1024


def predict(job: PredictionJob) -> str:
    """Write the output; a summary for a person.

    Args:
        job: What is asked.

    Raises:
        ValueError: If the model, the table as a whole or an argument is unusable, or the output is there.
    """
    state = PartialState()
    device = state.device if job.device is None else _device(job.device)
    chunks = ChunkFolder(job.output)
    settings = TableSettings.load(job.model, **find_model(job.model))
    source = open_source(job, settings)
    stream, columns = source.stream, source.columns
    model, processor = load_saved_model(job.model)
    if model.config.task_feature_dim:
        raise ValueError(f"{job.model!r} needs task features, and a table holds pictures and texts alone.")
    output = OutputColumns(stream, model.config.task_specs, chunks.as_text)
    rows = stream.count_rows()
    if not rows:
        raise TableError(f"{stream.name} has no rows: give a table with some.")
    references = known_references(job.model, model, settings)
    identity = {
        "model": model_fingerprint(model, processor),
        "table": _files_digest(stream.files),
        "image_column": columns.image,
        "image_dir": str(columns.image_dir.resolve()),
        "text_columns": list(columns.text),
        "allow": sorted(source.allow),
        "rows": _digest_of(source.digests),
        "references": _digest_of(references.digests),
        "batch_size": job.batch_size,
        "device": device.type,
    }
    predictor = Predictor(model.to(device), processor, columns, source.allow, job.batch_size, references)
    if not state.is_main_process:
        state.wait_for_everyone()
        _predict_chunks(source, predictor, output, chunks, rows, state)
        state.wait_for_everyone()
        return ""
    with chunks.opened(identity, job.restart):
        state.wait_for_everyone()
        count = _predict_chunks(source, predictor, output, chunks, rows, state)
        state.wait_for_everyone()
        note = chunks.join(count, output.schema)
    return _summary(note, references, job.output)


def _predict_chunks(
    source: Source,
    predictor: Predictor,
    output: OutputColumns,
    chunks: ChunkFolder,
    rows: int,
    state: PartialState,
) -> int:
    """Write the chunks that are not there, of every process its share; the number of all chunks."""
    start, errors, index = 0, 0, -1
    with tqdm(desc="predictions", unit="row", total=rows, disable=not state.is_main_process) as bar:
        for index, chunk in enumerate(source.stream.chunks(CHUNK_ROWS)):
            size = len(chunk.numbers)
            note = chunks.find(index, start, size)
            if note is None and index % state.num_processes == state.process_index:
                table = as_table(source.stream, chunk)
                predictions = predictor(table, source.digests)
                note = ChunkNote(
                    start,
                    size,
                    predictions.count_errors(),
                    predictions.count_without_image(),
                    int(predictions.is_reference.sum()),
                )
                chunks.write(index, output.build(table, predictions), note)
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


def _summary(note: ChunkNote, references: KnownReferences, output: Path) -> str:
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
