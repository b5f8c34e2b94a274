"""The small dataclasses that the modules hand on, in the order of the data's way.

Names of dimensions: B samples, R regions, T tokens, d with a subscript for the width of a feature.
Masks are boolean, True = present.
"""

from dataclasses import dataclass, fields

import torch

from .configuration_mmorient import MMOrientConfig


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


@dataclass
class EncodedFeatures:
    """What the encoders (or the caller) say about a batch (paper, section "Features").

    Entries of rows whose modality is missing may hold anything, NaN included: every reader masks them.

    Args:
        image_embeds: e_img, (B, d_image_embed).
        text_embeds: e_txt, (B, d_text_embed).
        region_features: Q_img, (B, R, d_region).
        region_mask: (B, R), True = a region.
        token_features: Q_txt, (B, T, d_token).
        token_mask: (B, T), True = a token.
        image_present: (B,), True = the row has a picture.
        text_present: (B,), True = the row has a text.
        task_features: a, (B, d_task), or None where the model has none.
    """

    image_embeds: torch.Tensor
    text_embeds: torch.Tensor
    region_features: torch.Tensor
    region_mask: torch.Tensor
    token_features: torch.Tensor
    token_mask: torch.Tensor
    image_present: torch.Tensor
    text_present: torch.Tensor
    task_features: torch.Tensor | None = None

    def as_inputs(self) -> dict[str, torch.Tensor]:
        """The same features under the names that the models' `forward` takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["attention_mask"] = values.pop("token_mask")
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class AttentionFeatures:
    """What HIMA hands on.

    Args:
        vectors: [v_img ; v_txt], (B, d_region + d_token).
        region_attention: α over regions, (B, R); zero for masked regions and missing pictures.
        token_attention: α over tokens, (B, T); zero for masked tokens and missing texts.
    """

    vectors: torch.Tensor
    region_attention: torch.Tensor
    token_attention: torch.Tensor


@dataclass
class GraphHealth:
    """How well connected the relation graph of one modality is, over the rows that have the modality.

    Args:
        mean_degree: Mean number of neighbours, a scalar tensor; the sample itself does not count.
        isolated_share: Share of rows without a neighbour, a scalar tensor in [0, 1].
        complete_share: Share of rows joined with every other row, a scalar tensor in [0, 1].
    """

    mean_degree: torch.Tensor
    isolated_share: torch.Tensor
    complete_share: torch.Tensor


@dataclass
class RelationFeatures:
    """What the relation graphs hand on.

    Args:
        vectors: The layers' outputs side by side, (B, layers * d_graph).
        health: Graph health by modality; None in evaluation, where no graph spans the batch.
    """

    vectors: torch.Tensor
    health: dict[str, GraphHealth] | None


def masked_mean(rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over the present rows: (B, m, d) and (B, m), True = present, to (B, d); zeros where none is."""
    if mask is None:
        return rows.mean(1)
    present = mask.bool().unsqueeze(-1)
    total = rows.masked_fill(~present, 0.0).sum(1)
    return total / present.sum(1).clamp(min=1).to(rows.dtype)


def complete_features(config: MMOrientConfig, given: FeatureInputs) -> EncodedFeatures:
    """Checked features without gaps: a modality of which nothing is given is missing in all rows.

    Raises:
        ValueError: If nothing is given, a modality is given only in part, or shapes do not fit.
    """
    known = (given.image_embeds, given.region_features, given.text_embeds, given.token_features)
    like = next((tensor for tensor in known if tensor is not None), None)
    if like is None:
        raise ValueError(
            "neither a picture nor a text is given: give `pixel_values` or `input_ids` (or the "
            "precomputed features) of at least one modality."
        )
    regions, region_mask, has_image = _complete_modality(config, given, "image", like)
    tokens, token_mask, has_text = _complete_modality(config, given, "text", like)
    if config.task_feature_dim or given.task_features is not None:
        shape = (like.shape[0], config.task_feature_dim)
        _check_shape("task_features", given.task_features, shape, "set `task_feature_dim` to its width")
    return EncodedFeatures(
        image_embeds=_or_zeros(given.image_embeds, like, config.image_embed_dim),
        text_embeds=_or_zeros(given.text_embeds, like, config.text_embed_dim),
        region_features=regions,
        region_mask=region_mask,
        token_features=tokens,
        token_mask=token_mask,
        image_present=has_image,
        text_present=has_text,
        task_features=given.task_features,
    )


def _complete_modality(
    config: MMOrientConfig, given: FeatureInputs, modality: str, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (B, m, d), their mask (B, m) and the presence (B,) of one modality."""
    rows_name, embeds_name = MODALITY_FIELDS[modality]
    rows, embeds = getattr(given, rows_name), getattr(given, embeds_name)
    rows_dim, embeds_dim = (
        getattr(config, ROWS_WIDTHS[modality]),
        getattr(config, f"{modality}_embed_dim"),
    )
    batch_size, is_given = like.shape[0], rows is not None or embeds is not None
    remedy = "or give nothing at all of this modality, which then counts as missing"
    if is_given and config.needs_rows:
        length = rows.shape[1] if rows is not None and rows.ndim == 3 else 1
        _check_shape(rows_name, rows, (batch_size, length, rows_dim), remedy)
    if is_given and config.needs_embeds:
        _check_shape(embeds_name, embeds, (batch_size, embeds_dim), remedy)
    present = torch.full((batch_size,), is_given, device=like.device)
    if (said := getattr(given, f"{modality}_present")) is not None:
        _check_shape(f"{modality}_present", said, (batch_size,), "with one boolean a row")
        present = present & said.bool()
    if rows is None:
        rows = like.new_zeros(batch_size, 1, rows_dim)
        return rows, torch.zeros(rows.shape[:2], dtype=torch.bool, device=like.device), present
    mask = given.region_mask if modality == "image" else given.token_mask
    if mask is None:
        return rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=like.device), present
    _check_shape(f"mask of `{rows_name}", mask, tuple(rows.shape[:2]), "with one entry a row of the features")
    # A text all of whose tokens are padding is no text, whatever `text_present` says.
    return rows, mask.bool(), present & mask.bool().any(-1)


MODALITY_FIELDS = {
    "image": ("region_features", "image_embeds"),
    "text": ("token_features", "text_embeds"),
}
ROWS_WIDTHS = {"image": "region_dim", "text": "token_dim"}


def _or_zeros(value: torch.Tensor | None, like: torch.Tensor, width: int) -> torch.Tensor:
    return like.new_zeros(like.shape[0], width) if value is None else value


def _check_shape(name: str, value: torch.Tensor | None, shape: tuple[int, ...], remedy: str) -> None:
    if value is None:
        raise ValueError(f"`{name}` is missing: give a tensor of the shape {shape}, {remedy}.")
    if tuple(value.shape) != shape:
        raise ValueError(f"`{name}` has the shape {tuple(value.shape)}: give {shape}, {remedy}.")
