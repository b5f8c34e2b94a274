"""Train MM-ORIENT on a table of memes, from a clone: `accelerate launch training/train.py RECIPE.yaml`.

The same as `mmorient train`, whose `--help` says more. The package has to be installed.
"""

import sys

from mmorient.commands.running import run
from mmorient.commands.train import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
