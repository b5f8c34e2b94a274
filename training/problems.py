"""Problems of a table that would spoil a result, and what happens where a recipe allows them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# By kind, the name that `allow` lists: what becomes of the rows when the run goes on.
PROBLEM_KINDS = {
    "missing_pictures": "the rows count as having no picture",
    "unreadable_pictures": "the rows count as having no picture",
    "unknown_labels": "the cells count as not labelled",
    "empty_rows": "the rows are left out",
    "split_duplicates": "the rows stay, and the score is flattered by memes that were trained on",
}


class TableError(ValueError):
    """Something in a table that would spoil a result; the message names the rows and the remedy."""


@dataclass(frozen=True)
class Problem:
    """A finding that stops a run unless the recipe allows its kind.

    Args:
        kind: A key of `PROBLEM_KINDS`.
        message: What was found, in which rows, and how to mend it.
    """

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} Or go on with `allow: [{self.kind}]`: {PROBLEM_KINDS[self.kind]}."


def stop_on_problems(problems: Iterable[Problem], allowed: Sequence[str]) -> None:
    """Raise for the problems whose kind is not in `allowed`.

    Raises:
        TableError: With one line for each of them.
    """
    stopping = [problem for problem in problems if problem.kind not in allowed]
    if stopping:
        raise TableError("\n".join(map(str, stopping)))
