"""The two files of references: their tensors, and what JSON says about them.

    references-DIGEST.safetensors   DIGEST: the first 16 digits of the file's SHA-256
    references.json                 names that file, its size and its whole SHA-256, and has one of its own

The two are replaced together (`saved_folder.py`): whenever the process ends, the folder holds the old
references or the new ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .features import MODALITIES
from .reference_contents import ReferenceContents, check_ids, check_reference_labels
from .reference_embeds import StoredEmbeds

REFERENCES_NAME = "references.json"
FORMAT_VERSION = 1
# What is saved of `StoredEmbeds`; its norms are computed anew.
SAVED_FIELDS = ("codes", "scales", "present")
_TENSORS_NAME = re.compile(r"references-[0-9a-f]{16}\.safetensors")
_REMEDY = "it was cut short or altered; copy it again, or save the references again."


def write_references(folder: Path, settings: Mapping[str, Any], contents: ReferenceContents) -> str:
    """Write the two files into an empty folder, such as `save_whole` gives.

    Args:
        folder: To write to.
        settings: Of the references, of JSON types: `notes`, `dtype`, `widths`, `tasks`.
        contents: The references.

    Returns:
        The SHA-256 that `references.json` has of itself, which covers that of the tensors.
    """
    written = folder / "references.safetensors"
    save_file({name: values.cpu().contiguous() for name, values in _tensors(contents).items()}, written)
    digest = _digest(written)
    name = f"references-{digest[:16]}.safetensors"
    entry = {"file": name, "bytes": written.stat().st_size, "sha256": digest}
    written.rename(folder / name)
    metadata = {"format_version": FORMAT_VERSION, **settings, "ids": contents.ids, "tensors": entry}
    digest = _metadata_digest(metadata)
    (folder / REFERENCES_NAME).write_text(json.dumps({**metadata, "sha256": digest}), encoding="utf-8")
    return digest


def read_references(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """The tensors, what `references.json` says, and the digest that `write_references` returned.

    Raises:
        ValueError: If a file is missing, cut short or altered, naming the file and the remedy.
    """
    path = folder / REFERENCES_NAME
    metadata, own_digest = _read_metadata(path)
    entry = metadata.pop("tensors", None)
    if not isinstance(entry, dict):
        raise ValueError(f'{path} has no "tensors": {_REMEDY}')
    name, size, digest = tensors_name(folder), entry.get("bytes"), entry.get("sha256")
    tensors_path = folder / name
    if not tensors_path.is_file():
        raise ValueError(f"{path} needs {name}, which is not there: put the two files together again.")
    if (found := tensors_path.stat().st_size) != size:
        raise ValueError(f"{tensors_path} has {found} bytes, not {size!r} as {path.name} says: {_REMEDY}")
    if (found_digest := _digest(tensors_path)) != digest:
        raise ValueError(
            f"{tensors_path} has the SHA-256 {found_digest}, not {digest!r} as {path.name} says: {_REMEDY}"
        )
    try:
        return load_file(tensors_path), metadata, own_digest
    except SafetensorError as error:
        raise ValueError(f"{tensors_path} is no safetensors file ({error}): {_REMEDY}") from None


def references_digest(settings: Mapping[str, Any], contents: ReferenceContents) -> str:
    """SHA-256, in hexadecimal digits, of what `write_references` would write."""
    digest = hashlib.sha256(_metadata_digest({**settings, "ids": contents.ids}).encode())
    for name, values in sorted(_tensors(contents).items()):
        digest.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_name(folder: Path) -> str:
    """The tensors file that `references.json` names; a `ValueError` if it is no name of one."""
    path = folder / REFERENCES_NAME
    entry = _read_metadata(path)[0].get("tensors")
    name = entry.get("file") if isinstance(entry, dict) else None
    # A name of this form cannot lead out of the folder.
    if not isinstance(name, str) or not is_tensors_file(name):
        raise ValueError(f"{path} names the tensors file {name!r}, which no references have: {_REMEDY}")
    return name


def is_tensors_file(name: str) -> bool:
    """Whether a file of this name holds the tensors of references."""
    return bool(_TENSORS_NAME.fullmatch(name))


def check_metadata(metadata: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that `write_references` was given, and the ids; their values are not looked at."""
    keys = ("notes", "dtype", "widths", "tasks", "ids")
    if missing := next((key for key in keys if key not in metadata), None):
        raise ValueError(f"references.json in {folder} has no {missing!r}: save the references again.")
    widths = metadata["widths"]
    vectors = {f"{modality}_vectors" for modality in MODALITIES}
    if not isinstance(widths, dict) or not set(MODALITIES) <= set(widths) <= vectors.union(MODALITIES):
        raise ValueError(
            f"references.json in {folder} has the widths {widths!r}: one of each of {MODALITIES} is needed."
        )
    return {key: metadata[key] for key in keys[:-1]}, check_ids(metadata["ids"])


def check_tensors(
    tensors: Mapping[str, torch.Tensor], ids: tuple[str, ...], empty: ReferenceContents, folder: Path
) -> ReferenceContents:
    """The saved references, if the tensors are those of references.

    Args:
        tensors: By name, as they were read.
        ids: Of the references.
        empty: Contents of the same settings without references.
        folder: For errors.

    Raises:
        ValueError: Naming the tensor or the reference that does not fit.
    """
    expected = {
        name: ((len(ids), *values.shape[1:]), values.dtype) for name, values in _tensors(empty).items()
    }
    found = {name: (tuple(values.shape), values.dtype) for name, values in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"the tensors in {folder} have {name!r} as {found.get(name)}, and references.json makes it "
                f"{expected.get(name)}: put the two files together that were saved together, or "
                "save the references again."
            )
    embeds = {
        name: StoredEmbeds.of_codes(*(tensors[f"{name}_{field}"] for field in SAVED_FIELDS))
        for name in empty.embeds
    }
    labels = {name: tensors[f"labels/{name}"] for name in empty.labels}
    try:
        labels = check_reference_labels(len(ids), labels, empty.tasks)
        contents = ReferenceContents(embeds, ids, labels, empty.tasks)
        contents.check("the file was altered")
    except ValueError as error:
        raise ValueError(f"the tensors in {folder} do not fit: {error} Save the references again.") from None
    return contents


def _tensors(contents: ReferenceContents) -> dict[str, torch.Tensor]:
    """What is saved, by name."""
    tensors = {f"labels/{name}": values for name, values in contents.labels.items()}
    for name, stored in contents.embeds.items():
        tensors |= {f"{name}_{field}": getattr(stored, field) for field in SAVED_FIELDS}
    return tensors


def _read_metadata(path: Path) -> tuple[dict[str, Any], str]:
    try:
        metadata = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"there is no {path}: name the folder that the references were saved to.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): {_REMEDY}") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} holds no JSON object: {_REMEDY}")
    digest = metadata.pop("sha256", None)
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format_version {version!r}: this release reads {FORMAT_VERSION}. Use the "
            "release that wrote it, or save the references again."
        )
    if (found := _metadata_digest(metadata)) != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, not {digest!r} as it says: {_REMEDY}")
    del metadata["format_version"]
    return metadata, found


def _metadata_digest(metadata: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON holds, whatever the order of its keys and the spaces."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
