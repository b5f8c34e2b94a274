"""Saved models: one that would answer at random, or not at all, is refused before any work."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmorient.prediction.saved_models import load_saved_model
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from tests.hub_server import LocalHub, run_python

ROOT = Path(__file__).parents[3]


def test_model_and_processor_come_back_ready_to_answer(saved_model: Path) -> None:
    model, processor = load_saved_model(str(saved_model))
    assert isinstance(model, MMOrientForMultitaskClassification) and not model.training
    assert isinstance(processor, MMOrientProcessor)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no such folder"),
        ("./nowhere", "there is no such folder"),
        ("/nowhere/model", "there is no such folder"),
        ("runs/of/mine", "there is no such folder"),
        ("tests/nowhere", "there is no such folder"),  # beside folders that are there
        ("", "there is no such folder"),
        ("..", "holds|no model can be loaded"),
        ("someone/nothing", "the Hub cannot be asked for it"),
    ],
)
def test_a_name_that_does_not_exist_is_said_at_once(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the Hub client's retries, which take 23 seconds, and asking the Hub only about Hub ids."""
    asked = []

    def request(method: str, url: str, **options: Any) -> None:
        asked.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.file_download.http_backoff", request, raising=False)
    monkeypatch.setattr("huggingface_hub.utils._http.http_backoff", request)
    with pytest.raises(ValueError, match=message):
        load_saved_model(name)
    assert len(asked) == (name == "someone/nothing")


@pytest.mark.slow
def test_models_of_the_hub_are_found_there_and_afterwards_without_it(
    saved_model: Path, tmp_path: Path
) -> None:
    code = (
        "import json, sys; from huggingface_hub import HfApi; api = HfApi()\n"
        "api.create_repo('tester/model')\n"
        "api.upload_folder(repo_id='tester/model', folder_path=sys.argv[1])\n"
        "sys.path.insert(0, sys.argv[2]); from mmorient.prediction.saved_models import load_saved_model\n"
        "def said(name):\n"
        "    try: return type(load_saved_model(name)[0]).__name__\n"
        "    except ValueError as error: return str(error)\n"
        "print(json.dumps([said('tester/model'), said('tester/other')]))"
    )
    with LocalHub() as hub:
        environment = hub.environment(tmp_path / "home")
        found, missing = run_python(code, str(saved_model), str(ROOT), env=environment)
    assert found == "MMOrientForMultitaskClassification"
    assert "no model of that name that may be read on the Hub" in missing
    code = code.replace("api.create_repo", "0 and api.create_repo").replace("api.upload", "0 and api.upload")
    found, missing = run_python(code, str(saved_model), str(ROOT), env=environment)
    assert found == "MMOrientForMultitaskClassification" and "the Hub cannot be asked for it" in missing


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
