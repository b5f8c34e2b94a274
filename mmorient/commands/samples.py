"""Draw sample memes: pictures, `train.csv` and `validation.csv`.

mmorient samples FOLDER --rows 400 --seed 0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.samples.memes import draw_memes


def main(argv: Sequence[str]) -> None:
    parser = command_parser("samples", "Draw sample memes: pictures, train.csv and validation.csv.")
    parser.add_argument("folder", type=Path, help="a new or empty folder, or one drawn earlier")
    parser.add_argument("--rows", type=int, default=400, help="memes in both tables")
    parser.add_argument("--seed", type=int, default=0, help="every choice follows from it")
    parser.add_argument("--missing", type=float, default=0.0, help="share of rows lacking a cell")
    options = parser.parse_args(argv)
    tables = draw_memes(options.folder, options.rows, options.seed, options.missing)
    for split, path in tables.items():
        print(f"{split}: {path}")


if __name__ == "__main__":
    run(main, sys.argv[1:])
