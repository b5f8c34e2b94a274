"""What the relation graphs and the references are worth: the same recipe without and with them.

    python benchmarks/graph_variants.py RECIPE.yaml OUTPUT_DIR [--seeds 1 2 3 4 5] [--jobs 2] [--json FILE]
        [-- --field value ...]

Trains and scores, with equal rows, encoders and budget, for each seed: no graph at all (`none`), the paper's
graph among the rows of a batch with cosines above 0.9 (`batch`, which in evaluation uses the references, as
every model does), the graph among the references without their labels (`references`), and with votes
(`references, votes`). In the table: macro-F1 on the test rows, mean over the seeds with the 95% interval of
Student's t, and the mean of the differences from `none` at the same seed, with its interval. A seed decides
the initial weights and, where the recipe holds rows out itself, which ones. The jobs share the threads
equally.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "none": {"use_in_modal": False, "use_cross_modal": False},
    "batch": {
        "graph_scope": "batch",
        "use_votes": False,
        "image_threshold": 0.9,
        "text_threshold": 0.9,
        "image_neighbors": None,
        "text_neighbors": None,
    },
    "references": {"graph_scope": "references", "use_votes": False},
    "references, votes": {"graph_scope": "references", "use_votes": True},
}


def train(recipe: str, variant: str, seed: int, folder: Path, fields: Sequence[str]) -> dict[str, float]:
    """Macro-F1 on the test rows by task, and their mean, of one run."""
    folder = folder / f"{variant.replace(', ', '_')}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "training/train.py", str(Path(recipe).resolve()), *fields]
    command += ["--seed", str(seed), "--output_dir", str(folder.resolve()), "--restart", "true"]
    command += ["--save_strategy", "no", "--model_options", json.dumps(VARIANTS[variant])]
    log = folder.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        failed = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT).returncode
    if failed:
        raise ValueError(f"the run {variant!r} with seed {seed} failed: {log} says why.")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    scored = results.get("test", results["validation"])
    scores = {task: found["macro_f1"] for task, found in scored["tasks"].items()}
    scores["mean"] = scored["macro_f1"]
    print(f"{variant} {seed}: {scores['mean']:.3f}", file=sys.stderr, flush=True)
    return scores


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95% interval (Student's t)."""
    error = statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(student_t.ppf(0.975, len(values) - 1)) * error


def summary(scores: dict[str, list[dict[str, float]]]) -> list[dict[str, float | str]]:
    """A row for each variant and task."""
    rows: list[dict[str, float | str]] = []
    for variant, runs in scores.items():
        for task in runs[0]:
            values = [run[task] for run in runs]
            differences = [run[task] - base[task] for run, base in zip(runs, scores["none"], strict=True)]
            mean, width = interval(values)
            gain, gain_width = interval(differences)
            row: dict[str, float | str] = {
                "variant": variant,
                "task": task,
                "mean": mean,
                "half_width": width,
            }
            rows.append(row | {"gain": gain, "gain_half_width": gain_width})
    return rows


def main(argv: list[str]) -> None:
    fields = []
    if "--" in argv:
        index = argv.index("--")
        argv, fields = argv[:index], argv[index + 1 :]
    if any(field.replace("-", "_").startswith("__model_o") for field in fields):
        raise ValueError("`--model_options` is what the variants set: write the others into the recipe.")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args(argv)
    if len(set(arguments.seeds)) < 2:
        parser.error(f"--seeds is {arguments.seeds}: an interval needs two seeds at least.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // arguments.jobs)))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = {
            variant: [
                pool.submit(train, arguments.recipe, variant, seed, arguments.output_dir, fields)
                for seed in arguments.seeds
            ]
            for variant in VARIANTS
        }
        scores = {variant: [run.result() for run in submitted] for variant, submitted in runs.items()}
    rows = summary(scores)
    print(f"{'variant':<19}{'task':<16}{'macro-F1':>16}{'against none':>18}")
    for row in rows:
        score = f"{row['mean']:.3f} ± {row['half_width']:.3f}"
        gain = f"{row['gain']:+.3f} ± {row['gain_half_width']:.3f}"
        print(f"{row['variant']:<19}{row['task']:<16}{score:>16}{gain:>18}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"runs": scores, "summary": rows}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
