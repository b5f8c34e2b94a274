"""MM-ORIENT as transformers models."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple

from .calibration import decisions, probabilities
from .configuration_mmorient import ENCODER_ROLES, MMOrientConfig
from .encoders import FeatureEncoders, encoder_options, has_attention_choice
from .feature_inputs import FeatureInputs, RawInputs
from .features import EncodedFeatures
from .global_batch import GlobalBatch
from .hima import AttentionPooling, BatchBias, HierarchicalAttention, MonomodalAttention
from .modality_dropout import ModalityDropout
from .multitask import (
    MultifeatureLearner,
    MultitaskHeads,
    OrdinalHead,
    UncertaintyWeighting,
    multitask_loss,
)
from .outputs import MMOrientModelOutput, MMOrientMultitaskOutput
from .reference_bank import ReferenceBank
from .referenced_model import ReferencedModel
from .relation_graph import CrossModalRelationLearning
from .votes import SHARPNESS, SMOOTHING, WEIGHT, GraphVotes, NeighborVotes, describe_neighbors

logger = logging.get_logger(__name__)

# Of the stand-ins for missing modalities before they are learned: near zero, but a direction.
STAND_IN_STD = 0.02


class MMOrientPreTrainedModel(ReferencedModel, PreTrainedModel):
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
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`, from safetensors only, with the references that were saved.

        Frozen encoders come back frozen.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError(
                f"`use_safetensors` is {kwargs['use_safetensors']!r}: MM-ORIENT checkpoints are read "
                "from safetensors only. Leave the argument out."
            )
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # Loading puts new parameters in place of those that were frozen at construction.
        model.encoders.apply_freeze()
        name = args[0] if args else kwargs.get("pretrained_model_name_or_path")
        if name is not None:  # or the weights were given, and there is no place to look
            model.load_references(str(name), **kwargs)
        return loaded

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
        """That of the parameters; without any (all of the base model's branches off), torch's default."""
        floating = (weight.dtype for weight in self.parameters() if weight.is_floating_point())
        return next(floating, torch.get_default_dtype())

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
        return self.encoders(raw, FeatureInputs(**inputs), self.feature_dtype)


class MMOrientModel(MMOrientPreTrainedModel):
    """MM-ORIENT without learner and heads: pictures and texts, or their features, to [HIMA ; CMRL ; a].

    Args:
        config: The configuration.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__(config)
        # Made when they are first asked for; no module, since it has any size.
        self.stored_references: ReferenceBank | None = None
        self.feature_encoders = FeatureEncoders(config)
        self.modality_dropout = ModalityDropout(config.modality_dropout)
        self.hima = HierarchicalAttention(config) if config.use_hima_stage1 else None
        self.relations = CrossModalRelationLearning(config) if config.needs_embeds else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        joint_input_ids: torch.Tensor | None = None,
        joint_attention_mask: torch.Tensor | None = None,
        image_present: torch.Tensor | None = None,
        text_present: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        token_features: torch.Tensor | None = None,
        task_features: torch.Tensor | None = None,
        own_reference: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_graph_health: bool = False,
        output_neighbors: bool = False,
        gather_batch: bool = False,
    ) -> MMOrientModelOutput | tuple[Any, ...]:
        """Fuse the features of a batch.

        Every modality is given raw, as precomputed features, or in part as both: features win, and an
        encoder runs only for what is still missing. A modality of which nothing is given counts as
        missing in all rows.

        Args:
            pixel_values: Pictures, (batch_size, channels, height, width).
            input_ids, token_type_ids: Text for the text encoder, (batch_size, tokens).
            attention_mask: Its mask, and that of `token_features`, (batch_size, tokens), 1 = present.
            joint_input_ids, joint_attention_mask: Text for the joint encoder, (batch_size, joint_tokens).
            image_present, text_present: (batch_size,), False = the row has no picture (no text): what
                its entries hold is not looked at. Defaults to True where the modality is given.
            image_embeds, text_embeds: Precomputed e_img and e_txt, (batch_size, width).
            region_features, region_mask: Precomputed Q_img, (batch_size, regions, width), and its mask.
            token_features: Precomputed Q_txt, (batch_size, tokens, width).
            task_features: Task-specific features a, (batch_size, `task_feature_dim`).
            own_reference: (batch_size,), where a row is a reference itself: its place among
                `references.ids`, so that it is not its own neighbour; -1 where it is none. Defaults to -1.
            output_hidden_states: Return the features Q that HIMA reads.
            output_attentions: Return HIMA's weights.
            output_graph_health: Return the relation graphs' degree statistics.
            output_neighbors: Return the rows' neighbours among the references.
            gather_batch: In data-parallel training, let HIMA's stage 2, and relation graphs that join the
                batch, span the batches of all processes, which then all have to call this at the same time.

        Raises:
            ValueError: If an input has no encoder, a feature is missing, or shapes do not fit.
        """
        raw = RawInputs(pixel_values, input_ids, token_type_ids, joint_input_ids, joint_attention_mask)
        given = FeatureInputs(
            image_embeds,
            text_embeds,
            region_features,
            region_mask,
            token_features,
            attention_mask,
            image_present,
            text_present,
            task_features,
        )
        features = self.feature_encoders(raw, given, self.feature_dtype)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        output = MMOrientModelOutput()
        if output_hidden_states:
            output.region_features, output.token_features = features.region_features, features.token_features
        parts = []
        features = self.modality_dropout(features)
        batch = None
        if self.training and gather_batch:
            batch = GlobalBatch(len(features.image_present), features.image_present.device)
        if self.hima is not None:
            attended = self.hima(features, batch)
            parts.append(attended.vectors)
            if output_attentions:
                output.region_attention = attended.region_attention
                output.token_attention = attended.token_attention
        if self.relations is not None:
            related = self.relations(
                features, self._references_in_use(), own_reference, batch, output_graph_health
            )
            parts.append(related.vectors)
            output.graph_health = related.health
            if output_neighbors:
                output.neighbors = related.neighbors
        if features.task_features is not None:
            parts.append(features.task_features)
        output.pooler_output = torch.cat(parts, -1)
        return output

    def _references_in_use(self) -> ReferenceBank | None:
        bank = self.stored_references
        if bank is not None and len(bank):
            return bank
        if self.training and self.config.graph_scope == "bank" and not torch.compiler.is_compiling():
            logger.warning_once(
                "the model is trained without neighbours: `graph_scope` is 'bank', and it has no references. "
                'Fill them first (`add_references`, `training/train.py` does), or set `graph_scope="batch"`.'
            )
        return None


