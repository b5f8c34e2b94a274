"""Problems of a table that would spoil a result, and what happens where a recipe allows them."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmorient.files.whole_files import write_text
from mmorient.recipes.problem_kinds import PROBLEM_KINDS

# The complete list, in the folder of a run.
PROBLEMS_FILE = "problems.csv"


class TableError(ValueError):
    """Something in a table that would spoil a result; the message names the rows and the remedy."""


class Finding(NamedTuple):
    """A row with a problem.

    Args:
        table: The table's name.
        row: What the row is called there.
        detail: What is wrong with it.
    """

    table: str
    row: str
    detail: str


@dataclass(frozen=True)
class Problem:
    """Something that stops a run unless the recipe allows its kind.

    Args:
        kind: A key of `PROBLEM_KINDS`.
        message: What was found, in which rows, and how to mend it.
        findings: Every row that is concerned; the message may name the first ones alone.
    """

    kind: str
    message: str
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return f"{self.message} Or go on with `allow: [{self.kind}]`: {PROBLEM_KINDS[self.kind]}."


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
        raise TableError("\n".join([*map(str, stopping), *([listed] if listed else [])]))


def list_problems(problems: Sequence[Problem], folder: Path) -> str:
    """Write every row with a problem into `PROBLEMS_FILE`: columns `problem`, `table`, `row` and `detail`.

    Args:
        problems: All that were found. Without any, an earlier list is removed.
        folder: Where the file is; made if it is missing.

    Returns:
        A sentence that names the file, or says why it could not be written; empty where there is nothing to
        list.
    """
    path = folder / PROBLEMS_FILE
    rows = [(problem.kind, *finding) for problem in problems for finding in problem.findings]
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return ""
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("problem", *Finding._fields), *rows])
        # File names may hold what is no Unicode.
        write_text(path, text.getvalue().encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        return f"The complete list could not be written to {path}: {error}."
    return f"All {len(rows)} rows with their problems are listed in {path}."
