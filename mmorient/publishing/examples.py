"""Drawn memes with what a model answers about them, for the widget of a card."""

from dataclasses import dataclass
from pathlib import Path

from mmorient.samples.examples import draw_examples
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor

FOLDER = "examples"


@dataclass(frozen=True)
class WidgetExample:
    """A picture with the recorded answer.

    Args:
        image: Its path in the repository.
        title: For a person.
        output: Labels of all tasks, written as `task: label`, with their scores.
    """

    image: str
    title: str
    output: list[dict[str, str | float]]


def write_examples(
    folder: Path, model: MMOrientForMultitaskClassification, processor: MMOrientProcessor
) -> list[WidgetExample]:
    """Draw memes into a repository's folder and ask the model about them without text, as the widget does."""
    found = []
    for number, (image, _) in enumerate(draw_examples(folder / FOLDER), start=1):
        (answers,) = model.label(processor, images=[image], text=[None])
        output: list[dict[str, str | float]] = [
            {"label": f"{task}: {label}", "score": round(share, 4)}
            for task, answer in answers.items()
            for label, share in answer.probabilities.items()
        ]
        found.append(WidgetExample(f"{FOLDER}/{image.name}", f"Drawn meme {number}", output))
    return found
