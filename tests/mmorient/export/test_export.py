"""`mmorient export`: what it writes answers as the model does, or is not kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from mmorient.commands.main import main  # noqa: E402
from mmorient.export import checks  # noqa: E402
from mmorient.export.drawn_rows import as_arrays, as_inputs, drawn_memes  # noqa: E402
from mmorient.prediction.saved_models import load_saved_model  # noqa: E402
from tests.mmorient.predicting import TASKS, save_model  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with twenty references."""
    folder = save_model(tmp_path_factory.mktemp("model"))
    model, processor = load_saved_model(str(folder))
    inputs = as_inputs(model, processor, drawn_memes(20, seed=5))
    labels = {"mood": torch.arange(20) % 3, "funny": torch.arange(20) % 2}
    model.add_references(inputs, [f"m{number}" for number in range(20)], labels)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "graph"
    main(["export", str(model), str(folder), "--int8"])
    return folder


def largest_gap(some: checks.Outputs, others: checks.Outputs) -> float:
    return max(float(np.abs(some[name] - others[name]).max()) for name in some)


def test_a_folder_has_what_a_graph_needs(exported: Path) -> None:
    labels = json.loads((exported / "labels.json").read_text())
    assert labels["about"] == {"kind": "multilabel", "labels": ["politics", "animals"]}
    assert list(labels) == list(TASKS)
    assert (exported / "tokenizer.json").is_file() and (exported / "processor_config.json").is_file()
    example = np.load(exported / "example.npz")
    session = ort.InferenceSession(exported / "model.onnx")
    inputs = {entry.name: example[entry.name] for entry in session.get_inputs()}
    found = dict(zip([entry.name for entry in session.get_outputs()], session.run(None, inputs), strict=True))
    assert largest_gap(found, {name: example[name] for name in found}) < 1e-5
    assert set(found) == {
        f"{kind}.{task}" for kind in ("logits", "probabilities", "decisions") for task in TASKS
    }


def test_files_name_no_folder_of_this_machine(exported: Path) -> None:
    here = str(Path(__file__).parents[3]).encode()
    for path in exported.iterdir():
        content = path.read_bytes()
        assert here not in content and b"site-packages" not in content, path


@pytest.mark.slow
def test_it_answers_two_hundred_memes_as_torch(model: Path, exported: Path) -> None:
    loaded, processor = load_saved_model(str(model))
    memes = drawn_memes(200, seed=1)
    assert sum(image is None for image, _ in memes) > 30 and sum(text is None for _, text in memes) > 30
    assert checks.check_graph(exported / "model.onnx", loaded, processor, memes) < 1e-4


def test_integers_answer_the_same_alone_and_in_a_batch(model: Path, exported: Path) -> None:
    loaded, processor = load_saved_model(str(model))
    session = checks.open_graph(exported / "model_int8.onnx")
    memes = drawn_memes(12, seed=2)
    # In a batch texts are padded to the longest, by themselves they are not.
    together = checks.answer(session, as_arrays(as_inputs(loaded, processor, memes)))
    for row, meme in enumerate(memes):
        alone = checks.answer(session, as_arrays(as_inputs(loaded, processor, [meme])))
        assert largest_gap(alone, {name: values[row : row + 1] for name, values in together.items()}) < 1e-4


def test_integers_are_there_and_cost_little(model: Path, exported: Path) -> None:
    kinds = [node.op_type for node in onnx.load(exported / "model_int8.onnx").graph.node]
    # Two encoders of a layer each, six products a layer; and the learner's.
    assert kinds.count("MatMulInteger") == 13
    loaded, processor = load_saved_model(str(model))
    paths = exported / "model_int8.onnx", exported / "model.onnx"
    assert 0 < checks.rounding_cost(*paths, loaded, processor, drawn_memes(12, seed=2)) < 0.05


def test_a_graph_that_differs_is_not_kept(
    model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of tracing, another graph.
    other = onnx.load(exported / "model_int8.onnx")
    monkeypatch.setattr("mmorient.export.export.trace", lambda *_: other)
    with pytest.raises(SystemExit, match=r"error: the graph differs from the model by .* it is not kept"):
        main(["export", str(model), str(tmp_path / "graph")])
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_overwritten(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is there already: name a new or empty folder"):
        main(["export", str(model), str(tmp_path)])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_input_that_onnxruntime_cannot_take_is_a_readable_error(exported: Path) -> None:
    arrays: dict[str, Any] = dict(np.load(exported / "example.npz"))
    session = checks.open_graph(exported / "model.onnx")
    inputs = {entry.name: arrays[entry.name] for entry in session.get_inputs()}
    inputs["pixel_values"] = inputs["pixel_values"][:, :, :5]
    with pytest.raises(ValueError, match="onnxruntime cannot run the graph on inputs of the shapes"):
        checks.answer(session, inputs)
