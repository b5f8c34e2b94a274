"""Score predictions, and answers to SemEval-2020 task 8.

    python training/score.py table RECIPE.yaml PREDICTIONS [--truth TABLE] [--json FILE]
    python training/score.py semeval ANSWERS GOLD [--column COLUMN] [--json FILE]
    python training/score.py write_semeval OUT --a PREDICTIONS --c PREDICTIONS [--b PREDICTIONS]

PREDICTIONS are tables that `training/predict.py` wrote. The majority class that is shown beside each score is
that of the scored rows themselves.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from modeling_mmorient.task_specs import parse_tasks
from training.labels import read_labels, task_specs
from training.prediction_tables import failed_rows, read_predicted
from training.problems import TableError, stop_on_problems
from training.recipe import DataArguments, parse_recipe
from training.scoring import majority_scores, score_table, scores
from training.semeval import (
    INTENSITY,
    PRESENCE,
    SENTIMENT,
    Answers,
    answers_from_labels,
    paired,
    read_answers,
    read_gold,
    score_answers,
    write_answers,
)
from training.tables import Table, read_table
from training.task_predictions import TaskDecisions, TaskPredictions
from training.whole_files import write_text


class ScoredTable(NamedTuple):
    """A predictions table beside the truth.

    Args:
        tasks: By name, for the rows that have a prediction.
        left_out: Number of labelled rows that have none.
        unlabelled_errors: Number of rows that have neither a prediction nor a label.
    """

    tasks: dict[str, TaskDecisions]
    left_out: int
    unlabelled_errors: int


def read_scored_table(
    data: DataArguments, predictions: Table, truth: Table, leave_out_errors: bool = False
) -> ScoredTable:
    """Predictions and true labels of a recipe's tasks, row by row.

    Args:
        data: The recipe's part about the data: tasks, columns and spellings.
        predictions: As `training/predict.py` wrote it.
        truth: With the recipe's label columns: the same table, or one of the same rows in the same order.
        leave_out_errors: Leave out labelled rows that could not be predicted. A score without them is of
            easier rows than the table has, so they are refused otherwise, and counted here.

    Raises:
        TableError: If the tables do not fit each other or the recipe.
    """
    assert isinstance(data.tasks, dict)
    _require_same_rows(predictions, truth, data.image_column)
    specs = task_specs(data.tasks)
    columns = {name: read_labels(truth, spec, data.tasks[name]) for name, spec in specs.items()}
    stop_on_problems([problem for column in columns.values() for problem in column.problems], data.allow)
    labels = {name: np.array(column.labels) for name, column in columns.items()}
    failed = failed_rows(predictions)
    labelled = np.any([values.reshape(len(failed), -1).min(-1) >= 0 for values in labels.values()], axis=0)
    if not labelled.any():
        raise TableError(f"{truth.name}: no row is labelled for any task: check the recipe's `tasks`.")
    without = np.flatnonzero(failed & labelled)
    if len(without) and not leave_out_errors:
        raise TableError(
            f"{predictions.name}: {predictions.where(without.tolist())} are labelled but could not be "
            "predicted (column 'error'). Mend and predict them, or score the others alone with "
            "--leave_out_errors."
        )
    tasks: dict[str, TaskDecisions] = {}
    kept = ~failed
    for name, spec in specs.items():
        found = read_predicted(predictions, spec)
        pair = (spec, found.decisions[kept], labels[name][kept])
        if found.probabilities is None:
            tasks[name] = TaskDecisions(*pair)
        else:
            tasks[name] = TaskPredictions(*pair, found.probabilities[kept])
    return ScoredTable(tasks, len(without), int((failed & ~labelled).sum()))


def answers_from_tables(a: Table, b: Table | None, c: Table, image_column: str) -> Answers:
    """Answers to SemEval's tasks from the predictions of the recipes `memotion7k_task_{a,b,c}.yaml`.

    Args:
        a, b, c: Of the same memes in the same order. Without `b`, a quality is present where its intensity
            is above 0.
        image_column: By which the memes are compared.

    Raises:
        TableError: If the memes differ, or a row has no prediction: the format has no empty answer.
    """
    for table in (a, b, c):
        if table is None:
            continue
        table.require(image_column)
        _require_same_rows(a, table, image_column)
        failed = np.flatnonzero(failed_rows(table))
        if len(failed):
            raise TableError(
                f"{table.name}: {table.where(failed.tolist())} could not be predicted (column 'error'), and "
                "an answer file has an answer for every meme: mend and predict them."
            )
    sentiment = _decisions(a, {"sentiment": SENTIMENT})["sentiment"]
    intensity = _decisions(c, INTENSITY)
    if b is None:
        presence = {name: (values > 0).astype(int) for name, values in intensity.items()}
    else:
        presence = _decisions(b, PRESENCE)
    return answers_from_labels(sentiment, presence, intensity)


def _decisions(table: Table, tasks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: read_predicted(table, spec).decisions for name, spec in parse_tasks(tasks).items()}


def _require_same_rows(first: Table, second: Table, image_column: str) -> None:
    if first is second:
        return
    if len(first) != len(second):
        raise TableError(
            f"{first.name} has {len(first)} rows and {second.name} {len(second)}: give the same rows in the "
            "same order."
        )
    if image_column in first.columns and image_column in second.columns:
        cells = zip(first.cells(image_column), second.cells(image_column), strict=True)
        other = [row for row, (one, two) in enumerate(cells) if (one or None) != (two or None)]
        if other:
            raise TableError(
                f"{first.name} and {second.name} have different pictures in column {image_column!r}, in "
                f"{first.where(other)}: give the same rows in the same order."
            )


def _majority(tasks: Mapping[str, TaskDecisions]) -> dict[str, float]:
    columns = [task.labels.tolist() for task in tasks.values()]
    rows = [dict(zip(tasks, row, strict=True)) for row in zip(*columns, strict=True)]
    return majority_scores(rows, rows)


def _score_table(arguments: argparse.Namespace) -> dict[str, Any]:
    data = parse_recipe([arguments.recipe]).data
    predictions = read_table(arguments.predictions, Path())
    truth = predictions if arguments.truth is None else read_table(arguments.truth, Path())
    tasks, left_out, unlabelled = read_scored_table(data, predictions, truth, arguments.leave_out_errors)
    results = {
        **scores(tasks),
        "majority": _majority(tasks),
        "left_out_rows": left_out,
        "unlabelled_error_rows": unlabelled,
    }
    print(score_table(results, results["majority"]))
    if left_out:
        print(f"left out: {left_out} labelled row(s) that could not be predicted")
    if unlabelled:
        print(f"not scored: {unlabelled} row(s) that could not be predicted and have no label")
    return {"predictions": arguments.predictions, "truth": truth.name, **results}


def _score_semeval(arguments: argparse.Namespace) -> dict[str, Any]:
    answers, gold = read_answers(Path(arguments.answers)), read_gold(Path(arguments.gold), arguments.column)
    results = score_answers(answers, gold)
    for task, parts in paired(answers, gold).items():
        results[task]["majority"] = _majority(parts)
        print(f"task {task}\n{score_table(results[task], results[task]['majority'])}\n")
    return {"answers": arguments.answers, "gold": arguments.gold, **results}


def _write_semeval(arguments: argparse.Namespace) -> None:
    a, b, c = (
        None if path is None else read_table(path, Path()) for path in (arguments.a, arguments.b, arguments.c)
    )
    assert a is not None and c is not None
    answers = answers_from_tables(a, b, c, arguments.image_column)
    write_answers(Path(arguments.out), answers)
    print(f"{len(answers)} answers: {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score predictions, and answers to SemEval-2020 task 8.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    table = commands.add_parser("table", help="score a predictions table")
    table.add_argument("recipe", help="YAML file that names the label columns")
    table.add_argument("predictions", help="table that training/predict.py wrote")
    table.add_argument("--truth", help="table of the labels, the same rows in the same order")
    table.add_argument(
        "--leave_out_errors", action="store_true", help="score without labelled rows that have no prediction"
    )
    table.set_defaults(run=_score_table)

    semeval = commands.add_parser("semeval", help="score an answer file of SemEval-2020 task 8")
    semeval.add_argument("answers", help="file with a line T1_T2_T3 for each meme")
    semeval.add_argument("gold", help="the same of the true labels, or a table of them")
    semeval.add_argument("--column", help="the table's column of answers")
    semeval.set_defaults(run=_score_semeval)
    for command in (table, semeval):
        command.add_argument("--json", help="file to write the scores to")

    write = commands.add_parser("write_semeval", help="write an answer file of SemEval-2020 task 8")
    write.add_argument("out", help="file to write")
    write.add_argument("--a", required=True, help="predictions table with sentiment")
    write.add_argument("--b", help="with each quality, yes or no; default: where its intensity is above 0")
    write.add_argument("--c", required=True, help="with each quality's intensity")
    write.add_argument("--image_column", default="image_name", help="column that names the meme")
    write.set_defaults(run=_write_semeval, json=None)
    return parser


def main(argv: list[str]) -> None:
    arguments = _parser().parse_args(argv)
    results = arguments.run(arguments)
    if arguments.json is not None:
        write_text(Path(arguments.json), json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
