"""Label one meme with a saved model.

python training/label_picture.py MODEL [--image PICTURE] [--text TEXT]
"""

import argparse
import sys
from pathlib import Path

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from training.saved_models import load_saved_model


@torch.inference_mode()
def label_meme(
    folder: str, image: str | None, text: str | None
) -> dict[str, tuple[list[str], dict[str, float]]]:
    """The answers and the probability of every label, by task."""
    model, processor = load_saved_model(folder)
    inputs = processor(
        images=None if image is None else [image],
        text=None if text is None else [text],
        return_tensors="pt",
    )
    probabilities = model.probabilities(model(**inputs).logits)
    decisions = model.decisions(probabilities)
    answers = {}
    for task, spec in model.config.task_specs.items():
        answer = decisions[task][0]
        # A class index; of `multilabel`, a 0 or 1 for each label.
        indices = answer.nonzero()[:, 0].tolist() if spec.kind == "multilabel" else [int(answer)]
        scores = dict(zip(spec.labels, probabilities[task][0].tolist(), strict=True))
        answers[task] = ([spec.labels[index] for index in indices], scores)
    return answers


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Label one meme with a saved model.")
    parser.add_argument("model", help="folder or Hub id of a model")
    parser.add_argument("--image", help="file of the picture")
    parser.add_argument("--text", help="the text that stands on it")
    arguments = parser.parse_args(argv)
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    try:
        answers = label_meme(arguments.model, arguments.image, arguments.text)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for task, (labels, scores) in answers.items():
        shares = ", ".join(f"{label} {score:.2f}" for label, score in scores.items())
        print(f"{task}: {', '.join(labels) or 'none of them'}  ({shares})")


if __name__ == "__main__":
    main(sys.argv[1:])
