"""Train MM-ORIENT on a table of memes.

    accelerate launch training/train.py RECIPE.yaml [--field value ...]
    python training/train.py RECIPE.yaml --inspect

Fields are those of `DataArguments`, `ModelArguments`, `RunArguments` (`mmorient/recipes/recipe.py`) and
transformers' `TrainingArguments`. Leaves the model, its processor, `tables.json`, `results.json`, `report/`
and `splits.csv` in `output_dir`. Killed at any moment and started again, it goes on from its last whole
checkpoint."""

import sys
from collections.abc import Sequence

from mmorient.commands.running import run
from mmorient.files.disk_failures import explained_failures
from mmorient.fitting.train import carry_out
from mmorient.recipes.recipe import parse_recipe


def main(argv: Sequence[str]) -> None:
    recipe = parse_recipe(list(argv))
    folders = {"output_dir": str(recipe.training.output_dir), "feature_cache": recipe.model.feature_cache}
    with explained_failures(folders):
        carry_out(recipe)


if __name__ == "__main__":
    run(main, sys.argv[1:])
