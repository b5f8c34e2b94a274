"""A table's own columns and beside them predictions, probabilities and errors."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmorient.kinds.kinds import toolkit_kind
from mmorient.prediction.predictor import Predictions
from mmorient.tables.images import IMAGE_FIELDS, holds_bytes
from mmorient.tables.problems import TableError
from mmorient.tables.stream import TableStream
from mmorient.tables.table import Table
from modeling_mmorient.task_specs import TaskSpec

ERROR, IS_REFERENCE = "error", "is_reference"
READ_ROWS = 1024
_SURROGATES = re.compile("[\ud800-\udfff]")


class OutputColumns:
    """The columns of an output table: those of the input, and

    - `predicted.{task}`: the label; of a multi-label task all that hold, a list (Parquet) or joined by
      `|` (CSV).
    - `probability.{task}.{label}` for each class. A label of a multi-label task holds where it is above the
      label's threshold (`thresholds` of the task in the model's `config.json`; one half without).
    - Of a regression task instead the value in `predicted.{task}`, and `interval.{task}.low` and `.high`,
      between which nine of ten true values lie, where the task has an interval fitted.
    - `is_reference`: whether the row is one of the model's references, so that its answer knows its label:
      true or false; empty where the row has no prediction.
    - `error`: why a row has no prediction; empty where it has one.

    Images that the input holds whole, and other bytes, are left out; of pictures as `datasets` stores
    them the path stays. Records, and values whose kind varies from line to line, become JSON.

    Args:
        stream: The input.
        specs: The model's tasks.
        as_text: Whether all cells are made to text, for CSV.

    Raises:
        TableError: If two columns would have one name.
        ValueError: If a label cannot be told apart in CSV.
    """

    def __init__(self, stream: TableStream, specs: Mapping[str, TaskSpec], as_text: bool) -> None:
        self.specs, self.as_text = specs, as_text
        self._json: set[str] = set()
        fields = self._input_fields(stream)
        for spec in specs.values():
            fields += toolkit_kind(spec).fields(spec, as_text)
        fields += [(IS_REFERENCE, pa.bool_()), (ERROR, pa.string())]
        added = len(fields) - len(self.input_names)
        twice = [name for name, number in Counter(name for name, _ in fields).items() if number > 1]
        if twice:
            raise TableError(
                f"{stream.name}: the columns {twice} would be in the output twice, since predictions need "
                f"their names: rename them (all of them are {[name for name, _ in fields[-added:]]})."
            )
        self.schema = pa.schema([(name, pa.string()) for name, _ in fields] if as_text else fields)
        features = (stream.schema.metadata or {}).get(b"huggingface") if stream.schema else None
        if features is not None and not as_text:  # names of class indices
            self.schema = self.schema.with_metadata({b"huggingface": features})

    def build(self, table: Table, predictions: Predictions) -> pa.Table:
        """The output of some rows."""
        arrays = [self._input(table, name) for name in self.input_names]
        failed = np.array([row in predictions.errors for row in range(len(table))])
        for name, spec in self.specs.items():
            answered = predictions.decisions[name][~failed], predictions.probabilities[name][~failed]
            for cells in toolkit_kind(spec).columns(spec, *answered, self.as_text):
                left = iter(cells)
                arrays.append([None if no else next(left) for no in failed])
        known = zip(predictions.is_reference.tolist(), failed, strict=True)
        marks = [None if no else is_reference for is_reference, no in known]
        arrays.append([_text_cell(mark) for mark in marks] if self.as_text else marks)
        errors = predictions.errors
        arrays.append([_repaired(str(errors[row])) if no else None for row, no in enumerate(failed)])
        columns = [
            array if isinstance(array, pa.Array | pa.ChunkedArray) else pa.array(array, kind)
            for array, kind in zip(arrays, self.schema.types, strict=True)
        ]
        return pa.table(columns, schema=self.schema)

    def _input_fields(self, stream: TableStream) -> list[tuple[str, pa.DataType]]:
        if stream.schema is not None:
            kept = {
                field.name: pa.string() if _is_image(field.type) else field.type for field in stream.schema
            }
            kept = {name: kind for name, kind in kept.items() if not has_bytes(kind)}
        elif self.as_text:
            kept = dict.fromkeys(stream.column_names, pa.string())
        else:
            kept = _cell_types(stream)
            self._json = {name for name, kind in kept.items() if kind is None}
            kept = {name: kind or pa.string() for name, kind in kept.items()}
        self.input_names = list(kept)
        return list(kept.items())

    def _input(self, table: Table, name: str) -> Any:
        values = table.columns[name]
        if isinstance(values, pa.ChunkedArray):
            if _is_image(values.type):
                return pc.struct_field(values, "path").cast(pa.string())
            return [_text_cell(cell) for cell in table.cells(name)] if self.as_text else values
        if self.as_text:
            return [_text_cell(cell) for cell in values]
        if name in self._json:
            return [None if cell is None else _json(cell) for cell in values]
        cells = _repaired(list(values))
        return _fractions(cells) if "double" in str(self.schema.field(name).type) else cells


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    return {kind.field(index).name for index in range(kind.num_fields)} == IMAGE_FIELDS


def has_bytes(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type are, or have parts that are, whole files."""
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return holds_bytes(kind) or any(map(has_bytes, inner))


def _cell_types(stream: TableStream) -> dict[str, pa.DataType | None]:
    """Arrow types that hold all cells of Python values; None where only JSON does."""
    types: dict[str, pa.DataType | None] = dict.fromkeys(stream.column_names, pa.null())
    for chunk in stream.chunks(READ_ROWS):
        for name, kind in types.items():
            if kind is not None:
                types[name] = _common_type(kind, chunk.columns[name])
    return types


def _common_type(kind: pa.DataType, cells: Sequence[Any]) -> pa.DataType | None:
    try:
        new = pa.array(_repaired(list(cells))).type
        schemas = [pa.schema([("cell", kind)]), pa.schema([("cell", new)])]
        common = pa.unify_schemas(schemas, promote_options="permissive").field("cell").type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    inner = common.value_type if pa.types.is_list(common) else common
    return None if pa.types.is_nested(inner) or pa.types.is_decimal(inner) else common


def _text_cell(cell: Any) -> str | None:
    if cell is None or cell != cell:  # not a number is how many tools write an empty cell
        return None
    if isinstance(cell, list | dict | bool):
        return _json(cell)
    return _repaired(str(cell))


def _json(cell: Any) -> str:
    return _repaired(json.dumps(cell, ensure_ascii=False, default=str))


def _repaired(cell: Any) -> Any:
    """With replacement characters for halves of surrogate pairs, which JSON can name and no file hold."""
    if isinstance(cell, str):
        return cell if cell.isascii() else _SURROGATES.sub("\ufffd", cell)
    return [_repaired(entry) for entry in cell] if isinstance(cell, list) else cell


def _fractions(cell: Any) -> Any:
    """Arrow takes whole numbers for fractions only if they are small."""
    if isinstance(cell, list):
        return [_fractions(entry) for entry in cell]
    return None if cell is None else float(cell)
