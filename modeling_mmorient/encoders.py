"""Raw tensors to features: the only place that knows CLIP, BERT and friends (paper, section "Features")."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PretrainedConfig, PreTrainedModel

from .configuration_mmorient import MMOrientConfig
from .encoder_kinds import joint_prefix_tokens, vision_prefix_tokens
from .features import EncodedFeatures, FeatureInputs, RawInputs, complete_features, masked_mean


def encoder_options(config: PretrainedConfig) -> dict[str, Any]:
    """Keyword arguments that leave out the pooling layer, which nothing here would use."""
    parameters = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}


def build_encoder(config: PretrainedConfig | None) -> PreTrainedModel | None:
    """An encoder with new weights, or None for a role that is not filled."""
    return None if config is None else AutoModel.from_config(config, **encoder_options(config))


class FeatureEncoders(nn.Module):
    """The encoders of the configured roles.

    | feature | from the joint encoder, if there is one | otherwise |
    |---|---|---|
    | e_img | its projected picture embedding | mean of Q_img |
    | Q_img | its vision tower's patch tokens | the vision encoder's last feature map or patch tokens |
    | e_txt | its projected text embedding | masked mean of Q_txt |
    | Q_txt | - | the text encoder's last hidden state |

    Features that the caller gives win, and an encoder runs only for what is still missing. With
    `freeze_encoders` the encoders stay in evaluation mode under `train()` and record no gradients.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__()
        self.config = config
        self.joint = build_encoder(config.joint_config)
        self.text = build_encoder(config.text_config)
        self.vision = build_encoder(config.vision_config)
        self.apply_freeze()

    def apply_freeze(self) -> None:
        """Let no parameter ask for gradients where the encoders are frozen, or where none can come."""
        if self.config.freeze_encoders:
            self.requires_grad_(False)
        # Of a joint encoder's contrastive loss, which is not computed here: distributed training
        # stops on a trainable parameter without a gradient.
        for name in ("logit_scale", "logit_bias"):
            if hasattr(self.joint, name):
                getattr(self.joint, name).requires_grad_(False)

    def train(self, mode: bool = True) -> "FeatureEncoders":
        """As `nn.Module.train`, but frozen encoders stay in evaluation mode."""
        return super().train(mode and not self.config.freeze_encoders)

    def forward(self, raw: RawInputs, given: FeatureInputs) -> EncodedFeatures:
        """Features of a batch; shapes as in [`MMOrientModel.forward`].

        Raises:
            ValueError: If an input has no encoder, a feature is missing, or shapes do not fit.
        """
        grad = torch.is_grad_enabled() and not self.config.freeze_encoders
        with torch.set_grad_enabled(grad):
            if raw.pixel_values is not None:
                self._encode_image(raw.pixel_values, given)
            if raw.joint_input_ids is not None and given.text_embeds is None:
                self._encode_joint_text(raw, given)
            if raw.input_ids is not None and given.token_features is None:
                self._encode_text(raw, given)
            self._derive_embeds(given)
        return complete_features(self.config, given)

    def _encode_image(self, pixel_values: torch.Tensor, given: FeatureInputs) -> None:
        wants_rows = given.region_features is None and self.config.needs_rows
        wants_embeds = given.image_embeds is None and self.config.needs_embeds
        if not wants_rows and not wants_embeds:
            return
        if self.joint is not None:
            output = self.joint.get_image_features(pixel_values, return_dict=True)
            rows = output.last_hidden_state[:, joint_prefix_tokens(self.config.joint_config) :]
            if given.image_embeds is None:
                given.image_embeds = output.pooler_output
        elif self.vision is not None:
            rows = self.vision(pixel_values, return_dict=True).last_hidden_state
            if rows.ndim == 4:  # (B, d, height, width), of convolutional encoders
                rows = rows.flatten(2).transpose(1, 2)
            rows = rows[:, vision_prefix_tokens(self.config.vision_config) :]
        else:
            raise _no_encoder("pixel_values", "image_embeds` and `region_features")
        if given.region_features is None:
            given.region_features, given.region_mask = rows, None

    def _encode_joint_text(self, raw: RawInputs, given: FeatureInputs) -> None:
        if self.joint is None:
            raise _no_encoder("joint_input_ids", "text_embeds")
        if self.config.needs_embeds:
            output = self.joint.get_text_features(
                raw.joint_input_ids, attention_mask=raw.joint_attention_mask, return_dict=True
            )
            given.text_embeds = output.pooler_output

    def _encode_text(self, raw: RawInputs, given: FeatureInputs) -> None:
        if self.text is None:
            raise _no_encoder("input_ids", "token_features")
        if not self.config.needs_rows and self.joint is not None:
            return
        options = {}
        # Some tokenizers give token types to architectures that have none.
        if raw.token_type_ids is not None and _accepts(self.text, "token_type_ids"):
            options["token_type_ids"] = raw.token_type_ids
        output = self.text(raw.input_ids, attention_mask=given.token_mask, return_dict=True, **options)
        given.token_features = output.last_hidden_state

    def _derive_embeds(self, given: FeatureInputs) -> None:
        """e = mean of Q, where there is no joint encoder."""
        if self.joint is not None:
            return
        if self.vision is not None and given.image_embeds is None and given.region_features is not None:
            given.image_embeds = masked_mean(given.region_features, given.region_mask)
        if self.text is not None and given.text_embeds is None and given.token_features is not None:
            given.text_embeds = masked_mean(given.token_features, given.token_mask)


def _accepts(encoder: PreTrainedModel, name: str) -> bool:
    return name in inspect.signature(encoder.forward).parameters


def _no_encoder(raw: str, features: str) -> ValueError:
    return ValueError(
        f"`{raw}` is given, but the model has no encoder for it: give the precomputed `{features}` instead, "
        "or build the model with an encoder (`from_backbones`)."
    )
