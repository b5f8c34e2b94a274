"""Show what a recipe finds in its tables: rows, labels, splits, and what would stop a run.

mmorient inspect RECIPE [--field value ...]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.recipe_help import print_recipe_help
from mmorient.commands.running import run
from mmorient.files.disk_failures import explained_failures

PURPOSE = (
    "Show what a recipe finds in its tables: rows, labels, splits, duplicates, and what would stop a run. "
    "Nothing is trained."
)


def main(argv: Sequence[str]) -> None:
    if print_recipe_help("inspect", PURPOSE, argv):
        return
    from mmorient.recipes.recipe import parse_recipe
    from mmorient.tables.inspection import inspection_report
    from mmorient.tables.problems import list_problems, listed_errors
    from mmorient.tables.splits import read_splits

    recipe = parse_recipe(list(argv))
    output_dir, cache = str(recipe.training.output_dir), recipe.model.feature_cache
    with explained_failures({"output_dir": output_dir, "feature_cache": cache}):
        with listed_errors(Path(output_dir)):
            splits = read_splits(recipe.data, recipe.training.seed, cache)
        print(inspection_report(splits, recipe.data))
        print(list_problems(splits.problems, Path(output_dir)))


if __name__ == "__main__":
    run(main, sys.argv[1:])
