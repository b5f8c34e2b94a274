"""Label one meme with a saved model."""

from dataclasses import dataclass

import torch

from mmorient.prediction.saved_models import load_saved_model
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class Answer:
    """What a model answers to one task.

    Args:
        labels: One label; of a multi-label task those that hold.
        probabilities: By label.
        thresholds: By label, what its probability must be above for the label to hold: for every label of a
            multi-label task, for the second of two that were fitted one, for no others.
    """

    labels: list[str]
    probabilities: dict[str, float]
    thresholds: dict[str, float]

    def __str__(self) -> str:
        shares = ", ".join(
            f"{label} {share:.2f}{self._beside(label)}" for label, share in self.probabilities.items()
        )
        return f"{', '.join(self.labels) or 'none of them'}  ({shares})"

    def _beside(self, label: str) -> str:
        if label not in self.thresholds:
            return ""
        # More digits: the share may be close to it.
        sign = ">" if label in self.labels else "<="
        return f" {sign} {self.thresholds[label]:.3f}"


@torch.inference_mode()
def label_meme(folder: str, image: str | None, text: str | None) -> dict[str, Answer]:
    """A saved model's answers about one meme, by task.

    Args:
        folder: Folder or Hub id of the model.
        image: File of the picture; None where there is none.
        text: None where there is none.

    Raises:
        ValueError: If the model or the meme is unusable, or an answer is not a number.
    """
    model, processor = load_saved_model(folder)
    inputs = processor(
        images=None if image is None else [image],
        text=None if text is None else [text],
        return_tensors="pt",
    )
    specs = model.config.task_specs
    logits = model(**inputs).logits
    for task, values in logits.items():
        if not values.isfinite().all():
            raise ValueError(
                f"the model's logits of task {task!r} are not finite, and not a number is no answer: the "
                f"weights in {folder!r}, or the picture, are broken."
            )
    probabilities = model.probabilities(logits)
    decisions = model.decisions(probabilities)
    answers = {}
    for task, spec in specs.items():
        answer = decisions[task][0]
        # A class index; of `multilabel`, a 0 or 1 for each label.
        indices = answer.nonzero()[:, 0].tolist() if spec.kind == "multilabel" else [int(answer)]
        shares = dict(zip(spec.labels, probabilities[task][0].tolist(), strict=True))
        answers[task] = Answer([spec.labels[index] for index in indices], shares, _thresholds(spec))
    return answers


def _thresholds(spec: TaskSpec) -> dict[str, float]:
    if spec.kind == "multilabel":
        return dict(zip(spec.labels, spec.thresholds or [0.5] * spec.num_labels, strict=True))
    return {} if spec.thresholds is None else {spec.labels[1]: spec.thresholds[0]}
