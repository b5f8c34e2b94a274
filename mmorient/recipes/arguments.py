"""The arguments of a run beside transformers' own: the data, the model, and how the run goes."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmorient.recipes.messages import shown
from mmorient.recipes.problem_kinds import PROBLEM_KINDS
from mmorient.recipes.text_formats import UTF8, check_delimiter, check_encoding

CLASS_WEIGHTINGS = ("none", "balanced")


def read_mapping(name: str, value: Any) -> dict[str, Any]:
    """A dict field, which the command line gives as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=_once_each)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"`{name}` is {shown(value)}: give JSON such as '{{\"key\": 1}}' ({error})."
            ) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` is {value!r}: give a mapping.")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key {key!r} is given {count} times")
    return dict(pairs)


@dataclass
class DataArguments:
    """Where the memes are and what is asked about them.

    Args:
        data_dir: Folder that the other paths start from.
        train_file: Table of the memes, or several. A `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet` or
            `.xlsx` file, a folder that `datasets` saved, or `hub:` and the name of a dataset on the Hub.
        validation_file: Table of the rows that choices are made on (epoch, temperature, thresholds). In any
            of these forms.
        test_file: Table of the rows that are scored and otherwise never looked at. Without any test rows the
            validation rows are scored.
        references_file: Table of the memes that become the model's references. In any of these forms. None:
            the training rows do.
        delimiter: Between the cells of CSV and TSV files, a single character. None: a comma, and a tab in
            TSV.
        encoding: Of CSV, TSV and JSON Lines files, such as cp1252 or utf-16.
        split_column: Column that names the split of each row, where one table holds them all.
        train_split, validation_split, test_split: Names of the splits to use. In `split_column`, in a saved
            `DatasetDict` or on the Hub.
        image_dir: Folder of the pictures; no picture outside it is read.
        image_column: Column of the picture's file name, or of pictures. An empty cell is a missing picture;
            pictures themselves stand in Parquet and `datasets`.
        text_columns: Columns of the text; the first one that is not empty counts.
        tasks: What is asked, by task: its labels and more (`own_table.yaml` shows all). Task name to `labels`
            and optionally `column` (defaults to the name), `values` (other spellings to one of the labels,
            or to null for none of them), `kind` (`multiclass`, `ordinal`, `multilabel` or `regression`),
            `separator` (of the labels in a cell of a multi-label task; default `,`) or `columns` (of a
            multi-label task, one for each label), `range` (of a regression task, lowest and highest value)
            and `weight`. An empty cell is a row that is not labelled for the task.
        validation_share: Share of the training rows to hold out for validation where no such split is given.
        test_share: Share of the training rows to hold out for the test where no such split is given. 0: none.
        class_weighting: `balanced` weighs classes by their rarity in the training rows; or `none`.
        allow: Problems that do not stop the run: malformed_rows, missing_pictures, unreadable_pictures,
            unknown_labels, empty_rows, split_duplicates. What becomes of such rows is in `PROBLEM_KINDS`.
    """

    data_dir: str = "."
    train_file: list[str] = field(default_factory=lambda: ["train.csv"])
    validation_file: str | None = None
    test_file: str | None = None
    references_file: str | None = None
    delimiter: str | None = None
    encoding: str = UTF8
    split_column: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str | None = None
    image_dir: str = "images"
    image_column: str = "image"
    text_columns: list[str] = field(default_factory=lambda: ["text"])
    tasks: dict | str | None = None
    validation_share: float = 0.1
    test_share: float = 0.0
    class_weighting: str = "balanced"
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = read_mapping("tasks", self.tasks)
        if not self.tasks:
            raise ValueError("`tasks` is empty: the recipe says which columns hold which labels.")
        check_delimiter(self.delimiter)
        check_encoding(self.encoding)
        if self.class_weighting not in CLASS_WEIGHTINGS:
            raise ValueError(
                f"`class_weighting` is {self.class_weighting!r}: choose one of {list(CLASS_WEIGHTINGS)}."
            )
        if not isinstance(self.validation_share, int | float) or not 0 < self.validation_share < 1:
            raise ValueError(f"`validation_share` is {self.validation_share}: give a number in (0, 1).")
        if not isinstance(self.test_share, int | float) or not 0 <= self.test_share < 1:
            raise ValueError(f"`test_share` is {self.test_share}: give a number in [0, 1).")
        if self.test_share and (given := self.test_file or self.test_split):
            raise ValueError(f"`test_share` is {self.test_share}, but the test rows are {given!r}: give one.")
        files = self.validation_file or self.test_file
        if self.split_column and (files or not (self.validation_split or self.test_split)):
            raise ValueError(
                f"`split_column` is {self.split_column!r}: say in `validation_split` or `test_split` which "
                "of its values are not to train on, and leave `validation_file` and `test_file` out."
            )
        if isinstance(self.train_file, str):
            self.train_file = [self.train_file]
        if not self.train_file:
            raise ValueError(f"`train_file` is {self.train_file!r}: give a list of at least one table.")
        for name in ("allow", "text_columns", "train_file"):
            if not isinstance(getattr(self, name), list):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}: give a list.")
            if not all(isinstance(entry, str) for entry in getattr(self, name)):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}: give strings.")
        for kind in self.allow:
            if kind not in PROBLEM_KINDS:
                raise ValueError(f"`allow` lists {kind!r}: choose from {list(PROBLEM_KINDS)}.")

    def path(self, name: str) -> Path:
        """A path of the recipe, seen from `data_dir`."""
        return Path(self.data_dir).expanduser() / name


@dataclass
class ModelArguments:
    """What the model is made of.

    Args:
        joint, text, vision: Pretrained encoder (Hub id or folder) for each role; `none` leaves it empty. With
            all of them empty, encoders are built from `model_options` and trained from scratch.
        model_options: Further fields of `MMOrientConfig`, and nothing else. `tasks` stand beside it. On the
            command line, JSON that is laid over the recipe's.
        processor_options: Further arguments of `MMOrientProcessor`. In the same way.
        precompute_features: Run frozen encoders once over the data, and train on their features.
        feature_cache: Folder where those features are kept, for all recipes. Every later run with the same
            encoders, processor, pictures and texts takes them from there, whatever its labels are.
            Fingerprints of pictures are kept there too, so that none is decoded again to look for
            duplicates.
    """

    joint: str | None = None
    text: str | None = None
    vision: str | None = None
    model_options: dict | str | None = None
    processor_options: dict | str | None = None
    precompute_features: bool = True
    feature_cache: str = "runs/features"

    def __post_init__(self) -> None:
        for role in ("joint", "text", "vision"):
            if str(getattr(self, role)).lower() in ("none", ""):
                setattr(self, role, None)
        # Loads torch, which an argument list printed for `--help` does not need.
        from modeling_mmorient.configuration_fields import renamed

        self.model_options = renamed(read_mapping("model_options", self.model_options))
        self.processor_options = read_mapping("processor_options", self.processor_options)


@dataclass
class RunArguments:
    """How a run goes.

    Args:
        early_stopping_patience: Stop after that many evaluations without a better model, and keep the best.
            Better is by `metric_for_best_model` on the validation rows. None: train to the end.
        threshold_quantile: Quantile of the references' nearest similarities that becomes a graph's threshold.
            Where the model's options give the graph none: at 0.1 nine of ten references have a neighbour
            above it. None: the nearest are neighbours whatever their similarity.
        restart: Start anew where `output_dir` holds checkpoints, and remove those. Otherwise a run that was
            interrupted goes on from its last whole checkpoint.
    """

    early_stopping_patience: int | None = None
    threshold_quantile: float | None = 0.1
    restart: bool = False
