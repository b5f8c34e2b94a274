"""MM-ORIENT as transformers models."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers.utils.generic import can_return_tuple

from .answers import AnsweringModel
from .configuration_mmorient import MMOrientConfig
from .encoders import FeatureEncoders
from .feature_inputs import FeatureInputs, RawInputs, as_arguments
from .features import EncodedFeatures
from .global_batch import GlobalBatch
from .hima import HierarchicalAttention
from .input_checks import ValueChecks, can_look, check_inputs, gather_index_checks
from .label_checks import check_counts, check_labels
from .modality_dropout import ModalityDropout
from .multitask import MultifeatureLearner, MultitaskHeads, UncertaintyWeighting, checked_loss
from .outputs import FusedFeatures, MMOrientModelOutput, MMOrientMultitaskOutput
from .pretrained_model import MMOrientPreTrainedModel
from .reference_contents import EditLock
from .reference_graph import find_copies
from .relation_graph import CrossModalRelationLearning
from .searched_references import SearchedReferences
from .votes import GraphVotes, NeighborVotes, describe_neighbors


class MMOrientModel(MMOrientPreTrainedModel):
    """MM-ORIENT without learner and heads: pictures and texts, or their features, to [HIMA ; CMRL ; a].

    Args:
        config: The configuration.
    """

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__(config)
        # Made when they are first asked for; no module, since it has any size.
        self.stored_references: SearchedReferences | None = None
        # Held while the references and HIMA's g are read or replaced together.
        self.lock = EditLock()
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
        output_degree_statistics: bool = False,
        output_neighbors: bool = False,
        gather_batch: bool = False,
        value_checks: ValueChecks | None = None,
    ) -> MMOrientModelOutput | tuple[Any, ...]:
        """Fuse the features of a batch.

        The paper's figure: features, HIMA and the relation layers beside each other, [HIMA ; CMRL ; a].

        Every modality is given raw, as precomputed features, or in part as both: features win, and an
        encoder runs only for what is still missing. A modality of which nothing is given counts as
        missing in all rows.

        Args:
            pixel_values: Images, (batch_size, channels, height, width).
            input_ids, token_type_ids: Text for the text encoder, (batch_size, tokens).
            attention_mask: Its mask, and that of `token_features`, (batch_size, tokens), 1 = present.
            joint_input_ids, joint_attention_mask: Text for the joint encoder, (batch_size, joint_tokens).
            image_present, text_present: (batch_size,), False = the row has no picture (no text), and
                its other entries are ignored. Defaults to True where the modality is given.
            image_embeds, text_embeds: Precomputed e_img and e_txt, (batch_size, width).
            region_features, region_mask: Precomputed Q_img, (batch_size, regions, width), and its mask.
            token_features: Precomputed Q_txt, (batch_size, tokens, width).
            task_features: Task-specific features a, (batch_size, `task_feature_dim`).
            own_reference: (batch_size,), where a row is a reference itself: its index in
                `references.ids`, so that it is not its own neighbour; -1 where it is none. Or
                (batch_size, m), where several references are the row (its views, paraphrases, copies),
                filled up with -1. Defaults to none in evaluation, where a sample among the references finds
                itself; in training to the references that equal the row, as a plain `Trainer` needs it.
            output_hidden_states: Return the features Q that HIMA reads.
            output_attentions: Return HIMA's weights.
            output_degree_statistics: Return the relation graphs' degree statistics.
            output_neighbors: Return the rows' neighbours among the references.
            gather_batch: In data-parallel training, let HIMA's stage 2, and relation graphs that join the
                batch, span the batches of all processes, which then all have to call this at the same time.
            value_checks: Conditions on values that are looked at with those on the inputs, so that the device
                is waited for once. Defaults to none.

        Masks hold True and False, or 1 and 0, of any dtype. Features are finite and at most 1e9. Where nobody
        can look at values (`torch.compile`, `torch.export`), a row with others answers NaN, it alone.

        Raises:
            ValueError: If an input has no encoder, a feature is missing, or a type, dtype, shape, device or
                value does not fit, naming the argument, what was given, and the remedy.
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
        checks = value_checks or ValueChecks()
        references, g = self._references_for(raw, given, own_reference, checks)
        encoded = self.feature_encoders(raw, given, self.feature_dtype, checks)
        features = self.modality_dropout(encoded)
        # In distributed training, what HIMA's stage 2 and the graphs of a batch span.
        several = self.training and gather_batch
        batch = GlobalBatch(len(features.image_present), features.image_present.device) if several else None
        attended = related = None
        if self.hima is not None:
            attended = self.hima(features, batch, g)
        if self.relations is not None:
            own = self._own_references(own_reference, references, encoded)
            related = self.relations(features, references, own, batch, output_degree_statistics)
        branches = [branch.vectors for branch in (attended, related) if branch is not None]
        if features.task_features is not None:
            branches.append(features.task_features)
        return MMOrientModelOutput.of(
            FusedFeatures(torch.cat(branches, -1), encoded, attended, related, references),
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            self.config.output_attentions if output_attentions is None else output_attentions,
            output_neighbors,
        )

    def _references_for(
        self, raw: RawInputs, given: FeatureInputs, own_reference: torch.Tensor | None, checks: ValueChecks
    ) -> tuple[SearchedReferences | None, dict[str, Any] | None]:
        """The references on the inputs' device and stage 2's g over them, once the inputs are checked."""
        like = check_inputs({**as_arguments(raw, given), "own_reference": own_reference})
        self.check_device(like)
        references, g = self.references_in_use(like.device)
        if own_reference is not None and references is not None and can_look(own_reference):
            gather_index_checks(checks, own_reference.long(), len(references))
        return references, g

    def _own_references(
        self,
        own_reference: torch.Tensor | None,
        references: SearchedReferences | None,
        encoded: EncodedFeatures,
    ) -> torch.Tensor | None:
        """The references that are the rows themselves: as given, or in training those that equal a row."""
        if own_reference is not None:
            return own_reference.long()
        searched = self.training and self.config.graph_scope == "references" and references is not None
        return find_copies(references, encoded) if searched else None


