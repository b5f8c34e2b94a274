"""The answer format of SemEval-2020 task 8 (Memotion), and its scores.

One line for each meme, `T1_T2_T3`, for example `-1_1101_2101`: T1 is the sentiment, -1, 0 or 1 (negative,
neutral, positive); T2 says of humour, sarcasm, offence and motivation in this order whether the meme has it,
0 or 1; T3 how much of it, 0 to 3. The data's motivation is 0 or 1 there too, but answers of 2 and 3 are read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmorient.files.whole_files import write_text
from mmorient.recipes.tasks import task_specs
from mmorient.scoring.scores import scores
from mmorient.scoring.task_predictions import TaskDecisions
from mmorient.tables.labels import read_labels
from mmorient.tables.problems import TableError
from mmorient.tables.stream import OPENERS
from mmorient.tables.table import SHOWN_ROWS, Table, read_table
from modeling_mmorient.task_specs import TaskSpec

QUALITIES = ("humour", "sarcasm", "offence", "motivation")
# By task, the labels in the order of the format's numbers. Task A is sentiment, B presence, C intensity.
SENTIMENT = ("negative", "neutral", "positive")
PRESENCE = {
    "humour": ("not_funny", "funny"),
    "sarcasm": ("not_sarcastic", "sarcastic"),
    "offence": ("not_offensive", "offensive"),
    "motivation": ("not_motivational", "motivational"),
}
INTENSITY = {
    "humour": ("not_funny", "funny", "very_funny", "hilarious"),
    "sarcasm": ("not_sarcastic", "general", "twisted_meaning", "very_twisted"),
    "offence": ("not_offensive", "slight", "very_offensive", "hateful_offensive"),
    "motivation": ("not_motivational", "motivational"),
}
# The published tables.
MEMOTION_TASKS: dict[str, dict[str, Any]] = {
    "sentiment": {
        "column": "overall_sentiment",
        "labels": list(SENTIMENT),
        "values": {"very_negative": "negative", "very_positive": "positive"},
    },
    "humour": {"labels": list(INTENSITY["humour"])},
    "sarcasm": {"labels": list(INTENSITY["sarcasm"])},
    "offence": {"column": "offensive", "labels": list(INTENSITY["offence"])},
    "motivation": {"column": "motivational", "labels": list(INTENSITY["motivation"])},
}
_PARTS = {
    "T1, the sentiment,": ("-1, 0 or 1", re.compile("-1|0|1")),
    "T2, what the meme has,": ("four digits 0 or 1", re.compile("[01]{4}")),
    "T3, how much of it,": ("four digits from 0 to 3", re.compile("[0-3]{4}")),
}


@dataclass(frozen=True)
class Answers:
    """Answers, or true labels, of all three tasks.

    Args:
        sentiment: (rows,) -1, 0 or 1.
        presence: (rows, 4) 0 or 1, in the order of `QUALITIES`.
        intensity: (rows, 4) 0 to 3, in the same order. It need not agree with `presence`: other systems may
            have answered the one and the other.
    """

    sentiment: np.ndarray
    presence: np.ndarray
    intensity: np.ndarray

    def __len__(self) -> int:
        return len(self.sentiment)


def parse_answer(text: str) -> tuple[int, list[int], list[int]]:
    """T1, T2 and T3 of one line.

    Raises:
        ValueError: If it is no answer, saying why.
    """
    if not text:
        raise ValueError("it is blank")
    parts = text.split("_")
    if len(parts) != 3:
        raise ValueError(
            f"{text!r} has {len(parts)} part(s) between underscores, and an answer T1_T2_T3 has 3"
        )
    for part, (name, (expected, pattern)) in zip(parts, _PARTS.items(), strict=True):
        if not pattern.fullmatch(part):
            raise ValueError(f"{text!r}: {name} is {part!r}, and {expected} is expected")
    return int(parts[0]), [int(digit) for digit in parts[1]], [int(digit) for digit in parts[2]]


def read_answers(path: Path) -> Answers:
    """An answer file.

    Raises:
        TableError: If it cannot be read or has a malformed line; every line has all three parts.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as an answer file, a text in UTF-8: {error}") from None
    if lines == [""]:
        raise TableError(f"{path} is empty: an answer file has a line such as -1_1101_2101 for each meme.")
    return _parse(lines, str(path), "line", range(1, len(lines) + 1))


def write_answers(path: Path, answers: Answers) -> None:
    """Write an answer file, replacing what is there."""
    rows = zip(answers.sentiment, answers.presence, answers.intensity, strict=True)
    lines = [
        f"{first}_{''.join(map(str, second))}_{''.join(map(str, third))}\n" for first, second, third in rows
    ]
    write_text(path, "".join(lines))


