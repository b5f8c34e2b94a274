"""What a pipeline, an endpoint or a server is given: rows, parameters and references, field by field."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .image_sources import SourceLimits, read_image
from .shown_values import shown
from .task_kinds import kind_of
from .task_specs import TaskSpec

ROW_FIELDS = ("image", "text")
REQUEST_FIELDS = ("inputs", "parameters")
PARAMETERS = ("top_k", "tasks", "function_to_apply", "explain")
FUNCTIONS = ("softmax", "sigmoid", "none")
REFERENCE_FIELDS = ("id", "image", "text", "labels")
REFERENCES_FIELDS = ("references", "replace")


@dataclass(frozen=True)
class RequestLimits:
    """What one request may cost.

    Args:
        rows: Rows (or references) in it. Default: 32.
        characters: Of one row's text. Default: 100,000.
        source: Of one image. Default: 10 million bytes, 25 million pixels, 10 seconds.
    """

    rows: int = 32
    characters: int = 100_000
    source: SourceLimits = field(
        default_factory=lambda: SourceLimits(max_bytes=10_000_000, max_pixels=25_000_000)
    )


def read_row(where: str, value: Any, limits: SourceLimits, paths: bool) -> tuple[Any, str | None]:
    """A row's image, an RGB PIL image, and its text; None is a missing one.

    Args:
        where: What the row is called, for errors.
        value: `{"image": ..., "text": ...}`, either of which may be missing, or an image alone; an image is
            anything that `read_image` takes.
        limits: Of the image.
        paths: Whether an image may be a file of this machine.

    Raises:
        ValueError: Naming the row, the field and the remedy.
    """
    if not isinstance(value, Mapping):
        value = {"image": value}
    refuse_unknown(where, value, ROW_FIELDS)
    source, text = value.get("image"), value.get("text")
    if source is None and text is None:
        raise ValueError(f"{where}: there is neither an image nor a text; give `image`, `text` or both")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{where}: `text` is {shown(text)}; give a string, or null where there is none")
    try:
        return None if source is None else read_image(source, limits, paths), text
    except ValueError as error:
        raise ValueError(f"{where}: `image`: {error}") from None


def read_parameters(specs: Mapping[str, TaskSpec], given: Any) -> dict[str, Any]:
    """Parameters of a request or a pipeline, checked; those that are None are left out.

    Args:
        specs: The model's tasks.
        given: By name, of `PARAMETERS`; None: none.

    Raises:
        ValueError: Naming the parameter, its value and the remedy.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"`parameters` is {shown(given)}; give an object, such as {{'top_k': 1}}")
    refuse_unknown("parameters", given, PARAMETERS)
    chosen = {name: value for name, value in given.items() if value is not None}
    top_k, tasks = chosen.get("top_k", 1), chosen.get("tasks", [])
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"`top_k` is {shown(top_k)}; give a whole number from 1: so many scores are shown")
    if isinstance(tasks, str) or not isinstance(tasks, Sequence) or ("tasks" in chosen and not tasks):
        raise ValueError(f"`tasks` is {shown(tasks)}; give a list of tasks among {list(specs)}")
    for task in tasks:
        if not isinstance(task, str) or task not in specs:
            raise ValueError(f"`tasks` has {shown(task)}; the model's tasks are {list(specs)}")
    if chosen.get("function_to_apply", "none") not in FUNCTIONS:
        raise ValueError(
            f"`function_to_apply` is {shown(chosen['function_to_apply'])}; give one of {list(FUNCTIONS)}, or "
            "leave it out for the model's own probabilities"
        )
    if not isinstance(chosen.get("explain", False), bool):
        raise ValueError(f"`explain` is {shown(chosen['explain'])}; give true or false")
    return chosen


