"""Time, memory and recall of the search among stored references, beside FAISS.

    python benchmarks/reference_search.py [--sizes 10000 100000 ...] [--queries 1 32 512] [--json FILE]

References are unit vectors in 512 dimensions around random centres, queries are further vectors around the
same centres; the 16 nearest of each are sought, exactly. `faiss` is `IndexFlatIP` of faiss-cpu on the same
vectors with as many threads; without faiss-cpu the column is missing. Backends take turns within one process,
so that other work on the machine affects them equally; the median of the repetitions counts. From 100,000
references on, `ivf` is the float32 bank with an index of 1,024 lists (`build_index`), of which a search looks
into 32. Memory is in MiB, measured in a separate process (this reads Linux's /proc): `bank` is what the bank
holds, `search` what a search with the most queries holds beyond it at its peak. Recall is the share of the
neighbours by float32 that are found with another storage dtype, or with the index.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# torch and faiss have a thread pool each; the waiting pool's threads must not keep a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_embeds import STORAGE_DTYPES

try:
    import faiss
except ImportError:  # pip install faiss-cpu
    faiss = None

WIDTH, NEIGHBORS, CLUSTERS = 512, 16, 1000
# The index, and from which number of references on it is timed.
INDEX, PROBES, INDEXED_FROM = "IVF1024,Flat", 32, 100_000
# Entries of the noise around a centre; those of a centre have the variance 1 / WIDTH.
NOISE = 0.7


def vectors(count: int, seed: int) -> torch.Tensor:
    """Unit vectors around the centres, (count, WIDTH)."""
    centres = torch.randn(CLUSTERS, WIDTH, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, WIDTH, generator=generator).mul_(NOISE)
    values += centres[torch.randint(CLUSTERS, (count,), generator=generator)]
    return values.div_(values.norm(dim=-1, keepdim=True))


def build_bank(references: torch.Tensor, dtype: str) -> ReferenceBank:
    bank = ReferenceBank(WIDTH, 1, dtype=dtype)
    bank.add([str(index) for index in range(len(references))], {"image": references})
    return bank


def build_backends(references: torch.Tensor) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """By name: a function from queries to the indices of their neighbours."""

    def searched(bank: ReferenceBank) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda queries: bank.search("image", queries, k=NEIGHBORS).indices

    banks = {dtype: build_bank(references, dtype) for dtype in STORAGE_DTYPES}
    found = {dtype: searched(bank) for dtype, bank in banks.items()}
    if faiss is not None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(WIDTH)
        index.add(references.numpy())
        if len(references) >= INDEXED_FROM:
            indexed = banks["float32"].with_tasks({})  # shares the embeddings
            start = time.perf_counter()
            indexed.build_index("image", INDEX, nprobe=PROBES)
            print(f"{INDEX} over {len(references)} references: {time.perf_counter() - start:.0f} s to build")
            found["ivf"] = searched(indexed)
        found["faiss"] = lambda queries: torch.from_numpy(index.search(queries.numpy(), NEIGHBORS)[1])
    return found


def recall(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Share of the expected neighbours (B, k) that are among the found ones."""
    return float((expected.unsqueeze(-1) == found.unsqueeze(1)).any(-1).float().mean())


def memory(dtype: str, size: int, queries: int) -> tuple[float, float]:
    """MiB of a bank, and peak MiB of a search beyond it and what a small search needs, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", dtype, str(size), str(queries)]
    # Larger blocks of memory are returned at once, so that none is left over from building the bank.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    bank, search = map(float, result.stdout.split())
    return bank, search


def _print_memory(dtype: str, size: int, queries: int) -> None:
    sought = vectors(queries, 2)
    build_bank(sought, dtype)  # libraries, thread pools
    before = _resident("VmRSS")
    bank = build_bank(vectors(size, 1), dtype)
    held = _resident("VmRSS") - before
    bank.search("image", sought[:1], k=1)
    # Linux keeps a process's peak in its status; writing 5 resets it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    bank.search("image", sought, k=NEIGHBORS)
    print(held, _resident("VmHWM") - before)


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) / 2**10


def measure(size: int, counts: list[int], repetitions: int) -> list[dict[str, float | int | str]]:
    """A row for each number of queries and backend."""
    backends = build_backends(vectors(size, 1))
    rows: list[dict[str, float | int | str]] = []
    for count in counts:
        queries = vectors(count, 2)
        times: dict[str, list[float]] = {name: [] for name in backends}
        indices = {}
        for _ in range(repetitions + 1):
            for name, search in backends.items():
                start = time.perf_counter()
                indices[name] = search(queries)
                times[name].append(time.perf_counter() - start)
        for name, measured in times.items():
            row = {"references": size, "queries": count, "backend": name}
            row |= {"ms": 1e3 * statistics.median(measured[1:])}
            if faiss is not None:
                pairs = zip(measured[1:], times["faiss"][1:], strict=True)
                row["vs_faiss"] = statistics.median(own / other for own, other in pairs)
            rows.append(row | {"recall": recall(indices[name], indices["float32"])})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 512])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        dtype, size, queries = arguments.memory_of
        _print_memory(dtype, int(size), int(queries))
        return
    version = "no faiss-cpu" if faiss is None else f"faiss-cpu {faiss.__version__}"
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {version}, {torch.get_num_threads()} threads, load {load:.1f}")
    print(
        f"{'references':>10} {'queries':>7} {'backend':<9}{'ms':>10}{'vs faiss':>10}{'recall':>8}"
        f"{'bank':>7}{'search':>8}"
    )
    rows = []
    for size in arguments.sizes:
        for row in measure(size, arguments.queries, arguments.repetitions):
            ratio = f"{row['vs_faiss']:.2f}x" if "vs_faiss" in row else ""
            held = ""
            if row["backend"] in STORAGE_DTYPES and row["queries"] == max(arguments.queries):
                bank, search = memory(str(row["backend"]), size, int(row["queries"]))
                row |= {"bank_mib": bank, "search_mib": search}
                held = f"{bank:>7.0f}{search:>8.0f}"
            print(
                f"{size:>10} {row['queries']:>7} {row['backend']:<9}{row['ms']:>10.2f}{ratio:>10}"
                f"{row['recall']:>8.4f}{held}",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
