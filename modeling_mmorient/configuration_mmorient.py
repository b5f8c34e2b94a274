"""Configuration of MM-ORIENT."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging

from .configuration_checks import (
    check_booleans,
    check_common_fields,
    check_numbers,
    check_saved_references,
    check_switches,
)
from .configuration_fields import (
    CUSTOM_PIPELINES,
    EARLIER_FIELDS,
    LOADING_NAMES,
    is_misspelt,
    nearest,
    read_configuration,
    refuse_code,
    refuse_unknown,
    renamed,
    split_unknown,
    unknown_names,
    without_paths,
)
from .configuration_limits import check_size
from .encoder_kinds import build_encoder_config, check_roles, feature_widths
from .shown_values import shown
from .task_changes import carried_over
from .task_specs import TaskSpec, parse_tasks

logger = logging.get_logger(__name__)

ENCODER_ROLES = ("joint_config", "text_config", "vision_config")

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")

MEME_TASKS = {
    "sentiment": ["negative", "neutral", "positive"],
    "humour": ["not_humorous", "humorous"],
    "sarcasm": ["not_sarcastic", "sarcastic"],
    "offence": ["not_offensive", "offensive"],
    "motivation": ["not_motivational", "motivational"],
}


class MMOrientConfig(PretrainedConfig):
    """Configuration of [`MMOrientModel`] and [`MMOrientForMultitaskClassification`].

    Defaults follow the paper (Rehman et al., Information Fusion 2025, arXiv 2508.16300) unless said
    otherwise. Everything is checked here, so that a wrong value never reaches a model, and absurd sizes are
    refused before memory is asked for (`configuration_limits.py`).

    Beside the fields below it takes what transformers' `PretrainedConfig` takes, and nothing else. Entries
    that a later release wrote into a file are kept, with a warning.

    Args:
        joint_config: Encoder of both modalities (`clip`, `chinese_clip`, `siglip`): gives e_img and
            e_txt, and its vision tower's patch tokens as Q_img. A configuration, its dict, the name of
            a kind, or None. `"default"` is CLIP, or None where `vision_config` is given.
        text_config: Encoder of the text (BERT and kin): gives Q_txt, and its masked mean as e_txt where
            there is no joint encoder. Defaults to BERT; None: the caller passes `token_features`.
        vision_config: Encoder of the picture where there is no joint encoder (ViT, MobileNetV2, DINOv2
            ...): gives Q_img, and its mean as e_img. Defaults to None.
        tasks: Task name to labels, or to the long form with a kind; see `parse_tasks`. Defaults to five
            questions about memes.
        image_embed_dim, text_embed_dim: Widths of e_img and e_txt. None (default): the encoder's, or the
            paper's 512 where the features are given by the caller.
        region_dim, token_dim: Widths of Q_img and Q_txt. None (default): the encoder's, or the paper's
            2048 and 768.
        task_feature_dim: Width of the task-specific features `a` (784 in the paper). Defaults to 0:
            there are none.
        freeze_encoders: Encoders run in evaluation mode and without gradients. Defaults to True.
        use_hima_stage1: Attention over the words and regions of a sample. Off: no HIMA at all.
        use_hima_stage2: Attention over samples, added to stage 1 (needs it).
        use_in_modal, use_cross_modal: The two relation-graph layers whose neighbours come from the
            modality itself, and the two whose neighbours come from the other one.
        hima_hidden_size: Hidden width h of the attention scores. Defaults to 256; `direct` scoring has 1.
        hima_scoring: `context`: s = GELU(W q + b) . c; `direct`: s = GELU(w . q + b), the published
            script's. Defaults to `context`.
        hima_momentum: Share of a new batch in the running mean of stage 2's g, in [0, 1]; 0: all
            batches count equally. Defaults to 0.1.
        image_threshold, text_threshold: Cosine above which two samples are neighbours in that
            modality's graph. None (default): no threshold. (The published script's 0.9 leaves the
            graphs of common encoders empty.)
        image_neighbors, text_neighbors: At most that many nearest samples are neighbours (ties count
            together). None: no limit. Defaults to 16.
        graph_scope: Where neighbours come from in training. `references`: from those that are stored
            with the model, as in evaluation; `batch`: from the batch, as in the paper. Defaults to
            `references` where encoders are frozen, and to `batch` where they are trained, since references
            would age.
        reference_dtype: How references are stored: `float32` (default), `float16` or `int8`.
        use_votes: Add the votes of labelled neighbours to the tasks' logits (`NeighborVotes`). Needs
            `graph_scope="references"` and relation graphs; on by default where both are there.
        graph_hidden_size: Width of each GraphSAGE layer. Defaults to 512.
        aggregation: How neighbour means are computed: `dense`, `csr`, `torch_scatter`, or `auto`
            (default), which takes the fastest one measured for the size of the batch.
        learner_hidden_sizes: Widths of the learner's hidden layers. Defaults to (4618, 2048).
        learner_dropout: Dropout after each of them, in [0, 1). Defaults to 0.2.
        modality_dropout: Probability that in training a row loses its picture or its text, in [0, 1).
            Defaults to 0.
        uncertainty_weighting: Learn each task's share in the loss (`UncertaintyWeighting`). Defaults to
            False: the tasks' weights alone decide.
        saved_references: What `save_pretrained` writes about the references that it saves: their `number` and
            the `digest` of their files. Not for callers to set.

    Raises:
        ValueError: Naming the field, the value and the remedy.

    Example:

    ```python
    >>> config = MMOrientConfig(tasks={"humour": ["no", "yes"]}, learner_hidden_sizes=[512])
    >>> config.task_specs["humour"].num_labels
    2
    ```
    """

    model_type = "mmorient"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "region_features",
        "token_features",
        "region_attention",
        "token_attention",
        "degree_statistics",
        "neighbors",
    ]
    sub_configs: ClassVar[dict[str, type]] = dict.fromkeys(ENCODER_ROLES, AutoConfig)

    joint_config: Any = "default"
    text_config: Any = "bert"
    vision_config: Any = None
    tasks: Any = None
    # A caller may leave these at None; after construction they are numbers.
    image_embed_dim: int = None  # type: ignore[assignment]
    text_embed_dim: int = None  # type: ignore[assignment]
    region_dim: int = None  # type: ignore[assignment]
    token_dim: int = None  # type: ignore[assignment]
    task_feature_dim: int = 0
    freeze_encoders: bool = True
    use_hima_stage1: bool = True
    use_hima_stage2: bool = True
    use_in_modal: bool = True
    use_cross_modal: bool = True
    hima_hidden_size: int = 256
    hima_scoring: str = "context"
    hima_momentum: float = 0.1
    image_threshold: float | None = None
    text_threshold: float | None = None
    image_neighbors: int | None = 16
    text_neighbors: int | None = 16
    # A caller may leave these at None, too; after construction they are set.
    graph_scope: str = None  # type: ignore[assignment]
    reference_dtype: str = "float32"
    use_votes: bool = None  # type: ignore[assignment]
    graph_hidden_size: int = 512
    aggregation: str = "auto"
    learner_hidden_sizes: Any = (4618, 2048)
    learner_dropout: float = 0.2
    modality_dropout: float = 0.0
    uncertainty_weighting: bool = False
    saved_references: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.joint_config, str) and self.joint_config == "default":
            self.joint_config = "clip" if self.vision_config is None else None
        kwargs.pop("custom_pipelines", None)  # always this package's own
        given = {name: kwargs.pop(name) for name in EARLIER_FIELDS if name in kwargs}
        for name, value in renamed({**given, "graph_scope": self.graph_scope}).items():
            setattr(self, name, value)
        refuse_code(kwargs, tuple(f"_{name}" for name in IMPLEMENTATIONS))
        refuse_unknown(unknown_names(kwargs, type(self).__annotations__), type(self).__annotations__)
        check_common_fields({**vars(self), **kwargs})
        check_booleans(self)
        for role in ENCODER_ROLES:
            setattr(self, role, build_encoder_config(role, getattr(self, role)))
        specs = parse_tasks(MEME_TASKS if self.tasks is None else self.tasks)
        self.tasks = {name: spec.to_options() for name, spec in specs.items()}
        if not isinstance(self.learner_hidden_sizes, list | tuple):
            raise ValueError(
                f"`learner_hidden_sizes` is {shown(self.learner_hidden_sizes)}: give a list of whole numbers."
            )
        self.learner_hidden_sizes = list(self.learner_hidden_sizes)
        names_classes = getattr(self, "id2label", None) is not None or kwargs.get("num_labels") is not None
        super().__post_init__(**kwargs)
        if not names_classes:
            # Transformers' two default labels, LABEL_0 and LABEL_1, belong to no task.
            self.id2label = self.label2id = None
        # One composite model has one dtype: an encoder's own (a float16 checkpoint's, say) would
        # otherwise build that encoder alone in it.
        for role in ENCODER_ROLES:
            if (encoder_config := getattr(self, role)) is not None:
                encoder_config.dtype = self.dtype
        encoders = {role: getattr(self, role) for role in ENCODER_ROLES}
        check_roles(encoders)
        for field, width in feature_widths(encoders, vars(self)).items():
            setattr(self, field, width)
        if self.graph_scope is None:
            self.graph_scope = "references" if self.freeze_encoders else "batch"
        if self.use_votes is None:
            self.use_votes = self.graph_scope == "references" and self.needs_embeds
        check_numbers(self)
        check_switches(self)
        check_saved_references(self.saved_references)
        check_size(self)

    @property
    def task_specs(self) -> dict[str, TaskSpec]:
        """The tasks in their order, as objects."""
        return parse_tasks(self.tasks)

    @property
    def custom_pipelines(self) -> dict[str, Any]:
        """The pipeline that is saved with every model; transformers writes into what it is given."""
        return copy.deepcopy(CUSTOM_PIPELINES)

    @property
    def needs_rows(self) -> bool:
        """Whether anything reads the region and token features Q."""
        return self.use_hima_stage1

    @property
    def needs_embeds(self) -> bool:
        """Whether anything reads the embeddings e."""
        return self.use_in_modal or self.use_cross_modal

    @property
    def hima_dim(self) -> int:
        """Width of the joint attention feature [v_img ; v_txt]; 0 when stage 1 is off."""
        return self.region_dim + self.token_dim if self.use_hima_stage1 else 0

    @property
    def relation_dim(self) -> int:
        """Width of the concatenated relation-graph features."""
        return 2 * self.graph_hidden_size * (int(self.use_in_modal) + int(self.use_cross_modal))

    @property
    def fused_dim(self) -> int:
        """Width of [HIMA ; CMRL ; a], the learner's input."""
        return self.hima_dim + self.relation_dim + self.task_feature_dim

    @property
    def branch_widths(self) -> dict[str, int]:
        """Width of each branch's part of [HIMA ; CMRL ; a], in its order, of those that are on."""
        hidden = self.graph_hidden_size
        widths = {
            "HIMA picture": self.use_hima_stage1 * self.region_dim,
            "HIMA text": self.use_hima_stage1 * self.token_dim,
            "in-modal picture": self.use_in_modal * hidden,
            "in-modal text": self.use_in_modal * hidden,
            "cross-modal picture": self.use_cross_modal * hidden,
            "cross-modal text": self.use_cross_modal * hidden,
            "task features": self.task_feature_dim,
        }
        return {name: width for name, width in widths.items() if width}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As `PretrainedConfig.from_dict`; fields that replace the saved ones are checked like them.

        Fields of saved tasks that the given `tasks` leave out are added by `carried_over`.
        """
        # A caller may choose an attention; a file that does so could name code on the Hub.
        hidden = (f"_{name}" for name in IMPLEMENTATIONS)
        refuse_code(config_dict, (*IMPLEMENTATIONS, *hidden, "quantization_config"))
        own = cls.__annotations__
        kwargs = renamed(kwargs)
        entries, later = split_unknown(renamed(config_dict), own)
        replaced = {name: kwargs.pop(name) for name in list(kwargs) if name in own}
        if replaced.get("tasks") is not None and entries.get("tasks") is not None:
            replaced["tasks"] = carried_over(parse_tasks(entries["tasks"]), replaced["tasks"])
        for role in ENCODER_ROLES:  # a dict changes single entries of an encoder's configuration
            if isinstance(replaced.get(role), Mapping) and isinstance(entries.get(role), Mapping):
                replaced[role] = {**entries[role], **replaced[role]}
        # If the caller asks for unused arguments, those that are no fields may be meant for the model.
        leave_unused = kwargs.pop("return_unused_kwargs", False)
        refused = [name for name in unknown_names(kwargs, own) if name not in (*LOADING_NAMES, *later)]
        if leave_unused:
            refused = [name for name in refused if is_misspelt(name, own)]
        refuse_unknown(refused, own)
        unused = {name: kwargs.pop(name) for name in unknown_names(kwargs, own)}
        # These may name a kernel on the Hub, which a caller may choose but a file may not.
        chosen = {name: kwargs.pop(name) for name in IMPLEMENTATIONS if kwargs.get(name) is not None}
        config = super().from_dict({**entries, **replaced}, **kwargs)
        for name, value in chosen.items():
            setattr(config, f"_{name}", value)
        config._keep({**later, **{name: unused.pop(name) for name in list(unused) if name in later}})
        return (config, unused) if leave_unused else config

    def _keep(self, later: Mapping[str, Any]) -> None:
        """Hold entries that a later release wrote, so that they are saved again."""
        for name, value in later.items():
            if not name.startswith("_") and not hasattr(type(self), name):
                setattr(self, name, value)
        if later:
            own = type(self).__annotations__
            guesses = ", ".join(f"{shown(name)} (like {shown(nearest(name, own))})" for name in later)
            logger.warning(
                f"the configuration has entries that this release does not know, and which change nothing: "
                f"{guesses}. If a later release wrote it, the model may answer otherwise than there."
            )

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        return read_configuration(json_file)

    def to_dict(self) -> dict[str, Any]:
        """As `PretrainedConfig.to_dict`, with the tasks as a list: JSON objects lose their order."""
        output = super().to_dict()
        output["custom_pipelines"] = self.custom_pipelines
        output["tasks"] = [spec.to_dict() for spec in self.task_specs.values()]
        for role in ENCODER_ROLES:
            output[role] = without_paths(output[role])
        return output
