"""The kinds of encoders a role accepts, and the widths and prefix tokens of each.

Everything here is read off a configuration, so that a model can be planned before it is built.
The lists are allow-lists: a configuration from anywhere can name only architectures that ship with
transformers and that the tests run, never code of its own.
"""

import copy
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from .configuration_limits import check_encoder_fields, check_encoder_numbers, encoder_parameters
from .shown_values import shown

# The widths of the paper's features (section "Features"), used where there is no encoder.
PAPER_WIDTHS = {"image_embed_dim": 512, "text_embed_dim": 512, "region_dim": 2048, "token_dim": 768}

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

# The positions of these begin behind that of the padding token.
OFFSET_KINDS = ("camembert", "mpnet", "roberta", "xlm-roberta")
# These read pictures of one size only.
FIXED_SIZE_KINDS = ("chinese_clip", "clip", "deit", "siglip", "vit")

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
        ValueError: If the kind is not allowed in the role, or the configuration names code to run, asks for
            absurd sizes, or has entries that do not fit the kind.
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
            f"`{role}` is {shown(value)}: give None, a transformers configuration, its dict, or one of "
            f"the kinds {list(allowed)}."
        )
    if kind not in allowed:
        raise ValueError(
            f"`{role}` is of the kind {shown(kind)}: this role takes one of {list(allowed)}. "
            "For any other encoder give precomputed features."
        )
    check_encoder_numbers(role, value)
    _refuse_forbidden_keys(role, value)
    try:
        if isinstance(value, PretrainedConfig):
            config = copy.deepcopy(value)
        else:
            config = CONFIG_MAPPING[kind](**{key: item for key, item in value.items() if key != "model_type"})
        check_encoder_fields(role, config)
        encoder_parameters(config)  # called for its errors alone
        widths = encoder_widths(role, config).values()
    except Exception as error:  # each kind checks its fields in its own way, or not at all
        raise ValueError(f"`{role}` is no configuration of the kind {shown(kind)}: {error}") from error
    if not all(type(width) is int and width > 0 for width in widths):
        raise ValueError(
            f"`{role}` gives features of the widths {shown(list(widths))}: give widths of at least 1."
        )
    return config


def _refuse_forbidden_keys(place: str, contents: Any) -> None:
    if isinstance(contents, PretrainedConfig):
        contents = contents.to_dict()
    if isinstance(contents, Mapping):
        for key, item in contents.items():
            if isinstance(key, str) and callable(getattr(PretrainedConfig, key, None)):
                raise ValueError(f"`{place}` carries {shown(key)}, a function's name: remove the entry.")
            if key in FORBIDDEN_KEYS and item is not None:
                raise ValueError(
                    f"`{place}` carries {shown(key)}: {shown(item)}. An encoder's configuration may not name "
                    "code to load; remove the entry (attention implementations are chosen in "
                    "`from_pretrained`)."
                )
            _refuse_forbidden_keys(f"{place}.{key}", item)
    elif isinstance(contents, list | tuple):
        for item in contents:
            _refuse_forbidden_keys(place, item)


def encoder_widths(role: str, config: PretrainedConfig) -> dict[str, int]:
    """Widths of the features that the encoder of a role gives, by field of `MMOrientConfig`."""
    if role == "text_config":
        return {"token_dim": config.hidden_size, "text_embed_dim": config.hidden_size}
    if role == "vision_config":
        width = vision_region_dim(config)
        return {"region_dim": width, "image_embed_dim": width}
    image, text = joint_embed_dims(config)
    return {"image_embed_dim": image, "text_embed_dim": text, "region_dim": joint_region_dim(config)}


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


def text_positions(config: PretrainedConfig) -> int | None:
    """How many tokens an encoder of texts has positions for; None: any number."""
    relative = config.model_type == "deberta-v2" and not config.position_biased_input
    if config.model_type == "modernbert" or relative:
        return None
    positions = config.max_position_embeddings
    return positions - (config.pad_token_id + 1) if config.model_type in OFFSET_KINDS else positions


def image_sides(config: PretrainedConfig) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Least and largest (height, width) of the pictures that an encoder reads; None: no largest."""
    patch = getattr(config, "patch_size", 1)
    if config.model_type.removesuffix("_vision_model") in FIXED_SIZE_KINDS:
        size = config.image_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        return sides, sides
    if config.model_type in ("convnext", "convnextv2"):
        patch *= 2 ** (len(config.hidden_sizes) - 1)
    return (patch, patch) if isinstance(patch, int) else tuple(patch), None


def _mobilenet_v2_width(config: PretrainedConfig) -> int:
    """Channels of the last convolution: 1280, scaled by the depth multiplier and rounded."""
    if config.finegrained_output and config.depth_multiplier < 1.0:
        return 1280
    scaled, divisor = 1280 * config.depth_multiplier, config.depth_divisible_by
    rounded = max(config.min_depth, int(scaled + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * scaled else rounded)


def check_roles(encoders: Mapping[str, PretrainedConfig | None]) -> None:
    """Raise a `ValueError` if two encoders (by role, None = there is none) would give the same features."""
    joint, vision = encoders["joint_config"], encoders["vision_config"]
    if joint is not None and vision is not None:
        raise ValueError(
            f"`joint_config` ({joint.model_type}) and `vision_config` ({vision.model_type}) are both given: "
            "a joint encoder's vision tower already gives the picture features. Set one of them to None."
        )


def feature_widths(
    encoders: Mapping[str, PretrainedConfig | None], given: Mapping[str, Any]
) -> dict[str, int]:
    """The widths of the features, by field: the encoders', those that are given, or the paper's.

    Args:
        encoders: Configurations by role, None where there is no encoder.
        given: By field, the width that the caller gave; None where there is none.

    Raises:
        ValueError: If a width that is given is not its encoder's.
    """
    known: dict[str, int] = {}
    for role, encoder in reversed(list(encoders.items())):  # a joint encoder's embeddings win
        if encoder is not None:
            known |= encoder_widths(role, encoder)
    widths = {}
    for field, paper_width in PAPER_WIDTHS.items():
        width = given[field]
        if width is None:
            width = known.get(field, paper_width)
        elif field in known and (type(width) is not int or width != known[field]):
            raise ValueError(
                f"`{field}` is {shown(width)} but the encoder gives {known[field]}: leave it None, or "
                "set the encoder's configuration to None and pass precomputed features."
            )
        widths[field] = width
    return widths
