"""The benchmarks run, on next to nothing; what they print is for people."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmorient.commands.train import main
from tests.mmorient.fitting.test_train import frozen_recipe

ROOT = Path(__file__).parents[1]


def run(script: str, *options: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, f"benchmarks/{script}.py", *options]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_graph_aggregation(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    table = run("graph_aggregation", "--sizes", "32", "--repetitions", "1", "--json", str(figures))
    rows = json.loads(figures.read_text())
    assert {"dense", "csr"} <= {row["backend"] for row in rows} and "dense" in table
    assert all(row["fwd+bwd"] > 0 for row in rows)


@pytest.mark.slow
def test_feature_cache(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ("--rows", "36", "--batch_size", "12", "--repetitions", "1", "--json", str(figures))
    run("feature_cache", *options)
    found = json.loads(figures.read_text())
    assert found["rows"] == 36 and all(value > 0 for value in found["epoch_seconds"].values())


@pytest.mark.slow
def test_reference_search(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    sizes = ("--sizes", "64", "--queries", "1", "3")
    run("reference_search", *sizes, "--repetitions", "1", "--json", str(figures))
    assert json.loads(figures.read_text())


@pytest.mark.slow
def test_near_duplicates(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    sizes = ("--rows", "60", "--compared", "60", "--pictures", "12", "--side", "20")
    table = run("near_duplicates", *sizes, "--json", str(figures))
    found = json.loads(figures.read_text())
    assert len(found["search"]) == 5 and all(line["plain_seconds"] > 0 for line in found["search"])
    assert found["start"][0]["with"] > 0 and "one picture" in table


@pytest.mark.slow
def test_serving(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    figures = tmp_path / "figures.json"
    options = ("--size", "tiny", "--clients", "1", "3", "--requests", "6", "--device", "cpu")
    table = run("serving", *options, "--json", str(figures))
    lines = json.loads(figures.read_text())
    assert [line["clients"] for line in lines] == [1, 3] and "one by one" in table
    assert all(line["batched"]["requests_per_second"] > 0 for line in lines)


@pytest.mark.slow
def test_linear_baseline(tmp_path: Path) -> None:
    lines = run("linear_baseline", *frozen_recipe(tmp_path)).splitlines()
    scores = {line.split(": ")[0]: float(line.split(": ")[1]) for line in lines}
    assert {"sentiment", "setting", "sarcasm"} < set(scores)
    mean = scores.pop("mean of 3 tasks on the validation rows")
    assert mean == pytest.approx(sum(scores.values()) / 3, abs=1e-3)


@pytest.mark.slow
def test_teaching(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, max_steps=2)
    main(recipe)
    figures = tmp_path / "figures.json"
    table = run("teaching", str(tmp_path / "out"), *recipe, "--json", str(figures))
    found = json.loads(figures.read_text())
    assert set(found) == {"sentiment", "setting", "sarcasm"} <= set(table.split())
    for shares in found.values():
        assert shares["taught"] + shares["others"] == 18  # a quarter of the drawn memes
        for number, share in (("taught", "right"), ("others", "others_right")):
            values = [shares[f"{share}_{moment}"] for moment in ("before", "after")]
            assert all(0 <= value <= 1 for value in values) if shares[number] else values == [None, None]
    assert any(shares["taught"] for shares in found.values())


@pytest.mark.slow
def test_graph_variants(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    (recipe,) = frozen_recipe(tmp_path)
    options = ("--seeds", "1", "2", "--json", str(figures), "--", "--max_steps", "2")
    table = run("graph_variants", recipe, str(tmp_path / "runs"), *options)
    found = json.loads(figures.read_text())
    assert list(found["runs"]) == ["none", "batch", "references", "references, votes"]
    means = {(row["variant"], row["task"]): row["mean"] for row in found["summary"]}
    for variant, runs in found["runs"].items():
        scores = [one["sarcasm"] for one in runs]
        assert means[variant, "sarcasm"] == pytest.approx(sum(scores) / 2) and variant in table
    gains = {row["gain"] for row in found["summary"] if row["variant"] == "none"}
    assert gains == {0.0}


@pytest.mark.slow
def test_onnx_latency(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    figures = tmp_path / "figures.json"
    sizes = ("--references", "40", "--batches", "1", "2", "--layers", "1")
    table = run("onnx_latency", *sizes, "--repetitions", "1", "--json", str(figures))
    lines = json.loads(figures.read_text())
    assert len(lines) == 10 and all(line["ms"] > 0 for line in lines)
    assert "float32 graph within" in table
