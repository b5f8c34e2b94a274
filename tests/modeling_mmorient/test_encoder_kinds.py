import pytest
from transformers import CONFIG_MAPPING, MODEL_MAPPING, BertConfig, CLIPConfig, GPT2Config, ViTConfig

from modeling_mmorient.encoder_kinds import FORBIDDEN_KEYS, KINDS_BY_ROLE, build_encoder_config

SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 20}


@pytest.mark.parametrize("role", KINDS_BY_ROLE)
def test_kinds_ship_with_transformers(role):
    for kind in KINDS_BY_ROLE[role]:
        assert CONFIG_MAPPING[kind] in MODEL_MAPPING
        assert build_encoder_config(role, kind).model_type == kind


def test_forms_mean_the_same():
    expected = BertConfig(**SMALL).to_dict()
    for value in (BertConfig(**SMALL), {"model_type": "bert", **SMALL}, BertConfig(**SMALL).to_dict()):
        config = build_encoder_config("text_config", value)
        assert isinstance(config, BertConfig) and config.to_dict() == expected
    assert build_encoder_config("text_config", None) is None


@pytest.mark.parametrize(
    ("role", "value", "words"),
    [
        ("text_config", "gpt2", ["`text_config`", "'gpt2'", "bert"]),
        ("text_config", GPT2Config(), ["`text_config`", "'gpt2'"]),
        ("text_config", CLIPConfig(), ["`text_config`", "'clip'"]),
        ("joint_config", BertConfig(), ["`joint_config`", "'bert'", "siglip"]),
        ("joint_config", ViTConfig(), ["`joint_config`", "'vit'"]),
        ("vision_config", "clip", ["`vision_config`", "'clip'", "mobilenet_v2"]),
        ("vision_config", {"hidden_size": 3}, ["`vision_config`", "None"]),
        ("vision_config", 7, ["`vision_config`", "7"]),
        ("vision_config", True, ["`vision_config`", "True"]),
        ("text_config", ["bert"], ["`text_config`", "['bert']"]),
    ],
)
def test_other_kinds_are_refused(role, value, words):
    with pytest.raises(ValueError) as caught:
        build_encoder_config(role, value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "key", [*FORBIDDEN_KEYS, "_attn_implementation", "experts_implementation", "_experts_implementation"]
)
@pytest.mark.parametrize("depth", ["top", "tower", "deep", "in a list"])
def test_configuration_that_names_code_is_refused_at_any_depth(key, depth):
    named = {key: "someone/something"}
    role, value = {
        "top": ("text_config", {"model_type": "bert", **named}),
        "tower": ("joint_config", {"model_type": "clip", "text_config": {**SMALL, **named}}),
        "deep": ("vision_config", {"model_type": "vit", "extra": {"deep": {"deeper": named}}}),
        "in a list": ("vision_config", {"model_type": "vit", "extra": [{"in": named}]}),
    }[depth]
    with pytest.raises(ValueError, match=key):
        build_encoder_config(role, value)


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "code_revision", "custom_pipelines"])
def test_configuration_object_that_names_code_is_refused(key):
    with pytest.raises(ValueError, match=key):
        build_encoder_config("text_config", BertConfig(**SMALL, **{key: "someone/something"}))
    joint = CLIPConfig(text_config={"hidden_size": 16, key: "someone/something"})
    with pytest.raises(ValueError, match=key):
        build_encoder_config("joint_config", joint)
    with pytest.raises(ValueError, match=key):
        build_encoder_config("joint_config", {"model_type": "clip", "text_config": joint.text_config})


def test_empty_entries_are_harmless():
    config = build_encoder_config("text_config", {"model_type": "bert", "auto_map": None, **SMALL})
    assert config.hidden_size == 16


def test_configuration_of_the_caller_is_not_changed():
    given = {"model_type": "bert", **SMALL}
    build_encoder_config("text_config", given)
    assert given == {"model_type": "bert", **SMALL}


def test_a_wrong_field_of_an_encoder_is_named_with_its_role():
    with pytest.raises(ValueError, match=r"text_config.*bert"):
        build_encoder_config("text_config", {"model_type": "bert", "hidden_size": "abc"})
