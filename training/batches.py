"""From rows to batches: pictures and texts through the processor, or features from the cache."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from modeling_mmorient import MMOrientProcessor

Row = Mapping[str, Any]
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
    except ValueError:
        _name_bad_row(processor, rows)
        raise


def _name_bad_row(processor: MMOrientProcessor, rows: Sequence[Row]) -> None:
    """Raise the error of the first row that fails by itself: a batch knows the places in the batch alone."""
    for row in rows:
        try:
            processor(images=[row["image"]], text=[row["text"]])
        except ValueError as error:
            raise ValueError(f"row {row['row']}: {str(error).removeprefix('row 0: ')}") from error


class MemeCollator:
    """Batches of raw rows: `image`, `text` and `row` as in [`raw_inputs`], and `labels`."""

    def __init__(self, processor: MMOrientProcessor, tasks: Sequence[str]) -> None:
        self.processor, self.tasks = processor, list(tasks)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {**raw_inputs(self.processor, rows), "labels": label_batch(rows, self.tasks)}


class FeatureCollator:
    """Batches of rows with `features` and `labels`, padded to the longest."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        batch: dict[str, Any] = {"labels": label_batch(rows, self.tasks)}
        for name in rows[0]["features"]:
            values = [row["features"][name] for row in rows]
            if name in SEQUENCES:
                batch[name] = pad_sequence(values, batch_first=True)
                lengths = torch.tensor([len(value) for value in values])
                batch[SEQUENCES[name]] = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
            else:
                batch[name] = torch.stack(values)
        return batch
