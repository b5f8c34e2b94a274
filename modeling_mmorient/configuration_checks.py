"""Checks of the single fields of a configuration, and of fields that do not go together.

All raise a ValueError that names the field, the value and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from .configuration_limits import MAX_LAYERS, MAX_NEIGHBORS, MAX_WIDTH
from .shown_values import shown
from .task_specs import MAX_LABELS

CHOICES = {
    "hima_scoring": ("context", "direct"),
    "aggregation": ("auto", "dense", "csr", "torch_scatter"),
    "graph_scope": ("references", "batch"),
    "reference_dtype": ("float32", "float16", "int8"),
}
SWITCHES = (
    "freeze_encoders",
    "use_hima_stage1",
    "use_hima_stage2",
    "use_in_modal",
    "use_cross_modal",
    "use_votes",
    "uncertainty_weighting",
)
# Of transformers' own.
COMMON_SWITCHES = ("output_hidden_states", "output_attentions", "return_dict", "is_encoder_decoder")
WIDTHS = (
    "image_embed_dim",
    "text_embed_dim",
    "region_dim",
    "token_dim",
    "hima_hidden_size",
    "graph_hidden_size",
)


def check_common_fields(given: Mapping[str, Any]) -> None:
    """Check entries of transformers' own, before it converts them.

    Args:
        given: Those that were given, by name.
    """
    for name in COMMON_SWITCHES:
        if given.get(name) is not None and not isinstance(given[name], bool):
            raise ValueError(f"`{name}` is {shown(given[name])}: give True or False.")
    for name in ("attn_implementation", "experts_implementation"):
        value = given.get(name)
        if isinstance(value, str) and "/" in value:
            raise ValueError(
                f"`{name}` is {shown(value)}, which would be fetched from the Hub: choose it in "
                "`from_pretrained`."
            )
    require_int("chunk_size_feed_forward", given.get("chunk_size_feed_forward", 0), 0, MAX_WIDTH)
    if given.get("model_type") not in (None, "mmorient"):
        raise ValueError(
            f"`model_type` is {shown(given['model_type'])}, this configuration's is 'mmorient': leave it out."
        )
    number = given.get("num_labels")
    if number is not None and (type(number) is not int or not 0 <= number <= MAX_LABELS):
        raise ValueError(
            f"`num_labels` is {shown(number)}: give a whole number up to {MAX_LABELS:,}, or leave it out "
            "(`tasks` say which labels there are)."
        )
    if given.get("label2id") is not None and not isinstance(given["label2id"], Mapping):
        raise ValueError(f"`label2id` is {shown(given['label2id'])}: give a dict, or leave it out.")
    for name in ("dtype", "torch_dtype"):
        value = given.get(name)
        dtype = getattr(torch, value, None) if isinstance(value, str) else value
        if value is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"`{name}` is {shown(value)}: give a floating-point dtype, such as 'float32'.")
    names = given.get("id2label")
    if names is not None and not (
        isinstance(names, Mapping) and all(str(key).isdecimal() and len(str(key)) < 10 for key in names)
    ):
        raise ValueError(
            f"`id2label` is {shown(names)}: give a dict from class numbers to names, or leave it out "
            "(`tasks` say which labels there are)."
        )


def check_numbers(config: Any) -> None:
    """Check the widths, numbers and shares of an `MMOrientConfig`."""
    for field in WIDTHS:
        require_int(field, getattr(config, field), 1, MAX_WIDTH)
    require_int("task_feature_dim", config.task_feature_dim, 0, MAX_WIDTH)
    if len(config.learner_hidden_sizes) > MAX_LAYERS:
        raise ValueError(
            f"`learner_hidden_sizes` has {len(config.learner_hidden_sizes)} entries: more layers than "
            f"{MAX_LAYERS:,} are refused."
        )
    for size in config.learner_hidden_sizes:
        require_int("learner_hidden_sizes", size, 1, MAX_WIDTH)
    for modality in ("image", "text"):
        neighbors = getattr(config, f"{modality}_neighbors")
        threshold = getattr(config, f"{modality}_threshold")
        if neighbors is None and threshold is None and config.needs_embeds:
            raise ValueError(
                f"`{modality}_neighbors` and `{modality}_threshold` are both None, which joins every "
                "sample with every other: give a number of neighbours, a threshold, or both."
            )
        if neighbors is not None:
            require_int(f"{modality}_neighbors", neighbors, 1, MAX_NEIGHBORS)
        if threshold is not None:
            _require_number(f"{modality}_threshold", threshold, -1.0, 1.0)
    _require_number("learner_dropout", config.learner_dropout, 0.0, 1.0)
    _require_number("modality_dropout", config.modality_dropout, 0.0, 1.0)
    _require_number("hima_momentum", config.hima_momentum, 0.0, 1.0, closed=True)


def check_booleans(config: Any) -> None:
    """Check the switches of an `MMOrientConfig`, of which only `use_votes` may still be None."""
    for field in SWITCHES:
        value = getattr(config, field)
        if not isinstance(value, bool) and not (value is None and field == "use_votes"):
            raise ValueError(f"`{field}` is {shown(value)}: give True or False.")


def check_switches(config: Any) -> None:
    """Check the choices of an `MMOrientConfig`, and that they are compatible."""
    for field, choices in CHOICES.items():
        value = getattr(config, field)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"`{field}` is {shown(value)}: choose one of {list(choices)}.")
    if config.use_hima_stage2 and not config.use_hima_stage1:
        raise ValueError(
            "`use_hima_stage2` is True but `use_hima_stage1` is False: stage 2 attends to the "
            "vectors of stage 1. Set both to False, or stage 1 to True."
        )
    if config.graph_scope == "references" and not config.freeze_encoders:
        raise ValueError(
            "`graph_scope` is 'references' but `freeze_encoders` is False: references would be those of "
            "encoders as they were before. Set `graph_scope` to 'batch', or leave it out."
        )
    if config.use_votes and (config.graph_scope != "references" or not config.needs_embeds):
        raise ValueError(
            "`use_votes` is True, but no neighbours among references vote in training: set `graph_scope` "
            "to 'references' and switch relation graphs on, or leave `use_votes` out."
        )
    if config.fused_dim == 0:
        raise ValueError(
            "every branch is switched off, so nothing is left to classify from: switch on one of "
            "`use_hima_stage1`, `use_in_modal`, `use_cross_modal`, or set `task_feature_dim`."
        )


def check_saved_references(saved: Any) -> None:
    """Check what `save_pretrained` says about references: None, or their number and digest."""
    if saved is None:
        return
    if not isinstance(saved, Mapping) or set(saved) != {"number", "digest"}:
        raise ValueError(f"`saved_references` is {shown(saved)}: leave it out, saving a model fills it in.")
    require_int("saved_references", saved["number"], 0, 2**63)
    if not isinstance(saved["digest"], str) or not re.fullmatch("[0-9a-f]{64}", saved["digest"]):
        raise ValueError(
            f"`saved_references` has the digest {shown(saved['digest'])}: leave it out, saving fills it in."
        )


def require_int(field: str, value: Any, least: int, most: int) -> None:
    """Check that a field holds a whole number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{field}` is {shown(value)}: give a whole number of at least {least}.")
    if value > most:
        raise ValueError(f"`{field}` is {shown(value)}: more than {most:,} is refused.")


def _require_number(field: str, value: Any, low: float, high: float, closed: bool = False) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (low <= value < high or (closed and value == high)):
        interval = f"[{low:g}, {high:g}{']' if closed else ')'}"
        raise ValueError(f"`{field}` is {shown(value)}: give a number in {interval}.")