def read_request(data: Any, limits: RequestLimits) -> tuple[list[Any], Any]:
    """The rows and the parameters of `{"inputs": ..., "parameters": ...}`, of which only the form is checked.

    Args:
        data: `inputs` is a row, as `read_row` takes it, or a list of rows.
        limits: Of the request.

    Returns:
        The rows, and `parameters` or None.

    Raises:
        ValueError: Naming the field.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"the request is {shown(data)}; give an object with `inputs`")
    refuse_unknown("the request", data, REQUEST_FIELDS)
    if data.get("inputs") is None:
        raise ValueError("`inputs` is missing; give a row {'image': ..., 'text': ...}, or a list of rows")
    inputs = data["inputs"]
    return _some_rows("inputs", inputs if isinstance(inputs, list) else [inputs], limits), data.get(
        "parameters"
    )


def read_references(
    specs: Mapping[str, TaskSpec], data: Any, limits: RequestLimits
) -> tuple[list[Any], list[str], dict[str, torch.Tensor], bool]:
    """Read a request `{"references": [{"id", "image", "text", "labels"}, ...], "replace": false}`.

    Args:
        specs: The model's tasks.
        data: `labels` are by task: the label's name, a list of them for a `multilabel` task, a number for a
            `regression` one. A task that is left out is not known.
        limits: Of the request.

    Returns:
        The rows for `read_row`; their ids; the labels, as `add_references` takes them; whether references of
        these ids are to be replaced.

    Raises:
        ValueError: Naming the field.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"the request is {shown(data)}; give an object with `references`")
    refuse_unknown("the request", data, REFERENCES_FIELDS)
    replace = data.get("replace", False)
    if not isinstance(replace, bool):
        raise ValueError(f"`replace` is {shown(replace)}; give true or false")
    given = data.get("references")
    if not isinstance(given, list):
        raise ValueError(f"`references` is {shown(given)}; give a list of references")
    rows, ids = [], []
    labels = {name: kind_of(spec).unlabelled(spec, len(given)) for name, spec in specs.items()}
    for number, reference in enumerate(_some_rows("references", given, limits)):
        where = f"references[{number}]"
        if not isinstance(reference, Mapping):
            raise ValueError(f"{where} is {shown(reference)}; give an object with `id`")
        refuse_unknown(where, reference, REFERENCE_FIELDS)
        if not isinstance(reference.get("id"), str) or not reference["id"]:
            raise ValueError(f"{where}: `id` is {shown(reference.get('id'))}; give a string")
        ids.append(reference["id"])
        rows.append({name: reference.get(name) for name in ROW_FIELDS})
        for task, value in _labels(where, specs, reference.get("labels")).items():
            labels[task][number] = value
    known = {task: values for task, values in labels.items() if kind_of(specs[task]).known(values).any()}
    return rows, ids, known, replace


def _labels(where: str, specs: Mapping[str, TaskSpec], given: Any) -> dict[str, Any]:
    """One reference's labels by task, as tensors."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: `labels` is {shown(given)}; give an object from task to label")
    refuse_unknown(f"{where}: `labels`", given, list(specs))
    return {
        task: _label(f"{where}: `labels.{task}`", specs[task], value)
        for task, value in given.items()
        if value is not None
    }


def _label(where: str, spec: TaskSpec, value: Any) -> torch.Tensor:
    kind = kind_of(spec)
    if not kind.has_probabilities:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or kind.impossible(spec, torch.tensor(float(value))):
            raise ValueError(f"{where} is {shown(value)}; give a number: {kind.possible_words(spec)}")
        return torch.tensor(float(value))
    names = value if isinstance(value, list) else [value]
    if isinstance(value, list) != spec.several or not all(name in spec.labels for name in names):
        form = "a list of labels" if spec.several else "a label"
        raise ValueError(f"{where} is {shown(value)}; give {form} among {list(spec.labels)}")
    if spec.several:
        return torch.tensor([label in names for label in spec.labels], dtype=kind.label_dtype)
    return torch.tensor(spec.labels.index(value), dtype=kind.label_dtype)


def _some_rows(name: str, rows: list[Any], limits: RequestLimits) -> list[Any]:
    if not 1 <= len(rows) <= limits.rows:
        raise ValueError(f"`{name}` has {len(rows)} rows; give from 1 to {limits.rows} in one request")
    for number, row in enumerate(rows):
        text = row.get("text") if isinstance(row, Mapping) else None
        if isinstance(text, str) and len(text) > limits.characters:
            raise ValueError(
                f"{name}[{number}]: `text` has {len(text)} characters; give at most {limits.characters}"
            )
    return rows


def refuse_unknown(where: str, given: Iterable[Any], known: Sequence[str]) -> None:
    """A `ValueError` for the first of the fields that are not known, naming the nearest one."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            guess = f"did you mean `{close[0]}`?" if close else f"the fields are {list(known)}."
            raise ValueError(f"{where} has an unknown field {shown(name)}: {guess}")
