import dataclasses
import itertools

import pytest
import torch
from transformers import AutoConfig, AutoModel

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification
from modeling_mmorient.encoder_kinds import (
    JOINT_KINDS,
    KINDS_BY_ROLE,
    TEXT_KINDS,
    VISION_KINDS,
    joint_embed_dims,
    joint_region_dim,
    vision_region_dim,
)
from modeling_mmorient.encoders import FeatureEncoders, build_encoder
from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs, masked_mean

ENCODED = ("image_embeds", "text_embeds", "region_features", "token_features")
SUBSETS = [names for size in range(1, 5) for names in itertools.combinations(ENCODED, size)]


def logits_equal(given, expected, atol=1e-6):
    for name in expected:
        torch.testing.assert_close(given[name], expected[name], rtol=0, atol=atol)


def count_calls(model):
    """Number of forward calls of each encoder (of each tower of a joint one), kept up to date."""
    calls = {}
    encoders = model.encoders
    towers = {"text": encoders.text, "vision": encoders.vision}
    if encoders.joint is not None:
        towers |= {"joint_text": encoders.joint.text_model, "joint_vision": encoders.joint.vision_model}
    for name, tower in towers.items():
        if tower is not None:
            calls[name] = 0

            def hook(*_, name=name):
                calls[name] += 1

            tower.register_forward_hook(hook)
    return calls


# The features each encoder is run for; a mean is made of what is there.
READERS = {
    "joint": {
        "joint_vision": {"image_embeds", "region_features"},
        "joint_text": {"text_embeds"},
        "text": {"token_features"},
    },
    "vision": {"vision": {"region_features"}, "text": {"token_features"}},
}


@pytest.mark.parametrize("kind", ["joint", "vision"])
@pytest.mark.parametrize("names", SUBSETS, ids=" ".join)
@torch.no_grad()
def test_precomputed_features_replace_their_encoder(shared_models, make_inputs, kind, names):
    model, inputs = shared_models[kind], make_inputs(kind)
    expected = model(**inputs).logits
    features = model.encode(**inputs).as_inputs()
    calls = count_calls(model)
    logits_equal(model(**inputs, **{name: features[name] for name in names}).logits, expected)
    for encoder, read in READERS[kind].items():
        assert (calls[encoder] == 0) == (read <= set(names)), encoder


@torch.no_grad()
def test_pictures_run_one_by_one_and_are_the_same_in_any_batch(shared_models, make_inputs):
    model, inputs = shared_models["vision"], make_inputs("vision")
    whole = model.encode(**inputs).region_features
    for rows in ([3], [5, 3], [2, 1, 3, 4]):
        part = model.encode(**{name: values[rows] for name, values in inputs.items()}).region_features
        assert torch.equal(part, whole[rows])
    pixels = inputs["pixel_values"]
    with torch.enable_grad():  # as where encoders are trained: at once
        together = model.encoders.vision(pixels).last_hidden_state.flatten(2).transpose(1, 2)
    torch.testing.assert_close(whole, together, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def shared_models(make_model):
    return {kind: make_model(kind) for kind in ("joint", "vision")}


@pytest.mark.parametrize("kind", ["joint", "vision", "features"])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"use_hima_stage1": False, "use_hima_stage2": False},
        {"use_in_modal": False, "use_cross_modal": False},
    ],
    ids=["all", "graphs only", "attention only"],
)
@torch.no_grad()
def test_encoded_features_are_inputs_again(make_model, make_inputs, kind, switches):
    model, inputs = make_model(kind, **switches), make_inputs(kind)
    inputs["image_present"] = torch.arange(6) != 1
    inputs["text_present"] = torch.arange(6) != 2
    features = model.encode(**inputs)
    assert features.region_features.shape[-1] == model.config.region_dim
    assert features.token_features.shape[-1] == model.config.token_dim
    calls = count_calls(model)
    logits_equal(model(**features.as_inputs()).logits, model(**inputs).logits)
    before = dict(calls)
    model.encode(**features.as_inputs())
    assert calls == before


GRAPHS_ONLY = {"use_hima_stage1": False, "use_hima_stage2": False}


@pytest.mark.parametrize("kind", ["joint", "vision"])
@torch.no_grad()
def test_encoders_do_not_run_for_embeddings_that_are_given(make_model, make_inputs, kind):
    model, inputs = make_model(kind, **GRAPHS_ONLY), make_inputs(kind)
    features = model.encode(**inputs)
    expected, calls = model(**inputs).logits, count_calls(model)
    embeds = {"image_embeds": features.image_embeds, "text_embeds": features.text_embeds}
    logits_equal(model(**inputs, **embeds).logits, expected)
    assert set(calls.values()) == {0}


