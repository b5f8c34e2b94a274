"""From rows to batches: pictures and texts through the processor, or features computed before."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor

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
    """Batches of rows of [`FeatureRows`], padded to the longest."""

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


class FeatureRows(Dataset[Row]):
    """The features of frozen encoders, one row for each of a table's, kept in memory.

    Args:
        features: By row: the model's feature arguments, without padding.
        labels: By row: class index by task.
    """

    def __init__(self, features: list[dict[str, torch.Tensor]], labels: list[Mapping[str, int]]) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> Row:
        return {"features": self.features[row], "labels": self.labels[row]}


@torch.no_grad()
def precompute_features(
    model: MMOrientForMultitaskClassification,
    table: datasets.Dataset,
    collator: MemeCollator,
    batch_size: int,
    device: torch.device,
    description: str,
) -> FeatureRows:
    """Run the encoders once over a table.

    Args:
        model: Its encoders are frozen: their features do not change in training.
        table: Rows for `collator`.
        batch_size: Rows at a time.
        device: Where the encoders run; the features come back to the CPU.
        description: Of the progress bar.
    """
    model.to(device).eval()
    rows: list[dict[str, torch.Tensor]] = []
    batches = DataLoader(table, batch_size, collate_fn=collator)
    for batch in tqdm(batches, desc=description, unit="batch"):
        batch.pop("labels")
        inputs = {name: value.to(device) for name, value in batch.items()}
        features = {name: value.cpu() for name, value in model.encode(**inputs).as_inputs().items()}
        rows += [_unpadded(features, row) for row in range(len(features["image_present"]))]
    return FeatureRows(rows, table["labels"][:])


def _unpadded(features: Mapping[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    masks = set(SEQUENCES.values())
    values = {name: value[row].clone() for name, value in features.items() if name not in masks}
    for name, mask in SEQUENCES.items():
        values[name] = features[name][row][features[mask][row]]
    return values
