"""Training under `accelerate launch`, which finds the command as a module."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmorient.samples.memes import draw_memes

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_accelerate_launches_the_command(tmp_path: Path) -> None:
    draw_memes(tmp_path / "memes", 40, 0, 0.0)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "1",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", "-m", "mmorient.commands.train"]
    options = ["--data_dir", "memes", "--output_dir", "run", "--num_train_epochs", "1"]
    command = [*launch, "quickstart", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())) > {"validation", "fitted"}
