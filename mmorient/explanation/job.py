"""The arguments of an explanation: light to import, so that they are checked before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExplanationJob:
    """Memes to explain: a single one, or rows of a recipe's tables.

    Args:
        model: Folder or Hub id of a model with its processor.
        output: Folder to write into; pages of the same names are replaced.
        recipe: YAML file (or shipped recipe) of a training run whose rows to explain.
        rows: Indices in the split, counted from 0, such as 0-9,17. As [`parse_indices`] reads them.
        split: The rows' split. None: validation.
        image: File of a single meme's picture.
        text: The text that stands on it.
        references: Recipe of the run whose rows the model's references are. None: the recipe.
        fields: Of the recipes, as on the command line of a training: `--data_dir FOLDER`.

    Raises:
        ValueError: If it is neither a single meme nor rows of a recipe, or both.
    """

    model: str
    output: Path
    recipe: str | None = None
    rows: Sequence[range] | None = None
    split: str | None = None
    image: str | None = None
    text: str | None = None
    references: str | None = None
    fields: Sequence[str] = ()

    def __post_init__(self) -> None:
        single = self.image is not None or self.text is not None
        if single == (self.recipe is not None):
            raise ValueError("give --image, --text or both for a single meme, or else a recipe")
        if (self.rows is None) != (self.recipe is None):
            raise ValueError("a recipe needs --rows, and --rows a recipe")
        if self.split and single:
            raise ValueError("--split is for a recipe's rows")
        if self.fields and not (self.recipe or self.references):
            raise ValueError(
                f"{self.fields[0]} stands behind `--`, and there is no recipe that it could be a field of"
            )


def parse_indices(text: str) -> list[range]:
    """Indices from `0-9,17`.

    Raises:
        ValueError: If it is written otherwise.
    """
    found = []
    for entry in text.split(","):
        first, dash, last = (piece.strip() for piece in entry.partition("-"))
        # Not `isdigit`, which also accepts characters that `int` refuses.
        if (
            not first.isdecimal()
            or not (last.isdecimal() if dash else True)
            or int(last or first) < int(first)
        ):
            raise ValueError(f"--rows is {text!r}: give indices counted from 0, such as 0-9,17.")
        found.append(range(int(first), int(last or first) + 1))
    return found


def select_indices(ranges: Sequence[range], count: int, split: str) -> list[int]:
    """The indices in these ranges, each once, in their order.

    Args:
        ranges: From [`parse_indices`].
        count: Number of rows.
        split: What they are called in the error.

    Raises:
        ValueError: If there is no such row, naming it.
    """
    for indices in ranges:
        if indices[-1] >= count:
            first = max(indices[0], count)
            missing = f"{first}" if first == indices[-1] else f"{first}-{indices[-1]}"
            raise ValueError(
                f"--rows names {missing}, and the {split} split has {count} rows: give indices from 0 to "
                f"{count - 1}."
            )
    return list(dict.fromkeys(index for indices in ranges for index in indices))
