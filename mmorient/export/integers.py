"""The 8-bit variant of a graph: matrix products of integers, with a scale for every token."""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_node
from onnx.numpy_helper import from_array, to_array

from mmorient.export.tracing import SCOPES

# The modules (by torch's names) with the large products; search, attention over rows, graphs and heads stay
# in floats.
ROOMS = ("feature_encoders", "learner")
# Largest weight and activation. Weights have seven bits: the sum of two products of eight bits each
# overflows the 16 bits that processors without VNNI add them in, and answers would depend on the machine.
MOST_WEIGHT, MOST_ACTIVATION = 63, 127
# Zero of the unsigned activations.
ZERO = 128


def with_integers(model: ModelProto) -> ModelProto:
    r"""A graph whose encoders and learner compute their products x W with integers:

        x_t W ≈ a_t (q_t R) ∘ b,    q_t = round(x_t / a_t),  a_t = max|x_t| / 127,  R_j = round(W_j / b_j)

    Every row t of x (a token, a region) has a scale a_t of its own, and every column j of W: one scale for
    the whole of x would make an answer depend on the other rows of the batch and on padding. Convolutions
    stay as they are.

    Args:
        model: The float graph, with its weights; it is not changed.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    added = [
        from_array(np.array([-1], np.int64), "int8.last_axis"),
        from_array(np.float32(1 / MOST_ACTIVATION), "int8.share"),
        # A row of zeros has no largest entry to divide by.
        from_array(np.float32(np.finfo(np.float32).tiny), "int8.least"),
        from_array(np.float32(1), "int8.one"),
        from_array(np.uint8(ZERO), "int8.zero"),
    ]
    rounded: set[str] = set()
    for number, node in enumerate(graph.node):
        weight = weights.get(node.input[1]) if _is_large_product(node) else None
        if weight is None or len(weight.dims) != 2:
            nodes.append(node)
            continue
        if node.input[0] not in rounded:
            rounded.add(node.input[0])
            nodes.extend(_rounding(node.input[0]))
        columns = to_array(weight)
        added.extend(_rounded_weights(columns.T if _is_transposed(node) else columns, number))
        nodes.extend(_product(node, number))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])
    return changed


def _is_large_product(node: NodeProto) -> bool:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    return node.op_type in ("MatMul", "Gemm") and any(room in scopes for room in ROOMS)


def _is_transposed(node: NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _rounding(name: str) -> Iterator[NodeProto]:
    """q and a of an activation."""
    yield make_node("Abs", [name], [f"{name}.abs"])
    yield make_node("ReduceMax", [f"{name}.abs", "int8.last_axis"], [f"{name}.most"], keepdims=1)
    yield make_node("Mul", [f"{name}.most", "int8.share"], [f"{name}.step"])
    yield make_node("Max", [f"{name}.step", "int8.least"], [f"{name}.scale"])
    yield make_node("Div", [name, f"{name}.scale"], [f"{name}.scaled"])
    yield make_node("QuantizeLinear", [f"{name}.scaled", "int8.one", "int8.zero"], [f"{name}.int8"])


def _rounded_weights(columns: np.ndarray, number: int) -> Iterator[TensorProto]:
    """R and b of a weight (in, out)."""
    scales = np.maximum(np.abs(columns).max(0), np.finfo(np.float32).tiny) / MOST_WEIGHT
    yield from_array(np.round(columns / scales).astype(np.int8), f"int8.{number}.weight")
    yield from_array(scales.astype(np.float32), f"int8.{number}.scales")


def _product(node: NodeProto, number: int) -> Iterator[NodeProto]:
    """x W, and the bias where the product has one."""
    name, out = node.input[0], node.output[0]
    bias = node.input[2] if len(node.input) > 2 else ""
    whole = [f"{name}.int8", f"int8.{number}.weight", "int8.zero"]
    yield make_node("MatMulInteger", whole, [f"{out}.whole"])
    yield make_node("Cast", [f"{out}.whole"], [f"{out}.float"], to=TensorProto.FLOAT)
    yield make_node("Mul", [f"{out}.float", f"{name}.scale"], [f"{out}.rows"])
    yield make_node("Mul", [f"{out}.rows", f"int8.{number}.scales"], [f"{out}.product" if bias else out])
    if bias:
        yield make_node("Add", [f"{out}.product", bias], [out])
