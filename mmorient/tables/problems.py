"""Problems of a table that would spoil a result, and what happens where a recipe allows them."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmorient.files.whole_files import write_text
from mmorient.recipes.problem_kinds import PROBLEM_KINDS

# The complete list, in the folder of a run.
PROBLEMS_FILE = "problems.csv"
# By kind of a row's problem, what a person reads where the row gets no prediction. A recipe may allow the
# kinds that are in `PROBLEM_KINDS` too; the others always stop a run.
ROW_PROBLEMS = {
    "malformed_rows": "malformed row",
    "invalid_cells": "invalid cell",
    "outside_pictures": "picture outside the folder",
    "missing_pictures": "missing picture",
    "unreadable_pictures": "unreadable",
    "unreadable_texts": "unreadable",
    "empty_rows": "neither picture nor text",
    "not_a_number": "not a number",
    "changed_rows": "changed row",
    "not_predicted": "not predicted",
}


class RowProblem(NamedTuple):
    """What is wrong with a row.

    Args:
        kind: A key of `ROW_PROBLEMS` or of `PROBLEM_KINDS`.
        table: The table's name.
        row: The row, as a person finds it there: `row 3 (line 5)`.
        detail: What is wrong with it, for a person.
    """

    kind: str
    table: str
    row: str
    detail: str

    def __str__(self) -> str:
        return f"{ROW_PROBLEMS[self.kind]}, {self.row}: {self.detail}"


@dataclass(frozen=True)
class Problem:
    """Something that stops a run unless the recipe allows its kind.

    Args:
        kind: A key of `PROBLEM_KINDS`; any other kind cannot be allowed.
        message: What was found, in which rows, and how to mend it.
        rows: Every row that is concerned; the message may name the first ones alone.
    """

    kind: str
    message: str
    rows: tuple[RowProblem, ...] = ()

    def __str__(self) -> str:
        if self.kind not in PROBLEM_KINDS:
            return self.message
        return f"{self.message} Or go on with `allow: [{self.kind}]`: {PROBLEM_KINDS[self.kind]}."


class TableError(ValueError):
    """Something in a table that would spoil a result; the message names the rows and the remedy.

    Args:
        message: For a person.
        problems: The problems that it is about, with every row, where it is about rows.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def stop_on_problems(problems: Iterable[Problem], allowed: Sequence[str], listed: str = "") -> None:
    """Raise for the problems whose kind is not in `allowed`.

    Args:
        problems: What was found.
        allowed: Kinds of problems that do not stop.
        listed: Where the complete list is, see [`list_problems`].

    Raises:
        TableError: With one line for each of them.
    """
    stopping = [problem for problem in problems if problem.kind not in allowed]
    if stopping:
        raise TableError("\n".join([*map(str, stopping), *([listed] if listed else [])]), stopping)


def list_problems(problems: Sequence[Problem], folder: Path, name: str = PROBLEMS_FILE) -> str:
    """Write every row with a problem into a CSV file: columns `problem`, `table`, `row` and `detail`.

    Args:
        problems: All that were found. Without any, an earlier list is removed.
        folder: Where the file is; made if it is missing.
        name: Of the file.

    Returns:
        A sentence that names the file, or says why it could not be written; empty where there is nothing to
        list.
    """
    path = folder / name
    rows = [row for problem in problems for row in problem.rows]
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return ""
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("problem", *RowProblem._fields[1:]), *rows])
        # File names may hold what is no Unicode.
        write_text(path, text.getvalue().encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        return f"The complete list could not be written to {path}: {error}."
    return f"All {len(rows)} rows with their problems are listed in {path}."


@contextmanager
def listed_errors(folder: Path, name: str = PROBLEMS_FILE) -> Iterator[None]:
    """Leave a complete list of the rows that a `TableError` is about, and name it in the error's message.

    Without an error an earlier list is removed.

    Args:
        folder, name: As in [`list_problems`].
    """
    try:
        yield
        list_problems((), folder, name)
    except TableError as error:
        if not any(problem.rows for problem in error.problems):
            raise
        raise TableError(f"{error}\n{list_problems(error.problems, folder, name)}", error.problems) from None
