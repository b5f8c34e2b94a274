"""Label one meme with a saved model.

    mmorient label MODEL [--image PICTURE] [--text TEXT]

Prints a line for each task: the answer, and every label's probability. Where a threshold decides (for each
label of a multi-label task, and for the second of two labels that a run fitted one for), it is shown too."""

import sys
from collections.abc import Sequence

from mmorient.commands.running import command_parser, run


def main(argv: Sequence[str]) -> None:
    parser = command_parser("label", "Label one meme with a saved model: a line for each task.")
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument("--image", help="file of the picture")
    parser.add_argument("--text", help="the text that stands on it")
    arguments = parser.parse_args(argv)
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    from mmorient.prediction.saved_models import load_saved_model

    model, processor = load_saved_model(arguments.model)
    # An empty path or text is refused with an error that names it, not taken for a missing one.
    images = None if arguments.image is None else [arguments.image]
    texts = None if arguments.text is None else [arguments.text]
    for task, answer in model.label(processor, images=images, text=texts)[0].items():
        print(f"{task}: {answer}")


if __name__ == "__main__":
    run(main, sys.argv[1:])
