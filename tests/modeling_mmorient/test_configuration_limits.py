"""What a configuration may ask for, and which entries it may have at all."""

import json
import time

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from modeling_mmorient import MMOrientConfig, configuration_mmorient
from modeling_mmorient.configuration_limits import MAX_PARAMETERS, check_size, encoder_parameters
from modeling_mmorient.encoder_kinds import KINDS_BY_ROLE, build_encoder_config
from modeling_mmorient.encoders import build_encoder
from modeling_mmorient.shown_values import LONGEST, shown

NO_ENCODERS = dict.fromkeys(("joint_config", "text_config", "vision_config"))


def deep(levels, kind=list):
    value = 3
    for _ in range(levels):
        value = [value] if kind is list else {"in": value}
    return value


ABSURD = {
    "labels by their number": ({"num_labels": 10**12}, "`num_labels` is 1000000000000"),
    "labels of a task": ({"tasks": {"t": range(10**12)}}, "1000000000000 labels"),
    "tasks": ({"tasks": {f"t{n}": ["a", "b"] for n in range(2000)}}, "2000"),
    "labels of an encoder": ({"text_config": {"model_type": "bert", "num_labels": 10**12}}, "num_labels"),
    "layers": (
        {"text_config": {"model_type": "bert", "num_hidden_layers": 10**5}},
        "num_hidden_layers` is 100000",
    ),
    "layers of a tower": (
        {"joint_config": {"model_type": "clip", "vision_config": {"num_hidden_layers": 10**5}}},
        "`joint_config.vision_config.num_hidden_layers`",
    ),
    "layers in stages": (
        {"vision_config": {"model_type": "swin", "depths": [500, 501]}},
        "vision_config.depths",
    ),
    "layers of the learner": ({"learner_hidden_sizes": [1] * 10**5}, "`learner_hidden_sizes` has 100000"),
    "a width": ({"graph_hidden_size": 10**12}, "`graph_hidden_size` is 1000000000000"),
    "a number without a text": ({"hima_hidden_size": 10**5000}, "`hima_hidden_size` is <int>"),
    "a vocabulary": (
        {"text_config": {"model_type": "bert", "vocab_size": 10**12}},
        "`text_config.vocab_size`",
    ),
    "patches": (
        {"vision_config": {"model_type": "vit", "image_size": 10**6, "patch_size": 1}},
        "`vision_config`",
    ),
    "a factor": ({"vision_config": {"model_type": "mobilenet_v2", "depth_multiplier": 1e9}}, "dim"),
    "all widths together": ({"learner_hidden_sizes": [2**17] * 40}, "`learner_hidden_sizes` makes up"),
    "an encoder's widths together": (
        {"text_config": {"model_type": "bert", "hidden_size": 2**17, "intermediate_size": 2**19}},
        "`text_config` makes up",
    ),
    "neighbours": ({"image_neighbors": 10**12}, "`image_neighbors` is 1000000000000"),
    "numbers that are none": (
        {"text_config": {"model_type": "bert", "layer_norm_eps": float("nan")}},
        "layer_norm_eps",
    ),
    "numbers below nothing": (
        {"text_config": {"model_type": "bert", "num_attention_heads": -4}},
        "heads` is -4",
    ),
    "widths below nothing": (
        {"vision_config": {"model_type": "convnext", "hidden_sizes": [1, 2, 3, -4]}},
        "sizes",
    ),
    "nothing to divide by": ({"vision_config": {"model_type": "vit", "patch_size": 0}}, "`vision_config`"),
    "a level too deep": ({"text_config": {"model_type": "bert", "extra": deep(500)}}, "nested deeper"),
    "a field too deep": ({"tasks": deep(5000)}, "`tasks`"),
    "a switch too deep": ({"use_in_modal": deep(5000, dict)}, "`use_in_modal`"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_sizes_are_refused_before_memory_is_asked_for(case):
    options, message = ABSURD[case]
    began = time.perf_counter()
    for build in (
        lambda: MMOrientConfig(**{**NO_ENCODERS, **options}),
        lambda: MMOrientConfig.from_dict(options),
    ):
        with pytest.raises(ValueError) as caught:
            build()
        assert message in str(caught.value) and len(str(caught.value)) < 3 * LONGEST
    assert time.perf_counter() - began < 5


def test_numbers_of_parameters_are_about_right():
    """So that the limit on all of them means what it says, for every kind of encoder."""
    for role, kinds in KINDS_BY_ROLE.items():
        for kind in kinds:
            config = build_encoder_config(role, kind)
            with torch.device("meta"):
                number = sum(values.numel() for values in build_encoder(role, config).parameters())
            assert number / 1.5 < encoder_parameters(config) < 2 * number, kind


GIANT_TOWER = {
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
}


def test_the_largest_encoders_that_there_are_pass():
    giant = MMOrientConfig(
        joint_config={
            "model_type": "clip",
            "vision_config": {**GIANT_TOWER, "image_size": 448, "patch_size": 14},
        },
        text_config={"model_type": "xlm-roberta", **GIANT_TOWER, "vocab_size": 250_000},
    )
    assert 2e10 < sum(map(encoder_parameters, (giant.joint_config, giant.text_config))) < MAX_PARAMETERS
    check_size(giant)


@pytest.mark.parametrize(
    ("role", "entry", "message"),
    [
        ("text_config", {"max_position_embeddings": 0}, "max_position_embeddings` is 0: give at least 1"),
        ("text_config", {"type_vocab_size": 0}, "type_vocab_size` is 0: give at least 1"),
        ("text_config", {"layer_norm_eps": -1.0}, "layer_norm_eps` is -1.0: give a number of at least 0"),
        ("text_config", {"chunk_size_feed_forward": 3}, "chunk_size_feed_forward` is 3: give 0"),
        # The oldest supported transformers checks this one itself, in other words.
        ("text_config", {"output_hidden_states": "x"}, "output_hidden_states.*'x'"),
        ("text_config", {"quantization_config": "x"}, "quantization_config` is 'x': give a dict"),
        ("text_config", {"to_dict": 3}, "carries 'to_dict', a function's name"),
        ("vision_config", {"num_channels": 0}, "num_channels` is 0: give at least 1"),
        (
            "vision_config",
            {"image_size": 4, "patch_size": 8},
            "`patch_size` 8: give images of at least one patch",
        ),
        ("vision_config", {"image_size": [8, 0]}, "image_size` is .8, 0.: give at least 1"),
    ],
)
def test_what_an_encoder_does_not_check_itself_is_named(role, entry, message):
    kind = {"text_config": "bert", "vision_config": "vit"}[role]
    with pytest.raises(ValueError, match=rf"(?s){role}.*{message}"):
        build_encoder_config(role, {"model_type": kind, **entry})


@pytest.mark.parametrize(
    "entries", [{"hidden_act": "nothing"}, {"num_attention_heads": 0}, {"num_attention_heads": 3}]
)
def test_an_encoder_that_cannot_be_built_is_named_with_its_role(entries):
    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1}
    config = build_encoder_config("text_config", {"model_type": "bert", **sizes, **entries})
    with pytest.raises(ValueError, match=r"no bert encoder.*`text_config`"):
        build_encoder("text_config", config)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("freeze", "freeze_encoders"),
        ("lora_r", ""),
        ("unfreeze_last_layers", "freeze_encoders"),
        ("zzz", ""),
        ("to_dict", ""),
        ("task_specs", "tasks"),
        ("attribute_map", ""),
        ("max_length", ""),
        ("quantization_config", ""),
    ],
)
def test_a_caller_is_refused_what_is_no_field(make_config, tmp_path, name, close):
    with pytest.raises(ValueError, match=f"no field '{name}'.*'{close}"):
        MMOrientConfig(**{name: 3})
    make_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"no field '{name}'"):
        MMOrientConfig.from_pretrained(tmp_path, **{name: 3})