@torch.no_grad()
def test_encoding_one_modality_leaves_the_other_missing(shared_models, make_inputs):
    inputs = make_inputs("joint")
    features = shared_models["joint"].encode(pixel_values=inputs["pixel_values"])
    assert features.image_present.all() and not features.text_present.any()
    logits_equal(
        shared_models["joint"](**features.as_inputs()).logits,
        shared_models["joint"](pixel_values=inputs["pixel_values"]).logits,
    )


@torch.no_grad()
def test_means_stand_for_embeddings_without_a_joint_encoder(shared_models, make_inputs):
    inputs = make_inputs("vision")
    features = shared_models["vision"].encode(**inputs)
    torch.testing.assert_close(features.image_embeds, features.region_features.mean(1))
    expected = masked_mean(features.token_features, inputs["attention_mask"])
    torch.testing.assert_close(features.text_embeds, expected)


@torch.no_grad()
def test_joint_encoder_gives_its_own_embeddings(shared_models, make_inputs):
    inputs, model = make_inputs("joint"), shared_models["joint"]
    features = model.encode(**inputs)
    joint = model.encoders.joint
    output = joint(
        input_ids=inputs["joint_input_ids"],
        attention_mask=inputs["joint_attention_mask"],
        pixel_values=inputs["pixel_values"],
    )
    for given, expected in (
        (features.image_embeds, output.image_embeds),
        (features.text_embeds, output.text_embeds),
    ):
        torch.testing.assert_close(torch.nn.functional.normalize(given, dim=-1), expected)
    patches = output.vision_model_output.last_hidden_state[:, 1:]
    torch.testing.assert_close(features.region_features, patches)


@pytest.mark.parametrize(
    ("kind", "extra", "named"),
    [
        ("features", {"pixel_values": torch.zeros(6, 3, 8, 8)}, "region_features"),
        ("features", {"input_ids": torch.zeros(6, 8, dtype=torch.long)}, "token_features"),
        ("features", {"joint_input_ids": torch.zeros(6, 8, dtype=torch.long)}, "text_embeds"),
        ("vision", {"joint_input_ids": torch.zeros(6, 8, dtype=torch.long)}, "joint_input_ids"),
    ],
)
def test_input_without_an_encoder_is_named(make_model, make_inputs, kind, extra, named):
    given = ("image_embeds", "region_features", "region_mask", "text_embeds", "token_features")
    inputs = {name: value for name, value in make_inputs(kind).items() if name not in given}
    if "input_ids" not in {*inputs, *extra}:
        inputs.pop("attention_mask")
    with pytest.raises(ValueError, match=named):
        make_model(kind)(**inputs, **extra)


@pytest.mark.parametrize(
    "switches",
    [{}, {"use_hima_stage1": False, "use_hima_stage2": False}],
    ids=["all", "graphs only"],
)
def test_text_for_one_encoder_alone_is_not_dropped(make_model, make_inputs, switches):
    """A joint model reads a text twice; what one of the two lacks has to be said."""
    inputs = make_inputs("joint")
    for name in ("joint_input_ids", "joint_attention_mask"):
        del inputs[name]
    with pytest.raises(ValueError, match="joint_input_ids"):
        make_model("joint", **switches)(**inputs)


@pytest.mark.parametrize(
    ("companion", "owner"),
    [
        ("region_mask", "region_features"),
        ("token_type_ids", "input_ids"),
        ("joint_attention_mask", "joint_input_ids"),
    ],
)
def test_companions_without_their_tensor_are_named(shared_models, make_inputs, companion, owner):
    inputs = {"region_mask": torch.ones(6, 4, dtype=torch.bool), **make_inputs("joint")}
    features = shared_models["joint"].encode(**make_inputs("joint"))
    others = {
        "text_embeds": features.text_embeds,
        "token_features": features.token_features,
        "pixel_values": inputs["pixel_values"],
        companion: inputs[companion],
    }
    with pytest.raises(ValueError, match=f"(?s){companion}.*{owner}"):
        shared_models["joint"](**others)


def saved_tensors(function):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor), lambda x: x):
        result = function()
    return result, saved


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("kind", ["joint", "vision"])
def test_frozen_encoders_record_nothing(make_model, make_inputs, tmp_path, kind, reloaded):
    model = make_model(kind)
    if reloaded:
        model.save_pretrained(tmp_path)
        model = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    model.train()
    assert model.mmorient.hima.training
    assert not any(module.training for module in model.encoders.modules())
    assert not any(parameter.requires_grad for parameter in model.encoders.parameters())
    features, saved = saved_tensors(lambda: model.encode(**make_inputs(kind)))
    assert saved == []
    for field in dataclasses.fields(features):
        value = getattr(features, field.name)
        assert value is None or (value.grad_fn is None and not value.requires_grad)


