"""What a model learns from references alone: near-copies of memes that it gets wrong, before and after.

    python benchmarks/teaching.py MODEL RECIPE.yaml [--field value ...] [--json FILE]

For each task: the test rows (without any, the validation rows) whose answer is wrong become references with
their labels, without training. The model is then asked about near-copies of them: the picture smaller,
brighter and compressed again, the text in lower case and without its last word. Near-copies of the rows that
were right, which are not references, are asked about too and should stay right. Afterwards the references are
removed again.
"""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageEnhance

from mmorient.features.batches import raw_inputs
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.recipe import parse_recipe
from mmorient.tables.records import Record
from mmorient.tables.splits import checked_splits
from modeling_mmorient.features import EncodedFeatures
from modeling_mmorient.image_input import load_image
from modeling_mmorient.task_kind import IGNORE_INDEX

BATCH_ROWS = 64


def near_copy(row: Record) -> Record:
    """The same meme as somebody else would post it."""
    picture, text = row.image, row.text
    if picture is not None:
        small = load_image(picture)
        small = small.resize([max(1, round(0.8 * side)) for side in small.size], Image.Resampling.BILINEAR)
        file = io.BytesIO()
        ImageEnhance.Brightness(small).enhance(1.15).save(file, "JPEG", quality=50)
        picture = file.getvalue()
    if text is not None:
        words = text.lower().split()
        text = " ".join(words[:-1] if len(words) > 1 else words)
    return replace(row, picture=picture, text=text)


@torch.no_grad()
def answers(model: Any, features: list[EncodedFeatures], task: str) -> torch.Tensor:
    """Decisions (N,) of one task."""
    logits = torch.cat([model(**part.as_inputs()).logits[task] for part in features])
    return model.decisions(model.probabilities({task: logits}))[task]


@torch.no_grad()
def encoded(model: Any, processor: Any, rows: Sequence[Record]) -> list[EncodedFeatures]:
    parts = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
    return [model.encode(**raw_inputs(processor, part)) for part in parts]


def share(right: torch.Tensor) -> float | None:
    return right.float().mean().item() if len(right) else None


def teach(model: Any, processor: Any, rows: Sequence[Record], task: str) -> dict[str, float | None]:
    """Shares of near-copies answered as their originals are labelled, before and after; None without rows."""
    rows = [row for row in rows if row.labels[task] != IGNORE_INDEX]
    truth = torch.tensor([row.labels[task] for row in rows])
    copies = encoded(model, processor, [near_copy(row) for row in rows])
    before = answers(model, copies, task) == truth
    wrong = (answers(model, encoded(model, processor, rows), task) != truth).nonzero().squeeze(-1)
    ids = [f"taught {row}" for row in wrong.tolist()]
    number = 0
    for part in encoded(model, processor, [rows[row] for row in wrong.tolist()]):
        size = len(part.image_present)
        labels = {task: truth[wrong[number : number + size]]}
        model.add_references(part, ids[number : number + size], labels)
        number += size
    after = answers(model, copies, task) == truth
    model.remove_references(ids)
    taught = torch.zeros(len(rows), dtype=torch.bool)
    taught[wrong] = True
    return {
        "taught": int(taught.sum()),
        "right_before": share(before[taught]),
        "right_after": share(after[taught]),
        "others": int((~taught).sum()),
        "others_right_before": share(before[~taught]),
        "others_right_after": share(after[~taught]),
    }


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        sys.exit(__doc__)
    target = None
    if "--json" in argv:
        index = argv.index("--json")
        target = Path(argv[index + 1])
        argv = argv[:index] + argv[index + 2 :]
    model, processor = load_saved_model(argv[0])
    recipe = parse_recipe(argv[1:])
    parts = checked_splits(recipe.data, recipe.training.seed, cache=recipe.model.feature_cache).records
    rows = parts.get("test", parts["validation"]).rows
    specs = model.config.task_specs
    found = {
        name: teach(model, processor, rows, name) for name, spec in specs.items() if spec.kind != "multilabel"
    }
    columns = ("taught", "right before", "after", "others", "right before", "after")
    print(f"{'task':<16}" + "".join(f"{column:>14}" for column in columns))
    for name, shares in found.items():
        numbers = (
            f"{value:.3f}" if isinstance(value, float) else str(value or "-") for value in shares.values()
        )
        print(f"{name:<16}" + "".join(f"{number:>14}" for number in numbers))
    if target is not None:
        target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