COMMON = {
    "num_labels": 5,
    "id2label": {"0": "a", "1": "b"},
    "output_hidden_states": True,
    "output_attentions": True,
    "return_dict": False,
    "torch_dtype": "float16",
    "problem_type": "multi_label_classification",
    "architectures": ["MMOrientModel"],
    "name_or_path": "somewhere",
    "attn_implementation": "eager",
    "transformers_version": "6.0.0",
    "chunk_size_feed_forward": 2,
}


@pytest.mark.parametrize("name", COMMON)
def test_what_transformers_takes_is_taken(name):
    assert MMOrientConfig(**{**NO_ENCODERS, name: COMMON[name]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "nothing"),
        ("dtype", "__class__"),
        ("torch_dtype", "int8"),
        ("dtype", 3),
        ("output_hidden_states", "x"),
        ("attn_implementation", "evil/kernel"),
        ("id2label", {"a": "b"}),
        ("id2label", 3),
        ("num_labels", True),
        ("num_labels", -1),
        ("model_type", "bert"),
        ("chunk_size_feed_forward", "x"),
        ("image_embed_dim", torch.ones(2)),
        ("freeze_encoders", torch.ones(2)),
        ("graph_scope", torch.ones(2)),
        ("joint_config", torch.ones(2)),
        pytest.param("tasks", {"t": {"labels": ["a", "b"], "weight": 10**400}}, id="a weight"),
    ],
)
def test_wrong_values_of_any_field_are_named(name, value):
    # transformers 5.17 looks at its own fields before this package can.
    with pytest.raises((ValueError, StrictDataclassError), match=f"`?{name}`?|weight"):
        MMOrientConfig(**{**NO_ENCODERS, name: value})


