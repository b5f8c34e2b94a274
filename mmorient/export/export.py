"""Write a saved model as an ONNX graph, with all files that are needed to use it."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx

from mmorient.export.answering_graph import AnsweringGraph
from mmorient.export.checks import answer, check_graph, open_graph, rounding_cost
from mmorient.export.drawn_rows import Meme, as_arrays, as_inputs, drawn_memes
from mmorient.export.integers import with_integers
from mmorient.export.job import ExportJob
from mmorient.export.tracing import trace
from mmorient.prediction.saved_models import load_saved_model

GRAPH, INT8_GRAPH = "model.onnx", "model_int8.onnx"
LABELS, EXAMPLE = "labels.json", "example.npz"
# A protobuf file holds 2 GiB at most: larger graphs keep their weights in a separate file.
MOST_BYTES = 2**31 - 2**24
# Drawn memes on which a graph is compared with the model: a batch of each size.
CHECKED = 12


def export_model(job: ExportJob) -> str:
    """Export a model, and keep the graph only if it answers as the model does.

    Returns:
        What was written, for a person.

    Raises:
        ValueError: If the model cannot be loaded or exported, a graph answers otherwise, or the output
            folder holds something.
    """
    if job.output.exists() and (not job.output.is_dir() or any(job.output.iterdir())):
        raise ValueError(f"{job.output} is there already: name a new or empty folder, or remove it.")
    model, processor = load_saved_model(job.model)
    model.float()
    memes = drawn_memes(CHECKED)
    with _whole_folder(job.output) as folder:
        inputs = as_inputs(model, processor, memes[:4])
        graph = trace(AnsweringGraph(model), processor, inputs)
        # Before the float graph is written, since that may move its weights to a file.
        integers = with_integers(graph) if job.int8 else None
        write_graph(graph, folder / GRAPH)
        lines = [_described(folder / GRAPH)]
        difference = check_graph(folder / GRAPH, model, processor, memes)
        lines[0] += f", within {difference:.1g} of torch on {len(memes)} drawn memes"
        if integers is not None:
            write_graph(integers, folder / INT8_GRAPH)
            cost = rounding_cost(folder / INT8_GRAPH, folder / GRAPH, model, processor, memes)
            lines.append(
                f"{_described(folder / INT8_GRAPH)}, its probabilities within {cost:.2g} of {GRAPH}'s on them"
            )
        _write_companions(folder, model, processor, memes)
    return "\n".join([f"written to {job.output}:", *lines])


def write_graph(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph: one file, or a second one (`.data`) with its weights where it is too large for one."""
    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > MOST_BYTES:
        onnx.save(graph, path, save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save(graph, path)


def _write_companions(folder: Path, model: Any, processor: Any, memes: Sequence[Meme]) -> None:
    """The processor, the labels by task, and inputs with their answers to try a runtime on."""
    processor.save_pretrained(folder)
    tasks = {
        name: {"kind": spec.kind, "labels": list(spec.labels)}
        for name, spec in model.config.task_specs.items()
    }
    (folder / LABELS).write_text(json.dumps(tasks, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    arrays = as_arrays(as_inputs(model, processor, memes[:3]))
    answers = answer(open_graph(folder / GRAPH), arrays)
    np.savez(folder / EXAMPLE, allow_pickle=False, **arrays, **answers)


def _described(path: Path) -> str:
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return f"  {path.name}: {size / 1e6:.1f} MB"


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to `path` once all is written and removed on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
