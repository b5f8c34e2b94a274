"""The models keep the promises of transformers' models."""

import json
from pathlib import Path

import pytest
import torch
from packaging.version import Version
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ViTConfig,
    ViTModel,
)

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientModel

KINDS = ["joint", "vision", "features"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def saved(kind, make_model, tmp_path_factory):
    """A folder with a saved model, and the model itself."""
    model = make_model(kind)
    folder = tmp_path_factory.mktemp(kind)
    model.save_pretrained(folder)
    return folder, model


def assert_same_logits(given, expected, atol=1e-6):
    for name in expected:
        torch.testing.assert_close(given[name].float(), expected[name].float(), rtol=0, atol=atol)


@torch.no_grad()
def test_folder_is_loaded_by_the_auto_classes(saved, kind, make_inputs):
    folder, model = saved
    assert isinstance(AutoConfig.from_pretrained(folder), MMOrientConfig)
    again = AutoModel.from_pretrained(folder)
    assert isinstance(again, MMOrientForMultitaskClassification) and not again.training
    state = again.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert_same_logits(again(**make_inputs(kind)).logits, model(**make_inputs(kind)).logits)


@torch.no_grad()
def test_base_model_is_loaded_from_a_multitask_checkpoint(saved, kind, make_inputs):
    folder, model = saved
    base, loading = MMOrientModel.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    inputs = make_inputs(kind)
    expected = model.mmorient(**inputs).pooler_output
    torch.testing.assert_close(base(**inputs).pooler_output, expected)
    assert not any(parameter.requires_grad for parameter in base.encoders.parameters())


@torch.no_grad()
def test_multitask_model_is_loaded_from_a_base_checkpoint(saved, kind, make_inputs, tmp_path):
    _, model = saved
    model.mmorient.save_pretrained(tmp_path)
    again, loading = MMOrientForMultitaskClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[0] for name in loading["missing_keys"]} == {"learner", "heads"}
    inputs = make_inputs(kind)
    expected = model.mmorient(**inputs).pooler_output
    torch.testing.assert_close(again.mmorient(**inputs).pooler_output, expected)


def test_new_parameters_are_never_left_uninitialized(kind, make_config, tmp_path):
    model = MMOrientForMultitaskClassification(make_config(kind))
    model.mmorient.save_pretrained(tmp_path)
    again = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    assert all(tensor.isfinite().all() for tensor in again.state_dict().values())
    assert not again.heads[1].first_cut.any()


def test_only_safetensors_are_read(saved, tmp_path):
    folder, model = saved
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for cls in (MMOrientForMultitaskClassification, MMOrientModel, AutoModel):
        with pytest.raises(OSError, match="safetensors"):
            cls.from_pretrained(tmp_path)
    for value in (False, None):
        with pytest.raises(ValueError, match="safetensors"):
            MMOrientModel.from_pretrained(tmp_path, use_safetensors=value)


def test_folder_holds_no_pickle(saved):
    folder, _ = saved
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".py"}


ATTENTIONS = ["eager", "sdpa"]


@torch.no_grad()
def test_attention_implementations_agree(saved, kind, make_inputs):
    folder, _ = saved
    inputs, logits = make_inputs(kind), []
    for implementation in ATTENTIONS:
        model = MMOrientForMultitaskClassification.from_pretrained(folder, attn_implementation=implementation)
        logits.append(model(**inputs).logits)
        encoder = model.encoders.text
        assert encoder is None or encoder.config._attn_implementation == implementation
        if kind == "joint":
            joint = model.encoders.joint
            for part in (joint, joint.text_model, joint.vision_model):
                assert part.config._attn_implementation == implementation
    assert_same_logits(logits[1], logits[0], atol=1e-5)