def read_gold(path: Path, column: str | None = None) -> Answers:
    """True labels: an answer file, or a table with answers in a column or with Memotion's label columns.

    Args:
        path: A table by its suffix (`.csv` and others that `read_table` knows), otherwise an answer file.
        column: The table's column of answers. None: the only one that has an answer in every cell; without
            such a column, the Memotion columns.

    Raises:
        TableError: If there are no such labels, or not for every row.
    """
    if path.suffix.lower() not in OPENERS:
        if column is not None:
            raise TableError(
                f"{path} is read as an answer file, which has no column {column!r}: leave it out."
            )
        return read_answers(path)
    table = read_table(str(path), Path())
    if column is None:
        found = [name for name in table.columns if _all_answers(table.cells(name))]
        if len(found) > 1:
            raise TableError(f"{path} has answers in the columns {found}: say which with --column.")
        if not found:
            return _from_memotion(table)
        column = found[0]
    cells = ["" if cell is None else str(cell) for cell in table.cells(column)]
    return _parse(cells, f"{path}, column {column!r}", table.unit, table.numbers)


def answers_from_labels(sentiment: Any, presence: Mapping[str, Any], intensity: Mapping[str, Any]) -> Answers:
    """Answers from class indices by row: of sentiment, and by quality of the two others."""
    columns = [[values[name] for name in QUALITIES] for values in (presence, intensity)]
    return Answers(np.asarray(sentiment) - 1, *(np.stack(values, axis=-1) for values in columns))


def score_answers(answers: Answers, gold: Answers, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Scores of the tasks A, B and C as the organisers define them.

    Returns:
        By `A`, `B` and `C` what [`scores`] gives: for A macro-F1 of the sentiment, for B and C the mean over
        the four qualities of their macro-F1.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    if len(answers) != len(gold):
        raise ValueError(
            f"the answers have {len(answers)} rows and the true labels {len(gold)}: each meme has one line, "
            "in the order of the labels."
        )
    return {task: scores(parts, seed, resamples) for task, parts in paired(answers, gold).items()}


def paired(answers: Answers, gold: Answers) -> dict[str, dict[str, TaskDecisions]]:
    """Answers and true labels by task (A, B, C) and what is asked in it; labels are the format's numbers."""

    def pair(name: str, digits: Sequence[int], answered: np.ndarray, true: np.ndarray) -> TaskDecisions:
        spec = TaskSpec(name, tuple(map(str, digits)))
        return TaskDecisions(spec, answered - digits[0], true - digits[0])

    tasks = {"A": {"sentiment": pair("sentiment", range(-1, 2), answers.sentiment, gold.sentiment)}}
    for task, highest, answered, true in (
        ("B", 1, answers.presence, gold.presence),
        ("C", 3, answers.intensity, gold.intensity),
    ):
        tasks[task] = {
            name: pair(name, range(highest + 1), answered[:, index], true[:, index])
            for index, name in enumerate(QUALITIES)
        }
    return tasks


def _parse(texts: Sequence[str], name: str, unit: str, numbers: Sequence[int | str]) -> Answers:
    parsed, wrong = [], []
    for number, text in zip(numbers, texts, strict=True):
        try:
            parsed.append(parse_answer(text.strip()))
        except ValueError as error:
            wrong.append(f"{unit} {number}: {error}")
    if wrong:
        more = f"\n  and {len(wrong) - SHOWN_ROWS} more" if len(wrong) > SHOWN_ROWS else ""
        listed = "\n  ".join(wrong[:SHOWN_ROWS])
        raise TableError(
            f"{name} has {len(wrong)} {unit}(s) that are no answer such as -1_1101_2101:\n  {listed}{more}"
        )
    sentiment, presence, intensity = zip(*parsed, strict=True)
    return Answers(np.array(sentiment), np.array(presence), np.array(intensity))


def _all_answers(cells: Sequence[Any]) -> bool:
    try:
        for cell in cells:
            parse_answer(str(cell).strip())
    except ValueError:
        return False
    return True


def _from_memotion(table: Table) -> Answers:
    columns = [task.get("column", name) for name, task in MEMOTION_TASKS.items()]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TableError(
            f"{table.name} has neither a column of answers such as -1_1101_2101 in every row nor all of "
            f"{columns} ({missing} are missing): its columns are {list(table.columns)}."
        )
    labels = {}
    for name, spec in task_specs(MEMOTION_TASKS).items():
        read = read_labels(table, spec, MEMOTION_TASKS[name])
        if read.problems:
            raise TableError(read.problems[0].message, read.problems)
        labels[name] = np.array(read.labels)
        empty = np.flatnonzero(labels[name] < 0)
        if len(empty):
            details = dict.fromkeys(empty.tolist(), f"no {name}")
            raise table.error(details, f"{table.where(empty.tolist())} have no {name}: fill the cell.")
    intensity = {name: labels[name] for name in QUALITIES}
    presence = {name: (values > 0).astype(int) for name, values in intensity.items()}
    return answers_from_labels(labels["sentiment"], presence, intensity)
