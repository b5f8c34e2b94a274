"""The quick start, small: draw memes, train by `accelerate launch`, load back, label one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from training.sample_memes import draw_memes
from training.train import main

ROOT = Path(__file__).parents[2]
RECIPE = "training/recipes/quickstart.yaml"


def run(*command: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_quickstart_trains_scores_saves_and_labels(tmp_path: Path) -> None:
    draw_memes(tmp_path / "memes", rows=288, seed=3, missing=0.05)
    output = tmp_path / "model"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "training/train.py"]
    options = ["--data_dir", str(tmp_path / "memes"), "--output_dir", str(output), "--num_train_epochs", "6"]
    table = run(*launch, RECIPE, *options)
    results = json.loads((output / "results.json").read_text())
    assert "majority class" in table
    # Far above what always giving one answer gets, where text or picture alone decides.
    for task in ("sentiment", "setting"):
        assert results["metrics"][f"eval_macro_f1_{task}"] > results["majority"][task] + 0.3
    assert not list(output.glob("**/*.bin")) and (output / "model.safetensors").is_file()
    picture = next((tmp_path / "memes" / "images").iterdir())
    answer = run(
        sys.executable, "training/label_picture.py", str(output), "--image", str(picture), "--text", "lovely"
    )
    assert [line.split(":")[0] for line in answer.splitlines()] == ["sentiment", "setting", "sarcasm"]


def test_a_hub_id_that_cannot_be_reached_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_memes(tmp_path / "memes", rows=36)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="--text FOLDER"):
        main(
            [
                str(ROOT / RECIPE),
                *("--data_dir", str(tmp_path / "memes"), "--output_dir", str(tmp_path / "out")),
                *("--text", "nobody/no-such-encoder", "--model_options", "{}"),
            ]
        )


def test_a_recipe_without_encoders_is_refused(tmp_path: Path) -> None:
    draw_memes(tmp_path / "memes", rows=36)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data_dir: {tmp_path / 'memes'}\nimage_dir: .\noutput_dir: {tmp_path}\n"
        "tasks: {sentiment: {labels: [negative, neutral, positive]}}\n"
    )
    with pytest.raises(ValueError, match="names no encoder"):
        main([str(recipe)])


@pytest.mark.slow
def test_tasks_of_every_kind_train_together_on_rows_held_out_of_a_json_lines_table(tmp_path: Path) -> None:
    draw_memes(tmp_path, rows=60, seed=1)
    with (tmp_path / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        row["about"] = None if index % 9 == 0 else [row["sentiment"], row["setting"]]
    (tmp_path / "memes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = yaml.safe_load((ROOT / RECIPE).read_text()) | {
        "data_dir": str(tmp_path),
        "train_file": "memes.jsonl",
        "validation_file": None,
        "validation_share": 0.25,
        "num_train_epochs": 1,
        "output_dir": str(tmp_path / "out"),
        "tasks": {
            "sentiment": {"labels": ["negative", "neutral", "positive"], "kind": "ordinal"},
            "sarcasm": {"labels": ["no", "yes"]},
            "about": {
                "labels": ["negative", "neutral", "positive", "gloomy", "plain", "cheerful"],
                "kind": "multilabel",
            },
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    main([str(tmp_path / "recipe.yaml")])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["majority"]) == {"sentiment", "sarcasm", "about"}
    for task in results["majority"]:
        assert 0 <= results["metrics"][f"eval_macro_f1_{task}"] <= 1


def test_a_problem_stops_the_run_before_anything_is_loaded(tmp_path: Path) -> None:
    draw_memes(tmp_path, rows=36)
    (tmp_path / "images" / "00001.png").write_bytes(b"broken")
    options = ("--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"00001\.png.*unreadable_pictures"):
        main([str(ROOT / RECIPE), *options])