@torch.no_grad()
def test_attention_implementation_can_be_changed_later(saved, kind):
    folder, _ = saved
    model = MMOrientForMultitaskClassification.from_pretrained(folder)
    for implementation in ATTENTIONS:
        model.set_attn_implementation(implementation)
        if model.encoders.text is not None:
            assert model.encoders.text.config._attn_implementation == implementation


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_evaluation(saved, kind, make_inputs, dtype):
    folder, model = saved
    half = MMOrientForMultitaskClassification.from_pretrained(folder, dtype=dtype)
    assert {p.dtype for p in half.parameters()} == {dtype}
    inputs = make_inputs(kind)
    inputs["image_present"] = torch.arange(6) != 2
    # Trainer and pipelines cast pictures and features to the model's type.
    cast = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    logits, expected = half(**cast).logits, model(**inputs).logits
    spread = max(values.abs().max().item() for values in expected.values())
    assert_same_logits(logits, expected, atol=0.1 * spread)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_model_takes_float32_inputs(saved, kind, make_inputs, dtype):
    folder, _ = saved
    half = MMOrientForMultitaskClassification.from_pretrained(folder, dtype=dtype)
    inputs = make_inputs(kind)
    cast = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    expected = {name: values.float() for name, values in half(**cast).logits.items()}
    assert_same_logits(half(**inputs).logits, expected, atol=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("freeze", [True, False])
def test_half_precision_training_step(kind, make_model, make_inputs, make_labels, dtype, freeze):
    model = make_model(kind, freeze_encoders=freeze).to(dtype).train()
    inputs = make_inputs(kind)
    cast = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    loss = model(**cast, image_present=torch.arange(6) != 2, labels=make_labels()).loss
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert all(b.isfinite().all() for b in model.buffers())


def test_training_step_under_autocast(kind, make_model, make_inputs, make_labels):
    model = make_model(kind).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**make_inputs(kind), image_present=torch.arange(6) != 2, labels=make_labels()).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_device_map_auto(saved, kind, make_inputs):
    folder, model = saved
    again = MMOrientForMultitaskClassification.from_pretrained(folder, device_map="auto")
    assert_same_logits(again(**make_inputs(kind)).logits, model(**make_inputs(kind)).logits, atol=1e-5)


@torch.no_grad()
def test_tuples_instead_of_outputs(kind, make_model, make_inputs, make_labels):
    model, inputs = make_model(kind), make_inputs(kind)
    output = model(**inputs, labels=make_labels(), output_attentions=True)
    values = model(**inputs, labels=make_labels(), output_attentions=True, return_dict=False)
    assert isinstance(values, tuple) and len(values) == 4
    assert torch.equal(values[0], output.loss)
    assert_same_logits(values[1], output.logits, atol=0)
    assert torch.equal(values[2], output.region_attention)
    (fused,) = model.mmorient(**inputs, return_dict=False)
    assert torch.equal(fused, model.mmorient(**inputs).pooler_output)
    model.config.return_dict = False
    assert isinstance(model(**inputs), tuple)


