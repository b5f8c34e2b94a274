"""An exported graph beside the bare encoders in torch: one meme's latency, and throughput in batches.

    python benchmarks/onnx_latency.py [--references 5000] [--batches 1 8 32] [--threads 1] [--json FILE]

CLIP ViT-B/32 and BERT-base with random weights, the default learner, HIMA and relation graphs with
references. The whole model as an ONNX graph is compared with the two encoders alone in torch. Times are
medians of rounds in which every backend answers the same memes once, in turn; x is the median of the
rounds' ratios to the bare encoders, once in wall-clock time and once in processor time (which other processes
on the machine change less). torch's own bfloat16 autocast is measured too. Needs the extra `onnx`, 6 GB of
memory and some minutes.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import torch
from transformers import BertConfig, CLIPConfig

from mmorient.export.answering_graph import AnsweringGraph
from mmorient.export.checks import answer, largest_difference, torch_answer
from mmorient.export.drawn_rows import as_arrays
from mmorient.export.export import write_graph
from mmorient.export.integers import with_integers
from mmorient.export.tracing import trace
from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification

TASKS = {"sentiment": ["negative", "neutral", "positive"], "sarcasm": ["no", "yes"]}
TOKENS, END_OF_TEXT = 24, 49407


def build_model(references: int, layers: int) -> MMOrientForMultitaskClassification:
    """The model at its usual widths, with random weights and references."""
    torch.manual_seed(0)
    depth = {"num_hidden_layers": layers}
    joint = CLIPConfig(text_config=depth, vision_config=depth)
    config = MMOrientConfig(tasks=TASKS, joint_config=joint, text_config=BertConfig(**depth))
    model = MMOrientForMultitaskClassification(config).eval()
    if references:
        model.add_references(
            {
                "image_embeds": torch.randn(references, config.image_embed_dim),
                "text_embeds": torch.randn(references, config.text_embed_dim),
                "region_features": torch.randn(references, 2, config.region_dim),
                "token_features": torch.randn(references, 2, config.token_dim),
            },
            [f"m{number}" for number in range(references)],
        )
    return model


def draw_inputs(rows: int, tokens: int = TOKENS) -> dict[str, torch.Tensor]:
    """Memes as random tensors."""
    ids = torch.randint(3, 20_000, (rows, tokens))
    mask = torch.ones(rows, tokens, dtype=torch.long)
    everyone = torch.ones(rows, dtype=torch.bool)
    return {
        "pixel_values": torch.randn(rows, 3, 224, 224),
        "image_present": everyone,
        "text_present": everyone,
        "input_ids": ids,
        "attention_mask": mask,
        "joint_input_ids": torch.cat([ids[:, 1:], torch.full((rows, 1), END_OF_TEXT)], -1),
        "joint_attention_mask": mask,
    }


def bare_encoders(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """What the model's encoders compute, and nothing else."""
    encoders = model.mmorient.feature_encoders
    encoders.joint.get_image_features(inputs["pixel_values"])
    encoders.joint.get_text_features(inputs["joint_input_ids"], attention_mask=inputs["joint_attention_mask"])
    encoders.text(inputs["input_ids"], attention_mask=inputs["attention_mask"])


def open_graph(graph: Any, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        write_graph(graph, Path(folder) / name)
        return onnxruntime.InferenceSession(str(Path(folder) / name), options)


def build_backends(model: Any) -> dict[str, Callable[[dict[str, torch.Tensor]], Any]]:
    """By name, a function that answers inputs; the others are compared with the first."""
    example = draw_inputs(4)
    graph = trace(AnsweringGraph(model), SimpleNamespace(joint_padding="longest"), example)
    integers = open_graph(with_integers(graph), "int8.onnx")
    floats = open_graph(graph, "float32.onnx")
    difference = largest_difference(answer(floats, as_arrays(example)), torch_answer(model, example))
    print(f"float32 graph within {difference:.1g} of torch")

    def autocast(inputs: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            bare_encoders(model, inputs)

    return {
        "encoders, torch": lambda inputs: bare_encoders(model, inputs),
        "encoders, torch bfloat16": autocast,
        "model, torch": lambda inputs: model(**inputs),
        "model, onnx float32": lambda inputs: floats.run(None, as_arrays(inputs)),
        "model, onnx int8": lambda inputs: integers.run(None, as_arrays(inputs)),
    }


@torch.inference_mode()
def measure(backends: dict[str, Callable[..., Any]], rows: int, repetitions: int) -> list[dict[str, Any]]:
    """A line for each backend, of batches of `rows`."""
    inputs = draw_inputs(rows)
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    busy: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(repetitions + 1):
        for name, run in backends.items():
            start, used = time.perf_counter(), time.process_time()
            run(inputs)
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - used)
    lines = []
    for name in backends:
        median = statistics.median(seconds[name][1:])
        line = {"rows": rows, "backend": name, "ms": 1e3 * median, "memes_a_second": rows / median}
        ratios = {"vs_encoders": _ratio(seconds, name), "cpu_vs_encoders": _ratio(busy, name)}
        lines.append({**line, **ratios})
    return lines


def _ratio(times: dict[str, list[float]], name: str) -> float:
    """The median of a backend's times in units of the first backend's, round by round, without the first."""
    bare = next(iter(times.values()))
    return statistics.median(own / other for own, other in zip(times[name][1:], bare[1:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--references", type=int, default=5000)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--layers", type=int, default=12, help="of each encoder")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backends = build_backends(build_model(arguments.references, arguments.layers))
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"{versions}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{'memes':>5} {'backend':<26}{'ms':>9}{'memes/s':>9}{'vs encoders':>13}{'processor':>11}")
    lines = []
    for rows in arguments.batches:
        for line in measure(backends, rows, arguments.repetitions):
            print(
                f"{rows:>5} {line['backend']:<26}{line['ms']:>9.1f}{line['memes_a_second']:>9.1f}"
                f"{line['vs_encoders']:>12.2f}x{line['cpu_vs_encoders']:>10.2f}x",
                flush=True,
            )
            lines.append(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