class MMOrientForMultitaskClassification(AnsweringModel, MMOrientPreTrainedModel):
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
        output_degree_statistics: bool = False,
        output_neighbors: bool = False,
        gather_batch: bool = False,
    ) -> MMOrientMultitaskOutput | tuple[Any, ...]:
        """Answer every task for every row.

        Args:
            labels: Class indices (batch_size,) by task, (batch_size, classes) of 0 and 1 for a
                `multilabel` one, -100 = not labelled; values (batch_size,) in floating point for a
                `regression` one, NaN = not labelled. A task that is left out is labelled nowhere.
            num_items_in_batch: Number of known labels by task over which the loss is a mean, when
                gradients are accumulated over several batches. Defaults to their number in this one.

        The other arguments and errors are those of [`MMOrientModel.forward`].

        Raises:
            ValueError: Also if labels name an unknown task, or have a value or shape it cannot have.
        """
        checks = ValueChecks()
        if labels is not None:
            labels = check_labels(self.heads.specs, labels, checks)
            num_items_in_batch = check_counts(num_items_in_batch, labels, checks)
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
            output_degree_statistics=output_degree_statistics,
            output_neighbors=output_neighbors or self.votes is not None,
            gather_batch=gather_batch,
            value_checks=checks,
            return_dict=True,
        )
        logits = self.heads(self.learner(fused.pooler_output))
        votes: dict[str, GraphVotes] = {}
        if self.votes is not None:
            logits, votes = self.votes(logits, fused.references, fused.neighbors)
        loss = None
        if labels is not None:
            loss = checked_loss(self.heads.specs, logits, labels, num_items_in_batch, self.loss_weighting)
        return MMOrientMultitaskOutput(
            loss=loss,
            logits=logits,
            region_features=fused.region_features,
            token_features=fused.token_features,
            region_attention=fused.region_attention,
            token_attention=fused.token_attention,
            degree_statistics=fused.degree_statistics,
            neighbors=describe_neighbors(fused.references, fused.neighbors, votes)
            if output_neighbors
            else None,
        )
