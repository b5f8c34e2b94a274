"""Predictions for the rows of a table, and an error for each row that gets none."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from mmorient.features.batches import ahead, readable_inputs
from mmorient.prediction.known_references import KnownReferences
from mmorient.tables.problems import ROW_PROBLEMS, RowProblem
from mmorient.tables.records import Record, RecordColumns, has_problem, read_records
from mmorient.tables.split_rows import record_digest
from mmorient.tables.table import Table
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.features import EncodedFeatures
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.text_input import read_text


@dataclass(frozen=True)
class Predictions:
    """What a model answers for the rows of a table.

    Args:
        table: The rows.
        probabilities: By task (rows, classes), calibrated; NaN where there is no prediction.
        decisions: By task (rows,) class indices; for `multilabel` (rows, labels) of 0 and 1. Where there is
            no prediction, -100.
        is_reference: (rows,) bool: True = the row is one of the model's references, and its answer knows its
            label.
        errors: Of the rows without a prediction.
        without_picture: By row that is answered without the picture that it names, why.
    """

    table: Table
    probabilities: dict[str, np.ndarray]
    decisions: dict[str, np.ndarray]
    is_reference: np.ndarray
    errors: dict[int, RowProblem]
    without_picture: dict[int, str]

    def fail(self, row: int, kind: str, detail: str) -> None:
        """Note that a row cannot be answered; of several reasons the first counts."""
        problem = RowProblem(kind, self.table.name, self.table.where([row]), detail)
        self.errors.setdefault(row, problem)

    def count_errors(self) -> Counter[str]:
        """Number of errors by what a person calls their kind."""
        return Counter(ROW_PROBLEMS[error.kind] for error in self.errors.values())

    def count_without_image(self) -> Counter[str]:
        """Number of rows that are answered from their text alone though they name a picture, by reason."""
        return Counter(reason for row, reason in self.without_picture.items() if row not in self.errors)


class Predictor:
    """A model and its processor, applied to tables of a size that fits into memory.

    A row's prediction depends neither on the other rows nor on the batch, up to the rounding of floats.

    Args:
        model: In evaluation mode, on its device.
        processor: The model's.
        columns: Where the tables have pictures and texts.
        allow: Kinds of problems that stop no row, as in `mmorient.prediction.sources.Source`.
        batch_size: Rows at a time.
        references: How to tell rows that are the model's references.
    """

    def __init__(
        self,
        model: MMOrientForMultitaskClassification,
        processor: MMOrientProcessor,
        columns: RecordColumns,
        allow: Sequence[str],
        batch_size: int,
        references: KnownReferences,
    ) -> None:
        self.model, self.processor = model, processor
        self.columns, self.allow = columns, allow
        self.batch_size, self.references = batch_size, references

    @torch.inference_mode()
    def __call__(self, table: Table, digests: Mapping[str, str] | None = None) -> Predictions:
        """Predictions for every row that is not malformed and can be read.

        A row that names a picture which cannot be read is an error, also if it has a text, unless it is
        allowed: an empty cell is a missing modality, a broken picture is not.

        Args:
            table: The rows.
            digests: By what the table calls a row, the digest that its picture and text must have; None: any.

        Raises:
            TableError: If a column is missing.
        """
        records = list(read_records(table, self.columns, cleaned=self.processor.clean_text).rows)
        answers = self._nothing(table)
        for row, record in enumerate(records):
            if (error := self._error(record)) is not None:
                answers.errors[row] = error
            elif has_problem(record, "missing_pictures"):
                answers.without_picture[row] = "missing picture"
        waiting = [row for row in range(len(table)) if row not in answers.errors]
        while waiting:
            waiting = self._answer(waiting, records, answers)
        if digests is not None or self.references.digests:
            self._compare(records, answers, digests)
        return answers

    def _nothing(self, table: Table) -> Predictions:
        """The answers before the first one."""
        specs, count = self.model.config.task_specs, len(table)
        return Predictions(
            table,
            {
                name: np.full((count, len(kind_of(spec).columns(spec))), np.nan, np.float32)
                for name, spec in specs.items()
            },
            {name: kind_of(spec).unlabelled(spec, count).numpy() for name, spec in specs.items()},
            np.zeros(count, bool),
            {},
            {},
        )

    def _error(self, record: Record) -> RowProblem | None:
        """Why a row is not answered: the first of its problems; None where all of them are allowed."""
        passed = {"missing_pictures"}.intersection(self.allow)
        if all(problem.kind in passed for problem in record.problems):
            return None
        first = record.problems[0]
        if first.kind in passed:
            return first._replace(detail=f"{first.detail}, and the row has no text")
        return first

    def _answer(self, asked: Sequence[int], records: list[Record], answers: Predictions) -> list[int]:
        """Answer rows; those that are to be asked again, without the picture that cannot be read."""
        again = []
        for kept, inputs, failed in ahead(self._batches(asked, records), self.model.device):
            for row, reason in failed.items():
                if self._can_do_without(records[row]):
                    records[row] = replace(records[row], picture=None)
                    answers.without_picture[row] = "unreadable picture"
                    again.append(row)
                else:
                    answers.fail(row, "unreadable_pictures", reason)
            if kept:
                self._ask(kept, inputs, answers)
        return again

    def _ask(self, kept: Sequence[int], inputs: Mapping[str, Any], answers: Predictions) -> None:
        """Let the model answer one batch, but for rows in which something is not a number."""
        features = self.model.encode(**{name: value.to(self.model.device) for name, value in inputs.items()})
        finite = finite_rows(features)
        for index in (~finite).nonzero()[:, 0].tolist():
            answers.fail(kept[index], "not_a_number", "the encoders' features of it are not finite")
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
            for index in np.flatnonzero(~finite_here).tolist():
                detail = f"the model's logits of task {name!r} are not finite"
                answers.fail(kept[index], "not_a_number", detail)
            good &= finite_here
        known = np.array(kept)[good]
        probabilities = self.model.probabilities(logits)
        for name, values in probabilities.items():
            answers.probabilities[name][known] = values.cpu().numpy()[good]
        for name, values in self.model.decisions(probabilities).items():
            answers.decisions[name][known] = values.cpu().numpy()[good]
        if equal is not None:
            answers.is_reference[known] = equal.cpu().numpy()[good]

    def _compare(
        self, records: Sequence[Record], answers: Predictions, digests: Mapping[str, str] | None
    ) -> None:
        """Find rows that are references, and those that are not what they have to be, by their digests."""
        for row, record in enumerate(records):
            if row in answers.errors:
                continue
            try:
                digest = record_digest(record)
            except OSError as error:  # between two looks at it
                answers.fail(row, "unreadable_pictures", str(error))
                continue
            if digests is not None and digest != digests[record.row]:
                answers.fail(row, "changed_rows", "its picture or text is not the one that the run read")
            elif self.references.digests is not None:
                answers.is_reference[row] = digest in self.references.digests

    def _can_do_without(self, record: Record) -> bool:
        """Whether a row that cannot be read may be answered from its text alone."""
        allowed = "unreadable_pictures" in self.allow and record.picture is not None
        return allowed and bool(read_text(record.text, self.processor.clean_text))

    def _batches(
        self, asked: Sequence[int], records: Sequence[Record]
    ) -> Iterator[tuple[list[int], dict[str, Any], dict[int, str]]]:
        """Rows that can be read, their inputs, and why others cannot; alike rows together.

        Long texts come first, so that batches pad little; rows without a picture come after the others, so
        that their batches run no picture encoder.
        """

        def order(row: int) -> tuple[bool, int]:
            return records[row].picture is None, -len(records[row].text or "")

        ordered = sorted(asked, key=order)
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
            kept, inputs, failed = readable_inputs(self.processor, [records[row] for row in batch])
            yield [batch[i] for i in kept], inputs, {batch[i]: reason for i, reason in failed.items()}


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
