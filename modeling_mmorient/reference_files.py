"""The two files of a reference bank: its tensors, and what JSON says about them.

    references-DIGEST.safetensors   DIGEST: the first 16 digits of the file's SHA-256
    references.json                 names that file, its size and its whole SHA-256, and has one of its own

The two are replaced together (`saved_folder.py`): whenever the process ends, the folder holds the old bank
or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .features import MODALITIES
from .reference_checks import (
    check_ids,
    check_reference_labels,
    check_somewhere,
    first_row,
    largest_norm,
    width_argument,
)
from .reference_embeds import STORAGE_DTYPES, StoredEmbeds
from .task_kinds import kind_of
from .task_specs import TaskSpec, parse_tasks

REFERENCES_NAME = "references.json"
FORMAT_VERSION = 1
_TENSORS_NAME = re.compile(r"references-[0-9a-f]{16}\.safetensors")
_REMEDY = "it was cut short or altered; copy it again, or save the bank again."


def write_references(folder: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """Write a bank's files into an empty folder.

    Args:
        folder: Such as `save_whole` gives.
        tensors: By name.
        facts: What else there is to know, of JSON types.

    Returns:
        The SHA-256 that `references.json` has of itself, which covers that of the tensors.
    """
    written = folder / "references.safetensors"
    save_file({name: values.cpu().contiguous() for name, values in tensors.items()}, written)
    digest = _digest(written)
    entry: dict[str, Any] = {
        "file": f"references-{digest[:16]}.safetensors",
        "bytes": written.stat().st_size,
        "sha256": digest,
    }
    written.rename(folder / entry["file"])
    facts = {"format_version": FORMAT_VERSION, **facts, "tensors": entry}
    digest = _facts_digest(facts)
    (folder / REFERENCES_NAME).write_text(json.dumps({**facts, "sha256": digest}), encoding="utf-8")
    return digest


def read_references(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """A bank's tensors, its facts, and the digest that `write_references` returned.

    Raises:
        ValueError: If a file is missing, cut short or altered, naming the file and the remedy.
    """
    path = folder / REFERENCES_NAME
    facts, own_digest = _read_facts(path)
    entry = facts.pop("tensors", None)
    if not isinstance(entry, dict):
        raise ValueError(f'{path} has no "tensors": {_REMEDY}')
    name, size, digest = tensors_name(folder), entry.get("bytes"), entry.get("sha256")
    tensors_path = folder / name
    if not tensors_path.is_file():
        raise ValueError(f"{path} needs {name}, which is not there: put the two files of one bank together.")
    if (found := tensors_path.stat().st_size) != size:
        raise ValueError(f"{tensors_path} has {found} bytes, not {size!r} as {path.name} says: {_REMEDY}")
    if (found_digest := _digest(tensors_path)) != digest:
        raise ValueError(
            f"{tensors_path} has the SHA-256 {found_digest}, not {digest!r} as {path.name} says: {_REMEDY}"
        )
    try:
        return load_file(tensors_path), facts, own_digest
    except SafetensorError as error:
        raise ValueError(f"{tensors_path} is no safetensors file ({error}): {_REMEDY}") from None


def references_digest(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal digits, of what `write_references` would write."""
    digest = hashlib.sha256(_facts_digest(facts).encode())
    for name, values in sorted(tensors.items()):
        digest.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
        digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_name(folder: Path) -> str:
    """The tensors file that `references.json` names; a `ValueError` if it is no name of one."""
    path = folder / REFERENCES_NAME
    entry = _read_facts(path)[0].get("tensors")
    name = entry.get("file") if isinstance(entry, dict) else None
    # A name of this form cannot lead out of the folder.
    if not isinstance(name, str) or not _TENSORS_NAME.fullmatch(name):
        raise ValueError(f"{path} names the tensors file {name!r}, which no bank has: {_REMEDY}")
    return name


def is_tensors_file(name: str) -> bool:
    """Whether a file of this name holds a bank's tensors."""
    return bool(_TENSORS_NAME.fullmatch(name))


def check_facts(facts: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments of a saved bank, and its ids."""
    keys = ("notes", "dtype", "widths", "tasks", "ids")
    if missing := next((key for key in keys if key not in facts), None):
        raise ValueError(f"references.json in {folder} has no {missing!r}: save the bank again.")
    widths = facts["widths"]
    vectors = {f"{modality}_vectors" for modality in MODALITIES}
    if not isinstance(widths, dict) or not set(MODALITIES) <= set(widths) <= vectors.union(MODALITIES):
        raise ValueError(
            f"references.json in {folder} has the widths {widths!r}: one of each of {MODALITIES} is needed."
        )
    settings = {
        **{width_argument(name): width for name, width in widths.items()},
        "tasks": parse_tasks(facts["tasks"]) if facts["tasks"] else None,
        "dtype": facts["dtype"],
        "notes": facts["notes"],
    }
    return settings, check_ids(facts["ids"])


def check_stored(
    tensors: Mapping[str, torch.Tensor],
    ids: Sequence[str],
    widths: Mapping[str, int],
    dtype: str,
    tasks: Mapping[str, TaskSpec],
    folder: Path,
) -> tuple[dict[str, StoredEmbeds], dict[str, torch.Tensor]]:
    """Embeddings by modality and labels by task, of a saved bank."""
    count = len(ids)
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, width in widths.items():
        expected[f"{name}_codes"] = (count, width), STORAGE_DTYPES[dtype]
        expected[f"{name}_scales"] = (count,), torch.float32
        expected[f"{name}_present"] = (count,), torch.bool
    for name, spec in tasks.items():
        kind = kind_of(spec)
        expected[f"labels/{name}"] = (count, *kind.label_shape(spec)), kind.label_dtype
    found = {name: (tuple(values.shape), values.dtype) for name, values in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"the tensors in {folder} have {name!r} as {found.get(name)}, and references.json makes it "
                f"{expected.get(name)}: put the two files of one bank together, or save the bank again."
            )
    embeds = {}
    for name in widths:
        codes, scales, present = (tensors[f"{name}_{part}"] for part in ("codes", "scales", "present"))
        stored = StoredEmbeds.of_codes(codes, scales, present)
        sound = (stored.norms * scales <= largest_norm(name, widths[name])) & (scales >= 0)
        if row := first_row(~sound | (~present & (stored.norms > 0))):
            raise ValueError(
                f"the tensors in {folder} have a {name} embedding of reference {ids[row[0]]!r} that is not "
                f"finite, larger than {largest_norm(name, widths[name]):g}, or said to be missing: save the "
                "bank again."
            )
        embeds[name] = stored
    check_somewhere(ids, [stored.present for stored in embeds.values()])
    labels = {name: tensors[f"labels/{name}"] for name in tasks}
    try:
        return embeds, check_reference_labels(count, labels, tasks)
    except ValueError as error:
        raise ValueError(f"the tensors in {folder} do not fit: {error} Save the bank again.") from None


def _read_facts(path: Path) -> tuple[dict[str, Any], str]:
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"there is no {path}: name the folder that the bank was saved to.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): {_REMEDY}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path} holds no JSON object: {_REMEDY}")
    digest = facts.pop("sha256", None)
    if (version := facts.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format_version {version!r}: this release reads {FORMAT_VERSION}. Use the "
            "release that wrote it, or save the bank again."
        )
    if (found := _facts_digest(facts)) != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, not {digest!r} as it says: {_REMEDY}")
    del facts["format_version"]
    return facts, found


def _facts_digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON holds, whatever the order and the spaces between."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
