"""Predictions for the rows of a table, and an error for each row that gets none."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from mmorient.features.batches import Row, ahead, readable_inputs
from mmorient.prediction.known_references import KnownReferences
from mmorient.prediction.rows import MemeColumns, ReadRows, RowError, read_rows
from mmorient.tables.split_rows import read_digest
from mmorient.tables.table import Table
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.features import EncodedFeatures
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.text_input import read_text

NOT_A_NUMBER = "not a number"


@dataclass(frozen=True)
class Predictions:
    """What a model answers for the rows of a table.

    Args:
        probabilities: By task (rows, classes), calibrated; NaN where there is no prediction.
        decisions: By task (rows,) class indices; for `multilabel` (rows, labels) of 0 and 1. Where there is
            no prediction, -100.
        is_reference: (rows,) bool: True = the row is one of the model's references, and its answer knows its
            label.
        errors: Of the rows without a prediction.
        without_picture: By row that is answered without the picture that it names, why.
    """

    probabilities: dict[str, np.ndarray]
    decisions: dict[str, np.ndarray]
    is_reference: np.ndarray
    errors: Mapping[int, RowError]
    without_picture: Mapping[int, str]

    def count_errors(self) -> Counter[str]:
        """Number of errors by kind."""
        return Counter(error.kind for error in self.errors.values())

    def count_without_picture(self) -> Counter[str]:
        """Number of rows that are answered from their text alone though they name a picture, by reason."""
        return Counter(reason for row, reason in self.without_picture.items() if row not in self.errors)


class Predictor:
    """A model and its processor, applied to tables of a size that fits into memory.

    A row's prediction depends neither on the other rows nor on the batch, up to the rounding of floats.

    Args:
        model: In evaluation mode, on its device.
        processor: The model's.
        columns: Where the tables have their memes.
        batch_size: Rows at a time.
        references: How to tell rows that are the model's references.
    """

    def __init__(
        self,
        model: MMOrientForMultitaskClassification,
        processor: MMOrientProcessor,
        columns: MemeColumns,
        batch_size: int,
        references: KnownReferences,
    ) -> None:
        self.model, self.processor = model, processor
        self.columns, self.batch_size, self.references = columns, batch_size, references

    @torch.inference_mode()
    def __call__(
        self, table: Table, malformed: Mapping[int, str], digests: Mapping[str, str] | None = None
    ) -> Predictions:
        """Predictions for every row that is not malformed and can be read.

        A row that names a picture which cannot be read is an error, also if it has a text, unless the columns
        allow it: an empty cell is a missing modality, a broken picture is not.

        Args:
            table: The rows.
            malformed: Rows that are broken as rows, with the reason.
            digests: By what the table calls a row, the digest that its picture and text must have; None: any.

        Raises:
            TableError: If a column is missing or holds no pictures at all.
        """
        rows = read_rows(table, malformed, self.columns, self.processor.clean_text)
        answers = self._nothing(rows)
        waiting = [row for row in range(len(table)) if row not in rows.errors]
        while waiting:
            waiting = self._answer(waiting, rows, answers)
        if digests is not None or self.references.digests:
            self._compare(rows, answers, digests)
        return answers

    def _nothing(self, rows: ReadRows) -> Predictions:
        """The answers before the first one; errors are those of the rows."""
        specs, count = self.model.config.task_specs, len(rows.table)
        return Predictions(
            {
                name: np.full((count, len(kind_of(spec).columns(spec))), np.nan, np.float32)
                for name, spec in specs.items()
            },
            {name: kind_of(spec).unlabelled(spec, count).numpy() for name, spec in specs.items()},
            np.zeros(count, bool),
            rows.errors,
            rows.without_picture,
        )

    def _answer(self, asked: Sequence[int], rows: ReadRows, answers: Predictions) -> list[int]:
        """Answer rows; those that are to be asked again, without the picture that cannot be read."""
        again = []
        for kept, inputs, failed in ahead(self._batches(asked, rows), self.model.device):
            for row, reason in failed.items():
                if self._can_do_without(row, rows):
                    rows.without_picture[row] = "unreadable picture"
                    again.append(row)
                else:
                    rows.fail(row, "unreadable", reason)
            if kept:
                self._ask(kept, inputs, rows, answers)
        return again

    def _ask(
        self, kept: Sequence[int], inputs: Mapping[str, Any], rows: ReadRows, answers: Predictions
    ) -> None:
        """Let the model answer one batch, but for rows in which something is not a number."""
        features = self.model.encode(**{name: value.to(self.model.device) for name, value in inputs.items()})
        finite = finite_rows(features)
        for place in (~finite).nonzero()[:, 0].tolist():
            rows.fail(kept[place], NOT_A_NUMBER, "the encoders' features of it are not finite")
        if not finite.any():
            return
        if not finite.all():
            kept = [row for row, good in zip(kept, finite.tolist(), strict=True) if good]
            features = _select(features, finite)
        logits = self.model(**features.as_inputs()).logits
        equal = self.references.equal(features) if self.references.digests is None else None
        good = np.ones(len(kept), bool)
        for name, values in logits.items():
            finite_here = values.isfinite().all(-1).cpu().numpy()
            for place in np.flatnonzero(~finite_here).tolist():
                rows.fail(kept[place], NOT_A_NUMBER, f"the model's logits of task {name!r} are not finite")
            good &= finite_here
        known = np.array(kept)[good]
        probabilities = self.model.probabilities(logits)
        for name, values in probabilities.items():
            answers.probabilities[name][known] = values.cpu().numpy()[good]
        for name, values in self.model.decisions(probabilities).items():
            answers.decisions[name][known] = values.cpu().numpy()[good]
        if equal is not None:
            answers.is_reference[known] = equal.cpu().numpy()[good]

    def _compare(self, rows: ReadRows, answers: Predictions, digests: Mapping[str, str] | None) -> None:
        """Find rows that are references, and those that are not what they have to be, by their digests."""
        for row, number in enumerate(rows.table.numbers):
            if row in rows.errors:
                continue
            try:
                digest = read_digest(rows.picture(row), rows.texts[row])
            except OSError as error:  # between two looks at it
                rows.fail(row, "unreadable", str(error))
                continue
            if digests is not None and digest != digests[str(number)]:
                rows.fail(row, "changed row", "its picture or text is not the one that the run read")
            elif self.references.digests is not None:
                answers.is_reference[row] = digest in self.references.digests

    def _can_do_without(self, row: int, rows: ReadRows) -> bool:
        """Whether a row that cannot be read may be answered from its text alone."""
        allowed = "unreadable_pictures" in self.columns.allow and rows.names_picture(row)
        return allowed and bool(read_text(rows.texts[row], self.processor.clean_text))

    def _batches(
        self, asked: Sequence[int], rows: ReadRows
    ) -> Iterator[tuple[list[int], dict[str, Any], dict[int, str]]]:
        """Rows that can be read, their inputs, and why others cannot; alike rows together.

        Long texts come first, so that batches pad little; rows without a picture come after the others, so
        that their batches run no picture encoder.
        """

        def order(row: int) -> tuple[bool, int]:
            return not rows.names_picture(row), -len(rows.texts[row] or "")

        ordered = sorted(asked, key=order)
        for start in range(0, len(ordered), self.batch_size):
            batch: list[Row] = [
                {"row": row, "text": rows.texts[row], "image": rows.picture(row)}
                for row in ordered[start : start + self.batch_size]
            ]
            kept, inputs, failed = readable_inputs(self.processor, batch)
            yield [row["row"] for row in kept], inputs, failed


def finite_rows(features: EncodedFeatures) -> torch.Tensor:
    """(B,) bool: True = all that is present of the row is finite."""
    image, text = features.image_present, features.text_present
    parts = (
        (features.image_embeds, image),
        (features.text_embeds, text),
        (features.region_features, features.region_mask & image.unsqueeze(-1)),
        (features.token_features, features.token_mask & text.unsqueeze(-1)),
    )
    finite = torch.ones_like(image)
    for values, mask in parts:
        good = values.isfinite().all(-1) | ~mask
        finite &= good if good.ndim == 1 else good.all(-1)
    return finite


def _select(features: EncodedFeatures, rows: torch.Tensor) -> EncodedFeatures:
    values: dict[str, Any] = {}
    for field in fields(features):
        value = getattr(features, field.name)
        values[field.name] = None if value is None else value[rows]
    return EncodedFeatures(**values)
