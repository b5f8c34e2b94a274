import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BertConfig, CLIPConfig, ViTConfig

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification

TASKS = {
    "zeta": ["no", "yes"],
    "alpha": {"labels": ["none", "some", "much"], "kind": "ordinal", "weight": 0.5},
    "mid": {"labels": ["a", "b"], "kind": "multilabel", "class_weights": [1.0, 2.0]},
}
KINDS = ["joint", "vision", "features"]
NO_ENCODERS = dict.fromkeys(("joint_config", "text_config", "vision_config"))


def test_defaults_are_the_papers():
    config = MMOrientConfig()
    assert config.joint_config.model_type == "clip" and config.text_config.model_type == "bert"
    assert config.vision_config is None and config.freeze_encoders
    assert (config.image_embed_dim, config.text_embed_dim, config.token_dim) == (512, 512, 768)
    assert config.graph_hidden_size == 512 and config.relation_dim == 4 * 512
    assert config.learner_hidden_sizes == [4618, 2048]
    assert list(config.task_specs) == ["sentiment", "humour", "sarcasm", "offence", "motivation"]


def test_widths_without_encoders_are_the_papers():
    config = MMOrientConfig(**NO_ENCODERS)
    assert (config.image_embed_dim, config.text_embed_dim) == (512, 512)
    assert (config.region_dim, config.token_dim) == (2048, 768)
    assert config.hima_dim == 2048 + 768
    assert config.fused_dim == 2048 + 768 + 4 * 512


@pytest.mark.parametrize("kind", KINDS)
def test_json_keeps_everything(make_config, tmp_path, kind):
    config = make_config(kind, tasks=TASKS, task_feature_dim=3, text_threshold=0.5, freeze_encoders=False)
    config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for again in (
        MMOrientConfig.from_pretrained(tmp_path),
        AutoConfig.from_pretrained(tmp_path),
        MMOrientConfig.from_dict(json.loads(text)),
        MMOrientConfig(**config.to_dict()),
        copy.deepcopy(config),
    ):
        assert list(again.tasks) == ["zeta", "alpha", "mid"]
        assert again.task_specs == config.task_specs
        for role in NO_ENCODERS:
            assert type(getattr(again, role)) is type(getattr(config, role))
        assert again.to_json_string() == config.to_json_string()
        for field in MMOrientConfig.__annotations__:
            if field not in (*NO_ENCODERS, "model_type", "sub_configs"):
                assert getattr(again, field) == getattr(config, field), field


def test_second_round_trip_changes_nothing(make_config, tmp_path):
    make_config("joint", tasks=TASKS).save_pretrained(tmp_path)
    first = (tmp_path / "config.json").read_text()
    MMOrientConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == first


def test_tasks_in_long_form_are_kept_in_full():
    config = MMOrientConfig(**NO_ENCODERS, tasks=TASKS)
    assert config.tasks["zeta"] == {
        "labels": ["no", "yes"],
        "kind": "multiclass",
        "weight": 1.0,
        "class_weights": None,
        "label_smoothing": 0.0,
        "temperature": 1.0,
        "thresholds": None,
    }


def test_tasks_can_be_replaced_on_loading(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    config = MMOrientConfig.from_pretrained(tmp_path, tasks={"new": ["a", "b"]})
    assert config.task_specs["new"].num_labels == 2
    assert list(MMOrientConfig(**config.to_dict()).task_specs) == ["new"]
    model = MMOrientForMultitaskClassification.from_pretrained(
        tmp_path, tasks={"new": ["a", "b"]}, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path / "new")
    assert list(MMOrientConfig.from_pretrained(tmp_path / "new").task_specs) == ["new"]


def test_fields_replaced_on_loading_are_checked(make_config, tmp_path):
    make_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="learner_dropout"):
        MMOrientConfig.from_pretrained(tmp_path, learner_dropout=7.0)


def test_vision_encoder_takes_the_place_of_the_default_joint_one():
    config = MMOrientConfig(vision_config="vit")
    assert config.joint_config is None and config.vision_config.model_type == "vit"
    assert config.image_embed_dim == config.region_dim == 768


@pytest.mark.parametrize("joint", ["clip", "siglip", CLIPConfig()], ids=["clip", "siglip", "object"])
def test_joint_and_vision_encoder_together_are_refused(joint):
    with pytest.raises(ValueError, match=r"joint_config.*vision_config"):
        MMOrientConfig(joint_config=joint, vision_config="vit")


