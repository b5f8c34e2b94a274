"""Saved models: one that would answer at random, or not at all, is refused before any work."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from training.saved_models import load_saved_model


def test_model_and_processor_come_back_ready_to_answer(saved_model: Path) -> None:
    model, processor = load_saved_model(str(saved_model))
    assert isinstance(model, MMOrientForMultitaskClassification) and not model.training
    assert isinstance(processor, MMOrientProcessor)


def bert(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def base_model(folder: Path) -> None:
    MMOrientForMultitaskClassification.from_pretrained(folder).mmorient.save_pretrained(folder)


def tokenizer_alone(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def no_files(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_files, "no model can be loaded"),
        (bert, "a model of type 'bert': name an MM-ORIENT checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "no model can be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "weights of .* cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "weights of .* cannot be loaded"),
        (base_model, r"lacks \d+ of its weights \(heads.* would be random"),
        (tokenizer_alone, "processor"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "no processor can be loaded"),
    ],
)
def test_folders_that_are_no_checkpoint_are_refused(
    tmp_path: Path, saved_model: Path, change: Callable[[Path], Any], message: str
) -> None:
    shutil.copytree(saved_model, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        load_saved_model(str(tmp_path / "model"))
