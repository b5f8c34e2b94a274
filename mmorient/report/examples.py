"""Examples of a report: which rows a model is most sure of, rightly and wrongly, and how they look."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmorient.kinds.kinds import toolkit_kind
from mmorient.scoring.task_predictions import TaskPredictions, labelled_rows
from mmorient.tables.records import Record
from modeling_mmorient.image_input import load_image
from modeling_mmorient.task_kinds import kind_of

# Longest side of a thumbnail in pixels, and longest text in characters.
THUMBNAIL_SIZE = 160
TEXT_LENGTH = 280
# Of a task, right ones and wrong ones each; and thumbnails of a whole report, which bounds its size.
EXAMPLES = 6
MAX_THUMBNAILS = 120


@dataclass(frozen=True)
class Example:
    """One row and what a model says about it.

    Args:
        index: Place of the row in its split.
        truth: Its label (of a multi-label task: those that hold).
        answer: The same of the model.
        probability: Of the answer. For a multi-label task of the label that it is about: the least sure one
            of an answer that is right, the surest wrong one of an answer that is wrong. None for a regression
            task, which has none.
    """

    index: int
    truth: list[str]
    answer: list[str]
    probability: float | None


def choose_examples(predictions: TaskPredictions, count: int) -> dict[str, list[Example]]:
    """The labelled rows that a model is most sure of, or closest to and furthest from where it gives numbers.

    Classes take turns (by what is true), so that the most frequent one does not fill the list; inside a class
    the most probable answers come first, and of equal ones the earlier row.

    Returns:
        Up to `count` each of `right` and `wrong`.
    """
    scored, rows = labelled_rows(predictions), np.flatnonzero(predictions.known)
    spec, names = scored.spec, kind_of(scored.spec).names
    right, sure, turns = toolkit_kind(spec).sureness(scored)
    chosen = {}
    for name, candidates in (("right", right), ("wrong", ~right)):
        order = _in_turn(np.flatnonzero(candidates & np.isfinite(sure)), sure, turns)[:count]
        chosen[name] = [
            Example(
                int(rows[i]),
                names(spec, scored.truth[i]),
                names(spec, scored.answers[i]),
                float(sure[i]) if kind_of(spec).has_probabilities else None,
            )
            for i in order
        ]
    return chosen


def _in_turn(candidates: np.ndarray, sure: np.ndarray, turns: np.ndarray) -> list[int]:
    by_sureness = sorted(candidates.tolist(), key=lambda i: (-sure[i], i))
    taken: dict[int, int] = {}
    rounds = {}
    for i in by_sureness:
        rounds[i] = taken.get(turns[i], 0)
        taken[turns[i]] = rounds[i] + 1
    return sorted(by_sureness, key=lambda i: rounds[i])


def show_row(record: Record) -> dict[str, Any]:
    """What a page shows of a row: `row` (what it is called), `thumbnail` or why there is none, and `text`."""
    picture = record.image
    found = None if picture is None else thumbnail(picture)
    missing = "no picture" if picture is None else "picture cannot be read"
    return {
        "row": record.row,
        "thumbnail": found,
        "missing": None if found else missing,
        "text": shorten(record.text or ""),
    }


def thumbnail(source: Any) -> str | None:
    """A picture as a `data:` URI of a small JPEG; None where it cannot be read."""
    try:
        picture = load_image(source)
        picture.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=75, optimize=True)
    except Exception:  # a report on a finished run must not end with one bad file, whatever it raises
        return None
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def shorten(text: str) -> str:
    """A text in one line, of at most `TEXT_LENGTH` characters, if possible cut between words."""
    line = " ".join(text.split())
    if len(line) <= TEXT_LENGTH:
        return line
    cut = line[: TEXT_LENGTH - 1]
    head, _, tail = cut.rpartition(" ")
    # A last word of more than half the text is no word.
    return (head if head and len(tail) < TEXT_LENGTH // 2 else cut).rstrip("\u200d ") + "…"
