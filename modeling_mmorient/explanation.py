"""Why the model answered what it did: attention, neighbours, votes, and what each branch contributed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .calibration import decisions, probabilities
from .features import EncodedFeatures, GraphNeighbors
from .modeling_mmorient import MMOrientForMultitaskClassification
from .outputs import MMOrientMultitaskOutput
from .processing_mmorient import MMOrientProcessor
from .task_kinds import kind_of
from .task_specs import TaskSpec
from .text_input import read_text

GRAPHS = {"image": "picture", "text": "text"}


@dataclass(frozen=True)
class NeighborExplanation:
    """One neighbour of a row in one relation graph.

    Args:
        id: The reference's.
        similarity: Cosine.
        weight: Its share of the neighbourhood's mean, 1 / (number + 1).
        vote_weights: By task, its share of the vote; 0 where it is not labelled. Empty without votes.
        labels: By task what is known of it; tasks it is not labelled for are left out.
    """

    id: str
    similarity: float
    weight: float
    vote_weights: dict[str, float]
    labels: dict[str, str | list[str]]


@dataclass(frozen=True)
class TaskExplanation:
    """The answer to one task.

    Args:
        task: Its name.
        probabilities: By label, calibrated. Empty for a `regression` task.
        decision: The answer: one label, those of a `multilabel` task that hold, or the value of a
            `regression` task in digits.
        contributions: By branch and label: the label's logit minus the logit without the branch, whose
            features are then zero. They do not add up to the logit: the learner is not linear. (Logits of
            an `ordinal` task are the log-probabilities of its labels.) For a `regression` task the same for
            `value`, in the table's unit.
        votes: By graph and label: what the neighbours' votes add to the logit (to the value), exactly. Empty
            without votes.
        value: The answer of a `regression` task; None for others.
        interval: Low and high end around `value`, where the task's interval was fitted.
    """

    task: str
    probabilities: dict[str, float]
    decision: list[str]
    contributions: dict[str, dict[str, float]]
    votes: dict[str, dict[str, float]]
    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Explanation:
    """The explanation of one row's answers.

    Args:
        tasks: By name.
        neighbors: By graph (`image`, `text`), the nearest first.
        region_attention: HIMA's weights on the grid of the picture's regions, (rows, columns); None without a
            picture, without HIMA, or where the regions are no square grid.
        words: The text's words in order, with HIMA's weight of each (of its tokens together; special tokens
            are left out, so that they do not add up to 1); None without a text or without HIMA.
    """

    tasks: dict[str, TaskExplanation]
    neighbors: dict[str, list[NeighborExplanation]]
    region_attention: list[list[float]] | None
    words: list[tuple[str, float]] | None


@torch.no_grad()
def explain(
    model: MMOrientForMultitaskClassification,
    processor: MMOrientProcessor,
    images: Sequence[Any],
    texts: Sequence[str | None],
) -> list[Explanation]:
    """Explain the model's answers, row by row.

    Args:
        model: In evaluation mode.
        processor: Its own.
        images, texts: As the processor takes them, one for each row; None = the row has none.

    Raises:
        ValueError: If a picture or text cannot be read, or the model is in training mode.
    """
    if model.training:
        raise ValueError("the model is in training mode: call `model.eval()` before.")
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts: give one of each for a row, or None.")
    given = {"images": images, "text": texts}
    given = {name: values for name, values in given.items() if any(value is not None for value in values)}
    inputs = {
        name: values.to(model.device) for name, values in processor(**given, return_tensors="pt").items()
    }
    features = model.encode(**inputs)
    arguments = features.as_inputs()
    output = model(**arguments, output_attentions=True, output_neighbors=True)
    contributions = _contributions(model, arguments, output)
    tasks = [_task(model, spec, output, contributions) for spec in model.config.task_specs.values()]
    return [
        Explanation(
            {task: rows[row] for task, rows in zip(model.config.task_specs, tasks, strict=True)},
            {graph: _neighbors(model, row, found) for graph, found in (output.neighbors or {}).items()},
            _grid(features, output, row),
            _words(processor, text, _row(output.token_attention, row), features.token_mask[row]),
        )
        for row, text in enumerate(texts)
    ]


def _row(values: torch.Tensor | None, row: int) -> torch.Tensor | None:
    return None if values is None else values[row]


def _contributions(
    model: MMOrientForMultitaskClassification,
    arguments: dict[str, torch.Tensor],
    output: MMOrientMultitaskOutput,
) -> dict[str, dict[str, torch.Tensor]]:
    """By branch and task, the logits less those without the branch, (B, C)."""
    fused = model.mmorient(**arguments).pooler_output
    found: dict[str, dict[str, torch.Tensor]] = {}
    whole = model.heads(model.learner(fused))
    start = 0
    for name, width in model.config.branch_widths.items():
        without = fused.clone()
        without[:, start : start + width] = 0.0
        start += width
        rest = model.heads(model.learner(without))
        found[name] = {task: whole[task] - rest[task] for task in whole}
    for graph, neighbors in (output.neighbors or {}).items():
        if neighbors.votes:
            found[f"votes {GRAPHS[graph]} graph"] = neighbors.votes
    return found


def _task(
    model: MMOrientForMultitaskClassification,
    spec: TaskSpec,
    output: MMOrientMultitaskOutput,
    contributions: dict[str, dict[str, torch.Tensor]],
) -> list[TaskExplanation]:
    assert output.logits is not None
    likely, kind, unit = (
        probabilities(spec, output.logits[spec.name]),
        kind_of(spec),
        kind_of(spec).unit(spec),
    )
    decided = decisions(spec, likely)
    answers, spans = decided.tolist(), kind.intervals(spec, decided)

    def by_label(values: torch.Tensor) -> dict[str, float]:
        return dict(zip(kind.columns(spec), values.tolist(), strict=True))

    return [
        TaskExplanation(
            spec.name,
            by_label(likely[row]) if kind.has_probabilities else {},
            kind.names(spec, answers[row]),
            {branch: by_label(unit * values[spec.name][row]) for branch, values in contributions.items()},
            {
                graph: by_label(unit * neighbors.votes[spec.name][row])
                for graph, neighbors in (output.neighbors or {}).items()
                if neighbors.votes
            },
            None if kind.has_probabilities else answers[row],
            None if spans is None else tuple(spans[row].tolist()),
        )
        for row in range(len(likely))
    ]


def _neighbors(
    model: MMOrientForMultitaskClassification, row: int, found: GraphNeighbors
) -> list[NeighborExplanation]:
    labels = {name: values.cpu() for name, values in model.references.labels.items()}
    specs = model.config.task_specs
    explained = []
    for number, name in enumerate(found.ids[row]):
        index = int(found.indices[row, number])
        known: dict[str, str | list[str]] = {}
        for task, values in labels.items():
            kind, label = kind_of(specs[task]), values[index]
            if kind.known(label).all():
                names = kind.names(specs[task], label.tolist())
                known[task] = names if label.ndim else names[0]
        explained.append(
            NeighborExplanation(
                name,
                float(found.similarities[row, number]),
                float(found.weights[row, number]),
                {task: float(shares[row, number]) for task, shares in found.vote_weights.items()},
                known,
            )
        )
    return explained


def _grid(features: EncodedFeatures, output: MMOrientMultitaskOutput, row: int) -> list[list[float]] | None:
    if output.region_attention is None or not features.image_present[row]:
        return None
    weights = output.region_attention[row][features.region_mask[row]]
    side = round(len(weights) ** 0.5)
    return weights.view(side, side).tolist() if side * side == len(weights) else None


def _words(
    processor: MMOrientProcessor, text: str | None, weights: torch.Tensor | None, mask: torch.Tensor
) -> list[tuple[str, float]] | None:
    """Words between spaces, and the weights of the tokens that begin in each; words cut off have none."""
    tokenizer = processor.tokenizer
    if text is None or weights is None or tokenizer is None or not tokenizer.is_fast:
        return None
    cleaned = read_text(text, processor.clean_text)
    encoded = tokenizer(
        cleaned, truncation=True, max_length=processor.text_max_length, return_offsets_mapping=True
    )
    spans = [match.span() for match in re.finditer(r"\S+", cleaned)]
    starts = [start for start, _ in spans]
    total = [0.0] * len(spans)
    for (start, stop), weight in zip(encoded["offset_mapping"], weights[mask].tolist(), strict=True):
        if stop > start:  # special tokens span nothing
            # Some tokenizers count the space before a word to its first token.
            start += len(cleaned[start:stop]) - len(cleaned[start:stop].lstrip())
            total[max(bisect_right(starts, start) - 1, 0)] += weight
    return [(cleaned[start:stop], weight) for (start, stop), weight in zip(spans, total, strict=True)]
