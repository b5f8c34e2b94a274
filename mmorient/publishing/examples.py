"""Drawn memes with what a model answers about them, for the widget of a card."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mmorient.samples.memes import MIN_ROWS, draw_memes
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor

FOLDER = "examples"
NUMBER = 3
# Memes that the quick start, and whoever draws with a seed of their own, do not train on.
SEED = 20_250_828


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
    (folder / FOLDER).mkdir()
    found = []
    with TemporaryDirectory() as name:
        draw_memes(name, rows=MIN_ROWS, seed=SEED)
        for number, drawn in enumerate(sorted((Path(name) / "images").iterdir())[:NUMBER], start=1):
            image = folder / FOLDER / f"drawn-{number}.png"
            image.write_bytes(drawn.read_bytes())
            (answers,) = model.label(processor, images=[image], text=[None])
            output: list[dict[str, str | float]] = [
                {"label": f"{task}: {label}", "score": round(share, 4)}
                for task, answer in answers.items()
                for label, share in answer.probabilities.items()
            ]
            found.append(WidgetExample(f"{FOLDER}/{image.name}", f"Drawn meme {number}", output))
    return found
