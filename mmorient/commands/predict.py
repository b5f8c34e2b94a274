"""Predict every row of a table with a saved model: a table in, a table out.

    mmorient predict MODEL TABLE OUTPUT [--image_dir DIR] [--image_column image]
                               [--text_columns text ...] [--allow missing_pictures ...] [--split test]
                               [--batch_size 64] [--device cuda]

OUTPUT (`.csv` or `.parquet`) has the rows of TABLE in their order, all of its columns, and beside them for
each task `predicted.{task}` and `probability.{task}.{label}`, and `is_reference` and `error`. Pictures that
TABLE holds whole are left out. A row that cannot be predicted (a malformed line, a picture that cannot be
read, neither picture nor text, logits that are not numbers) says so in `error` and is empty in the other new
columns; it stops nothing, and the exit status is 0. A label of a multi-label task is predicted where its
probability is above the label's threshold: one half, or what the run fitted (`thresholds` of the task in the
model's `config.json`).

TABLE is read as the recipe read its tables (columns, `allow`, delimiter, encoding), where the model's folder
says how (`tables.json`); the command line wins. `is_reference` marks rows that are references of the model:
it knows their labels. `--split` predicts the rows of TABLE that the run had in one split.

The table is read some rows at a time, whatever its length. What is finished is kept in `OUTPUT.parts`:
started again with the same arguments, an interrupted run goes on there, and the output is the same to the
byte, as long as the pictures stay as they are. Under `accelerate launch` the processes share the work."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import run
from mmorient.files.disk_failures import explained_failures
from mmorient.prediction.predict import predict
from mmorient.prediction.sources import NO_COLUMN
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.tables.splits import PARTS


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        description="Predict every row of a table with a saved model. Rows that cannot be predicted say "
        "why in the output's column `error`. Pictures that the table holds whole are left out of the "
        "output. An interrupted run goes on where it stopped."
    )
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument(
        "table", help="CSV, TSV, JSON Lines, Parquet or .xlsx file, or a folder that `datasets` saved"
    )
    parser.add_argument("output", type=Path, help="file to write, .csv or .parquet")
    parser.add_argument("--image_dir", type=Path, help="folder of the pictures (`images` beside the table)")
    parser.add_argument(
        "--image_column",
        help=f"column of the pictures' file names, or of pictures; `{NO_COLUMN}` for none (as in the recipe)",
    )
    parser.add_argument(
        "--text_columns", nargs="*", help="the first that is not empty counts (as in the recipe)"
    )
    parser.add_argument(
        "--allow",
        nargs="*",
        choices=PROBLEM_KINDS,
        metavar="PROBLEM",
        help="missing_pictures, unreadable_pictures: predict such rows from their text (as in the recipe)",
    )
    parser.add_argument("--delimiter", help="between the cells of a CSV file (as in the recipe)")
    parser.add_argument("--encoding", help="of a text file (as in the recipe)")
    parser.add_argument(
        "--split", choices=PARTS, help="only the rows of the table that the run had in this split"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="rows at a time (64)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (a GPU if there is one)")
    parser.add_argument(
        "--restart", action="store_true", help="discard the output and the parts of an earlier run"
    )
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch_size is {arguments.batch_size}: give a number of at least 1")
    if arguments.split and (arguments.image_column or arguments.text_columns is not None):
        parser.error("--split reads what the run read: leave out --image_column and --text_columns")
    return arguments


def main(argv: Sequence[str]) -> None:
    arguments = parse(argv)
    with explained_failures({"output": str(arguments.output.parent)}):
        summary = predict(arguments)
    if summary:
        print(summary)


if __name__ == "__main__":
    run(main, sys.argv[1:])
