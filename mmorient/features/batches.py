"""From rows to batches: pictures and texts through the processor, or features from the cache."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from modeling_mmorient import MMOrientProcessor

Row = Mapping[str, Any]
T = TypeVar("T")
# Features that are as long as a text or a picture has tokens or regions, and the mask of each.
SEQUENCES = {"region_features": "region_mask", "token_features": "attention_mask"}


def label_batch(rows: Sequence[Row], tasks: Sequence[str]) -> dict[str, torch.Tensor]:
    """Labels (batch,) by task."""
    return {task: torch.tensor([row["labels"][task] for row in rows]) for task in tasks}


def raw_inputs(processor: MMOrientProcessor, rows: Sequence[Row]) -> dict[str, Any]:
    """What the encoders take.

    Args:
        processor: The model's.
        rows: With `image` (path, a file's bytes, or None), `text` (string or None) and `row` (for errors:
            its number).

    Raises:
        ValueError: If a picture or a text cannot be read; the message names the table's row.
    """
    images, texts = [row["image"] for row in rows], [row["text"] for row in rows]
    try:
        return dict(processor(images=images, text=texts, return_tensors="pt"))
    except ValueError as error:
        for row, reason in _unreadable(processor, rows):
            raise ValueError(f"row {row['row']}: {reason}") from error
        raise


def readable_inputs(
    processor: MMOrientProcessor, rows: Sequence[Row]
) -> tuple[list[Row], dict[str, Any], dict[Any, str]]:
    """The rows that can be read, what the encoders take of them, and why others cannot be read, by `row`.

    A modality that none of the rows has is left out, so that its encoder does not run.

    Args:
        processor, rows: As in [`raw_inputs`].
    """
    failed: dict[Any, str] = {}
    try:
        return list(rows), _present_inputs(processor, rows), failed
    except ValueError:
        failed = {row["row"]: reason for row, reason in _unreadable(processor, rows)}
        if not failed:
            raise
    kept = [row for row in rows if row["row"] not in failed]
    return kept, _present_inputs(processor, kept) if kept else {}, failed


def ahead(batches: Iterator[T], device: torch.device) -> Iterator[T]:
    """The same batches, none of them None; while one is used on an accelerator the next is made in a thread.

    Not on CPU: a model's own threads fill the cores there, and wait for one another whenever one of them
    has to share its core.
    """
    if device.type == "cpu":
        yield from batches
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _present_inputs(processor: MMOrientProcessor, rows: Sequence[Row]) -> dict[str, Any]:
    columns = {"images": [row["image"] for row in rows], "text": [row["text"] for row in rows]}
    given = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return dict(processor(**given, return_tensors="pt"))


def _unreadable(processor: MMOrientProcessor, rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """The rows that fail by themselves: the error of a batch knows the first one's place in the batch."""
    for row in rows:
        try:
            _present_inputs(processor, [row])
        except ValueError as error:
            yield row, str(error).removeprefix("row 0: ")


def padded_places(places: Sequence[Sequence[int]]) -> torch.Tensor:
    """Places of each row, (rows, m), with -1 where there are no more; m is a power of two.

    At such widths a row's entries give the same sums to the last bit, so that what a model remembers of the
    row holds in batches with other rows too.
    """
    most = max(map(len, places), default=0)
    padded = torch.full((len(places), 1 << max(most - 1, 0).bit_length()), -1)
    for row, own in enumerate(places):
        padded[row, : len(own)] = torch.tensor(own, dtype=torch.long)
    return padded


def _own_references(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Places among the references (batch, m), of rows that know them."""
    if "own_reference" not in rows[0]:
        return {}
    return {"own_reference": padded_places([row["own_reference"] for row in rows])}


class MemeCollator:
    """Batches of raw rows: `image`, `text` and `row` as in [`raw_inputs`], and `labels`."""

    def __init__(self, processor: MMOrientProcessor, tasks: Sequence[str]) -> None:
        self.processor, self.tasks = processor, list(tasks)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {
            **raw_inputs(self.processor, rows),
            "labels": label_batch(rows, self.tasks),
            **_own_references(rows),
        }


class FeatureCollator:
    """Batches of rows with `features` and `labels`, padded to the longest."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        batch: dict[str, Any] = {"labels": label_batch(rows, self.tasks), **_own_references(rows)}
        for name in rows[0]["features"]:
            values = [row["features"][name] for row in rows]
            if name in SEQUENCES:
                batch[name] = pad_sequence(values, batch_first=True)
                lengths = torch.tensor([len(value) for value in values])
                batch[SEQUENCES[name]] = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
            else:
                batch[name] = torch.stack(values)
        return batch
