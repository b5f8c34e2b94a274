"""A run with a regression task beside classes: what it leaves, predicts and explains."""

import csv
import json
import math
from pathlib import Path

import pytest
from transformers import AutoModel, AutoProcessor

from mmorient.commands.explain import main as explain_main
from mmorient.commands.train import main
from mmorient.functions import predict, score
from modeling_mmorient.explanation import explain
from tests.mmorient.fitting.test_train import frozen_recipe

WARMTH = {"gloomy": 1.0, "plain": 3.0, "cheerful": 5.0}


@pytest.mark.slow
def test_a_number_is_learned_chosen_by_predicted_and_explained(tmp_path: Path) -> None:
    tasks = {
        "warmth": {"kind": "regression", "range": [0, 6]},
        "mood": {"kind": "multilabel", "columns": ["good", "bad"]},
    }
    (recipe,) = frozen_recipe(
        tmp_path,
        rows=240,
        tasks=tasks,
        max_steps=-1,
        num_train_epochs=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        model_options={
            "learner_hidden_sizes": [8],
            "hima_hidden_size": 4,
            "graph_hidden_size": 4,
            "use_votes": True,
            "uncertainty_weighting": True,
        },
    )
    for path in (tmp_path / "memes").glob("*.csv"):
        rows = list(csv.DictReader(path.open()))
        for number, row in enumerate(rows):
            # A seventh of the rows has no value.
            row["warmth"] = "" if number % 7 == 0 else str(WARMTH[row["setting"]] + number % 3 / 10)
            row |= {"good": str(int(row["sentiment"] == "positive")), "bad": row["sentiment"] == "negative"}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    main([recipe])
    output = tmp_path / "out"
    results = json.loads((output / "results.json").read_text())
    assert results["arguments"]["metric_for_best_model"] == "mean_score"
    scored = results["validation"]
    assert scored["tasks"]["warmth"]["mae"] < scored["mean_predictor"]["warmth"]
    model = AutoModel.from_pretrained(output)
    spec = model.config.task_specs["warmth"]
    assert spec.interval == results["fitted"]["warmth"]["interval"] and 2 < spec.mean < 4
    values = model.references.labels["warmth"]
    assert values.isnan().float().mean().item() == pytest.approx(1 / 7, abs=0.01)

    table = tmp_path / "memes" / "validation.csv"
    predicted = predict(output, table, tmp_path / "out.csv", image_dir=str(tmp_path / "memes"))
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert predicted is not None and all(0 <= float(row["predicted.warmth"]) <= 6 for row in rows)
    known = [row for row in rows if row["warmth"]]
    inside = [
        float(row["interval.warmth.low"]) <= float(row["warmth"]) <= float(row["interval.warmth.high"])
        for row in known
    ]
    # The rows that it was fitted on.
    assert sum(inside) >= 0.9 * len(inside)
    again = score(recipe, tmp_path / "out.csv")
    assert again["tasks"]["warmth"]["mae"] == pytest.approx(scored["tasks"]["warmth"]["mae"], abs=1e-4)
    # The row that the interval ends at may fall on either side in the digits that are written.
    coverage = again["tasks"]["warmth"]["interval_coverage"]
    assert coverage == pytest.approx(sum(inside) / len(inside), abs=1.5 / len(inside))

    image = str(tmp_path / "memes" / rows[0]["image"])
    (found,) = explain(model, AutoProcessor.from_pretrained(output), [image], [rows[0]["text"]])
    warmth = found.tasks["warmth"]
    assert warmth.value == pytest.approx(float(rows[0]["predicted.warmth"]), abs=1e-4)
    assert warmth.interval is not None and not warmth.probabilities
    assert all(math.isfinite(by["value"]) for by in warmth.contributions.values())
    explain_main([str(output), str(tmp_path / "pages"), recipe, "--rows", "0"])
    page = (tmp_path / "pages" / "validation-0.html").read_text()
    assert "Parts of the model, in the unit of the value" in page and "less probable" not in page