def test_entries_of_a_later_release_are_kept_with_a_warning(make_config, tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(configuration_mmorient.logger, "warning", texts.append)
    make_config("joint").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    later = {
        "regions_config": {"model_type": "detr"},
        "task_spec": 3,
        "max_length": 20,
        "to_dict": 3,
        "_hidden": 4,
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **later}))
    for load in (MMOrientConfig.from_pretrained, AutoConfig.from_pretrained):
        texts.clear()
        config = load(tmp_path)
        assert config.regions_config == later["regions_config"] and config.task_spec == 3
        assert not hasattr(config, "max_length") and callable(config.to_dict)
        assert "'regions_config'" in texts[0] and "later release" in texts[0] and "max_length" not in texts[0]
        assert config.to_dict()["task_spec"] == 3
    assert config.to_json_string() == MMOrientConfig.from_dict(config.to_dict()).to_json_string()


def test_an_encoder_that_is_changed_on_loading_is_checked(make_config, tmp_path):
    make_config("joint").save_pretrained(tmp_path)
    changed = MMOrientConfig.from_pretrained(tmp_path, text_config={"vocab_size": 20})
    assert changed.text_config.vocab_size == 20 and changed.text_config.hidden_size == 16
    with pytest.raises(ValueError, match="num_hidden_layers"):
        MMOrientConfig.from_pretrained(tmp_path, text_config={"num_hidden_layers": 10**6})


@pytest.mark.parametrize(
    "contents",
    [b"", b"[]", b"3", b"null", b"{", b"\xff\xfe{\x00}\x00", b"[" * 10**5, b'{"a": ' + b"9" * 10**4 + b"}"],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, contents):
    (tmp_path / "config.json").write_bytes(contents)
    with pytest.raises(ValueError, match=r"config\.json.*copy it again"):
        MMOrientConfig.from_pretrained(tmp_path)


def test_any_value_can_be_shown():
    for value in (deep(10**4), 10**5000, "x" * 10**6, list(range(10**6)), {"a": deep(10**4, dict)}):
        assert 0 < len(shown(value)) <= LONGEST + 3
    assert shown("text") == "'text'" and shown([1, "a"]) == "[1, 'a']"
