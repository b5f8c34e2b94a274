"""The commands as functions: `from mmorient import train, predict, score`.

A table is a path, a pandas DataFrame or a `datasets.Dataset`. What `mmorient.commands` says of a command's
arguments holds here too.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mmorient.files.disk_failures import explained_failures
from mmorient.fitting.train import carry_out
from mmorient.prediction.job import PredictionJob
from mmorient.prediction.predict import predict as predict_table
from mmorient.recipes.recipe import build_recipe
from mmorient.scoring.score import score_predictions
from mmorient.tables.in_memory import is_in_memory, table_file, with_columns
from mmorient.tables.table import Table, read_table

Recipe = str | Path | Mapping[str, Any]
# Fields of a recipe that name tables, and the feature cache's folder for tables that were in memory.
TABLES = ("train_file", "validation_file", "test_file", "references_file")
TABLE_FOLDER = "tables"


@dataclass(frozen=True)
class TrainedRun:
    """The results of a training.

    Args:
        folder: Holds the model, its processor and the report; `AutoModel.from_pretrained` takes it.
        scores: The content of `results.json` there: by split (`validation`, `test`) the scores and those of
            the majority class, and what was fitted.
    """

    folder: Path
    scores: dict[str, Any]


def train(recipe: Recipe, table: Any = None, **fields: Any) -> TrainedRun:
    """Train a model as a recipe says; called again after an interruption, it resumes.

    Args:
        recipe: A YAML file, the name of a shipped recipe, or a mapping with the content of such a file.
        table: Memes to train on, in place of the recipe's `train_file`. None: the recipe's.
        fields: Further fields of the recipe, which override its own, such as `seed=2`. Those that name tables
            (`validation_file`, `test_file`, `references_file`) take tables in memory too. Those are kept in
            the recipe's `feature_cache`, not beside the model.

    Raises:
        ValueError: If the recipe, the tables and the encoders do not fit together, naming what does not.
    """
    given = dict(fields) if table is None else {**fields, "train_file": table}
    tables = {name: given.pop(name) for name in TABLES if is_in_memory(given.get(name))}
    read = build_recipe(recipe, **given)
    if tables:
        cache, data_dir = Path(read.model.feature_cache) / TABLE_FOLDER, read.data.path("").resolve()
        files = {name: table_file(value, cache).resolve() for name, value in tables.items()}
        # Relative paths, so that the run's files do not name this machine's folders.
        read = build_recipe(
            recipe, **given, **{name: os.path.relpath(file, data_dir) for name, file in files.items()}
        )
    folder = Path(str(read.training.output_dir))
    with explained_failures({"output_dir": str(folder), "feature_cache": read.model.feature_cache}):
        carry_out(read)
    return TrainedRun(folder, json.loads((folder / "results.json").read_text(encoding="utf-8")))


def predict(model: str | Path, table: Any, output: str | Path | None = None, **options: Any) -> Any:
    """Predict every row of a table with a saved model.

    Args:
        model: Folder or Hub id of a model with its processor.
        table: The rows.
        output: Where `table` is a path, the file to write, `.csv` or `.parquet`.
        options: Of [`PredictionJob`], such as `image_dir="images"`. A table in memory names its pictures from
            `image_dir`, by default from the folder `images`.

    Returns:
        For a table in memory the same kind of table, with the new columns: `predicted.{task}`,
        `probability.{task}.{label}` (of regression `interval.{task}.low` and `.high`), `is_reference` and
        `error`. Otherwise the path of the output.

    Raises:
        ValueError: If the model, the table as a whole or an option is unusable.
    """
    if not is_in_memory(table):
        if output is None:
            raise ValueError(
                f"the table is {str(table)!r}: name the `output` to write, a .csv or .parquet file."
            )
        predict_table(PredictionJob(str(model), str(table), Path(output), **_as_paths(options)))
        return Path(output)
    if output is not None:
        raise ValueError(
            f"`output` is {str(output)!r}: a table in memory is returned. Leave it out, and save that."
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"image_dir": "images", **options}
        path = table_file(table, folder)
        job = PredictionJob(str(model), str(path), folder / "output.parquet", **_as_paths(given))
        predict_table(job)
        written = pq.read_table(job.output)
        new = [name for name in written.column_names if name not in set(pq.read_schema(path).names)]
        return with_columns(table, written.select(new).combine_chunks())


def score(
    recipe: Recipe, predictions: Any, truth: Any = None, leave_out_errors: bool = False
) -> dict[str, Any]:
    """Score a table of predictions.

    Args:
        recipe: As in [`train`]; it names the label columns.
        predictions: What [`predict`] gave.
        truth: Table of the labels, the same rows in the same order. None: they are in `predictions`.
        leave_out_errors: Leave out malformed rows, and labelled rows that have no prediction.

    Returns:
        The scores: macro-F1 with intervals and more, by task and their mean, and the majority class's.

    Raises:
        ValueError: If the tables and the recipe do not fit together. Where single rows are wrong, it is
            a `mmorient.tables.problems.TableError`, whose `problems` list all of them.
    """
    data = build_recipe(recipe).data
    with tempfile.TemporaryDirectory() as folder:

        def read(table: Any, **text_format: Any) -> Table:
            path = table_file(table, Path(folder)) if is_in_memory(table) else table
            return read_table(str(path), Path(), **text_format)

        true = None if truth is None else read(truth, delimiter=data.delimiter, encoding=data.encoding)
        return score_predictions(data, read(predictions), true, leave_out_errors).results


def _as_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a job, with the picture folder as a path."""
    folder = options.get("image_dir")
    return dict(options) if folder is None else {**options, "image_dir": Path(folder)}
