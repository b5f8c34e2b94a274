"""Score tables of predictions and answers to SemEval-2020 task 8, with a text for a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmorient.prediction.tables import IS_REFERENCE
from mmorient.recipes.arguments import DataArguments
from mmorient.scoring.scores import baseline_scores, score_table, scores
from mmorient.scoring.semeval import paired, read_answers, read_gold, score_answers
from mmorient.scoring.tables import read_scored_table
from mmorient.scoring.task_predictions import TaskDecisions
from mmorient.tables.table import Table


@dataclass(frozen=True)
class Scored:
    """Scores of some rows.

    Args:
        results: As JSON types: of `mmorient.scoring.scores.scores`, and those of the best constant answers.
        text: The same for a person, with what must be known about the rows.
    """

    results: dict[str, Any]
    text: str


def score_predictions(
    data: DataArguments, predictions: Table, truth: Table | None = None, leave_out_errors: bool = False
) -> Scored:
    """Score a table of predictions; rows that are references of the model are scored apart.

    Args:
        data: The recipe's part about the data, which names the label columns.
        predictions: That `mmorient predict` wrote.
        truth: Table of the labels, the same rows in the same order. None: they are in `predictions`.
        leave_out_errors: Score without rows that have no prediction and are labelled, or malformed.

    Raises:
        TableError: If a column is missing, or rows do not fit.
    """
    table = read_scored_table(data, predictions, predictions if truth is None else truth, leave_out_errors)
    results, lines = _scored(table.tasks)
    if table.number_of_references is None:
        lines.append(
            f"{predictions.name} has no column {IS_REFERENCE!r}: if some of the rows are references of the "
            "model, it knew their labels, and the scores are too high."
        )
    if table.number_of_references:
        lines.append(
            f"\nwarning: {table.number_of_references} row(s) are references of the model, which knows their "
            "labels. They are no measure of it, and are scored apart:"
        )
        results["references"], apart = _scored(table.references)
        lines += apart
    if table.not_predicted:
        lines.append(f"not predicted: {table.not_predicted} row(s), which are in no score (column 'error')")
    results["reference_rows"] = table.number_of_references
    results["not_predicted_rows"] = table.not_predicted
    return Scored(results, "\n".join(lines))


def score_semeval(answers: Path, gold: Path, column: str | None = None) -> Scored:
    """Score a file of answers to SemEval-2020 task 8.

    Args:
        answers: With a line T1_T2_T3 for each meme.
        gold: The same of the true labels, or a table of them.
        column: The table's column of answers. None: found by its cells.

    Raises:
        ValueError: If a file cannot be read as such, or they do not fit.
    """
    given, true = read_answers(answers), read_gold(gold, column)
    results = score_answers(given, true)
    lines = []
    for task, parts in paired(given, true).items():
        baselines = _baselines(parts)
        lines.append(f"task {task}\n{score_table(results[task], baselines)}\n")
        results[task] |= baselines
    return Scored(results, "\n".join(lines))


def _scored(tasks: Mapping[str, TaskDecisions]) -> tuple[dict[str, Any], list[str]]:
    results, baselines = scores(tasks), _baselines(tasks)
    return {**results, **baselines}, [score_table(results, baselines)]


def _baselines(tasks: Mapping[str, TaskDecisions]) -> dict[str, dict[str, float]]:
    labels = {name: task.labels for name, task in tasks.items()}
    return baseline_scores({name: task.spec for name, task in tasks.items()}, labels, labels)
