"""Compare what onnxruntime answers with a graph with what torch answers with the model."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from mmorient.export.drawn_rows import Meme, as_arrays, as_inputs

# Largest allowed difference of a logit or probability, relative to its size where that is above one.
TOLERANCE = 1e-4
# Rows of the batches that are compared.
BATCHES = (1, 3, 8)

Outputs = Mapping[str, np.ndarray]


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """A graph, ready to answer on the CPU."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def answer(session: onnxruntime.InferenceSession, arrays: Mapping[str, np.ndarray]) -> Outputs:
    """What a graph answers, by output.

    Raises:
        ValueError: If onnxruntime cannot run it.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(arrays)), strict=True))
    except Exception as error:  # onnxruntime has a class of exceptions for each status
        shapes = {name: values.shape for name, values in arrays.items()}
        raise ValueError(
            f"onnxruntime cannot run the graph on inputs of the shapes {shapes}: {error}"
        ) from error


def torch_answer(model: Any, inputs: dict[str, torch.Tensor]) -> Outputs:
    """What the model answers, by the graph's names of logits and probabilities."""
    with torch.inference_mode():
        logits = model(**inputs).logits
        probabilities = model.probabilities(logits)
    kinds = {"logits": logits, "probabilities": probabilities}
    return {
        f"{kind}.{task}": value.numpy() for kind, values in kinds.items() for task, value in values.items()
    }


def largest_difference(some: Outputs, others: Outputs) -> float:
    """Of the logits and probabilities that both have, relative where above one; NaN if one is NaN."""
    shared = [name for name in some if name in others and name.startswith(("logits.", "probabilities."))]
    differences = [np.abs(some[name] - others[name]) / np.maximum(1, np.abs(others[name])) for name in shared]
    return float(max(difference.max() for difference in differences))


def batches(model: Any, processor: Any, memes: Sequence[Meme]) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs of memes one after the other, in batches of each size of `BATCHES` in turn."""
    start, turn = 0, 0
    while start < len(memes):
        stop = start + BATCHES[turn % len(BATCHES)]
        yield as_inputs(model, processor, memes[start:stop])
        start, turn = stop, turn + 1


def check_graph(path: Path, model: Any, processor: Any, memes: Sequence[Meme]) -> float:
    """The largest difference between a graph's answers and the model's.

    Raises:
        ValueError: If it is above `TOLERANCE`.
    """
    session = open_graph(path)
    worst = 0.0
    for inputs in batches(model, processor, memes):
        difference = largest_difference(answer(session, as_arrays(inputs)), torch_answer(model, inputs))
        if not difference <= TOLERANCE:  # also for NaN
            raise ValueError(
                f"the graph differs from the model by {difference:.2g} on drawn memes (at most "
                f"{TOLERANCE:g}), so it is not kept: serve the model with torch."
            )
        worst = max(worst, difference)
    return worst


def rounding_cost(path: Path, exact: Path, model: Any, processor: Any, memes: Sequence[Meme]) -> float:
    """The largest difference between the probabilities of an integer graph and of a float graph."""
    some, other = open_graph(path), open_graph(exact)
    worst = 0.0
    for inputs in batches(model, processor, memes):
        arrays = as_arrays(inputs)
        shown = {
            name: values for name, values in answer(other, arrays).items() if not name.startswith("logits.")
        }
        worst = max(worst, largest_difference(answer(some, arrays), shown))
    return worst
