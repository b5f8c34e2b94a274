"""Single weights of a model that was saved, compared and replaced in the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .reference_files import is_tensors_file

# Entries of `config.json` that may differ where the model is the same.
NOT_COMPARED = (
    "saved_references",
    "transformers_version",
    "architectures",
    "dtype",
    "auto_map",
    "custom_pipelines",
    "_name_or_path",
)


def read_config(folder: Path, config: Any) -> dict[str, Any]:
    """The entries of a folder's `config.json`.

    Raises:
        ValueError: If there is none, or it is not of a model with the configuration `config`.
    """
    try:
        saved = json.loads((folder / CONFIG_NAME).read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no model: name the folder that this one was saved to, or save it there first "
            "(`save_pretrained`)."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{folder / CONFIG_NAME} cannot be read as JSON ({error}): save the model again."
        ) from None
    theirs, own = type(config).from_dict(saved).to_dict(), config.to_dict()
    for name in sorted(own.keys() | theirs.keys()):
        if name not in NOT_COMPARED and own.get(name) != theirs.get(name):
            raise ValueError(
                f"{folder} holds another model: its `{name}` is {theirs.get(name)!r}, and here it is "
                f"{own.get(name)!r}. Save the whole model (`save_pretrained`)."
            )
    return saved


def write_config(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write entries as a `config.json`, in the form that transformers gives it."""
    text = json.dumps(entries, indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(f"{text}\n", encoding="utf-8")


def check_same_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """A `ValueError` if a folder's model has other weights than these."""
    files = weight_files(folder)
    for name, values in weights.items():
        path = files.get(name)
        if path is None:
            raise ValueError(
                f"the weights in {folder} have no {name!r}, and are those of another class of models: use "
                "the one that was saved there."
            )
        with safe_open(path, framework="pt") as file:
            theirs = file.get_tensor(name)
        if theirs.shape != values.shape or not torch.equal(theirs, values.cpu().to(theirs.dtype)):
            raise ValueError(
                f"the weights in {folder} differ from the model's in {name!r}, with which the references are "
                "read: save the whole model (`save_pretrained`)."
            )


def write_weights(folder: Path, staging: Path, changed: Mapping[str, torch.Tensor]) -> None:
    """Write the weight files of a folder that hold changed weights into another folder, with the changes.

    Weights that a model saved by an earlier release lacks go into one of these files.

    Args:
        folder: Folder of the model.
        staging: Folder to write to.
        changed: The changed weights by name.
    """
    if not changed:
        return
    files = weight_files(folder)
    beside = next(files[name] for name in changed if name in files)
    places = {name: files.get(name, beside) for name in changed}
    for path in set(places.values()):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        for name, values in changed.items():
            if places[name] == path:
                like = tensors.get(name, values)
                tensors[name] = values.cpu().to(like.dtype).contiguous()
        save_file(tensors, staging / path.name, metadata=metadata)
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.exists() and set(changed) - set(files):
        entries = json.loads(index.read_bytes())
        entries["weight_map"] |= {name: path.name for name, path in places.items()}
        text = json.dumps(entries, indent=2, sort_keys=True)
        (staging / index.name).write_text(f"{text}\n", encoding="utf-8")


def weight_files(folder: Path, variant: str | None = None) -> dict[str, Path]:
    """In which file of a folder each weight is.

    Args:
        folder: Of a model.
        variant: As `from_pretrained` takes it; None: the weights without one.

    Raises:
        OSError: If there are no weights.
        ValueError: If a file of them is missing, cut short or altered, or the index names one that is not in
            the folder.
    """
    single, index = (
        folder / _add_variant(name, variant) for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
    )
    if single.is_file():
        return dict.fromkeys(_names(single), single)
    if not index.is_file():
        raise OSError(  # as transformers has it
            f"{folder} has no weights ({single.name}): save the whole model (`save_pretrained`), or copy all "
            "of its files."
        )
    shards = _read_index(index)
    found = {shard: _names(folder / shard) for shard in sorted(set(shards.values()))}
    for name, shard in shards.items():
        if name not in found[shard]:
            raise ValueError(f"{index} says that {shard} has the weight {name!r}, which it lacks: {_REMEDY}")
    return {name: folder / shard for name, shard in shards.items()}


def check_kinds(files: Mapping[str, Path], model: Any) -> None:
    """A `ValueError` if weights in a file are other kinds of numbers than the model's, such as complex ones.

    Args:
        files: As `weight_files` gives them.
        model: The model that was loaded from them, or from a part of them.
    """
    prefix = f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix): values for name, values in model.state_dict().items()}
    for path in sorted(set(files.values())):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                values, dtype = own.get(name.removeprefix(prefix)), file.get_slice(name).get_dtype()
                if values is not None and values.is_floating_point() != dtype.startswith(("F", "BF")):
                    raise ValueError(
                        f"{path} has {name!r} as {dtype}, and the model as {values.dtype}: {_REMEDY}"
                    )


def check_sizes(name: Any, mismatched: Collection[tuple[str, Any, Any]]) -> None:
    """A `ValueError` if weights that were read are of other sizes than the model's.

    Args:
        name: Of the folder or repository.
        mismatched: Name, size there and size in the model of each, as transformers reports them.
    """
    if mismatched:
        weight, theirs, own = min(mismatched, key=lambda entry: entry[0])
        raise ValueError(
            f"the weights in {name} do not fit the configuration: {weight!r} has the shape {tuple(theirs)}, "
            f"and {tuple(own)} is needed ({len(mismatched)} such weights). Put weights and configuration of "
            "one model together, or give `ignore_mismatched_sizes=True`, which makes these weights anew."
        )


_REMEDY = "it was cut short or altered; copy it again, or save the model again."


def _add_variant(name: str, variant: str | None) -> str:
    stem, _, end = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{end}"


def _names(path: Path) -> set[str]:
    """Names of the weights in a file."""
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}, which is said to have weights: copy all of the model's files."
        )
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): {_REMEDY}") from None


def _read_index(path: Path) -> dict[str, str]:
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): {_REMEDY}") from None
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards or not isinstance(index.get("metadata"), dict):
        raise ValueError(f"{path} is no index of weights: {_REMEDY}")
    for shard in shards.values():
        # A name alone cannot lead out of the folder.
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ValueError(f"{path} names {shard!r}, which is no safetensors file of its folder: {_REMEDY}")
    return shards


def replaced_files(variant: str | None) -> Callable[[str], bool]:
    """Whether a saved model replaces a file of this name: all references, and the weights of its variant."""
    stem, infix = ("model", "") if variant is None else (f"model.{variant}", f".{variant}")
    weights = re.compile(
        rf"{re.escape(stem)}(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index{re.escape(infix)}\.json"
    )
    return lambda name: is_tensors_file(name) or weights.fullmatch(name) is not None
