"""The largest model that a configuration may ask for.

A configuration may come from anywhere, and a few of its digits decide how much memory is asked for. All of
it is checked before anything is built. Each limit lies far above the models that there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from transformers import PretrainedConfig

from .shown_values import shown
from .task_kinds import kind_of
from .task_specs import MAX_LABELS

# Layers of an encoder, or of the learner: the deepest published transformer (DeepNet) has 1,000.
MAX_LAYERS = 1_000
# Width of a layer: GPT-3's widest has 49,152.
MAX_WIDTH = 2**17
# Any other whole number in an encoder's configuration: the largest vocabularies have about a million tokens.
MAX_NUMBER = 10_000_000
# Levels of an encoder's configuration: the deepest there is has four.
MAX_DEPTH = 20
# Neighbours in a graph, which are remembered for each reference: more than a few hundred have never helped.
MAX_NEIGHBORS = 10_000
# Parameters of a model, 400 GB in float32: the largest encoders of pictures and texts have some 2 * 10^10.
MAX_PARAMETERS = 10**11

REMEDY = "If this is meant, give the precomputed features of such an encoder instead."


# Names of sizes and numbers of something.
_COUNTS = re.compile("^(num|n)_|(sizes?|dim|heads|layers|depths|embeddings)$")
# Sizes of what goes in: an encoder without them reads nothing.
_INPUT_SIZES = ("image_size", "max_position_embeddings", "num_channels", "patch_size", "type_vocab_size")


def check_encoder_numbers(place: str, values: Any) -> None:
    """Check that no number in an encoder's configuration, at any depth, asks for absurd sizes.

    Args:
        place: Where the configuration is found, for errors.
        values: Its dict, or anything within.

    Raises:
        ValueError: Naming the entry, its value and the limit.
    """
    if place.count(".") > MAX_DEPTH:
        raise ValueError(f"`{place[:100]}...` is nested deeper than {MAX_DEPTH} levels: remove the entry.")
    if isinstance(values, PretrainedConfig):
        values = values.to_dict()
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_encoder_numbers(f"{place}.{key}", value)
    elif isinstance(values, list | tuple):
        if _is_depth(place) and all(type(value) is int for value in values):
            _refuse_above(f"the sum of {place}", sum(values), MAX_LAYERS)
        for value in values:
            # Only nested containers are a level of their own; numbers in a list go by the list's name.
            inner = f"{place}.0" if isinstance(value, Mapping | list | tuple) else place
            check_encoder_numbers(inner, value)
    elif type(values) is int:
        field = place.rpartition(".")[2]
        most = MAX_LAYERS if _is_depth(place) else MAX_LABELS if field == "num_labels" else MAX_NUMBER
        _refuse_above(place, values, most)
        if values < 0 and _COUNTS.search(field):
            raise ValueError(f"`{place}` is {shown(values)}: give a number of at least 0.")
    elif isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"`{place}` is {values}: give a finite number.")


def check_encoder_fields(place: str, config: PretrainedConfig) -> None:
    """Check fields of an encoder's configuration that its kind does not check and that spoil its answers.

    Args:
        place: Where the configuration stands, for errors.
        config: Of one encoder, or of one with a tower for each modality.

    Raises:
        ValueError: Naming the field, its value and what it may be.
    """
    for name in ("text_config", "vision_config"):
        if isinstance(tower := getattr(config, name, None), PretrainedConfig):
            check_encoder_fields(f"{place}.{name}", tower)
    usual = type(config)()
    for field, value in vars(config).items():
        if field in _INPUT_SIZES and getattr(usual, field, None):
            sizes = value if isinstance(value, list | tuple) else [value]
            if any(size is not None and size < 1 for size in sizes):
                raise ValueError(f"`{place}.{field}` is {shown(value)}: give at least 1.")
        elif field.endswith("_eps") and value < 0:
            raise ValueError(f"`{place}.{field}` is {value}: give a number of at least 0.")
    if (patch_size := getattr(config, "patch_size", None)) is not None:
        _refuse_patches_beyond(place, config.image_size, patch_size)
    if not isinstance(config.output_hidden_states, bool | None):
        value = shown(config.output_hidden_states)
        raise ValueError(f"`{place}.output_hidden_states` is {value}: give true or false.")
    if config.chunk_size_feed_forward != 0:
        value = shown(config.chunk_size_feed_forward)
        raise ValueError(
            f"`{place}.chunk_size_feed_forward` is {value}: give 0. With chunks, texts whose length is no "
            "multiple of theirs fail."
        )
    quantization = getattr(config, "quantization_config", None)
    if not (quantization is None or isinstance(quantization, Mapping)):
        raise ValueError(
            f"`{place}.quantization_config` is {shown(quantization)}: give a dict, or leave it out."
        )


def _refuse_patches_beyond(place: str, image_size: Any, patch_size: Any) -> None:
    sides, patches = (
        size if isinstance(size, list | tuple) else [size, size] for size in (image_size, patch_size)
    )
    if any(side < patch for side, patch in zip(sides, patches, strict=True)):
        raise ValueError(
            f"`{place}.image_size` is {shown(image_size)}, and `patch_size` {shown(patch_size)}: give images "
            "of at least one patch."
        )


def _is_depth(place: str) -> bool:
    field = place.rpartition(".")[2]
    return field.endswith("layers") or field in ("depths", "num_hidden_groups", "inner_group_num")


def _refuse_above(place: str, value: int, most: int) -> None:
    if value > most:
        raise ValueError(f"`{place}` is {shown(value)}: more than {most:,} is refused. {REMEDY}")


def check_size(config: Any) -> None:
    """Check that a whole model has no more than `MAX_PARAMETERS` parameters.

    Args:
        config: An `MMOrientConfig` whose fields have been checked one by one.

    Raises:
        ValueError: Naming the part that is largest.
    """
    parts = {
        role: encoder_parameters(encoder)
        for role in ("joint_config", "text_config", "vision_config")
        if (encoder := getattr(config, role)) is not None
    }
    parts |= own_parameters(config)
    if (total := sum(parts.values())) > MAX_PARAMETERS:
        largest = max(parts, key=parts.__getitem__)
        raise ValueError(
            f"the configuration asks for some {total:.1e} parameters, of which `{largest}` makes up "
            f"{parts[largest]:.1e}: more than {MAX_PARAMETERS:.0e} are refused. Choose smaller widths."
        )


def own_parameters(config: Any) -> dict[str, int]:
    """Number of parameters beside the encoders, without biases, by the field that decides them."""
    layers = [config.fused_dim, *config.learner_hidden_sizes]
    labels = sum(len(kind_of(spec).columns(spec)) for spec in config.task_specs.values())
    embeds = config.image_embed_dim + config.text_embed_dim
    return {
        "learner_hidden_sizes": sum(a * b for a, b in pairwise(layers)),
        "tasks": layers[-1] * labels,
        "hima_hidden_size": 2 * config.hima_dim * config.hima_hidden_size,
        "graph_hidden_size": 4 * embeds * config.graph_hidden_size if config.needs_embeds else 0,
    }


def encoder_parameters(config: PretrainedConfig) -> int:
    """About how many parameters an encoder has, within a factor of about two, by arithmetic."""
    towers = [getattr(config, name, None) for name in ("text_config", "vision_config")]
    if any(towers):
        return sum(encoder_parameters(tower) for tower in towers if tower is not None)
    if config.model_type == "mobilenet_v2":
        return math.ceil(3.5e6 * max(1.0, config.depth_multiplier) ** 2)
    if config.model_type in ("convnext", "convnextv2", "resnet"):
        # Within a ResNet's block the width is a quarter.
        each = 1 if config.model_type == "resnet" else 8
        return sum(
            each * depth * width**2 for depth, width in zip(config.depths, config.hidden_sizes, strict=True)
        )
    if config.model_type == "swin":
        widths = [config.embed_dim * 2**stage for stage in range(len(config.depths))]
        inner = 4 + 2 * config.mlp_ratio
        return math.ceil(
            sum(depth * inner * width**2 for depth, width in zip(config.depths, widths, strict=True))
        )
    width = config.hidden_size
    # DistilBERT has another name for this field, DINOv2 a ratio instead.
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
    inner = inner or width * config.mlp_ratio
    number = config.num_hidden_layers
    if config.model_type == "albert":  # its layers share their parameters
        number = config.num_hidden_groups * config.inner_group_num
    # Attention has four matrices, a gated layer behind it three.
    layers = number * (4 * width**2 + 3 * width * inner)
    embedded = getattr(config, "vocab_size", 0) + getattr(config, "max_position_embeddings", 0)
    if (side := getattr(config, "image_size", None)) is not None:
        patch = config.patch_size
        sides = [side, side] if isinstance(side, int) else side
        patches = [patch, patch] if isinstance(patch, int) else patch
        embedded += math.prod(a // b for a, b in zip(sides, patches, strict=True))
        embedded += config.num_channels * math.prod(patches)
    return math.ceil(layers + embedded * width)