class MMOrientForMultitaskClassification(MMOrientPreTrainedModel):
    """MM-ORIENT with a learner and one head for each task.

    Args:
        config: The configuration.
    """

    # Without accumulated label counts the loss is a mean over the batch at hand, which a plain
    # `Trainer` has to divide by the number of accumulation steps.
    accepts_loss_kwargs = False

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__(config)
        self.mmorient = MMOrientModel(config)
        self.learner = MultifeatureLearner(config)
        self.heads = MultitaskHeads(config, self.learner.output_dim)
        self.votes = NeighborVotes(config) if config.use_votes else None
        self.loss_weighting = (
            UncertaintyWeighting(len(config.tasks)) if config.uncertainty_weighting else None
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        joint_input_ids: torch.Tensor | None = None,
        joint_attention_mask: torch.Tensor | None = None,
        image_present: torch.Tensor | None = None,
        text_present: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        token_features: torch.Tensor | None = None,
        task_features: torch.Tensor | None = None,
        own_reference: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
        num_items_in_batch: Mapping[str, torch.Tensor] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_graph_health: bool = False,
        output_neighbors: bool = False,
        gather_batch: bool = False,
    ) -> MMOrientMultitaskOutput | tuple[Any, ...]:
        """Answer every task for every row.

        Args:
            labels: Class indices (batch_size,) by task, (batch_size, classes) of 0 and 1 for a
                `multilabel` one; -100 = not labelled. A task that is left out is labelled nowhere.
            num_items_in_batch: Number of known labels by task over which the loss is a mean, when
                gradients are accumulated over several batches. Defaults to their number in this one.

        The other arguments and errors are those of [`MMOrientModel.forward`].

        Raises:
            ValueError: Also if labels name an unknown task, or have a value or shape it cannot have.
        """
        fused = self.mmorient(
            pixel_values=pixel_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            joint_input_ids=joint_input_ids,
            joint_attention_mask=joint_attention_mask,
            image_present=image_present,
            text_present=text_present,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            region_features=region_features,
            region_mask=region_mask,
            token_features=token_features,
            task_features=task_features,
            own_reference=own_reference,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            output_graph_health=output_graph_health,
            output_neighbors=output_neighbors or self.votes is not None,
            gather_batch=gather_batch,
            return_dict=True,
        )
        logits = self.heads(self.learner(fused.pooler_output))
        votes: dict[str, GraphVotes] = {}
        if self.votes is not None:
            logits, votes = self.votes(logits, self.mmorient.stored_references, fused.neighbors)
        neighbors = None
        if output_neighbors and fused.neighbors is not None:
            neighbors = {
                graph: describe_neighbors(self.references, found, votes.get(graph))
                for graph, found in fused.neighbors.items()
            }
        loss = None
        if labels is not None:
            loss = multitask_loss(self.heads.specs, logits, labels, num_items_in_batch, self.loss_weighting)
        return MMOrientMultitaskOutput(
            loss=loss,
            logits=logits,
            region_features=fused.region_features,
            token_features=fused.token_features,
            region_attention=fused.region_attention,
            token_attention=fused.token_attention,
            graph_health=fused.graph_health,
            neighbors=neighbors,
        )

    def probabilities(self, logits: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Calibrated probabilities (batch_size, classes) by task, from the output's `logits`.

        Of each class, summing to one; for `multilabel` of each label by itself. See `calibration.py`.
        """
        specs = self.config.task_specs
        return {name: probabilities(specs[name], values) for name, values in logits.items()}

    def decisions(self, probabilities: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model answers: class indices (batch_size,) by task, from [`~probabilities`].

        For `multilabel` (batch_size, labels) of 0 and 1. Where the tasks have thresholds, those decide.
        """
        specs = self.config.task_specs
        return {name: decisions(specs[name], values) for name, values in probabilities.items()}
