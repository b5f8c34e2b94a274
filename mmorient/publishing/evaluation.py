"""Scores of a model as it is published, on the rows that its run scored last."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmorient.features.batches import label_batch, raw_inputs
from mmorient.kinds.base import Scored
from mmorient.kinds.cells import known_rows
from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.files import RUN_RECIPE
from mmorient.recipes.recipe import Recipe, parse_recipe
from mmorient.scoring.scores import scores
from mmorient.scoring.task_predictions import TaskPredictions
from mmorient.tables.records import Record, digest
from mmorient.tables.splits import checked_splits
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.features import MODALITIES
from modeling_mmorient.reference_bank import ReferenceBank

BATCH_SIZE = 64
# What a row is asked without.
WITHOUT = {"image": "without_image", "text": "without_text"}


class RowsMissing(ValueError):
    """The rows that a run scored cannot be read any more, or are others now."""


@dataclass(frozen=True)
class ScoredRows:
    """The rows that a run scored last.

    Args:
        name: Of their split: `test`, or `validation` where there are no test rows.
        records: The rows.
        seed: Of the run, for the bootstrap.
    """

    name: str
    records: Sequence[Record]
    seed: int


def read_scored_rows(run: Path) -> ScoredRows:
    """The rows that a run scored last, read again as its recipe says.

    Args:
        run: The run's folder.

    Raises:
        RowsMissing: If the run left no recipe, or its tables cannot be read or have changed.
    """
    path = run / RUN_RECIPE
    if not path.is_file():
        raise RowsMissing(f"there is no {path}, which tells where the rows are: train again, or restore it.")
    try:
        recipe: Recipe = parse_recipe([str(path)])
        splits = checked_splits(recipe.data, recipe.training.seed, cache=recipe.model.feature_cache).records
        known = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RowsMissing(f"the rows that {run} scored cannot be read again: {error}") from error
    name = "test" if "test" in splits else "validation"
    if known.get(f"{name} rows") != digest(splits[name].rows):
        raise RowsMissing(f"the {name} rows that {path} names are others now than those of the run.")
    return ScoredRows(name, splits[name].rows, recipe.training.seed)


def published_scores(
    model: MMOrientForMultitaskClassification, processor: MMOrientProcessor, rows: ScoredRows, again: bool
) -> dict[str, Any]:
    """What a model scores without images and without texts and, if it is not the run's any more, with both.

    Args:
        model: As it is published, in evaluation mode.
        processor: The model's.
        rows: To score.
        again: Whether to score the rows as they are too.

    Returns:
        By `without_image`, `without_text` and the split's name, scores as
        `mmorient.scoring.scores.scores` gives them. A row that has nothing left is not scored.
    """
    asked = {rows.name: list(rows.records)} if again else {}
    asked[WITHOUT["image"]] = [replace(record, picture=None) for record in rows.records if record.text]
    asked[WITHOUT["text"]] = [replace(record, text=None) for record in rows.records if record.picture]
    return {
        name: scores(_answers(model, processor, chosen), rows.seed)
        for name, chosen in asked.items()
        if chosen
    }


@torch.inference_mode()
def linear_scores(
    model: MMOrientForMultitaskClassification,
    processor: MMOrientProcessor,
    references: ReferenceBank,
    rows: ScoredRows,
) -> dict[str, float]:
    """Scores of a linear model on the embeddings that the model's encoders give, by task.

    It learns each task from the references that are labelled for it; see `mmorient.kinds.linear`. Tasks that
    nothing is labelled for are left out.

    Args:
        model: Whose encoders made the references.
        processor: The model's.
        references: To learn from: the training rows, where the run was not told otherwise.
        rows: To score.
    """
    indices = torch.arange(len(references))
    known = torch.cat([references.embeds(modality, indices) for modality in MODALITIES], dim=1).numpy()
    found = []
    for batch in _batches(rows.records):
        encoded = model.encode(**raw_inputs(processor, batch)).by_modality()
        # A missing modality is zero, as in the references.
        masked = [encoded[name][0].masked_fill(~encoded[name][1].unsqueeze(1), 0) for name in MODALITIES]
        found.append(torch.cat(masked, dim=1).float())
    queries, truth = torch.cat(found).numpy(), label_batch(rows.records, list(model.config.task_specs))
    scored = {}
    for task, spec in model.config.task_specs.items():
        kind, labels, true = toolkit_kind(spec), references.labels[task].numpy(), truth[task].numpy()
        learned, scorable = known_rows(labels), known_rows(true)
        if learned.any() and scorable.any():
            answers = kind.linear(spec, known[learned], labels[learned], queries[scorable])
            metrics = kind.metrics(Scored(spec, answers, true[scorable]))
            scored[task] = metrics[kind.resampled_scores[0]]
    return scored


@torch.inference_mode()
def _answers(
    model: MMOrientForMultitaskClassification, processor: MMOrientProcessor, records: Sequence[Record]
) -> dict[str, TaskPredictions]:
    specs = model.config.task_specs
    logits = [model(**raw_inputs(processor, batch)).logits for batch in _batches(records)]
    labels = label_batch(records, list(specs))
    return {
        name: TaskPredictions.from_logits(
            spec, torch.cat([batch[name] for batch in logits]).float().numpy(), labels[name].numpy()
        )
        for name, spec in specs.items()
    }


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), BATCH_SIZE):
        yield records[start : start + BATCH_SIZE]
