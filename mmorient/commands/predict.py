"""Predict every row of a table with a saved model: a table in, a table out.

    mmorient predict MODEL TABLE OUTPUT [--image_dir DIR] [--image_column image]
                               [--text_columns text ...] [--allow missing_pictures ...] [--split test]
                               [--batch_size 64] [--device cuda]

OUTPUT (`.csv` or `.parquet`) has the rows of TABLE in their order, all of its columns, and beside them for
each task `predicted.{task}` and `probability.{task}.{label}`, and `is_reference` and `error`. Images that
TABLE holds whole are left out. A row that cannot be predicted (a malformed line, a picture that cannot be
read, neither picture nor text, logits that are not numbers) says so in `error` and is empty in the other new
columns; it does not stop the command, and the exit status is 0. A label of a multi-label task is predicted
where its probability is above the label's threshold: one half, or what the run fitted (`thresholds` of the
task in the model's `config.json`).

TABLE is read as the recipe read its tables (columns, `allow`, delimiter, encoding), where the model's folder
says how (`tables.json`); the command line takes precedence. `is_reference` marks rows that are references of
the model: it knows their labels. `--split` predicts only the rows of TABLE that the run had in one split.

The table is read some rows at a time, whatever its length. Finished chunks are kept in `OUTPUT.chunks`:
started again with the same arguments, an interrupted run resumes from them, and the output is byte for byte
the same, as long as the pictures do not change. Under `accelerate launch` the processes share the work."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.files.disk_failures import explained_failures
from mmorient.prediction.job import PredictionJob
from mmorient.recipes.field_docs import field_summaries
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.recipes.split_names import SPLITS


def parse(argv: Sequence[str]) -> PredictionJob:
    """What a command line asks for."""
    parser = command_parser(
        "predict",
        "Predict every row of a table with a saved model. Rows that cannot be predicted say why in the "
        "output's column `error`. Images that the table holds whole are left out of the output. An "
        "interrupted run goes on where it stopped. Columns, problems to allow, delimiter and encoding that "
        "are not given are as in the model's recipe.",
    )
    about = field_summaries(PredictionJob)
    parser.add_argument("model", help=about["model"])
    parser.add_argument("table", help=about["table"])
    parser.add_argument("output", type=Path, help=about["output"])
    parser.add_argument(
        "--image_dir", type=Path, metavar="X", help=about["image_dir"] + " [images, beside the table]"
    )
    parser.add_argument("--image_column", metavar="X", help=about["image_column"])
    parser.add_argument("--text_columns", nargs="*", metavar="X", help=about["text_columns"])
    parser.add_argument("--allow", nargs="*", choices=PROBLEM_KINDS, metavar="PROBLEM", help=about["allow"])
    parser.add_argument("--delimiter", metavar="X", help=about["delimiter"])
    parser.add_argument("--encoding", metavar="X", help=about["encoding"])
    parser.add_argument("--split", choices=SPLITS, help=about["split"])
    parser.add_argument(
        "--batch_size", type=int, metavar="N", default=PredictionJob.batch_size, help=about["batch_size"]
    )
    parser.add_argument("--device", metavar="X", help=about["device"] + " [a GPU if there is one]")
    parser.add_argument("--restart", action="store_true", help=about["restart"])
    arguments = parser.parse_args(argv)
    try:
        return PredictionJob(**vars(arguments))
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str]) -> None:
    job = parse(argv)
    from mmorient.prediction.predict import predict

    with explained_failures({"output": str(job.output.parent)}):
        summary = predict(job)
    if summary:
        print(summary)


if __name__ == "__main__":
    run(main, sys.argv[1:])