SWITCHED_OFF = {"use_hima_stage1": False, "use_hima_stage2": False}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_embed_dim": 0}, ["image_embed_dim", "0"]),
        ({"region_dim": 2.5}, ["region_dim", "2.5"]),
        ({"token_dim": True}, ["token_dim", "True"]),
        ({"task_feature_dim": -1}, ["task_feature_dim", "-1"]),
        ({"hima_hidden_size": 0}, ["hima_hidden_size", "0"]),
        ({"graph_hidden_size": "512"}, ["graph_hidden_size", "'512'"]),
        ({"learner_hidden_sizes": [8, 0]}, ["learner_hidden_sizes", "0"]),
        ({"learner_hidden_sizes": 8}, ["learner_hidden_sizes", "8", "list"]),
        ({"learner_hidden_sizes": "88"}, ["learner_hidden_sizes", "'88'"]),
        ({"learner_dropout": 1.0}, ["learner_dropout", "1.0", "[0, 1)"]),
        ({"learner_dropout": -0.1}, ["learner_dropout", "-0.1"]),
        ({"learner_dropout": float("nan")}, ["learner_dropout", "nan"]),
        ({"hima_momentum": 1.5}, ["hima_momentum", "1.5", "[0, 1]"]),
        ({"hima_momentum": None}, ["hima_momentum", "None"]),
        ({"image_threshold": 1.0}, ["image_threshold", "1.0", "[-1, 1)"]),
        ({"text_threshold": -2}, ["text_threshold", "-2"]),
        ({"image_neighbors": 0}, ["image_neighbors", "0"]),
        ({"text_neighbors": 1.5}, ["text_neighbors", "1.5"]),
        ({"text_neighbors": None}, ["text_neighbors", "text_threshold", "None"]),
        ({"hima_scoring": "dot"}, ["hima_scoring", "'dot'", "direct"]),
        ({"aggregation": "scatter"}, ["aggregation", "'scatter'", "torch_scatter"]),
        ({"freeze_encoders": 1}, ["freeze_encoders", "1", "True or False"]),
        ({"use_in_modal": "yes"}, ["use_in_modal", "'yes'"]),
        ({"use_hima_stage1": False}, ["use_hima_stage2", "use_hima_stage1"]),
        ({**SWITCHED_OFF, "use_in_modal": False, "use_cross_modal": False}, ["branch", "task_feature_dim"]),
        ({"tasks": {"t": ["a"]}}, ["'t'", "at least 2"]),
        ({"text_config": "gpt2"}, ["text_config", "'gpt2'"]),
        ({"text_config": "bert", "token_dim": 5}, ["token_dim", "5", "768"]),
        ({"vision_config": "vit", "region_dim": 5}, ["region_dim", "5", "768"]),
        ({"joint_config": "clip", "text_embed_dim": 5}, ["text_embed_dim", "5", "512"]),
    ],
)
def test_wrong_values_are_named(options, words):
    with pytest.raises(ValueError) as caught:
        MMOrientConfig(**{**NO_ENCODERS, **options})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"learner_dropout": 0},
        {"hima_momentum": 0},
        {"hima_momentum": 1},
        {"hima_momentum": 1.0},
        {"image_threshold": 0, "image_neighbors": None},
        {"text_threshold": -1.0},
        {"learner_hidden_sizes": []},
        {"learner_hidden_sizes": (3, 4)},
        {"use_in_modal": False, "use_cross_modal": False, "image_neighbors": None},
        {**SWITCHED_OFF, "use_in_modal": False, "use_cross_modal": False, "task_feature_dim": 1},
    ],
)
def test_values_at_the_edge_are_accepted(options):
    config = MMOrientConfig(**{**NO_ENCODERS, **options})
    again = MMOrientConfig.from_dict(json.loads(config.to_json_string()))
    assert again.to_json_string() == config.to_json_string()


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "attn_implementation"])
def test_nested_code_is_refused(key):
    joint = {"model_type": "clip", "vision_config": {key: "someone/something"}}
    with pytest.raises(ValueError, match=key):
        MMOrientConfig(joint_config=joint)


@pytest.mark.parametrize(
    "key",
    [
        "_attn_implementation",
        "_attn_implementation_internal",
        "attn_implementation",
        "experts_implementation",
    ],
)
def test_code_named_in_a_file_is_not_taken_for_an_attention(make_config, tmp_path, key):
    make_config("joint").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values[key] = "someone/kernel"
    path.write_text(json.dumps(values))
    try:
        config = MMOrientConfig.from_pretrained(tmp_path)
    except ValueError as refusal:
        assert key in str(refusal)
    else:
        assert config._attn_implementation is None
        assert config.text_config._attn_implementation is None


