"""Write a recipe for a table, guessing what its columns are.

    mmorient init TABLE [--image_dir DIR] [--output recipe.yaml]

Prints the columns with their types, distinct values and examples, and what each is guessed to be. The
recipe is one that `mmorient inspect` and `mmorient train` take as it is, with comments for the person who
edits it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.files.disk_failures import explained_failures


def main(argv: Sequence[str]) -> None:
    parser = command_parser(
        "init",
        "Write a recipe for a table, guessing what its columns are: the picture, texts, labels and kinds of "
        "tasks. Without pretrained encoders the recipe trains small ones from scratch.",
    )
    parser.add_argument(
        "table", type=Path, help="CSV, TSV, JSON Lines, Parquet or .xlsx file, or a saved dataset"
    )
    parser.add_argument("--image_dir", type=Path, metavar="X", help="folder of the pictures [looked for]")
    parser.add_argument("--output", type=Path, metavar="X", default="recipe.yaml", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--delimiter", metavar="X", help="between the cells of a CSV file [a comma]")
    parser.add_argument("--encoding", metavar="X", help="of a text file [utf-8]")
    for role, kind in (("joint", "CLIP"), ("text", "BERT"), ("vision", "ViT, ResNet")):
        parser.add_argument(
            f"--{role}", metavar="X", help=f"pretrained encoder (Hub id or folder), such as {kind}"
        )
    arguments = parser.parse_args(argv)
    from mmorient.tables.first_recipe import write_first_recipe

    encoders = {role: getattr(arguments, role) for role in ("joint", "text", "vision")}
    text_format = {"delimiter": arguments.delimiter, "encoding": arguments.encoding}
    with explained_failures({"output": str(arguments.output.parent)}):
        print(
            write_first_recipe(
                arguments.table,
                arguments.output,
                image_dir=arguments.image_dir,
                overwrite=arguments.overwrite,
                encoders={role: name for role, name in encoders.items() if name},
                text_format={name: value for name, value in text_format.items() if value},
            )
        )


if __name__ == "__main__":
    run(main, sys.argv[1:])
