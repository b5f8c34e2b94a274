"""Weights of a checkpoint in the model at hand: all of them, in place, without a second model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, SwinConfig, TrainingArguments, ViTConfig

from mmorient.fitting.checkpoint_weights import load_weights
from mmorient.fitting.checkpoints import write_manifest
from mmorient.fitting.trainer import MultitaskTrainer

SMALL = {"image_size": 32, "patch_size": 16}
VIT = ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, **SMALL)
SWIN = SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, patch_size=2)
# Of these encoders files name some weights otherwise than memory does.
RENAMED = [{"vision_config": VIT}, {"vision_config": SWIN}]


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def fill(model: Any, inputs: dict[str, torch.Tensor], prefix: str) -> None:
    model.references = model.new_references()
    model.add_references(inputs, [f"{prefix}{row}" for row in range(len(inputs["attention_mask"]))])


@pytest.fixture
def no_second_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a second model is built")

    monkeypatch.setattr(PreTrainedModel, "__init__", refuse)


@pytest.mark.parametrize("options", [{}, *RENAMED], ids=["features", "vit", "swin"])
@pytest.mark.parametrize("shard", ["50GB", "2KB"])
def test_every_weight_is_loaded_in_place(
    make_model: Callable[..., Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    options: dict[str, Any],
    shard: str,
) -> None:
    kind = "vision" if options else "features"
    saved, model = (make_model(kind, seed=seed, **options) for seed in (1, 2))
    saved.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("model*.safetensors"))) > 1) is (shard == "2KB")
    places = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    request.getfixturevalue("no_second_model")
    load_weights(model, tmp_path)
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in state(saved).items())
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == places


def test_the_best_model_is_loaded_in_place_wherever_the_run_was_moved(
    make_model: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    saved, model = (make_model("vision", seed=seed, vision_config=VIT) for seed in (1, 2))
    saved.save_pretrained(tmp_path / "checkpoint-1")
    write_manifest(tmp_path / "checkpoint-1")
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    trainer = MultitaskTrainer(model=model, args=arguments)
    trainer.state.best_model_checkpoint = "/elsewhere/checkpoint-1"
    places = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    request.getfixturevalue("no_second_model")
    trainer._load_best_model()
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in state(saved).items())
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == places


def test_references_stay_and_g_is_the_checkpoints_until_they_are_filled_anew(
    make_model: Callable[..., Any], make_inputs: Callable[..., Any], tmp_path: Path
) -> None:
    saved, model = (make_model(seed=seed, graph_scope="references") for seed in (1, 2))
    for seed, filled in enumerate((saved, model)):
        fill(filled, make_inputs(batch_size=5, seed=seed), "ab"[seed])
    saved.save_pretrained(tmp_path)
    load_weights(model, tmp_path)
    bias = model.base_model.hima.batch_biases["image"]
    torch.testing.assert_close(bias.running_g, saved.base_model.hima.batch_biases["image"].running_g)
    model(**make_inputs())
    model.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(bias.running_g, saved.base_model.hima.batch_biases["image"].running_g)
    assert list(model.references.ids) == [f"b{row}" for row in range(5)]
    for filled in (saved, model):
        fill(filled, make_inputs(batch_size=5, seed=1), "b")
    torch.testing.assert_close(bias.running_g, saved.base_model.hima.batch_biases["image"].running_g)
    # Edits after that are followed, as ever.
    for edited in (saved, model):
        edited.remove_references(["b0", "b1"])
    inputs = make_inputs()
    torch.testing.assert_close(model(**inputs).logits, saved(**inputs).logits)


def test_names_that_saving_would_not_give_are_left_to_transformers(
    make_model: Callable[..., Any],
    make_inputs: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of encoders whose weights are joined in files, or of another release's names."""
    options = {"vision_config": VIT, "graph_scope": "references", "use_hima_stage2": False}
    saved, model = (make_model("vision", seed=seed, **options) for seed in (1, 2))
    inputs = make_inputs("vision", batch_size=5)
    fill(saved, {**inputs, "pixel_values": inputs["pixel_values"][..., :32, :32]}, "a")
    saved.save_pretrained(tmp_path)
    for file in tmp_path.glob("*references*"):  # nobody reads them
        file.unlink()
    monkeypatch.setattr(
        "mmorient.fitting.checkpoint_weights.revert_weight_conversion", lambda _, weights: weights
    )
    load_weights(model, tmp_path)
    assert all(torch.equal(values, model.state_dict()[name]) for name, values in state(saved).items())


def test_weights_of_another_model_are_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    make_model(graph_hidden_size=7).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not those of the recipe's model.*--restart true"):
        load_weights(make_model(), tmp_path)