@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"), reason="torch 2.6 compiles no model of transformers 5"
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("aggregation", ["auto", "dense"])
def test_features_to_logits_compile_to_one_graph(make_model, make_inputs, make_labels, training, aggregation):
    inputs = {**make_inputs(), "image_present": torch.arange(6) != 2}
    if training:
        inputs["labels"] = make_labels()
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = make_model(aggregation=aggregation).train(training)
        run = torch.compile(model, fullgraph=True, backend="eager") if compiled else model
        output = run(**inputs)
        gradients = {}
        if training:
            output.loss.backward()
            gradients = {n: p.grad for n, p in model.named_parameters()}
        results.append((output.logits, gradients, dict(model.named_buffers())))
    for expected, given in zip(*results, strict=True):
        assert_same_logits(given, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["joint", "vision"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(make_model, make_inputs, make_labels, kind, reentrant):
    results = []
    for checkpointing in (False, True):
        model = make_model(kind, freeze_encoders=False).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            assert model.is_gradient_checkpointing
        loss = model(**make_inputs(kind), labels=make_labels()).loss
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append(({"loss": loss}, gradients, dict(model.named_buffers())))
    for expected, given in zip(*results, strict=True):
        assert set(given) == set(expected)
        assert_same_logits(given, expected, atol=1e-5)


TRANSFORMER = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PICTURE = {"image_size": 32, "patch_size": 8}
SMALL = {
    "tasks": {"humour": ["no", "yes"]},
    "hima_hidden_size": 8,
    "graph_hidden_size": 11,
    "learner_hidden_sizes": [16],
}


@pytest.fixture(scope="module", params=[torch.float32, torch.float16], ids=str)
def checkpoints(request, tmp_path_factory):
    """Folders of tiny encoders, saved in the parameter's type, and the encoders themselves."""
    torch.manual_seed(0)
    encoders = {
        "joint": CLIPModel(
            CLIPConfig(
                text_config={**TRANSFORMER, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 49},
                vision_config={**TRANSFORMER, **PICTURE},
                projection_dim=12,
            )
        ),
        "text": BertModel(BertConfig(**TRANSFORMER, vocab_size=50)),
        "vision": ViTModel(ViTConfig(**TRANSFORMER, **PICTURE)),
    }
    folders = {}
    for role, encoder in encoders.items():
        folders[role] = str(tmp_path_factory.mktemp(role))
        encoder.to(request.param).save_pretrained(folders[role])
    return folders, encoders


@pytest.mark.parametrize("roles", [("joint", "text"), ("vision", "text"), ("joint",), ("text",), ()])
@pytest.mark.parametrize("cls", [MMOrientForMultitaskClassification, MMOrientModel])
def test_backbones_are_assembled(checkpoints, roles, cls, tmp_path):
    folders, encoders = checkpoints
    model = cls.from_backbones(**{role: folders[role] for role in roles}, **SMALL)
    assert not any(p.requires_grad for p in model.encoders.parameters())
    for assembled in (model, cls(model.config), save_and_load(model, tmp_path)):
        assert {p.dtype for p in assembled.parameters()} == {torch.float32}
        for role in ("joint", "text", "vision"):
            assert (getattr(assembled.encoders, role) is not None) is (role in roles)
    for role in roles:
        original = encoders[role].state_dict()
        for assembled in (model, save_and_load(model, tmp_path)):
            weights = getattr(assembled.encoders, role).state_dict()
            assert {n for n in original if n not in weights} <= {n for n in original if "pooler" in n}
            assert all(torch.equal(weights[n], original[n].float()) for n in weights)


def save_and_load(model, folder):
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def test_assembled_model_is_ready_for_evaluation(checkpoints):
    folders, _ = checkpoints
    model = MMOrientForMultitaskClassification.from_backbones(text=folders["text"], **SMALL)
    assert not model.training


def test_fields_of_the_configuration_pass_through_assembly(checkpoints):
    folders, _ = checkpoints
    model = MMOrientForMultitaskClassification.from_backbones(
        text=folders["text"], freeze_encoders=False, **SMALL
    )
    assert all(p.requires_grad for p in model.encoders.parameters())
    assert model.config.graph_hidden_size == 11


@pytest.mark.parametrize(
    ("role", "given"), [("joint", "text"), ("text", "joint"), ("vision", "joint"), ("vision", "text")]
)
def test_backbone_of_a_wrong_kind_is_refused(checkpoints, role, given):
    folders, _ = checkpoints
    with pytest.raises(ValueError, match=f"{role}_config"):
        MMOrientForMultitaskClassification.from_backbones(**{role: folders[given]}, **SMALL)


def test_backbone_with_pickled_weights_is_refused(checkpoints, tmp_path):
    _folders, encoders = checkpoints
    encoders["text"].config.save_pretrained(tmp_path)
    torch.save(encoders["text"].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        MMOrientForMultitaskClassification.from_backbones(text=str(tmp_path), **SMALL)


def test_backbone_that_names_code_is_refused(checkpoints, tmp_path):
    folders, _ = checkpoints
    config = json.loads(Path(folders["text"], "config.json").read_text())
    config["auto_map"] = {"AutoModel": "somewhere--modeling.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="auto_map"):
        MMOrientForMultitaskClassification.from_backbones(text=str(tmp_path), **SMALL)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_built_from_a_half_precision_configuration_has_one_type(kind, make_config, dtype):
    """The configuration of a checkpoint in half precision builds new models as well."""
    model = MMOrientForMultitaskClassification(make_config(kind, dtype=dtype))
    assert len({p.dtype for p in model.parameters()}) == 1


def test_half_precision_checkpoint_is_loaded_in_any_type(kind, make_model, make_inputs, tmp_path):
    make_model(kind).to(torch.float16).save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model = MMOrientForMultitaskClassification.from_pretrained(tmp_path, dtype=dtype)
        assert {p.dtype for p in model.parameters()} == {dtype}


def test_trainer_is_told_that_the_loss_is_a_mean_of_the_batch():
    assert MMOrientForMultitaskClassification.accepts_loss_kwargs is False
