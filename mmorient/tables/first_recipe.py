"""From a table alone to a recipe."""

from collections.abc import Mapping
from pathlib import Path

from mmorient.files.whole_files import write_text
from mmorient.recipes.draft import recipe_text
from mmorient.tables.guessing import guess_table
from mmorient.tables.stream import open_table


def write_first_recipe(
    table: Path,
    output: Path,
    *,
    image_dir: Path | None = None,
    overwrite: bool = False,
    encoders: Mapping[str, str] | None = None,
    text_format: Mapping[str, str] | None = None,
) -> str:
    """Write a recipe for a table; what the table seems to hold, for a person.

    Args:
        table: The table.
        output: File to write.
        image_dir: Folder of the pictures. None: looked for beside the table.
        overwrite: Replace the file if it is there.
        encoders: Pretrained encoder by role. None: small ones are trained from scratch.
        text_format: `delimiter` and `encoding` of a text file, where they are not the usual ones.

    Raises:
        ValueError: If the file is there, encoders do not make a model, or the table has no pictures or no
            labels.
    """
    encoders, text_format = encoders or {}, dict(text_format or {})
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already: give another --output, or --overwrite to replace it.")
    if encoders and ("text" not in encoders or len(encoders) != 2):
        raise ValueError(
            f"pretrained encoders are given for {list(encoders)}: give --text together with --joint or with "
            "--vision, or none of them for small ones that are trained from scratch."
        )
    guess = guess_table(open_table(str(table), Path(), **text_format), table, image_dir, text_format)
    write_text(output, recipe_text(guess.draft, str(table), str(output), f"runs/{output.stem}", encoders))
    return f"{guess.text}\n\nThe recipe is in {output}: look through it, then `mmorient inspect {output}`."
