"""Train MM-ORIENT on a table of memes.

    accelerate launch training/train.py RECIPE.yaml [--field value ...]
    python training/train.py RECIPE.yaml --inspect

Fields are those of `DataArguments`, `ModelArguments`, `RunArguments` (`training/recipe.py`) and
transformers' `TrainingArguments`. Leaves the model, its processor, `results.json` and `report/` in
`output_dir`. Killed at any moment and started again, it goes on from its last whole checkpoint.
"""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datasets
from transformers import EarlyStoppingCallback, set_seed
from transformers.utils import logging

from training.assemble import assemble
from training.batches import FeatureCollator, MemeCollator
from training.checkpoints import has_ended, only_run, start_or_resume
from training.feature_cache import cached_features
from training.finishing import finish
from training.inspection import inspection_report
from training.labels import balanced_weights, labelled_tasks, task_specs
from training.memes import digest
from training.recipe import DataArguments, Recipe, parse_recipe
from training.references import OwnReferences, ReferenceRows, fit_votes, own_places
from training.scoring import compute_metrics
from training.splits import checked_splits, read_splits
from training.trainer import MultitaskTrainer

logger = logging.get_logger(__name__)


@dataclass
class Run:
    """A run before its first step.

    Args:
        trainer: With model, processor and the rows to train and to choose on.
        tables: The rows of every part, as they were read.
        rows: The same rows as the trainer takes them.
        references: The rows that become the model's references.
        digests: Of every part.
        notes: What a reader of the scores must know about the tables.
    """

    trainer: MultitaskTrainer
    tables: dict[str, datasets.Dataset]
    rows: dict[str, Any]
    references: ReferenceRows
    digests: dict[str, str]
    notes: list[str]


def build_run(recipe: Recipe) -> Run:
    """Everything that a recipe asks for, ready to train.

    Raises:
        ValueError: If the tables, the tasks and the encoders do not fit together.
    """
    data, arguments, training = recipe.data, recipe.model, recipe.training
    splits = checked_splits(data, training.seed)
    tables = {part: memes.to_dataset() for part, memes in splits.parts.items()}
    tasks = _tasks(data, tables)
    texts = [text for text in tables["training"]["text"][:] if text]
    model, processor = assemble(arguments, tasks, texts)
    collator: MemeCollator | FeatureCollator = MemeCollator(processor, list(tasks))
    rows: dict[str, Any] = tables
    if model.config.freeze_encoders and arguments.precompute_features:
        rows = cached_features(
            tables,
            model,
            processor,
            arguments.feature_cache,
            batch_size=training.per_device_eval_batch_size,
            device=training.device,
            workers=training.dataloader_num_workers,
        )
        collator = FeatureCollator(list(tasks))
    name = "references" if "references" in tables else "training"
    # Without the folders of this machine: notes are published with the model.
    files = [Path(file) for file in splits.parts[name].table.name.split(" + ")]
    source = " + ".join(file.name if file.is_absolute() else str(file) for file in files)
    references = ReferenceRows(rows[name], tables[name]["row"][:], f"{name} rows of {source}")
    train_rows = rows["training"]
    if model.config.graph_scope == "bank":
        own = own_places(tables["training"], tables[name]) if name == "references" else range(len(train_rows))
        train_rows = OwnReferences(train_rows, own)
    patience = recipe.run.early_stopping_patience
    trainer = MultitaskTrainer(
        model=model,
        args=training,
        train_dataset=train_rows,
        eval_dataset=rows["validation"],
        data_collator=collator,
        compute_metrics=compute_metrics,
        processing_class=processor,
        callbacks=None if patience is None else [EarlyStoppingCallback(patience)],
    )
    notes = [problem.message for problem in splits.problems]
    if splits.unused:
        counts = ", ".join(f"{name!r} {count}" for name, count in splits.unused.items())
        notes.append(f"Rows of other splits are not used, by the value of `split_column`: {counts}.")
        logger.warning(notes[-1])
    digests = {part: digest(memes) for part, memes in splits.parts.items()}
    return Run(trainer, tables, rows, references, digests, notes)


def _tasks(data: DataArguments, tables: Mapping[str, datasets.Dataset]) -> dict[str, Any]:
    """The model's tasks, with class weights; a `ValueError` where a part has no label to work with."""
    assert isinstance(data.tasks, dict)
    specs = task_specs(data.tasks)
    for name, spec in specs.items():
        if spec.temperature != 1 or spec.thresholds is not None:
            raise ValueError(f"task {name!r}: temperature and thresholds are fitted; leave them out.")
    for part, table in tables.items():
        known = labelled_tasks(table["labels"])
        if not known and part != "references":
            raise ValueError(f"no {part} row is labelled for any task: check the recipe's `tasks`.")
        if part == "training" and (unknown := [name for name in specs if name not in known]):
            raise ValueError(f"no training row is labelled for the tasks {unknown}: leave them out.")
    if data.class_weighting == "balanced":
        for name, weights in balanced_weights(tables["training"]["labels"], specs).items():
            if specs[name].class_weights is None:
                specs[name] = replace(specs[name], class_weights=tuple(weights))
    return {name: spec.to_options() for name, spec in specs.items()}


def train(run: Run, recipe: Recipe) -> None:
    """Train to the end, from the last whole checkpoint where the run was interrupted."""
    training, trainer = recipe.training, run.trainer
    rows = {f"{part} rows": digest for part, digest in run.digests.items()}
    identity = {**recipe.identity, "processes": training.world_size, **rows}
    with training.main_process_first(local=False):
        checkpoint = start_or_resume(Path(str(training.output_dir)), identity, recipe.run.restart)
    model, quantile = run.trainer.model, recipe.run.threshold_quantile
    if model.config.graph_scope == "bank":
        trainer.fill_references(run.references, quantile)
        if model.config.use_votes:
            fit_votes(model)
    # `Trainer` would go on by one step where a run had ended in the middle of an epoch.
    if checkpoint is not None and has_ended(checkpoint):
        trainer.take_over(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    # What was trained changes the embeddings, or HIMA's vectors.
    if model.config.graph_scope == "batch" or model.config.use_hima_stage2:
        trainer.fill_references(run.references, quantile)


def main(argv: list[str]) -> None:
    recipe = parse_recipe(argv)
    if recipe.data.inspect:
        print(inspection_report(read_splits(recipe.data, recipe.training.seed), recipe.data))
        return
    set_seed(recipe.training.seed)
    run = build_run(recipe)
    first = run.trainer.is_world_process_zero()
    with only_run(Path(str(recipe.training.output_dir))) if first else nullcontext():
        train(run, recipe)
        summary = finish(run.trainer, run.tables, run.rows, recipe.identity, run.notes)
    if summary:
        print(f"\n{summary}")
    run.trainer.end_processes()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
