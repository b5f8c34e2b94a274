"""Training runs that are small enough to be killed, starved and compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from processes import TRAIN, finished

import mmorient.fitting.references
import mmorient.report.page
from mmorient.prediction.saved_models import load_saved_model
from mmorient.report.charts import Chart
from tests.mmorient.fitting.test_train import frozen_recipe

# What a run leaves that depends neither on the clock nor on where it is.
FILES = ("model.safetensors", "references.json", "config.json", "processor_config.json", "splits.csv")


@pytest.fixture(scope="module", autouse=True)
def quick_runs() -> Any:
    """Leaves out what takes most of such a run's time: drawing charts, and most steps of the votes' fit."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("line_chart", "reliability_chart", "degree_chart"):
            patch.setattr(mmorient.report.page, name, lambda *_, **__: Chart("", Markup("<svg/>")))
        patch.setattr(mmorient.fitting.references, "VOTING_STEPS", 3)
        yield


class Runs:
    """Runs of one recipe: feature extraction, checkpoints, evaluations, votes and references.

    Args:
        folder: For encoders, tables and outputs.
    """

    def __init__(self, folder: Path) -> None:
        options = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
        self.folder = folder
        tasks = {"sarcasm": {"labels": ["no", "yes"]}}
        self.recipe = frozen_recipe(folder, rows=36, save_total_limit=2, tasks=tasks, **options)
        whole = finished(TRAIN, self.arguments(folder / "whole"), folder / "whole.log")
        self.steps, self.expected = whole.steps, outcome(folder / "whole" / "out")

    def arguments(self, folder: Path) -> list[str]:
        """Of `training/train.py`, to write the run and its cache of features into this folder."""
        return [*self.recipe, "--output_dir", str(folder / "out"), "--feature_cache", str(folder / "cache")]

    def difference(self, output: Path) -> str:
        """Says what a finished run left otherwise than the one that nobody disturbed; empty for nothing."""
        found = outcome(output)
        return ", ".join(
            name for name in {**found, **self.expected} if found.get(name) != self.expected.get(name)
        )

    def half_model(self, output: Path) -> str:
        """Says why a folder holds a model that loads and is none of the run's; empty where it is well."""
        if not (output / "config.json").exists():
            return ""
        try:
            load_saved_model(str(output))
        except ValueError:
            return ""
        weights = (output / "model.safetensors").read_bytes()
        return "" if weights == self.expected["model.safetensors"] else "a model that is half done loads"


def outcome(output: Path) -> dict[str, Any]:
    """What a finished run left, without times and places."""
    results = json.loads((output / "results.json").read_text())
    report = json.loads((output / "report" / "report.json").read_text())
    files = {name: (output / name).read_bytes() for name in FILES if (output / name).exists()}
    tensors = {path.name: path.read_bytes() for path in output.glob("references*.safetensors")}
    kept = {name: value for name, value in results.items() if name != "arguments"}
    return {**files, **tensors, "results": kept, "curves": report["curves"], "graphs": report["graphs"]}
