"""What a caller may give, checked and completed to the features that the branches read."""

from dataclasses import dataclass

import torch

from .configuration_mmorient import MMOrientConfig
from .features import EncodedFeatures


@dataclass
class RawInputs:
    """What encoders read: tensors as the processor makes them, None where there is none."""

    pixel_values: torch.Tensor | None = None
    input_ids: torch.Tensor | None = None
    token_type_ids: torch.Tensor | None = None
    joint_input_ids: torch.Tensor | None = None
    joint_attention_mask: torch.Tensor | None = None


@dataclass
class FeatureInputs:
    """Features as far as they are known; fields as in [`EncodedFeatures`], None where unknown."""

    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    region_features: torch.Tensor | None = None
    region_mask: torch.Tensor | None = None
    token_features: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    image_present: torch.Tensor | None = None
    text_present: torch.Tensor | None = None
    task_features: torch.Tensor | None = None


@dataclass(frozen=True)
class Modality:
    """Names of one modality's fields."""

    rows: str
    rows_width: str
    mask: str
    embeds: str
    embeds_width: str
    present: str


IMAGE = Modality(
    rows="region_features",
    rows_width="region_dim",
    mask="region_mask",
    embeds="image_embeds",
    embeds_width="image_embed_dim",
    present="image_present",
)
TEXT = Modality(
    rows="token_features",
    rows_width="token_dim",
    mask="token_mask",
    embeds="text_embeds",
    embeds_width="text_embed_dim",
    present="text_present",
)


def as_arguments(raw: RawInputs, given: FeatureInputs) -> dict[str, torch.Tensor | None]:
    """All of them by the names of `forward`'s arguments, None where one was not given."""
    values = {**vars(raw), **vars(given)}
    return {"attention_mask" if name == "token_mask" else name: value for name, value in values.items()}


def masked_mean(rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over the present rows: (B, m, d) and (B, m), True = present, to (B, d); zeros where none is."""
    if mask is None:
        return rows.mean(1)
    present = mask.bool().unsqueeze(-1)
    total = rows.masked_fill(~present, 0.0).sum(1)
    return total / present.sum(1).clamp(min=1).to(rows.dtype)


def complete_features(
    config: MMOrientConfig, raw: RawInputs, given: FeatureInputs, dtype: torch.dtype
) -> EncodedFeatures:
    """Checked features in one dtype and without gaps.

    A modality of which nothing is given is missing in all rows; its tensors are filled in and masked.

    Args:
        config: The model's configuration.
        raw: What `check_inputs` has passed.
        given: The same, with what the encoders have made of `raw`.
        dtype: Of the features.

    Raises:
        ValueError: If a modality is given only in part, or widths do not fit.
    """
    tensors = (
        given.image_embeds,
        given.region_features,
        given.text_embeds,
        given.token_features,
        given.task_features,
        raw.pixel_values,
        raw.input_ids,
        raw.joint_input_ids,
    )
    known = [tensor for tensor in tensors if tensor is not None]
    like = known[0].new_empty(known[0].shape[0], dtype=dtype)
    has_raw_text = raw.input_ids is not None or raw.joint_input_ids is not None
    regions, region_mask, has_image = _complete(config, given, IMAGE, like, raw.pixel_values is not None)
    tokens, token_mask, has_text = _complete(config, given, TEXT, like, has_raw_text)
    task_features = given.task_features
    if config.task_feature_dim or task_features is not None:
        shape = (like.shape[0], config.task_feature_dim)
        _check_shape("task_features", task_features, shape, "set `task_feature_dim` to its width")
        assert task_features is not None
        task_features = task_features.to(dtype)
    return EncodedFeatures(
        image_embeds=_or_zeros(given.image_embeds, like, config.image_embed_dim),
        text_embeds=_or_zeros(given.text_embeds, like, config.text_embed_dim),
        region_features=regions,
        region_mask=region_mask,
        token_features=tokens,
        token_mask=token_mask,
        image_present=has_image,
        text_present=has_text,
        task_features=task_features,
    )


def _complete(
    config: MMOrientConfig, given: FeatureInputs, modality: Modality, like: torch.Tensor, has_raw: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (B, m, d), their mask (B, m) and the presence (B,) of one modality."""
    rows, embeds = getattr(given, modality.rows), getattr(given, modality.embeds)
    mask, said = getattr(given, modality.mask), getattr(given, modality.present)
    batch_size, width = like.shape[0], getattr(config, modality.rows_width)
    is_given = has_raw or rows is not None or embeds is not None
    if rows is not None or (is_given and config.needs_rows):
        length = rows.shape[1] if rows is not None and rows.ndim == 3 else 1
        _check_shape(modality.rows, rows, (batch_size, length, width), _remedy(config, modality.rows))
    if embeds is not None or (is_given and config.needs_embeds):
        shape = (batch_size, getattr(config, modality.embeds_width))
        _check_shape(modality.embeds, embeds, shape, _remedy(config, modality.embeds))
    present = torch.full((batch_size,), is_given, device=like.device)
    if said is not None:
        present = present & said.bool()
    if rows is None:
        rows = like.new_zeros(batch_size, 1, width)
        return rows, torch.zeros(batch_size, 1, dtype=torch.bool, device=like.device), present
    if mask is None:
        mask = torch.ones(rows.shape[:2], dtype=torch.bool, device=like.device)
    if config.needs_rows:
        # A text that consists of padding alone counts as missing, whatever `text_present` says.
        present = present & mask.bool().any(-1)
    return rows.to(like.dtype), mask.bool(), present


def _remedy(config: MMOrientConfig, feature: str) -> str:
    """Which inputs could be given instead of the feature itself."""
    has_text, has_joint = config.text_config is not None, config.joint_config is not None
    raw = {
        "region_features": "pixel_values" if has_joint or config.vision_config is not None else None,
        "image_embeds": "pixel_values" if has_joint or config.vision_config is not None else None,
        "token_features": "input_ids" if has_text else None,
        "text_embeds": "joint_input_ids" if has_joint else "input_ids" if has_text else None,
    }[feature]
    alternative = f"or `{raw}`, " if raw else ""
    return f"{alternative}or nothing at all of this modality, which then counts as missing"


def _or_zeros(value: torch.Tensor | None, like: torch.Tensor, width: int) -> torch.Tensor:
    return like.new_zeros(like.shape[0], width) if value is None else value.to(like.dtype)


def _check_shape(name: str, value: torch.Tensor | None, shape: tuple[int, ...], remedy: str) -> None:
    if value is None:
        raise ValueError(f"`{name}` is missing: give a tensor of the shape {shape}, {remedy}.")
    if tuple(value.shape) != shape:
        raise ValueError(f"`{name}` has the shape {tuple(value.shape)}: give {shape}, {remedy}.")
