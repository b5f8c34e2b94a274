"""What is asked of a prediction: light to import, so that a command can tell before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The name of no column, where a table has no pictures.
NO_COLUMN = "none"


@dataclass(frozen=True)
class PredictionJob:
    """A table to predict, and how. What is None is as the model's recipe had it.

    Args:
        model: Folder or Hub id of a model with its processor.
        table: CSV, TSV, JSON Lines, Parquet or .xlsx file, or a folder that `datasets` saved.
        output: File to write, .csv or .parquet.
        image_dir: Folder of the pictures. None: `images` beside the table.
        image_column: Column of the pictures' file names, or of pictures; `none` for a table without any.
        text_columns: Columns of the text; the first one that is not empty counts.
        allow: missing_pictures, unreadable_pictures: predict such rows from their text.
        delimiter: Between the cells of a CSV file.
        encoding: Of a text file.
        split: Only the rows of the table that the run had in this split.
        batch_size: Rows at a time.
        device: Such as cpu or cuda:1. None: a GPU if there is one.
        restart: Discard the output and the chunks of an earlier run.

    Raises:
        ValueError: If the batch size is below 1, or columns are named beside a split.
    """

    model: str
    table: str
    output: Path
    image_dir: Path | None = None
    image_column: str | None = None
    text_columns: Sequence[str] | None = None
    allow: Sequence[str] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    split: str | None = None
    batch_size: int = 64
    device: str | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch_size is {self.batch_size}: give a number of at least 1")
        if self.split and (self.image_column or self.text_columns is not None):
            raise ValueError("--split reads what the run read: leave out --image_column and --text_columns")
