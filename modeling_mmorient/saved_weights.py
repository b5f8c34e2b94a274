"""Single weights of a model that was saved, compared and replaced in the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

# Entries of `config.json` that may differ where the model is the same.
NOT_COMPARED = (
    "saved_references",
    "transformers_version",
    "architectures",
    "dtype",
    "auto_map",
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
    """A `ValueError` if a folder's model has not these weights."""
    files = _files(folder)
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
    """Write those of a folder's weight files that hold what is changed into another folder, with the change.

    What a model that was saved before lacks goes beside the others.

    Args:
        folder: Of the model.
        staging: Where to write.
        changed: By name.
    """
    if not changed:
        return
    files = _files(folder)
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


def _files(folder: Path) -> dict[str, Path]:
    """In which file each weight is."""
    single, index = folder / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME
    if single.exists():
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)
    if not index.exists():
        raise ValueError(
            f"{folder} has no weights ({SAFE_WEIGHTS_NAME}): save the whole model (`save_pretrained`)."
        )
    shards = json.loads(index.read_bytes())["weight_map"]
    # A name cannot lead out of the folder.
    return {name: folder / Path(shard).name for name, shard in shards.items()}