@pytest.mark.parametrize("kind", ["joint", "vision"])
def test_unfrozen_encoders_learn(make_model, make_inputs, make_labels, kind):
    model = make_model(kind, freeze_encoders=False).train()
    assert all(module.training for module in model.encoders.modules())
    model(**make_inputs(kind), labels=make_labels()).loss.backward()
    trained = [p.grad for p in model.encoders.parameters() if p.requires_grad]
    assert len(trained) > 50 and all(gradient is not None for gradient in trained)


def test_freezing_is_undone_on_loading(make_model, tmp_path):
    make_model("joint").save_pretrained(tmp_path)
    model = MMOrientForMultitaskClassification.from_pretrained(tmp_path, freeze_encoders=False)
    assert all(parameter.requires_grad for parameter in model.encoders.text.parameters())
    assert any(parameter.requires_grad for parameter in model.encoders.joint.parameters())


def test_gradients_reach_features_given_by_the_caller(make_model, make_inputs):
    model = make_model("vision")
    features = model.encode(**make_inputs("vision")).as_inputs()
    tokens = features.pop("token_features").requires_grad_()
    del features["text_embeds"]
    model.mmorient.hima = None
    fused = model.mmorient(**features, token_features=tokens).pooler_output
    fused[:, ::3].sum().backward()
    assert tokens.grad.abs().sum() > 0


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "vocab_size": 60,
}
PICTURE = {"image_size": 32, "patch_size": 8, "num_channels": 3}
TOWERS = {
    "text_config": {**SIZES, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    "vision_config": {**SIZES, **PICTURE},
}
PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [4, 6, 8, 12], "num_channels": 3}
TINY = {
    "chinese_clip": {**TOWERS, "projection_dim": 12},
    "clip": {**TOWERS, "projection_dim": 12},
    "siglip": TOWERS,
    "albert": {**SIZES, "embedding_size": 8},
    "deberta-v2": {**SIZES, "type_vocab_size": 2},
    "distilbert": {"dim": 16, "hidden_dim": 20, "n_layers": 2, "n_heads": 2, "vocab_size": 60},
    "electra": {**SIZES, "embedding_size": 8},
    "modernbert": {**SIZES, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    | {"cls_token_id": 0, "sep_token_id": 2, "global_attn_every_n_layers": 2},
    "convnext": PYRAMID,
    "convnextv2": PYRAMID,
    "dinov2_with_registers": {**SIZES, **PICTURE, "num_register_tokens": 3},
    "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.1, "min_depth": 4},
    # The backward pass of 1 x 1 convolutions of 4 channels with stride 2 and channels last writes beyond its
    # memory on some processors (torch 2.13).
    "resnet": {**PYRAMID, "embedding_size": 8, "hidden_sizes": [8, 8, 16, 24], "layer_type": "basic"},
    "swin": {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
    | {"window_size": 2},
}


def tiny_config(kind):
    defaults = {**SIZES, **PICTURE} if kind in VISION_KINDS else SIZES
    return AutoConfig.for_model(kind, **TINY.get(kind, defaults))


def config_with(role, kind):
    roles = dict.fromkeys(("joint_config", "text_config", "vision_config"))
    config = MMOrientConfig(**{**roles, role: tiny_config(kind)})
    torch.manual_seed(0)
    return config


@pytest.mark.parametrize("kind", JOINT_KINDS)
@torch.no_grad()
def test_joint_kinds(kind):
    config = config_with("joint_config", kind)
    encoders = FeatureEncoders(config).eval()
    ids = torch.randint(3, 60, (2, 7))
    ids[:, -1] = 2
    raw = RawInputs(pixel_values=torch.randn(2, 3, 32, 32), joint_input_ids=ids)
    raw.joint_attention_mask = torch.ones_like(ids)
    tokens = torch.randn(2, 7, config.token_dim)
    features = encoders(raw, FeatureInputs(token_features=tokens), torch.float32)
    image_dim, text_dim = joint_embed_dims(config.joint_config)
    assert features.image_embeds.shape == (2, image_dim) == (2, config.image_embed_dim)
    assert features.text_embeds.shape == (2, text_dim) == (2, config.text_embed_dim)
    assert features.region_features.shape == (2, 16, joint_region_dim(config.joint_config))


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize("with_types", [True, False])
@torch.no_grad()
def test_text_kinds(kind, with_types):
    config = config_with("text_config", kind)
    encoders = FeatureEncoders(config).eval()
    raw = RawInputs(input_ids=torch.randint(3, 60, (2, 7)))
    if with_types:
        raw.token_type_ids = torch.zeros_like(raw.input_ids)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    features = encoders(raw, FeatureInputs(token_mask=mask), torch.float32)
    assert features.token_features.shape == (2, 7, 16) == (2, 7, config.token_dim)
    assert features.text_embeds.shape == (2, config.text_embed_dim)
    short = RawInputs(input_ids=raw.input_ids[1:, :4])
    if with_types:
        short.token_type_ids = raw.token_type_ids[1:, :4]
    alone = encoders(short, FeatureInputs(token_mask=mask[1:, :4]), torch.float32)
    torch.testing.assert_close(features.text_embeds[1:], alone.text_embeds, rtol=0, atol=1e-5)


@torch.no_grad()
def test_token_types_are_read_where_there_are_some(shared_models, make_inputs):
    inputs = make_inputs("joint")
    model = shared_models["joint"]
    other = {**inputs, "token_type_ids": 1 - inputs["token_type_ids"]}
    features = [model.encode(**given).token_features for given in (inputs, other)]
    assert not torch.equal(*features)


# Patches of 8 pixels, or what remains after a stride of 32 (8 for the two-stage Swin).
GRIDS = {"convnext": 1, "convnextv2": 1, "resnet": 1, "mobilenet_v2": 1}


@pytest.mark.parametrize("kind", VISION_KINDS)
@torch.no_grad()
def test_vision_kinds(kind):
    config = config_with("vision_config", kind)
    encoders = FeatureEncoders(config).eval()
    features = encoders(RawInputs(pixel_values=torch.randn(2, 3, 32, 32)), FeatureInputs(), torch.float32)
    width = vision_region_dim(config.vision_config)
    assert features.region_features.shape == (2, GRIDS.get(kind, 16), width)
    assert features.image_embeds.shape == (2, width) == (2, config.image_embed_dim)
    assert features.region_mask.all()


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2", "dinov2_with_registers"])
@torch.no_grad()
def test_prefix_tokens_are_no_regions(kind):
    config = config_with("vision_config", kind)
    encoders = FeatureEncoders(config).eval()
    pixels = torch.randn(2, 3, 32, 32)
    tokens = encoders.vision(pixels).last_hidden_state
    regions = encoders(RawInputs(pixel_values=pixels), FeatureInputs(), torch.float32).region_features
    assert torch.equal(regions, tokens[:, tokens.shape[1] - 16 :]) and tokens.shape[1] > 16


@pytest.mark.parametrize("multiplier", [0.05, 0.33, 0.35, 0.5, 0.75, 1.0, 1.1, 1.4])
@pytest.mark.parametrize("finegrained", [True, False])
def test_width_of_any_mobilenet(multiplier, finegrained):
    config = AutoConfig.for_model("mobilenet_v2", depth_multiplier=multiplier, finegrained_output=finegrained)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert model.conv_1x1.convolution.out_channels == vision_region_dim(config)


@pytest.mark.parametrize("kind", [*TEXT_KINDS, *VISION_KINDS])
def test_no_pooling_layer_is_built(kind):
    with torch.device("meta"):
        encoder = build_encoder("text_config", tiny_config(kind))
    assert [name for name, _ in encoder.named_parameters() if "pooler" in name] == []


@pytest.mark.parametrize(
    ("role", "kind"), [(role, kind) for role, kinds in KINDS_BY_ROLE.items() for kind in kinds]
)
def test_every_trainable_parameter_of_every_kind_gets_a_gradient(role, kind):
    """Distributed training stops on one that gets none."""
    roles = dict.fromkeys(KINDS_BY_ROLE)
    config = MMOrientConfig(**{**roles, role: tiny_config(kind)}, freeze_encoders=False)
    torch.manual_seed(0)
    encoders = FeatureEncoders(config).train()
    ids = torch.randint(3, 60, (4, 7))
    ids[:, -1] = 2
    raw, given = RawInputs(), FeatureInputs()
    if role != "text_config":
        raw.pixel_values = torch.randn(4, 3, 32, 32)
    if role == "text_config":
        raw.input_ids = ids
    if role == "joint_config":
        raw.joint_input_ids, given.token_features = ids, torch.randn(4, 7, config.token_dim)
    features = encoders(raw, given, torch.float32)
    sum(getattr(features, name).sum() for name in ENCODED).backward()
    without = [n for n, p in encoders.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
