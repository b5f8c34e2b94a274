"""Train MM-ORIENT on a table of memes.

    mmorient train RECIPE [--field value ...]
    accelerate launch -m mmorient.commands.train RECIPE [--field value ...]

Fields are those of `DataArguments`, `ModelArguments`, `RunArguments` (`mmorient/recipes/arguments.py`) and
transformers' `TrainingArguments`. Leaves the model, its processor, `tables.json`, `results.json`, `report/`
and `splits.csv` in `output_dir`. A run that was killed and is started again resumes from its last whole
checkpoint."""

import sys
from collections.abc import Sequence

from mmorient.commands.recipe_help import print_recipe_help
from mmorient.commands.running import run
from mmorient.files.disk_failures import explained_failures

PURPOSE = (
    "Train a model as a recipe says. Model, scores and report go to --output_dir. Interrupted and started "
    "again, a run goes on. Several processes: accelerate launch -m mmorient.commands.train RECIPE."
)


def main(argv: Sequence[str]) -> None:
    if print_recipe_help("train", PURPOSE, argv):
        return
    from mmorient.fitting.train import carry_out
    from mmorient.recipes.recipe import parse_recipe

    recipe = parse_recipe(list(argv))
    folders = {"output_dir": str(recipe.training.output_dir), "feature_cache": recipe.model.feature_cache}
    with explained_failures(folders):
        carry_out(recipe)


if __name__ == "__main__":
    run(main, sys.argv[1:])
