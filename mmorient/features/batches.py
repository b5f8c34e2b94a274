"""From records to batches: pictures and texts through the processor, or features from the cache."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from mmorient.tables.records import Record
from modeling_mmorient import MMOrientProcessor

T = TypeVar("T")
# Features whose length varies with the tokens or regions of a row, and the mask of each.
SEQUENCES = {"region_features": "region_mask", "token_features": "attention_mask"}


def label_batch(records: Sequence[Record], tasks: Sequence[str]) -> dict[str, torch.Tensor]:
    """Labels (batch,) by task."""
    return {task: torch.tensor([record.labels[task] for record in records]) for task in tasks}


def raw_inputs(processor: MMOrientProcessor, records: Sequence[Record]) -> dict[str, Any]:
    """What the encoders take.

    Args:
        processor: The model's.
        records: The rows.

    Raises:
        ValueError: If a picture or a text cannot be read; the message names the table's row.
    """
    images, texts = [record.image for record in records], [record.text for record in records]
    try:
        return dict(processor(images=images, text=texts, return_tensors="pt"))
    except ValueError as error:
        for index, reason in _unreadable(processor, records).items():
            raise ValueError(f"row {records[index].row}: {reason}") from error
        raise


def readable_inputs(
    processor: MMOrientProcessor, records: Sequence[Record]
) -> tuple[list[int], dict[str, Any], dict[int, str]]:
    """Indices of the readable records, their encoder inputs, and why the others cannot be read.

    A modality that none of the rows has is left out, so that its encoder does not run.

    Args:
        processor, records: As in [`raw_inputs`].
    """
    try:
        return list(range(len(records))), _present_inputs(processor, records), {}
    except ValueError:
        failed = _unreadable(processor, records)
        if not failed:
            raise
    kept = [index for index in range(len(records)) if index not in failed]
    return kept, _present_inputs(processor, [records[index] for index in kept]) if kept else {}, failed


def ahead(batches: Iterator[T], device: torch.device) -> Iterator[T]:
    """The same batches (never None); on an accelerator, a thread makes the next one while one is used.

    Not on CPU: the model's own threads use all cores there, and all of them wait whenever one has to share
    its core.
    """
    if device.type == "cpu":
        yield from batches
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _present_inputs(processor: MMOrientProcessor, records: Sequence[Record]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        "images": [record.image for record in records],
        "text": [record.text for record in records],
    }
    given = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return dict(processor(**given, return_tensors="pt"))


def _unreadable(processor: MMOrientProcessor, records: Sequence[Record]) -> dict[int, str]:
    """Errors of the records that cannot be read, by index: a batch's own error names only the first."""
    failed = {}
    for index, record in enumerate(records):
        try:
            _present_inputs(processor, [record])
        except ValueError as error:
            failed[index] = str(error).removeprefix("row 0: ")
    return failed


def padded_indices(indices: Sequence[Sequence[int]]) -> torch.Tensor:
    """Indices of each row, (rows, m), padded with -1; m is a power of two.

    At such widths a row's entries give the same sums to the last bit, so that what a model has cached for the
    row is valid in batches with other rows too.
    """
    most = max(map(len, indices), default=0)
    padded = torch.full((len(indices), 1 << max(most - 1, 0).bit_length()), -1)
    for row, own in enumerate(indices):
        padded[row, : len(own)] = torch.tensor(own, dtype=torch.long)
    return padded


def _own_references(records: Sequence[Record]) -> dict[str, torch.Tensor]:
    """Each row's own indices among the references, (batch, m), if they are known."""
    own = [record.own_references for record in records if record.own_references is not None]
    return {"own_reference": padded_indices(own)} if own else {}


class MemeCollator:
    """Batches of pictures and texts, as the encoders take them, with labels."""

    def __init__(self, processor: MMOrientProcessor, tasks: Sequence[str]) -> None:
        self.processor, self.tasks = processor, list(tasks)

    def __call__(self, records: Sequence[Record]) -> dict[str, Any]:
        return {
            **raw_inputs(self.processor, records),
            "labels": label_batch(records, self.tasks),
            **_own_references(records),
        }


class FeatureCollator:
    """Batches of features that are computed already, padded to the longest, with labels."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)

    def __call__(self, records: Sequence[Record]) -> dict[str, Any]:
        batch: dict[str, Any] = {"labels": label_batch(records, self.tasks), **_own_references(records)}
        rows = [record.features for record in records if record.features is not None]
        for name in rows[0]:
            values = [features[name] for features in rows]
            if name in SEQUENCES:
                batch[name] = pad_sequence(values, batch_first=True)
                lengths = torch.tensor([len(value) for value in values])
                batch[SEQUENCES[name]] = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
            else:
                batch[name] = torch.stack(values)
        return batch
