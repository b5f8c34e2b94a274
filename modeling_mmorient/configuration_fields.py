"""Which entries a configuration may have: those that a person gives, and those of files."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PretrainedConfig

from .shown_values import shown

# What transformers takes beside the fields of `PretrainedConfig`, and what stands in the files it writes.
COMMON_NAMES = (
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "torch_dtype",
)
# Arguments of `from_pretrained` that say where files are; transformers passes some of them on.
LOADING_NAMES = (
    "_from_auto",
    "_from_pipeline",
    "adapter_kwargs",
    "code_revision",
    "commit_hash",
    "proxies",
    "resume_download",
    "subfolder",
    "trust_remote_code",
    "use_auth_token",
)

# What fields, and their values, were called in earlier releases.
EARLIER_FIELDS = {"bank_dtype": "reference_dtype"}
EARLIER_VALUES = {"graph_scope": {"bank": "references"}}

# What transformers' `pipeline` looks for: the one task, found with or without its name.
CUSTOM_PIPELINES = {
    "image-classification": {"impl": "pipeline_mmorient.MMOrientPipeline", "pt": ["AutoModel"]}
}


def common_names() -> set[str]:
    """What transformers' `PretrainedConfig` takes."""
    return {*(field.name for field in dataclasses.fields(PretrainedConfig)), *COMMON_NAMES}


def renamed(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a configuration by the names that fields and values have now.

    Raises:
        ValueError: If a field is given by both of its names.
    """
    if twice := [name for name, new in EARLIER_FIELDS.items() if name in entries and new in entries]:
        raise ValueError(
            f"`{twice[0]}` is what `{EARLIER_FIELDS[twice[0]]}` was called: give the latter alone."
        )
    found = {EARLIER_FIELDS.get(name, name): value for name, value in entries.items()}
    for name, values in EARLIER_VALUES.items():
        if isinstance(found.get(name), str):
            found[name] = values.get(found[name], found[name])
    return found


def unknown_names(names: Iterable[str], own: Iterable[str]) -> list[str]:
    """Those of `names` that are neither fields of our own nor taken by transformers."""
    known = {*own, *common_names()}
    return [name for name in names if name not in known]


def refuse_unknown(names: Sequence[str], own: Iterable[str]) -> None:
    """Raise a `ValueError` that names the nearest field for the first of unknown names."""
    if names:
        close = nearest(names[0], own)
        guess = f"did you mean {close!r}?" if is_misspelt(names[0], own) else f"the nearest is {close!r}."
        raise ValueError(
            f"the configuration has no field {names[0]!r}: {guess} The docstring of MMOrientConfig describes "
            "all of them."
        )


def nearest(name: str, own: Iterable[str]) -> str:
    """The field whose name is most like `name`."""
    return difflib.get_close_matches(name, list(own), n=1, cutoff=0.0)[0]


def is_misspelt(name: str, own: Iterable[str]) -> bool:
    """Whether a name is so similar to a field's that it can only be a misspelling."""
    return bool(difflib.get_close_matches(name, list(own), n=1, cutoff=0.85))


def split_unknown(entries: Mapping[str, Any], own: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries of a file that are known, and those of later releases, which are kept as they are.

    Options of text generation, which earlier releases of transformers wrote, are in neither.
    """
    dropped = GenerationConfig._get_default_generation_params().keys()
    unknown = unknown_names(entries, own)
    known = {name: value for name, value in entries.items() if name not in unknown}
    return known, {name: entries[name] for name in unknown if name not in dropped}


def refuse_code(entries: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raise a `ValueError` if entries of a configuration name code to load, under one of these keys."""
    for key in (*keys, "code_revision", "trust_remote_code"):
        if entries.get(key) is not None:
            raise ValueError(
                f"the configuration carries {shown(key)}: {shown(entries[key])}. It may not name code to "
                "load; remove the entry, and choose in `from_pretrained`."
            )


def without_paths(values: Any) -> Any:
    """The values without the paths that encoders were loaded from, which are private to that machine."""
    if not isinstance(values, dict):
        return values
    return {key: "" if key == "_name_or_path" else without_paths(value) for key, value in values.items()}


def read_configuration(path: Any) -> dict[str, Any]:
    """The entries of a configuration's file.

    Args:
        path: Of the file, which exists.

    Raises:
        ValueError: If it holds no JSON object, or names another file, naming the file and what is wrong.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_bytes().decode("utf-8"))
    # Not text, not JSON, nested too deeply for the parser, or a number with thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON in UTF-8 ({error}): it was cut short or altered; copy it again."
        ) from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds no JSON object: it is no configuration; copy it again.")
    if "configuration_files" in entries:
        raise ValueError(
            f"{path} has `configuration_files`, which name other files to read instead: remove the entry."
        )
    return entries
