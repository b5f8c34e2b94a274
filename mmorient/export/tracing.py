"""From a model to an ONNX program."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnx import ModelProto

from mmorient.export.answering_graph import AnsweringGraph
from modeling_mmorient.encoder_kinds import text_positions

# The metadata key under which torch notes the modules that a node comes from.
SCOPES = "pkg.torch.onnx.name_scopes"
# The first opset with an operator for GELU.
OPSET = 20
TEXTS = ("input_ids", "attention_mask", "token_type_ids")
JOINT_TEXTS = ("joint_input_ids", "joint_attention_mask")


def trace(graph: AnsweringGraph, processor: Any, inputs: dict[str, torch.Tensor]) -> ModelProto:
    """The ONNX model of a graph: any number of rows, texts of any length.

    Args:
        graph: What is traced.
        processor: Of the model; says whether the joint encoder's texts have one length.
        inputs: Of at least two rows, as the processor gives them.

    Raises:
        ValueError: If torch cannot export it, naming the encoders and what failed.
    """
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (),
                kwargs={"inputs": inputs},
                input_names=list(inputs),
                output_names=graph.output_names,
                dynamic_shapes={"inputs": _axes(graph.model, processor, inputs)},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # each pass of torch's exporter wraps errors anew
        raise ValueError(
            f"torch.onnx.export fails for a model with the encoders {_encoders(graph.model)} "
            f"({_first_cause(error)}): train with encoders that can be exported (docs/export.md "
            "lists them), or serve the model with torch."
        ) from error
    assert program is not None
    return _without_traces(program.model_proto)


def _without_traces(model: ModelProto) -> ModelProto:
    """The model without stack traces, which name files of this machine; the module names stay."""
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    for entry in [*model.graph.node, *model.graph.initializer, *values, model.graph, model]:
        kept = [note for note in entry.metadata_props if note.key == SCOPES]
        del entry.metadata_props[:]
        entry.metadata_props.extend(kept)
        entry.ClearField("doc_string")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch logs about itself and about libraries that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _axes(model: Any, processor: Any, inputs: dict[str, torch.Tensor]) -> dict[str, dict[int, Any]]:
    """By input, the axes that may have any length."""
    batch = torch.export.Dim("batch")
    axes: dict[str, dict[int, Any]] = {name: {0: batch} for name in inputs}
    encoders = model.mmorient.feature_encoders
    texts: list[tuple[tuple[str, ...], str, Any]] = [(TEXTS, "tokens", encoders.text)]
    if processor.joint_padding == "longest":
        joint = None if encoders.joint is None else encoders.joint.text_model
        texts.append((JOINT_TEXTS, "joint_tokens", joint))
    for names, axis, encoder in texts:
        if encoder is None:
            continue
        length = torch.export.Dim(axis, max=text_positions(encoder.config))
        for name in names:
            if name in inputs:
                axes[name][1] = length
    return axes


def _encoders(model: Any) -> str:
    roles = ("joint", "text", "vision")
    kinds = {role: getattr(model.config, f"{role}_config") for role in roles}
    return ", ".join(f"{role}: {kind.model_type}" for role, kind in kinds.items() if kind is not None)


def _first_cause(error: BaseException) -> str:
    """The first line of what was raised first: torch's exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]
