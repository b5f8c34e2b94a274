"""Cells of label columns: how a label is spelled, and what stands for none."""

import json
import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling_mmorient.task_kind import IGNORE_INDEX

# A class index, or for a multi-label task a 0 or 1 for each label, -100 = not labelled; or a value, NaN = not
# labelled.
Label = int | float | list[int]


@dataclass(frozen=True)
class CellOptions:
    """What a recipe's task says about its columns.

    Args:
        columns: Their names: one, or for a multi-label task one of each label, that says whether it holds.
        by_label: Whether each label has a column.
        separator: Between the labels in a cell of a multi-label task.
        spellings: By spelling the class index; None for a spelling that stands for no label.
    """

    columns: tuple[str, ...]
    by_label: bool
    separator: str
    spellings: Mapping[str, int | None]


def is_labelled(label: Label) -> bool:
    """Whether a row is labelled for a task."""
    if isinstance(label, float):
        return not math.isnan(label)
    return IGNORE_INDEX not in label if isinstance(label, list) else label != IGNORE_INDEX


def known_rows(labels: np.ndarray) -> np.ndarray:
    """(rows,) bool from labels (rows, ...): True = labelled; with several entries, all of them are known."""
    known = known_entries(labels)
    return np.asarray(known.all(-1)) if known.ndim == 2 else known


def known_entries(labels: np.ndarray) -> np.ndarray:
    """Which entries are known, in the shape of the labels: of floats those that are numbers."""
    return ~np.isnan(labels) if labels.dtype.kind == "f" else labels != IGNORE_INDEX


def spelling(cell: Any) -> str | None:
    """A cell as it would stand in a CSV file; None where it is empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():  # integers with gaps become floats in many tools
        return str(int(cell))
    return str(cell).strip() or None


def value(cell: Any, known: Container[str]) -> Any:
    """What a text stands for that is no known spelling: a list or a string in JSON, a whole number as 1.0.

    So do tables that had other types become text, here (`mmorient predict`) and elsewhere.
    """
    if not isinstance(cell, str) or (text := cell.strip()) in known:
        return cell
    if re.fullmatch(r"-?\d+\.0", text):
        return float(text)
    if text.startswith(("[", '"')):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return cell
    return cell
