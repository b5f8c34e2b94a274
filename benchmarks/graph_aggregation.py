"""Time and peak memory of the neighbourhood mean, by backend and number of samples.

    make bench
    python benchmarks/graph_aggregation.py [--sizes 128 512 ...] [--json FILE]

(The former also keeps glibc from returning memory after every step, which costs more than the step.)

One measurement builds the graph (16 nearest of random 512-wide embeddings), takes the mean of each
neighbourhood (forward), and sends a gradient back to the nodes (backward). Backends take turns within
one process, so that other work on the machine affects them equally; the median of the repetitions
counts. Peak memory is measured in a separate process for each case, beyond what it held before
(on CPU this reads Linux's /proc).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from modeling_mmorient.neighbors import build_graph, torch_scatter
from modeling_mmorient.relation_graph import GraphSAGELayer

WIDTH, NEIGHBORS = 512, 16
BACKENDS = ("dense", "csr", "torch_scatter")


def backends() -> list[str]:
    """The backends that can run here."""
    return [name for name in BACKENDS if name != "torch_scatter" or torch_scatter is not None]


def measure(backend: str, size: int, device: torch.device) -> dict[str, float]:
    """Seconds of one build, forward and backward."""
    generator = torch.Generator().manual_seed(size)
    nodes = torch.randn(size, WIDTH, generator=generator).to(device).requires_grad_()
    embeds = torch.randn(size, WIDTH, generator=generator).to(device)
    present = torch.ones(size, dtype=torch.bool, device=device)
    moments = [_now(device)]
    graph = build_graph(embeds, present, None, NEIGHBORS, backend)
    moments.append(_now(device))
    mean = GraphSAGELayer.aggregate(nodes, graph.neighborhood(nodes, present))
    moments.append(_now(device))
    mean.backward(torch.ones_like(mean))
    moments.append(_now(device))
    build, forward, backward = (end - start for start, end in pairwise(moments))
    return {"build": build, "forward": forward, "backward": backward}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(backend: str, size: int, device: torch.device) -> float:
    """Peak MiB of one measurement beyond what a small one needs, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", backend, str(size), "--device", str(device)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(backend: str, size: int, device: torch.device) -> None:
    measure(backend, 32, device)  # libraries, thread pools
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        measure(backend, size, device)
        print((torch.cuda.max_memory_allocated(device) - before) / 2**20)
        return
    # Linux keeps a process's peak in its status; writing 5 resets it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident_peak()
    measure(backend, size, device)
    print(_resident_peak() - before)


def _resident_peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1024, 2048, 8192])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.memory_of:
        _print_peak(arguments.memory_of[0], int(arguments.memory_of[1]), device)
        return
    rows = []
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; milliseconds, MiB")
    parts = ("build", "forward", "backward", "fwd+bwd")
    header = "".join(f"{part:>9}" for part in parts)
    print(f"{'B':>6} {'backend':<14}{header}{'vs dense':>10}{'peak':>8}")
    for size in arguments.sizes:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in backends()}
        for _ in range(arguments.repetitions + 1):
            for name in runs:
                runs[name].append(measure(name, size, device))
        dense = None
        for name, measured in runs.items():
            row = {part: 1e3 * statistics.median(run[part] for run in measured[1:]) for part in measured[0]}
            total = row["forward"] + row["backward"]
            dense = dense or total
            row |= {"fwd+bwd": total, "peak_mib": peak_memory(name, size, device)}
            rows.append({"size": size, "backend": name, **row})
            times = "".join(f"{row[part]:9.2f}" for part in parts)
            print(f"{size:>6} {name:<14}{times}{total / dense:9.2f}x{row['peak_mib']:8.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
