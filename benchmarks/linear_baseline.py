"""Macro-F1 of logistic regression on the features that a recipe's model reads: what a model has to beat.

    python benchmarks/linear_baseline.py RECIPE.yaml [--field value ...]

Takes what `training/train.py` takes, and the same rows: it learns from the training rows, one task at a time,
and is scored on the test rows (without any: on the validation rows). A row's features are its picture and
text embeddings side by side, every feature standardised; classes are balanced, and C is 3e-4. Encoders have
to be frozen.
"""

import sys
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmorient.fitting.train import build_run
from mmorient.kinds.cells import known_rows
from mmorient.kinds.macro_f1 import macro_f1
from mmorient.recipes.recipe import parse_recipe
from mmorient.tables.records import label_columns

NAMES = ("image_embeds", "text_embeds")


def embeddings(rows: Any) -> np.ndarray:
    """[e_img ; e_txt] of every row, (rows, width)."""
    features = [rows[index].features for index in range(len(rows))]
    return np.stack([np.concatenate([row[name].numpy() for name in NAMES]) for row in features])


def main(argv: list[str]) -> None:
    run = build_run(parse_recipe(argv))
    model = run.trainer.model
    if not model.config.freeze_encoders:
        raise ValueError("the recipe trains its encoders, so there are no fixed features to compare on.")
    scored = "test" if "test" in run.rows else "validation"
    features = {part: embeddings(run.rows[part]) for part in ("training", scored)}
    scores = []
    for task, spec in model.config.task_specs.items():
        if spec.kind not in ("multiclass", "ordinal"):
            continue  # another baseline: one regression for each label, or of another kind
        labels = {part: np.array(label_columns(run.tables[part])[task]) for part in features}
        known, scorable = known_rows(labels["training"]), known_rows(labels[scored])
        regression = LogisticRegression(C=3e-4, class_weight="balanced", max_iter=2000)
        pipeline = make_pipeline(StandardScaler(), regression)
        pipeline.fit(features["training"][known], labels["training"][known])
        scores.append(macro_f1(pipeline.predict(features[scored])[scorable], labels[scored][scorable]))
        print(f"{task}: {scores[-1]:.3f}")
    print(f"mean of {len(scores)} tasks on the {scored} rows: {np.mean(scores):.3f}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
