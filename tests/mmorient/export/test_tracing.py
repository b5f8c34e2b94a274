"""A traced model answers as torch does, whatever its encoders, branches and tasks."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from mmorient.export.answering_graph import AnsweringGraph  # noqa: E402
from mmorient.export.checks import answer, largest_difference, torch_answer  # noqa: E402
from mmorient.export.drawn_rows import as_arrays  # noqa: E402
from mmorient.export.tracing import trace  # noqa: E402
from tests.conftest import TASKS  # noqa: E402

PROCESSOR = SimpleNamespace(joint_padding="longest")
VALUED = {
    **TASKS,
    "funny": {"kind": "regression", "range": [0, 5], "mean": 2.5, "deviation": 1.5, "interval": 1.0},
}


def missing_some(inputs: dict[str, torch.Tensor], rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """The first rows and tokens, some without image or text."""
    cut = {
        name: values[:rows] if name == "pixel_values" else values[:rows, :tokens]
        for name, values in inputs.items()
    }
    number = torch.arange(rows)
    has_image = number % 3 != 1
    return {**cut, "image_present": has_image, "text_present": ~has_image | (number % 4 != 2)}


def check(model: Any, inputs: dict[str, torch.Tensor], extra: dict[str, torch.Tensor]) -> None:
    """Trace a model and compare it on batches of several sizes and lengths."""

    def some(rows: int, tokens: int) -> dict[str, torch.Tensor]:
        return missing_some(inputs, rows, tokens) | {name: values[:rows] for name, values in extra.items()}

    graph = trace(AnsweringGraph(model), PROCESSOR, some(4, 7))
    session = ort.InferenceSession(graph.SerializeToString())
    for rows, tokens in ((1, 8), (3, 5), (8, 8), (8, 1)):
        given = some(rows, tokens)
        found = answer(session, as_arrays(given))
        assert largest_difference(found, torch_answer(model, given)) < 1e-4
        decisions = model.decisions(model.probabilities(model(**given).logits))
        for task, decided in decisions.items():
            torch.testing.assert_close(torch.from_numpy(found[f"decisions.{task}"]), decided)
            assert (f"probabilities.{task}" in found) == (task != "funny")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("joint", {"tasks": VALUED, "use_votes": True}),
        pytest.param("vision", {"task_feature_dim": 3}, marks=pytest.mark.slow),
        pytest.param("joint", {"use_hima_stage2": True, "image_threshold": 0.1}, marks=pytest.mark.slow),
        pytest.param(
            "vision",
            {"use_hima_stage1": False, "use_hima_stage2": False, "reference_dtype": "int8"},
            marks=pytest.mark.slow,
        ),
        pytest.param("vision", {"use_in_modal": False, "use_cross_modal": False}, marks=pytest.mark.slow),
    ],
)
def test_a_graph_answers_as_torch(
    make_model: Callable[..., Any], make_inputs: Callable[..., Any], kind: str, options: dict[str, Any]
) -> None:
    model = make_model(kind, graph_scope="references", **options)
    extra = {}
    if width := options.get("task_feature_dim"):
        extra = {"task_features": torch.randn(12, width, generator=torch.Generator().manual_seed(3))}
    if model.config.needs_embeds:
        known = missing_some(make_inputs(kind, 12, seed=7), 12, 8) | extra
        generator = torch.Generator().manual_seed(4)
        labels = {"sentiment": torch.randint(0, 3, (12,), generator=generator)}
        if "funny" in options.get("tasks", {}):
            labels["funny"] = 5 * torch.rand(12, generator=generator)
        model.add_references(known, [f"m{number}" for number in range(12)], labels)
    check(model, make_inputs(kind, 12, seed=1), extra)


def test_a_graph_without_a_limit_on_neighbours_is_refused(
    make_model: Callable[..., Any], make_inputs: Callable[..., Any]
) -> None:
    model = make_model("vision", graph_scope="references", text_neighbors=None, text_threshold=0.5)
    model.add_references(make_inputs("vision", 3), ["a", "b", "c"])
    with pytest.raises(ValueError, match="`text_neighbors` of the model is None"):
        AnsweringGraph(model)


def test_an_encoder_that_cannot_be_exported_is_named(
    make_model: Callable[..., Any], make_inputs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("vision")

    def refuse(*args: Any, **kwargs: Any) -> None:
        try:
            raise RuntimeError("a value decides here\nand more")
        except RuntimeError as error:
            raise ValueError("pages of advice") from error

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ValueError, match=r"text: bert, vision: mobilenet_v2 \(a value decides here\)"):
        trace(AnsweringGraph(model), PROCESSOR, missing_some(make_inputs("vision"), 4, 7))
