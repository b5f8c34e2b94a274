"""Arguments of a processor's call to rows: one picture, one text, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def as_rows(name: str, value: Any, is_single: Callable[[Any], bool]) -> list[Any] | None:
    """One entry per row; None for an argument that was not given.

    Args:
        name: Name of the argument, for errors.
        value: An entry, or a sequence of entries.
        is_single: Tells an entry from a sequence of entries.

    Raises:
        ValueError: `value` is an empty sequence.
    """
    if value is None:
        return None
    if is_single(value):
        return [value]
    if not isinstance(value, Sequence):
        raise ValueError(f"{name} is one entry or a list of entries, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} is an empty list; give one entry per row, or leave the argument out")
    return list(value)


def unwrap_pictures(pictures: list[Any] | None) -> list[Any] | None:
    """Accept a list of pictures per row, as is common in transformers, if it holds one or none.

    Raises:
        ValueError: A row has several pictures.
    """
    if pictures is None:
        return None
    unwrapped = []
    for row, entry in enumerate(pictures):
        if isinstance(entry, list | tuple):
            if len(entry) > 1:
                raise ValueError(f"row {row}: a row has one picture, got a list of {len(entry)}")
            entry = entry[0] if entry else None
        unwrapped.append(entry)
    return unwrapped


def check_rows(pictures: list[Any] | None, texts: list[str] | None) -> None:
    """Check that pictures and texts are of one length, and that every row has one of them.

    Args:
        pictures: One entry per row, None where the picture is missing; None: no pictures at all.
        texts: One entry per row, empty where the text is missing; None: no texts at all.

    Raises:
        ValueError: They are not.
    """
    if pictures is None and texts is None:
        raise ValueError("there is no input; give images, text, or both")
    if pictures is not None and texts is not None and len(pictures) != len(texts):
        raise ValueError(
            f"got {len(pictures)} pictures and {len(texts)} texts; give one of each per row, "
            "None where it is missing"
        )
    for row in range(len(pictures or texts or [])):
        if not (pictures and pictures[row] is not None) and not (texts and texts[row]):
            raise ValueError(
                f"row {row}: there is neither a picture nor a text (a text that is blank, before "
                "or after cleaning, counts as missing); leave the row out"
            )
