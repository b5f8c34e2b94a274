"""Show why a model answers what it does, meme by meme.

    mmorient explain MODEL OUTPUT_FOLDER [--image PICTURE] [--text TEXT]
    mmorient explain MODEL OUTPUT_FOLDER RECIPE.yaml --rows 0-9,17 [--part validation]

Writes a page for each meme, and `index.html` that lists them. They open without a network and show the
picture with HIMA's attention as heat over it, the words shaded by theirs, probabilities and what each part of
the model does to them, and the neighbours in both graphs. Neighbours have pictures and texts where
`--references` names the recipe whose rows the model's references are (by default RECIPE.yaml); others are
shown by their ids.

Behind `--`, fields of the recipe follow as in training: `-- --data_dir FOLDER --seed 2`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import run
from mmorient.explanation.explain import explain_memes
from mmorient.explanation.memes import parse_places

PARTS = ("validation", "training", "test")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; `fields` are those of the recipe."""
    parser = argparse.ArgumentParser(
        description="Show why a model answers what it does: a page for each meme. Behind `--`, fields of the "
        "recipe follow as in training, such as `-- --data_dir FOLDER`."
    )
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument(
        "output", type=Path, help="folder to write into; pages of the same names are replaced"
    )
    parser.add_argument("recipe", nargs="?", help="YAML file of a training run whose rows to explain")
    parser.add_argument("--rows", help="places in the part, counted from 0, such as 0-9,17")
    parser.add_argument("--part", choices=PARTS, help="the rows' part (validation)")
    parser.add_argument("--image", help="file of a single meme's picture")
    parser.add_argument("--text", help="the text that stands on it")
    parser.add_argument(
        "--references", help="YAML file of the run whose rows the model's references are (the recipe)"
    )
    own, fields = list(argv), []
    if "--" in own:
        fields, own = own[own.index("--") + 1 :], own[: own.index("--")]
    arguments = parser.parse_args(own)
    single = arguments.image is not None or arguments.text is not None
    if single == (arguments.recipe is not None):
        parser.error("give --image, --text or both for a single meme, or else a recipe")
    if (arguments.rows is None) != (arguments.recipe is None):
        parser.error("a recipe needs --rows, and --rows a recipe")
    if arguments.part and single:
        parser.error("--part is for a recipe's rows")
    if fields and not (arguments.recipe or arguments.references):
        parser.error(f"{fields[0]} stands behind `--`, and there is no recipe that it could be a field of")
    try:
        rows = None if arguments.rows is None else parse_places(arguments.rows)
    except ValueError as error:
        parser.error(str(error))
    vars(arguments).update(fields=fields, rows=rows, part=arguments.part or "validation")
    return arguments


def main(argv: Sequence[str]) -> None:
    print(explain_memes(parse(argv)))


if __name__ == "__main__":
    run(main, sys.argv[1:])
