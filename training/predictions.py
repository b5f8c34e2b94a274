"""Predictions for the rows of a table, and an error for each row that gets none."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.text_input import read_text
from training.batches import Row, ahead, readable_inputs
from training.memes import read_texts
from training.pictures import PictureSources, find_pictures
from training.tables import Table


class RowError(NamedTuple):
    """Why a row gets no prediction.

    Args:
        kind: `malformed row`, `invalid cell`, `picture outside the folder`, `missing picture`, `unreadable`
            or `neither picture nor text`.
        detail: What is wrong, for a person.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True)
class MemeColumns:
    """Where a table has its memes.

    Args:
        image: Column of the pictures, as in `DataArguments.image_column`; None for a table without any.
        image_dir: Where file names start; no picture outside it is read.
        text: Columns of the text; the first one that is not empty counts.
    """

    image: str | None
    image_dir: Path
    text: Sequence[str]


@dataclass(frozen=True)
class Predictions:
    """What a model answers for the rows of a table.

    Args:
        probabilities: By task (rows, classes), calibrated; NaN where there is no prediction.
        decisions: By task (rows,) class indices; for `multilabel` (rows, labels) of 0 and 1. Where there is
            no prediction, -1.
        errors: Of the rows without a prediction.
    """

    probabilities: dict[str, np.ndarray]
    decisions: dict[str, np.ndarray]
    errors: dict[int, RowError]

    def count_errors(self) -> Counter[str]:
        """Number of errors by kind."""
        return Counter(error.kind for error in self.errors.values())


class Predictor:
    """A model and its processor, applied to tables of a size that fits into memory.

    A row's prediction depends neither on the other rows nor on the batch, up to the rounding of floats.

    Args:
        model: In evaluation mode, on its device.
        processor: The model's.
        columns: Where the tables have their memes.
        batch_size: Rows at a time.
    """

    def __init__(
        self,
        model: MMOrientForMultitaskClassification,
        processor: MMOrientProcessor,
        columns: MemeColumns,
        batch_size: int,
    ) -> None:
        self.model, self.processor = model, processor
        self.columns, self.batch_size = columns, batch_size

    @torch.inference_mode()
    def __call__(self, table: Table, malformed: Mapping[int, str]) -> Predictions:
        """Predictions for every row that is not malformed and can be read.

        A row that names a picture which cannot be read is an error, also if it has a text: an empty cell is
        a missing modality, a broken picture is not.

        Args:
            table: The rows.
            malformed: Rows that are broken as rows, with the reason.

        Raises:
            TableError: If a column is missing or holds no pictures at all.
        """
        specs = self.model.config.task_specs
        shapes = {name: (len(table), spec.num_labels) for name, spec in specs.items()}
        probabilities = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
        decisions = {
            name: np.full(shape if specs[name].kind == "multilabel" else shape[:1], -1)
            for name, shape in shapes.items()
        }
        texts, pictures, errors = self._read(table, malformed)
        usable = [row for row in range(len(table)) if row not in errors]
        for rows, inputs, failed in ahead(self._batches(usable, texts, pictures), self.model.device):
            errors.update({row: RowError("unreadable", reason) for row, reason in failed.items()})
            if not rows:
                continue
            logits = self.model(
                **{name: value.to(self.model.device) for name, value in inputs.items()}
            ).logits
            answers = self.model.probabilities(logits)
            for name, values in answers.items():
                probabilities[name][rows] = values.cpu().numpy()
            for name, values in self.model.decisions(answers).items():
                decisions[name][rows] = values.cpu().numpy()
        return Predictions(probabilities, decisions, errors)

    def _read(
        self, table: Table, malformed: Mapping[int, str]
    ) -> tuple[list[str | None], PictureSources | None, dict[int, RowError]]:
        """Texts, pictures, and what is wrong with rows; the first finding of a row counts."""
        columns = self.columns
        found = [(row, RowError("malformed row", reason)) for row, reason in malformed.items()]
        texts, invalid = read_texts(table, columns.text)
        found += [
            (row, RowError("invalid cell", f"a {kind} in column {column!r}: give a text"))
            for column, kinds in invalid.items()
            for row, kind in kinds.items()
        ]
        pictures = None
        if columns.image is not None:
            pictures = find_pictures(table, columns.image, columns.image_dir)
            found += _picture_errors(pictures, columns)
        for row, text in enumerate(texts):
            try:
                # What cleaning leaves nothing of is no text for the processor either.
                is_empty = not read_text(text, self.processor.clean_text)
            except ValueError as error:
                found.append((row, RowError("unreadable", str(error))))
                continue
            if is_empty and (pictures is None or pictures.names[row] is None):
                found.append((row, RowError("neither picture nor text", "fill a cell")))
        return texts, pictures, dict(reversed(found))

    def _batches(
        self, rows: Sequence[int], texts: Sequence[str | None], pictures: PictureSources | None
    ) -> Iterator[tuple[list[int], dict[str, Any], dict[int, str]]]:
        """Rows that can be read, their inputs, and why others cannot; alike rows together.

        Long texts come first, so that batches pad little; rows without a picture come after the others, so
        that their batches run no picture encoder.
        """

        def order(row: int) -> tuple[bool, int]:
            return pictures is None or pictures.names[row] is None, -len(texts[row] or "")

        ordered = sorted(rows, key=order)
        for start in range(0, len(ordered), self.batch_size):
            batch: list[Row] = [
                {"row": row, "text": texts[row], "image": None if pictures is None else pictures[row]}
                for row in ordered[start : start + self.batch_size]
            ]
            kept, inputs, failed = readable_inputs(self.processor, batch)
            yield [row["row"] for row in kept], inputs, failed


def _picture_errors(pictures: PictureSources, columns: MemeColumns) -> list[tuple[int, RowError]]:
    names, folder = pictures.names, columns.image_dir
    invalid = [
        (row, RowError("invalid cell", f"a {kind} in column {columns.image!r}: give a file name"))
        for row, kind in pictures.invalid.items()
    ]
    outside = [
        (row, RowError("picture outside the folder", f"{names[row]!r}; only {folder} is read"))
        for row in pictures.outside
    ]
    missing = [
        (row, RowError("missing picture", f"there is no {names[row]!r} in {folder}"))
        for row in pictures.missing
    ]
    return [*invalid, *outside, *missing]
