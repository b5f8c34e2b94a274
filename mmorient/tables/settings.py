"""How a model's tables are read: what its recipe says, saved beside the model as `tables.json`.

Prediction starts from it, so that rows are read as in training. It names columns and kinds of problems, and
no folder of the machine that trained.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from transformers.utils import cached_file

from mmorient.files.whole_files import write_text
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.problem_kinds import PROBLEM_KINDS

TABLES = "tables.json"


@dataclass(frozen=True)
class TableSettings:
    """How tables are read. The defaults are those of models that were saved without.

    Args:
        image_column: Column of the pictures' file names, or of pictures; None for tables without any.
        text_columns: Columns of the text; the first one that is not empty counts.
        allow: Kinds of problems that the recipe allows, of `PROBLEM_KINDS`.
        delimiter: Between the cells of a CSV file; None: as its name says.
        encoding: Of text files.
        references: Digest of the model's references at the end of the run, as `config.json` has it; another
            one there says that they were edited since. None: not known.
        splits: SHA-256 of the run's `splits.csv`. None: not known.
    """

    image_column: str | None = "image"
    text_columns: tuple[str, ...] = ("text",)
    allow: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"
    references: str | None = None
    splits: str | None = None

    @classmethod
    def of_run(cls, data: DataArguments, references: str | None, splits: str | None) -> Self:
        """Those of a recipe."""
        return cls(
            data.image_column,
            tuple(data.text_columns),
            tuple(data.allow),
            data.delimiter,
            data.encoding,
            references,
            splits,
        )

    def save(self, folder: Path) -> None:
        """Write `tables.json` into a model's folder."""
        write_text(folder / TABLES, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, name: str, **where: Any) -> Self:
        """Those that were saved with a model; the defaults where none were.

        Args:
            name: Folder or Hub id of the model.
            where: On the Hub, as `cached_file` takes it.

        Raises:
            ValueError: If the file is not what a run writes.
        """
        found = cached_file(name, TABLES, _raise_exceptions_for_missing_entries=False, **where)
        if found is None:
            return cls()
        try:
            saved = json.loads(Path(found).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{TABLES} of {name!r} is no JSON: {error}. {_REMEDY}") from None
        if not isinstance(saved, dict):
            raise ValueError(f"{TABLES} of {name!r} holds a {type(saved).__name__}. {_REMEDY}")
        values = {field.name: saved[field.name] for field in fields(cls) if field.name in saved}
        for key, value in values.items():
            if not _FITS[key](value):
                raise ValueError(f"{TABLES} of {name!r} has the {key} {value!r}. {_REMEDY}")
        for key in ("text_columns", "allow"):
            values[key] = tuple(values.get(key, getattr(cls, key)))
        return cls(**values)


_REMEDY = "Put the file back that the run wrote, or remove it and name the columns yourself."


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | None)


_FITS: dict[str, Callable[[Any], bool]] = {
    "image_column": _is_name,
    "text_columns": _is_list,
    "allow": lambda value: _is_list(value) and set(value) <= set(PROBLEM_KINDS),
    "delimiter": _is_name,
    "encoding": lambda value: isinstance(value, str),
    "references": _is_name,
    "splits": _is_name,
}
