"""A small saved model and tables to predict with it."""

import csv
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from mmorient.commands.predict import parse
from mmorient.fitting.assemble import assemble
from mmorient.prediction.predict import predict
from mmorient.recipes.arguments import ModelArguments
from modeling_mmorient import MMOrientForMultitaskClassification

TASKS: dict[str, Any] = {
    "mood": ["bad", "so-so", "good"],
    "about": {"labels": ["politics", "animals"], "kind": "multilabel", "thresholds": [0.49, 0.51]},
    "funny": {"labels": ["no", "yes"], "temperature": 2.0},
}
PREDICTED = ["predicted.mood", "predicted.about", "predicted.funny"]
PROBABILITIES = [
    f"probability.{task}.{label}"
    for task, labels in (
        ("mood", ["bad", "so-so", "good"]),
        ("about", ["politics", "animals"]),
        ("funny", ["no", "yes"]),
    )
    for label in labels
]
WORDS = ["when", "the", "build", "is", "green", "cat", "votes", "again", "Monday", "hooray"]


def save_model(folder: Path, tasks: dict[str, Any] = TASKS, seed: int = 0) -> Path:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    options = {
        "text_config": {"model_type": "bert", "vocab_size": 100, **sizes},
        "vision_config": {"model_type": "vit", "image_size": 32, "patch_size": 16, **sizes},
        "hima_hidden_size": 8,
        "graph_hidden_size": 8,
        "learner_hidden_sizes": [16],
    }
    torch.manual_seed(seed)
    model, processor = assemble(ModelArguments(model_options=options), tasks, [" ".join(WORDS)])
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(20)  # or all rows get the same answers
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def broken_model(folder: Path) -> Path:
    """A saved model whose logits are not numbers."""
    model = MMOrientForMultitaskClassification.from_pretrained(save_model(folder))
    with torch.no_grad():
        next(model.heads.parameters()).fill_(torch.nan)
    model.save_pretrained(folder)
    return folder


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(count)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file of these rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def text_table(folder: Path, count: int) -> list[str]:
    """A table of texts alone; the arguments to read it."""
    write_rows(folder / "t.csv", [{"id": index, "text": text} for index, text in enumerate(texts(count))])
    return [str(folder / "t.csv"), "--image_column", "none", "--batch_size", "8"]


def run(model: Path, table: Path | str, output: Path, *options: str) -> str:
    return predict(parse([str(model), str(table), str(output), *options]))


def read_output(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, strict=True))
    return pq.read_table(path).to_pylist()
