"""The card says what was measured, whatever names the data bring."""

import json
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mmorient.publishing.card import CardContent, render_card
from tests.mmorient.publishing.card_example import CARD, example_card

SCORES = {
    "rows": 9,
    "macro_f1": 0.5,
    "macro_f1_interval": [0.25, 0.75],
    "weighted_f1": 0.5,
    "accuracy": 0.6,
    "expected_calibration_error": None,
}
REGRESSION = {
    "rows": 9,
    "mae": 1.5,
    "mae_interval": [1.0, 2.0],
    "pearson": 0.3,
    "pearson_interval": [0.1, 0.5],
    "spearman": 0.4,
    "spearman_interval": [0.2, 0.6],
    "interval_coverage": 0.9,
}


def content(**options: Any) -> CardContent:
    base = CardContent(
        "me/memes", "other", ["en"], [], {"mood": {"labels": ["sad", "glad"]}}, {}, 0, "none", []
    )
    return replace(base, **options)


def test_the_card_in_the_repository_is_the_template_s_example() -> None:
    assert CARD.read_text(encoding="utf-8") == example_card(), (
        "python -m tests.mmorient.publishing.card_example"
    )


def test_names_from_data_break_neither_table_nor_page() -> None:
    name = "a|b<script>alert(1)</script>`x`\n# y"
    card = ModelCard(render_card(content(tasks={"mood": {"labels": [name, "_glad_", "[a](b)"]}})))
    assert r"\<script\>" in card.text and "<script>" not in card.text
    row = next(line for line in card.text.splitlines() if line.startswith("| mood |"))
    assert row.replace(r"\|", "").count("|") == 4 and r"\_glad\_" in row and r"\[a\](b)" in row


def test_a_number_is_scored_by_its_own_scores() -> None:
    tasks = {"mood": {"labels": ["sad", "glad"]}, "stars": {"kind": "regression", "range": [0, 5]}}
    scored = {
        "tasks": {"mood": SCORES, "stars": REGRESSION},
        "majority": {"mood": 0.33},
        "mean_predictor": {"stars": 1.8},
        **{"macro_f1": 0.5, "macro_f1_interval": [0.25, 0.75]},
        **{"mean_score": 0.45, "mean_score_interval": [0.3, 0.6]},
    }
    published = {"references": "all", "without_image": scored, "without_text": scored}
    card = ModelCard(render_card(content(tasks=tasks, results={"test": scored, "published": published})))
    assert "| stars | a number | 0 to 5 |" in card.text and "1.800" in card.text
    assert "| stars | mean absolute error | 1.500 | 1.500 | 1.500 |" in card.text
    found = {(result.task_name, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found == {
        ("mood", "f1"): 0.5,
        ("mood", "accuracy"): 0.6,
        ("stars", "mae"): 1.5,
        ("stars", "spearmanr"): 0.4,
    }


@pytest.mark.parametrize(
    ("encoders", "base"),
    [
        ({"text": "google-bert/bert-base-uncased", "vision": "vit"}, ["google-bert/bert-base-uncased"]),
        ({"joint": "../weights/clip", "text": None}, None),
    ],
)
def test_base_models_are_those_of_the_hub(encoders: dict[str, Any], base: list[str] | None) -> None:
    run = {
        **{"joint": None, "vision": None, "text": None, **encoders},
        **{"num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 0.001, "seed": 1},
        "class_weighting": "none",
    }
    card = ModelCard(render_card(content(results={"arguments": run})))
    assert card.data.get("base_model") == base
    assert json.loads(json.dumps(card.data.to_dict()))["license"] == "other"