HALF = [
    {"text_config": BertConfig(dtype="float16")},
    {"text_config": {"model_type": "bert", "dtype": "float16"}},
    {"text_config": {"model_type": "bert", "torch_dtype": "float16"}},
    {"vision_config": ViTConfig(dtype=torch.float16)},
    {"joint_config": CLIPConfig(dtype="float16")},
    {"joint_config": {"model_type": "clip", "text_config": {"dtype": "float16"}}},
    {"joint_config": {"model_type": "clip", "vision_config": {"torch_dtype": "float16"}}},
    {"joint_config": CLIPConfig(text_config={"dtype": "float16"}, vision_config={"dtype": "float16"})},
]


@pytest.mark.parametrize("roles", HALF, ids=str)
def test_type_of_an_encoders_checkpoint_does_not_leak(roles):
    config = MMOrientConfig(**{**NO_ENCODERS, **roles})
    with torch.device("meta"):
        model = MMOrientForMultitaskClassification(config)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_configurations_of_the_caller_are_not_changed():
    text, tasks, sizes = BertConfig(dtype="float16"), copy.deepcopy(TASKS), [8]
    config = MMOrientConfig(**{**NO_ENCODERS, "text_config": text}, tasks=tasks, learner_hidden_sizes=sizes)
    config.learner_hidden_sizes.append(3)
    config.tasks["zeta"]["labels"].append("new")
    assert text.dtype == torch.float16
    assert tasks == TASKS and sizes == [8]


def test_defaults_are_not_shared_between_configurations():
    first = MMOrientConfig(**NO_ENCODERS)
    first.tasks["humour"]["labels"].append("new")
    first.learner_hidden_sizes.append(3)
    second = MMOrientConfig(**NO_ENCODERS)
    assert "new" not in second.tasks["humour"]["labels"]
    assert second.learner_hidden_sizes == [4618, 2048]


@pytest.mark.parametrize("name", ["hima_hiden_size", "learner_hidden_size", "use_inmodal"])
def test_misspelt_fields_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}.*did you mean"):
        MMOrientConfig(**{name: 3})


def test_a_caller_may_choose_an_attention_that_a_file_may_not(make_config, tmp_path):
    make_config("joint").save_pretrained(tmp_path)
    config = MMOrientConfig.from_pretrained(tmp_path, attn_implementation="eager")
    assert config.text_config._attn_implementation == "eager"


def test_no_path_of_an_encoder_is_saved(tmp_path):
    config = MMOrientConfig(text_config=BertConfig(name_or_path="/home/somebody/bert"))
    assert "somebody" not in config.to_json_string()


def test_names_of_classes_are_those_of_the_tasks_or_given_ones(tmp_path: Path) -> None:
    config = MMOrientConfig(joint_config=None, text_config=None, tasks={"mood": ["bad", "good"]})
    assert (config.id2label, config.label2id, config.num_labels) == (None, None, None)
    config.save_pretrained(tmp_path)
    assert MMOrientConfig.from_pretrained(tmp_path).id2label is None
    assert "LABEL" not in (tmp_path / "config.json").read_text()
    counted = MMOrientConfig(joint_config=None, text_config=None, num_labels=5)
    assert list(counted.id2label) == [0, 1, 2, 3, 4]
    counted.save_pretrained(tmp_path)
    assert MMOrientConfig.from_pretrained(tmp_path).num_labels == 5
    named = MMOrientConfig(joint_config=None, text_config=None, id2label={0: "a", 1: "b"})
    assert named.id2label == {0: "a", 1: "b"}


def test_names_of_earlier_releases_load(tmp_path):
    config = MMOrientConfig(graph_scope="bank", bank_dtype="int8")
    assert (config.graph_scope, config.reference_dtype, config.use_votes) == ("references", "int8", True)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["graph_scope"], saved["reference_dtype"]) == (
        "references",
        "int8",
    ) and "bank_dtype" not in saved
    saved["graph_scope"], saved["bank_dtype"] = "bank", saved.pop("reference_dtype")
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert MMOrientConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert MMOrientConfig.from_pretrained(tmp_path, bank_dtype="float16").reference_dtype == "float16"
    with pytest.raises(ValueError, match="`bank_dtype` is what `reference_dtype` was called"):
        MMOrientConfig.from_dict({**saved, "reference_dtype": "int8"})
