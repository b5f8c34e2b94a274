"""The kinds of encoders a role accepts, and the widths and prefix tokens of each.

Everything here is read off a configuration, so that a model can be planned before it is built.
The lists are allow-lists: a configuration from anywhere can name only architectures that ship with
transformers and that the tests run, never code of its own.
"""

import copy
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

JOINT_KINDS = ("chinese_clip", "clip", "siglip")
TEXT_KINDS = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
VISION_KINDS = (
    "convnext",
    "convnextv2",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "mobilenet_v2",
    "resnet",
    "swin",
    "vit",
)
KINDS_BY_ROLE = {
    "joint_config": JOINT_KINDS,
    "text_config": TEXT_KINDS,
    "vision_config": VISION_KINDS,
}

# Keys by which a configuration could make the loader run or fetch something its user did not name.
FORBIDDEN_KEYS = (
    "_attn_implementation",
    "_experts_implementation",
    "attn_implementation",
    "auto_map",
    "code_revision",
    "custom_pipelines",
    "experts_implementation",
    "trust_remote_code",
)


def build_encoder_config(role: str, value: Any) -> PretrainedConfig | None:
    """A checked encoder configuration for one role.

    Args:
        role: `joint_config`, `text_config` or `vision_config`.
        value: None, a configuration object, its dict (with `model_type`), or the name of a kind, which
            stands for that kind's default configuration.

    Raises:
        ValueError: If the kind is not allowed in the role, or the configuration names code to run.
    """
    if value is None:
        return None
    allowed = KINDS_BY_ROLE[role]
    if isinstance(value, str):
        value = {"model_type": value}
    if isinstance(value, PretrainedConfig):
        kind = value.model_type
    elif isinstance(value, Mapping):
        kind = value.get("model_type")
    else:
        raise ValueError(
            f"`{role}` is {value!r}: give None, a transformers configuration, its dict, or one of "
            f"the kinds {list(allowed)}."
        )
    if kind not in allowed:
        raise ValueError(
            f"`{role}` is of the kind {kind!r}: this role takes one of {list(allowed)}. "
            "For any other encoder give precomputed features."
        )
    _refuse_forbidden_keys(role, value)
    if isinstance(value, PretrainedConfig):
        return copy.deepcopy(value)
    fields = {key: item for key, item in value.items() if key != "model_type"}
    try:
        return CONFIG_MAPPING[kind](**fields)
    except Exception as error:  # each kind checks its fields in its own way
        raise ValueError(f"`{role}` is no configuration of the kind {kind!r}: {error}") from error


def _refuse_forbidden_keys(place: str, contents: Any) -> None:
    if isinstance(contents, PretrainedConfig):
        contents = contents.to_dict()
    if isinstance(contents, Mapping):
        for key, item in contents.items():
            if key in FORBIDDEN_KEYS and item is not None:
                raise ValueError(
                    f"`{place}` carries {key!r}: {item!r}. An encoder's configuration may not name code to "
                    "load; remove the entry (attention implementations are chosen in `from_pretrained`)."
                )
            _refuse_forbidden_keys(f"{place}.{key}", item)
    elif isinstance(contents, list | tuple):
        for item in contents:
            _refuse_forbidden_keys(place, item)


def joint_embed_dims(config: PretrainedConfig) -> tuple[int, int]:
    """Widths of e_img and e_txt of a joint encoder."""
    if config.model_type == "siglip":
        text = config.text_config
        return config.vision_config.hidden_size, text.projection_size or text.hidden_size
    return config.projection_dim, config.projection_dim


def joint_region_dim(config: PretrainedConfig) -> int:
    """Width of the patch tokens of a joint encoder's vision tower."""
    return config.vision_config.hidden_size


def joint_prefix_tokens(config: PretrainedConfig) -> int:
    """Number of leading vision tokens that stand for no patch (the class token)."""
    return 0 if config.model_type == "siglip" else 1


def vision_region_dim(config: PretrainedConfig) -> int:
    """Width of the region features of a vision encoder."""
    if config.model_type == "mobilenet_v2":
        return _mobilenet_v2_width(config)
    if config.model_type in ("convnext", "convnextv2", "resnet"):
        return config.hidden_sizes[-1]
    return config.hidden_size


def vision_prefix_tokens(config: PretrainedConfig) -> int:
    """Number of leading vision tokens that stand for no patch (class, distillation, registers)."""
    prefixes = {"vit": 1, "deit": 2, "dinov2": 1}
    if config.model_type == "dinov2_with_registers":
        return 1 + config.num_register_tokens
    return prefixes.get(config.model_type, 0)


def _mobilenet_v2_width(config: PretrainedConfig) -> int:
    """Channels of the last convolution: 1280, scaled by the depth multiplier and rounded."""
    if config.finegrained_output and config.depth_multiplier < 1.0:
        return 1280
    scaled, divisor = 1280 * config.depth_multiplier, config.depth_divisible_by
    rounded = max(config.min_depth, int(scaled + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * scaled else rounded)
