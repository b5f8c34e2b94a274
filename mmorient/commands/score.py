"""Score predictions, and answers to SemEval-2020 task 8.

    mmorient score table RECIPE.yaml PREDICTIONS [--truth TABLE] [--json FILE]
    mmorient score semeval ANSWERS GOLD [--column COLUMN] [--json FILE]
    mmorient score write_semeval OUT --a PREDICTIONS --c PREDICTIONS [--b PREDICTIONS]

PREDICTIONS are tables that `mmorient predict` wrote. The majority class that is shown beside each score is
that of the scored rows themselves. Rows that are references of the model (column `is_reference`) are scored
apart, since the model knows their labels. Where rows prevent a score, all of them are listed in a file
beside the table, PREDICTIONS.problems.csv.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmorient.commands.running import command_parser, run
from mmorient.files.whole_files import write_text


def _score_table(arguments: argparse.Namespace) -> dict[str, Any]:
    from mmorient.recipes.recipe import parse_recipe
    from mmorient.scoring.score import score_predictions
    from mmorient.tables.table import read_table

    data = parse_recipe([arguments.recipe]).data
    predictions = read_table(arguments.predictions, Path())
    truth = None
    if arguments.truth is not None:
        truth = read_table(arguments.truth, Path(), delimiter=data.delimiter, encoding=data.encoding)
    scored = score_predictions(data, predictions, truth, arguments.leave_out_errors)
    print(scored.text)
    names = {"predictions": arguments.predictions, "truth": (truth or predictions).name}
    return {**names, **scored.results}


def _score_semeval(arguments: argparse.Namespace) -> dict[str, Any]:
    from mmorient.scoring.score import score_semeval

    scored = score_semeval(Path(arguments.answers), Path(arguments.gold), arguments.column)
    print(scored.text)
    return {"answers": arguments.answers, "gold": arguments.gold, **scored.results}


def _write_semeval(arguments: argparse.Namespace) -> None:
    from mmorient.scoring.semeval import write_answers
    from mmorient.scoring.tables import answers_from_tables
    from mmorient.tables.table import read_table

    a, b, c = (
        None if path is None else read_table(path, Path()) for path in (arguments.a, arguments.b, arguments.c)
    )
    assert a is not None and c is not None
    answers = answers_from_tables(a, b, c, arguments.image_column)
    write_answers(Path(arguments.out), answers)
    print(f"{len(answers)} answers: {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("score", "Score predictions, and answers to SemEval-2020 task 8.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    table = commands.add_parser("table", help="score a predictions table")
    table.add_argument("recipe", help="YAML file that names the label columns")
    table.add_argument("predictions", help="table that mmorient predict wrote")
    table.add_argument("--truth", help="table of the labels, the same rows in the same order")
    table.add_argument(
        "--leave_out_errors",
        action="store_true",
        help="score without rows that have no prediction and are labelled, or malformed",
    )
    table.set_defaults(run=_score_table, listed_beside="predictions")

    semeval = commands.add_parser("semeval", help="score an answer file of SemEval-2020 task 8")
    semeval.add_argument("answers", help="file with a line T1_T2_T3 for each meme")
    semeval.add_argument("gold", help="the same of the true labels, or a table of them")
    semeval.add_argument("--column", help="the table's column of answers")
    semeval.set_defaults(run=_score_semeval, listed_beside="gold")
    for command in (table, semeval):
        command.add_argument("--json", help="file to write the scores to")

    write = commands.add_parser("write_semeval", help="write an answer file of SemEval-2020 task 8")
    write.add_argument("out", help="file to write")
    write.add_argument("--a", required=True, help="predictions table with sentiment")
    write.add_argument("--b", help="with each quality, yes or no; default: where its intensity is above 0")
    write.add_argument("--c", required=True, help="with each quality's intensity")
    write.add_argument("--image_column", default="image_name", help="column that names the meme")
    write.set_defaults(run=_write_semeval, listed_beside="out", json=None)
    return parser


def main(argv: Sequence[str]) -> None:
    arguments = _parser().parse_args(argv)
    from mmorient.tables.problems import PROBLEMS_FILE, listed_errors

    table = Path(vars(arguments)[arguments.listed_beside])
    with listed_errors(table.parent, f"{table.name}.{PROBLEMS_FILE}"):
        results = arguments.run(arguments)
    if arguments.json is not None:
        write_text(Path(arguments.json), json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    run(main, sys.argv[1:])
