"""Show why a model answers what it does, meme by meme.

    mmorient explain MODEL OUTPUT_FOLDER [--image PICTURE] [--text TEXT]
    mmorient explain MODEL OUTPUT_FOLDER RECIPE.yaml --rows 0-9,17 [--split validation]

Writes a page for each meme, and `index.html` that lists them. They open without a network and show the
picture with HIMA's attention as heat over it, the words shaded by their attention, the probabilities and what
each part of the model adds to them, and the neighbours in both graphs. Neighbours have pictures and texts
where `--references` names the recipe whose rows the model's references are (by default RECIPE.yaml); others
are shown by their ids.

Behind `--`, fields of the recipe follow as in training: `-- --data_dir FOLDER --seed 2`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.explanation.job import ExplanationJob, parse_indices
from mmorient.recipes.field_docs import field_summaries
from mmorient.recipes.split_names import SPLITS


def parse(argv: Sequence[str]) -> ExplanationJob:
    """What a command line asks for."""
    parser = command_parser(
        "explain",
        "Show why a model answers what it does: a page for each meme. Behind `--`, fields of the recipe "
        "follow as in training, such as `-- --data_dir FOLDER`.",
    )
    about = field_summaries(ExplanationJob)
    parser.add_argument("model", help=about["model"])
    parser.add_argument("output", type=Path, help=about["output"])
    parser.add_argument("recipe", nargs="?", help=about["recipe"])
    parser.add_argument("--rows", metavar="X", help=about["rows"])
    # `--part` is the option's earlier name.
    parser.add_argument(
        "--split", "--part", dest="split", choices=SPLITS[:-1], help=about["split"] + " [validation]"
    )
    parser.add_argument("--image", metavar="X", help=about["image"])
    parser.add_argument("--text", metavar="X", help=about["text"])
    parser.add_argument("--references", metavar="X", help=about["references"] + " [the recipe]")
    own, fields = list(argv), []
    if "--" in own:
        fields, own = own[own.index("--") + 1 :], own[: own.index("--")]
    arguments = vars(parser.parse_args(own))
    try:
        if arguments["rows"] is not None:
            arguments["rows"] = parse_indices(arguments["rows"])
        return ExplanationJob(**arguments, fields=fields)
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str]) -> None:
    job = parse(argv)
    from mmorient.explanation.explain import explain_memes

    print(explain_memes(job))


if __name__ == "__main__":
    run(main, sys.argv[1:])
