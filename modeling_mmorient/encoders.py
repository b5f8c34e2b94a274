"""Raw tensors to features: the only module that knows CLIP, BERT and others (paper, section "Features")."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PretrainedConfig, PreTrainedModel

from .configuration_mmorient import MMOrientConfig
from .encoder_kinds import image_sides, joint_prefix_tokens, text_positions, vision_prefix_tokens
from .feature_inputs import FeatureInputs, RawInputs, as_arguments, complete_features, masked_mean
from .features import EncodedFeatures
from .input_checks import (
    ValueChecks,
    can_look,
    gather_id_checks,
    gather_value_checks,
    without_unsound,
)

# Names of the encoders' parameters that nothing here reads: those of a joint encoder's contrastive
# loss, of masked-image training, and of a pooling layer that cannot be left out.
UNREAD_PARAMETERS = (
    "joint.logit_scale",
    "joint.logit_bias",
    "vision.embeddings.mask_token",
    "vision.layernorm.",
)


def encoder_options(config: PretrainedConfig) -> dict[str, Any]:
    """Keyword arguments that leave out the pooling layer, which nothing here would use."""
    parameters = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def has_attention_choice(config: PretrainedConfig) -> bool:
    """Whether the encoder can run on another attention than its own; convolutional ones have none."""
    return bool(MODEL_MAPPING[type(config)]._supports_sdpa)


def build_encoder(role: str, config: PretrainedConfig | None) -> PreTrainedModel | None:
    """An encoder with new weights, or None for a role that is not filled.

    Raises:
        ValueError: If the entries of its configuration do not fit together.
    """
    if config is None:
        return None
    if not has_attention_choice(config):
        config._attn_implementation = "eager"
    # The dtype of the model around it, not the one in the encoder's configuration.
    dtype = torch.get_default_dtype()
    try:
        return AutoModel.from_config(config, dtype=dtype, **encoder_options(config))
    except Exception as error:  # each kind fails in its own way on what does not fit together
        raise ValueError(
            f"no {config.model_type} encoder can be built from its configuration ({type(error).__name__}: "
            f"{error}): mend the entry of `{role}` that this names."
        ) from error


class FeatureEncoders(nn.Module):
    """The encoders of the configured roles.

    | feature | from the joint encoder, if there is one | otherwise |
    |---|---|---|
    | e_img | its projected picture embedding | mean of Q_img |
    | Q_img | its vision tower's patch tokens | the vision encoder's last feature map or patch tokens |
    | e_txt | its projected text embedding | masked mean of Q_txt |
    | Q_txt | - | the text encoder's last hidden state |

    Features that the caller gives win, and an encoder runs only for those that are missing and that some
    branch reads. With `freeze_encoders` the encoders stay in evaluation mode under `train()` and record
    no gradients.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__()
        self.config = config
        self.joint = build_encoder("joint_config", config.joint_config)
        self.text = build_encoder("text_config", config.text_config)
        self.vision = build_encoder("vision_config", config.vision_config)
        self.apply_freeze()

    def apply_freeze(self) -> None:
        """Let no parameter ask for gradients where the encoders are frozen, or where none can come.

        Distributed training stops on a trainable parameter without a gradient.
        """
        unread = list(UNREAD_PARAMETERS)
        if not self.config.needs_rows and self.joint is not None:
            unread.append("text.")
        if not self.config.needs_embeds:
            unread += ["joint.text_model.", "joint.text_projection.", "joint.visual_projection."]
        for name, parameter in self.named_parameters():
            if self.config.freeze_encoders or name.startswith(tuple(unread)):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "FeatureEncoders":
        """As `nn.Module.train`, but frozen encoders stay in evaluation mode."""
        return super().train(mode and not self.config.freeze_encoders)

    def forward(
        self, raw: RawInputs, given: FeatureInputs, dtype: torch.dtype, checks: ValueChecks | None = None
    ) -> EncodedFeatures:
        """Features of a batch in `dtype`; shapes as in [`MMOrientModel.forward`].

        Args:
            raw, given: What `check_inputs` has passed. `given` is filled in.
            dtype: Of the features.
            checks: Conditions on other values, which are looked at with those on these. None: there are none.

        Raises:
            ValueError: If an input has no encoder, a feature is missing, or a shape or value does not fit.
        """
        self._check(raw, given, checks or ValueChecks())
        self._derive_embeds(given)
        grad = torch.is_grad_enabled() and not self.config.freeze_encoders
        with torch.set_grad_enabled(grad):
            if raw.pixel_values is not None:
                self._encode_image(raw.pixel_values, given)
            if raw.joint_input_ids is not None:
                self._encode_joint_text(raw, given)
            if raw.input_ids is not None:
                self._encode_text(raw, given)
        self._derive_embeds(given)
        return complete_features(self.config, raw, given, dtype)

    def _check(self, raw: RawInputs, given: FeatureInputs, checks: ValueChecks) -> None:
        """Check what encoders would fail on, and all values with a single wait for the device."""
        texts: list[tuple[str, torch.Tensor | None, PreTrainedModel]] = []
        if self.text is not None:
            texts.append(("input_ids", raw.input_ids, self.text))
        if self.joint is not None:
            texts.append(("joint_input_ids", raw.joint_input_ids, self.joint.text_model))
        for name, ids, encoder in texts:
            if ids is not None:
                _check_tokens(name, ids, text_positions(encoder.config))
        vision = self.config.vision_config if self.joint is None else self.joint.config.vision_config
        if raw.pixel_values is not None and vision is not None:
            _check_images(raw.pixel_values, vision.num_channels, *image_sides(vision))
        arguments = as_arguments(raw, given)
        if not can_look(next(values for values in arguments.values() if values is not None)):
            for name in ("image_embeds", "text_embeds", "region_features", "token_features", "task_features"):
                setattr(given, name, without_unsound(getattr(given, name)))
            return
        for name, ids, encoder in texts:
            gather_id_checks(
                checks, name, ids, given.text_present, encoder.get_input_embeddings().num_embeddings
            )
        if (
            self.text is not None
            and _accepts(self.text, "token_type_ids")
            and self.text.config.type_vocab_size
        ):
            types = self.text.config.type_vocab_size
            gather_id_checks(checks, "token_type_ids", raw.token_type_ids, given.text_present, types)
        gather_value_checks(checks, arguments)
        checks.settle()

    def _encode_image(self, pixel_values: torch.Tensor, given: FeatureInputs) -> None:
        encoder = self.vision if self.joint is None else self.joint
        if encoder is None:
            raise _no_encoder("pixel_values", "image_embeds` and `region_features")
        wants_rows = given.region_features is None and self.config.needs_rows
        wants_embeds = given.image_embeds is None and self.config.needs_embeds
        if not wants_rows and not wants_embeds:
            return
        # Not `len`, which would make the number of rows a constant in an exported graph.
        rows_given = pixel_values.shape[0]
        pixel_values = _some_row(_blank_missing(pixel_values, given.image_present).to(encoder.dtype))
        if self.joint is not None:
            output = self.joint.get_image_features(pixel_values, return_dict=True)
            rows = output.last_hidden_state[:, joint_prefix_tokens(self.config.joint_config) :]
            if given.image_embeds is None:
                given.image_embeds = output.pooler_output[:rows_given]
        else:
            rows = self._run_vision(encoder, pixel_values)
            if rows.ndim == 4:  # (B, d, height, width), of convolutional encoders
                rows = rows.flatten(2).transpose(1, 2)
            rows = rows[:, vision_prefix_tokens(self.config.vision_config) :]
        if given.region_features is None:
            given.region_features = rows[:rows_given]

    def _run_vision(self, encoder: nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
        """The vision encoder's last hidden state."""
        parts = [pixel_values]
        if not has_attention_choice(self.config.vision_config):
            # Convolutions run faster where the channels of a pixel lie side by side.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
            together = torch.is_grad_enabled() or torch.compiler.is_compiling()
            # On CPU one by one: the feature maps of several pictures do not fit the caches, and their memory
            # is allocated anew for every layer. A picture's features are then also the same in any batch.
            one_by_one = pixel_values.device.type == "cpu" and not together
            parts = list(pixel_values.split(1)) if one_by_one else [pixel_values]
        outputs = [encoder(part, return_dict=True).last_hidden_state for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _encode_joint_text(self, raw: RawInputs, given: FeatureInputs) -> None:
        if self.joint is None:
            raise _no_encoder("joint_input_ids", "text_embeds")
        if given.text_embeds is not None or not self.config.needs_embeds:
            return
        ids = _blank_missing(raw.joint_input_ids, given.text_present)
        mask = None if raw.joint_attention_mask is None else _some_row(raw.joint_attention_mask)
        output = self.joint.get_text_features(_some_row(ids), attention_mask=mask, return_dict=True)
        given.text_embeds = output.pooler_output[: ids.shape[0]]

    def _encode_text(self, raw: RawInputs, given: FeatureInputs) -> None:
        if self.text is None:
            raise _no_encoder("input_ids", "token_features")
        wants_mean = self.config.needs_embeds and self.joint is None and given.text_embeds is None
        if given.token_features is not None or not (self.config.needs_rows or wants_mean):
            return
        options = {}
        # Some tokenizers give token types to architectures that have none.
        if raw.token_type_ids is not None and _accepts(self.text, "token_type_ids"):
            options["token_type_ids"] = _some_row(_blank_missing(raw.token_type_ids, given.text_present))
        if given.token_mask is not None:
            options["attention_mask"] = _some_row(given.token_mask)
        ids = _blank_missing(raw.input_ids, given.text_present)
        output = self.text(_some_row(ids), return_dict=True, **options)
        given.token_features = output.last_hidden_state[: ids.shape[0]]

    def _derive_embeds(self, given: FeatureInputs) -> None:
        """e = mean of Q, where there is no joint encoder."""
        if self.joint is not None or not self.config.needs_embeds:
            return
        if self.vision is not None and given.image_embeds is None and given.region_features is not None:
            given.image_embeds = masked_mean(given.region_features, given.region_mask)
        if self.text is not None and given.text_embeds is None and given.token_features is not None:
            given.text_embeds = masked_mean(given.token_features, given.token_mask)


def _blank_missing(values: Any, present: torch.Tensor | None) -> torch.Tensor:
    """Zeros in the rows that are marked as missing: what they hold must not reach an encoder."""
    if present is None:
        return values
    return values.masked_fill(~present.bool().view(-1, *[1] * (values.ndim - 1)), 0)


def _some_row(values: torch.Tensor) -> torch.Tensor:
    """An empty batch gets one row of zeros, since encoders fail without rows; others stay as they are."""
    return values if values.shape[0] else values.new_zeros(1, *values.shape[1:])


def _accepts(encoder: PreTrainedModel, name: str) -> bool:
    return name in inspect.signature(encoder.forward).parameters


def _no_encoder(raw: str, features: str) -> ValueError:
    return ValueError(
        f"`{raw}` is given, but the model has no encoder for it: give the precomputed `{features}` instead, "
        "or build the model with an encoder (`from_backbones`)."
    )


def _check_tokens(name: str, ids: torch.Tensor, positions: int | None) -> None:
    """Check that ids (batch_size, tokens) have a token, and no more than their encoder has positions for."""
    if not ids.shape[1]:
        raise ValueError(
            f"`{name}` has the shape {tuple(ids.shape)}: give at least one token a row; where a text is "
            "missing, any, with False in `text_present`."
        )
    if positions is not None and ids.shape[1] > positions:
        raise ValueError(
            f"`{name}` has the shape {tuple(ids.shape)}, and the encoder has {positions} positions: "
            "cut the texts off (`truncation` and `max_length` of a processor or tokenizer)."
        )


def _check_images(
    pixels: torch.Tensor, channels: int, least: tuple[int, int], most: tuple[int, int] | None
) -> None:
    """Check that the encoder can read pictures of this shape (batch_size, channels, height, width)."""
    sides = tuple(pixels.shape[2:])
    too_small = any(side < limit for side, limit in zip(sides, least, strict=True))
    too_large = most is not None and any(side > limit for side, limit in zip(sides, most, strict=True))
    if pixels.shape[1] != channels or too_small or too_large:
        size = f"{least[0]}, {least[1]}" if most else f"at least {least[0]}, at least {least[1]}"
        raise ValueError(
            f"`pixel_values` has the shape {tuple(pixels.shape)}: the encoder reads (batch_size, {channels}, "
            f"{size}). Give what the processor of this model makes of the pictures."
        )
