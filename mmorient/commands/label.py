"""Label one meme with a saved model.

mmorient label MODEL [--image PICTURE] [--text TEXT]

Prints a line for each task: the answer, and every label's probability. Where a threshold decides (for each
label of a multi-label task, and for the second of two labels that a run fitted one for), it stands beside."""

import argparse
import sys
from collections.abc import Sequence

from mmorient.commands.running import run
from mmorient.prediction.label import label_meme


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Label one meme with a saved model.")
    parser.add_argument("model", help="folder or Hub id of a model")
    parser.add_argument("--image", help="file of the picture")
    parser.add_argument("--text", help="the text that stands on it")
    arguments = parser.parse_args(argv)
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    for task, answer in label_meme(arguments.model, arguments.image, arguments.text).items():
        print(f"{task}: {answer}")


if __name__ == "__main__":
    run(main, sys.argv[1:])
