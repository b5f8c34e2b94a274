"""Transfer of a saved model's heads and votes to the tasks that it is loaded for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from .multitask import MultitaskHeads, UncertaintyWeighting
from .task_changes import head_order
from .task_kinds import kind_of
from .task_specs import TaskSpec
from .votes import NeighborVotes

logger = logging.get_logger(__name__)

# Of a task's labels, in the table.
SHOWN_CHARACTERS = 40


@torch.no_grad()
def change_tasks(model: Any, tasks: Mapping[str, TaskSpec], missing: Collection[str]) -> list[str]:
    """Let a model answer other tasks, with its own heads and votes where they are the same.

    They are matched by the task's name, kind and labels. Labels in another order permute a head's rows; an
    ordinal head with another order is new, as are those of other tasks. What is new and what is left out is
    said in a table.

    Args:
        model: An MM-ORIENT model with heads, or the base model, which has only references.
        tasks: By name.
        missing: Keys of the state dict that were not loaded: such a head is new in any case.

    Returns:
        The keys that were not loaded, of the model as it is now.
    """
    old = model.config.task_specs
    model.config.tasks = {name: spec.to_options() for name, spec in tasks.items()}
    if model.base_model.stored_references is not None:
        model.base_model.stored_references = model.base_model.stored_references.with_tasks(tasks)
    if model.base_model is model:
        return list(missing)
    loaded = [
        name
        for number, name in enumerate(old)
        if not any(key.startswith(f"heads.{number}.") for key in missing)
    ]
    # For each new task that has an old one: the old one's number, and the old indices of its labels.
    sources: dict[str, tuple[int, list[int]]] = {}
    for name, spec in tasks.items():
        order = head_order(old.get(name), spec) if name in loaded else None
        if order is not None:
            sources[name] = list(old).index(name), order
    _say(old, tasks, sources)
    _move_heads(model, sources)
    _move_shares(model, sources)
    new = [number for number, name in enumerate(tasks) if name not in sources]
    prefixes = tuple(f"heads.{number}." for number in new)
    # `startswith` of no prefixes is False.
    return [key for key in missing if not key.startswith("heads.")] + [
        key for key in model.state_dict() if key.startswith(prefixes)
    ]


def _move_heads(model: Any, sources: Mapping[str, tuple[int, list[int]]]) -> None:
    heads = _made_for(model, model.heads, MultitaskHeads(model.config, model.learner.output_dim))
    for head, name in zip(heads, heads.specs, strict=True):
        if name in sources:
            number, order = sources[name]
            saved = model.heads[number].state_dict()
            head.load_state_dict(kind_of(heads.specs[name]).reordered_head(saved, order))
    model.heads = heads


def _move_shares(model: Any, sources: Mapping[str, tuple[int, list[int]]]) -> None:
    """Move each task's entries in the parameters of the votes and of the loss weighting."""
    indices = {name: index for index, name in enumerate(model.config.task_specs)}
    if model.votes is not None:
        votes = _made_for(model, model.votes, NeighborVotes(model.config))
        votes.log_sharpness.copy_(model.votes.log_sharpness)
        votes.log_smoothing.copy_(model.votes.log_smoothing)
        for name, (number, _) in sources.items():
            votes.weights[:, indices[name]] = model.votes.weights[:, number]
        model.votes = votes
    if model.loss_weighting is not None:
        weighting = _made_for(model, model.loss_weighting, UncertaintyWeighting(len(indices)))
        for name, (number, _) in sources.items():
            weighting.log_variances[indices[name]] = model.loss_weighting.log_variances[number]
        model.loss_weighting = weighting


def _made_for(model: Any, old: nn.Module, new: Any) -> Any:
    """A module with weights as of a new model, where and how those of another are."""
    new.apply(model._init_weights)
    like = next(old.parameters())
    return new.to(like.device, like.dtype).train(old.training)


def _say(
    old: Mapping[str, TaskSpec],
    new: Mapping[str, TaskSpec],
    sources: Mapping[str, tuple[int, list[int]]],
) -> None:
    rows = []
    for name in dict.fromkeys([*new, *old]):
        if name not in new:
            said = "left out"
        elif name not in sources:
            said = "new: train it"
        elif sources[name][1] != sorted(sources[name][1]):
            said = "taken over in the new order of its labels"
        else:
            said = "taken over"
        rows.append((name, _shown(old.get(name)), _shown(new.get(name)), said))
    if all(said == "taken over" for *_, said in rows):
        return
    table = [("task", "saved", "asked for", "head and votes"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in table
    ]
    logger.warning("The tasks are not those that were saved:\n" + "\n".join(line.rstrip() for line in lines))


def _shown(spec: TaskSpec | None) -> str:
    if spec is None:
        return "-"
    text = ": ".join(filter(None, [spec.kind, ", ".join(spec.labels)]))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
