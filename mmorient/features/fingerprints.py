"""Fingerprints of what features are computed from: encoders and processor once, and every row."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from mmorient.tables.records import Record
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.version import __version__

# Raise it when the way rows are stored changes.
CACHE_FORMAT = 1
ROLES = ("joint_config", "text_config", "vision_config")
# Settings that say where something came from or how it runs, not what it computes.
INCIDENTAL = (
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "transformers_version",
    "auto_map",
    "is_local",
    "local_files_only",
    "max_length",  # of a tokenizer; the processor has its own
)
# Defaults that a tokenizer writes out if it was loaded from a saved one, and leaves out otherwise.
DEFAULTS = {
    "pad_to_multiple_of": None,
    "pad_token_type_id": 0,
    "padding_side": "right",
    "stride": 0,
    "truncation_side": "right",
    "truncation_strategy": "longest_first",
}
# A tokenizer's file also holds how the latest call padded and truncated, which every call sets again.
OF_THE_LATEST_CALL = ("truncation", "padding")


def encoder_fingerprint(model: MMOrientForMultitaskClassification, processor: MMOrientProcessor) -> str:
    """SHA-256, in hexadecimal digits, of all that turns a picture and a text into features.

    That is the encoders' configurations and weights, the files that the processor saves (its options,
    vocabularies and code), which features the model reads, and the versions of this package, of
    transformers and of the cache's format. Names, paths, tasks and the rest of the model are no part of it.
    """
    config = model.config
    described = {
        "format": CACHE_FORMAT,
        "reads": {"rows": config.needs_rows, "embeds": config.needs_embeds},
        "encoders": {role: _settings(getattr(config, role)) for role in ROLES},
    }
    return _fingerprint(described, model.encoders, processor)


def model_fingerprint(model: MMOrientForMultitaskClassification, processor: MMOrientProcessor) -> str:
    """SHA-256, in hexadecimal digits, of all that turns a picture and a text into predictions.

    That is the whole configuration, all weights, the references, the files that the processor saves, and the
    versions of this package and of transformers. Names and paths are no part of it.
    """
    described = {"config": _settings(model.config), "references": model.references.fingerprint()}
    return _fingerprint(described, model, processor)


def _fingerprint(described: Mapping[str, Any], module: torch.nn.Module, processor: MMOrientProcessor) -> str:
    digest = hashlib.sha256()
    digest.update(_canonical({"versions": [__version__, transformers.__version__], **described}))
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(_canonical([name, str(values.dtype), list(values.shape)]))
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    for name, content in _processor_files(processor):
        digest.update(_canonical([name, len(content)]))
        digest.update(content)
    return digest.hexdigest()


def row_keys(records: Iterable[Record], table: str) -> list[bytes]:
    """SHA-256 of each row's text and of its picture file's bytes; labels and file names are no part.

    Args:
        records: The rows.
        table: What they are called in errors.

    Raises:
        ValueError: If a picture file cannot be read; the message names the row.
    """
    keys = []
    for record in records:
        image = record.image
        try:
            picture = None if image is None else _image_digest(image)
        except OSError as error:
            raise ValueError(
                f"row {record.row} of the {table} rows: cannot read its picture: {error}"
            ) from None
        keys.append(hashlib.sha256(_canonical([record.text, picture])).digest())
    return keys


def _image_digest(picture: str | bytes) -> str:
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    with open(picture, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settings(config: Any) -> Any:
    return None if config is None else _without(config.to_dict(), INCIDENTAL)


def _processor_files(processor: MMOrientProcessor) -> list[tuple[str, bytes]]:
    """Names and contents of the files that the processor saves, free of incidental settings."""
    with tempfile.TemporaryDirectory() as name:
        processor.save_pretrained(name)
        paths = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return [(path.relative_to(name).as_posix(), _content(path)) for path in paths]


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    settings = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "tokenizer.json":
        return _canonical(_without(settings, OF_THE_LATEST_CALL))
    if path.name == "tokenizer_config.json":
        settings = {key: value for key, value in settings.items() if (key, value) not in DEFAULTS.items()}
    return _canonical(_without(settings, INCIDENTAL))


def _without(settings: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {key: _without(value, names) for key, value in settings.items() if key not in names}


def _canonical(value: Any) -> bytes:
    """JSON whose bytes depend on nothing but the value."""
    return json.dumps(value, sort_keys=True, default=str).encode("ascii")
