"""What the MM-ORIENT models have in common: how their weights begin, are assembled and loaded."""

import math
from typing import Any

import torch
from torch import distributed, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init

from .configuration_mmorient import ENCODER_ROLES, MMOrientConfig
from .encoders import FeatureEncoders, encoder_options, has_attention_choice
from .feature_inputs import FeatureInputs, RawInputs, as_arguments
from .features import EncodedFeatures
from .hima import AttentionPooling, BatchBias, HierarchicalAttention, MonomodalAttention
from .input_checks import check_inputs
from .multitask import UncertaintyWeighting
from .ordinal_head import OrdinalHead
from .referenced_model import ReferencedModel
from .relation_graph import CrossModalRelationLearning
from .saved_model import SavedModel
from .votes import SHARPNESS, SMOOTHING, WEIGHT, NeighborVotes

# Standard deviation of new stand-ins for missing modalities: near zero, but with a direction.
STAND_IN_STD = 0.02


class MMOrientPreTrainedModel(SavedModel, ReferencedModel, PreTrainedModel):
    """Weight initialisation, loading and assembly common to the MM-ORIENT models."""

    config_class = MMOrientConfig
    config: MMOrientConfig
    base_model_prefix = "mmorient"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Models that were saved before have none.
    _keys_to_ignore_on_load_missing = [r"hima\.references_digest$"]  # noqa: RUF012
    _no_split_modules = ["MonomodalAttention", "CrossModalRelationLearning"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            # Glorot, as in the published script: a fixed standard deviation of 0.02 makes the signal
            # fade in learners narrower than the paper's.
            init.xavier_uniform_(module.weight)
        elif isinstance(module, AttentionPooling) and module.context is not None:
            # Attention starts as the plain mean and departs from it as far as the data ask for.
            init.zeros_(module.context)
        elif isinstance(module, MonomodalAttention):
            init.normal_(module.missing, std=STAND_IN_STD)
        elif isinstance(module, BatchBias):
            init.zeros_(module.running_g)
            init.zeros_(module.batches_seen)
        elif isinstance(module, HierarchicalAttention) and module.batch_biases:
            init.zeros_(module.references_digest)
        elif isinstance(module, CrossModalRelationLearning):
            init.normal_(module.missing_image, std=STAND_IN_STD)
            init.normal_(module.missing_text, std=STAND_IN_STD)
        elif isinstance(module, OrdinalHead):
            init.zeros_(module.first_cut)
            init.zeros_(module.gaps)
        elif isinstance(module, UncertaintyWeighting):
            init.zeros_(module.log_variances)
        elif isinstance(module, NeighborVotes):
            init.constant_(module.log_sharpness, math.log(SHARPNESS))
            init.constant_(module.log_smoothing, math.log(SMOOTHING))
            init.constant_(module.weights, WEIGHT)

    @classmethod
    def from_backbones(
        cls,
        joint: str | None = None,
        text: str | None = None,
        vision: str | None = None,
        tasks: Any = None,
        **options: Any,
    ) -> Any:
        """A new model around pretrained encoders.

        Args:
            joint, text, vision: Checkpoint (Hub id or folder) for each role, or None to leave it empty.
            tasks: As in [`MMOrientConfig`].
            options: Further fields of [`MMOrientConfig`].

        Raises:
            ValueError: If a checkpoint is of a kind that its role does not take, or an option is set by
                the checkpoints.

        Example:

        ```python
        >>> model = MMOrientForMultitaskClassification.from_backbones(
        ...     joint="openai/clip-vit-base-patch32",
        ...     text="google-bert/bert-base-uncased",
        ...     tasks={"humour": ["not_funny", "funny"]},
        ... )
        ```
        """
        checkpoints = dict(zip(ENCODER_ROLES, (joint, text, vision), strict=True))
        for role in ENCODER_ROLES:
            if options.pop(role, None) is not None:
                raise ValueError(f"`{role}` comes from the checkpoint of its role here: leave it out.")
        if options.get("dtype") is not None:
            raise ValueError(f"`dtype` is {options['dtype']!r}: build the model, then use `.to(dtype)`.")
        configs = {
            role: None if name is None else AutoConfig.from_pretrained(name, trust_remote_code=False)
            for role, name in checkpoints.items()
        }
        model = cls(MMOrientConfig(tasks=tasks, **configs, **options))
        for role, name in checkpoints.items():
            if name is None:
                continue
            encoder_config = getattr(model.config, role)
            encoder = AutoModel.from_pretrained(
                name,
                config=encoder_config,
                dtype=model.dtype,
                use_safetensors=True,
                trust_remote_code=False,
                **encoder_options(encoder_config),
            )
            setattr(model.encoders, role.removesuffix("_config"), encoder)
        model.encoders.apply_freeze()
        return model.eval()

    @property
    def feature_dtype(self) -> torch.dtype:
        """Dtype of the parameters; torch's default if there are none (a base model with all branches off)."""
        # A loop, because torch 2.6 cannot compile `next` with a default.
        for weight in self.parameters():
            if weight.is_floating_point():
                return weight.dtype
        return torch.get_default_dtype()

    def check_device(self, values: torch.Tensor) -> None:
        """Raise a `ValueError` if inputs are not where the model is.

        Models that are split or sharded over devices move inputs or parameters themselves, and nothing is
        checked for them.
        """
        sharded = distributed.is_available() and distributed.is_initialized()
        if torch.compiler.is_compiling() or sharded or hasattr(self, "hf_device_map"):
            return
        weight = next(self.parameters(), None)
        if weight is not None and not weight.is_meta and weight.device != values.device:
            raise ValueError(
                f"the inputs are on the device {values.device} and the model on {weight.device}: move one of "
                "them (`.to(device)`)."
            )

    @property
    def encoders(self) -> FeatureEncoders:
        """The encoders of the base model."""
        return self.base_model.feature_encoders

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's token embeddings.

        Raises:
            NotImplementedError: If the model has no text encoder.
        """
        return self._text_encoder().get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put other token embeddings into the text encoder; errors as in `get_input_embeddings`."""
        self._text_encoder().set_input_embeddings(value)

    def _text_encoder(self) -> PreTrainedModel:
        if self.encoders.text is None:
            raise NotImplementedError("the model has no text encoder, and so no token embeddings")
        return self.encoders.text

    def set_attn_implementation(
        self, attn_implementation: str | dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """As `PreTrainedModel.set_attn_implementation`; encoders without a choice keep their own."""
        if isinstance(attn_implementation, str):
            attn_implementation = {"": attn_implementation} | {
                role: attn_implementation if has_attention_choice(config) else "eager"
                for role in ENCODER_ROLES
                if (config := getattr(self.config, role)) is not None
            }
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

    def encode(self, **inputs: torch.Tensor | None) -> EncodedFeatures:
        """Features of a batch alone, to be kept and given to `forward` later (`**features.as_inputs()`).

        Args:
            inputs: As in `forward`; `labels` are not among them.
        """
        raw_names, feature_names = RawInputs.__dataclass_fields__, FeatureInputs.__dataclass_fields__
        raw = RawInputs(**{name: inputs.pop(name) for name in list(inputs) if name in raw_names})
        inputs["token_mask"] = inputs.pop("attention_mask", None)
        if unknown := [name for name in inputs if name not in feature_names]:
            raise TypeError(f"`encode` got {unknown}: it takes the inputs of `forward`, without labels.")
        given = FeatureInputs(**inputs)
        self.check_device(check_inputs(as_arguments(raw, given)))
        return self.encoders(raw, given, self.feature_dtype)
