"""Train a model as a recipe says, from the tables to the report."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, set_seed
from transformers.utils import logging

from mmorient.features.batches import FeatureCollator, MemeCollator
from mmorient.features.cache import cached_features
from mmorient.fitting.assemble import assemble
from mmorient.fitting.checkpoints import has_ended, only_run, start_or_resume
from mmorient.fitting.finishing import finish
from mmorient.fitting.references import OwnReferences, ReferenceRows, fit_votes, own_indices
from mmorient.fitting.run_log import logged_to
from mmorient.fitting.trainer import MultitaskTrainer
from mmorient.kinds.cells import is_labelled
from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.files import save_recipe
from mmorient.recipes.recipe import Recipe
from mmorient.recipes.tasks import task_specs
from mmorient.scoring.scores import metrics_of
from mmorient.tables.labels import balanced_weights
from mmorient.tables.records import Record, digest, label_columns
from mmorient.tables.settings import TableSettings
from mmorient.tables.split_rows import SplitRow, split_rows, write_splits
from mmorient.tables.splits import checked_splits

logger = logging.get_logger(__name__)


@dataclass
class Run:
    """A run before its first step.

    Args:
        trainer: With model, processor and the rows to train and to choose on.
        tables: The records of every split, as they were read.
        rows: The same records as the trainer takes them.
        references: The rows that become the model's references.
        split_rows: Which row went where, for `splits.csv`.
        digests: Digest of every split's rows.
        notes: What a reader of the scores must know about the tables.
    """

    trainer: MultitaskTrainer
    tables: dict[str, Sequence[Record]]
    rows: dict[str, Any]
    references: ReferenceRows
    split_rows: list[SplitRow]
    digests: dict[str, str]
    notes: list[str]


def build_run(recipe: Recipe) -> Run:
    """Everything that a recipe asks for, ready to train.

    Raises:
        ValueError: If the tables, the tasks and the encoders do not fit together.
    """
    data, arguments, training = recipe.data, recipe.model, recipe.training
    splits = checked_splits(data, training.seed, Path(str(training.output_dir)), arguments.feature_cache)
    tables = {split: records.rows for split, records in splits.records.items()}
    tasks = _tasks(data, tables)
    texts = [record.text for record in tables["training"] if record.text]
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
    # A model without graphs has no references.
    lines = split_rows(splits.records, name if model.config.needs_embeds else None)
    contents = {split: [line.digest for line in lines if line.split == split] for split in splits.records}
    # File names without this machine's folders: notes are published with the model.
    files = [Path(file) for file in splits.records[name].table.name.split(" + ")]
    source = " + ".join(file.name if file.is_absolute() else str(file) for file in files)
    about = f"{name} rows of {source}"
    references = ReferenceRows(rows[name], [record.row for record in tables[name]], contents[name], about)
    train_rows = rows["training"]
    if model.config.graph_scope == "references":
        train_rows = OwnReferences(train_rows, own_indices(contents["training"], contents[name]))
    patience = recipe.run.early_stopping_patience
    trainer = MultitaskTrainer(
        model=model,
        args=training,
        train_dataset=train_rows,
        eval_dataset=rows["validation"],
        data_collator=collator,
        compute_metrics=metrics_of(model.config.task_specs),
        processing_class=processor,
        callbacks=None if patience is None else [EarlyStoppingCallback(patience)],
    )
    notes = [problem.message for problem in splits.problems]
    if splits.unused:
        counts = ", ".join(f"{name!r} {count}" for name, count in splits.unused.items())
        notes.append(f"Rows of other splits are not used, by the value of `split_column`: {counts}.")
        logger.warning(notes[-1])
    digests = {split: digest(rows) for split, rows in tables.items()}
    return Run(trainer, tables, rows, references, lines, digests, notes)


def _tasks(data: DataArguments, tables: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """The model's tasks, with class weights; a `ValueError` where a split has no label to work with."""
    assert isinstance(data.tasks, dict)
    specs = task_specs(data.tasks)
    for name, spec in specs.items():
        kind = toolkit_kind(spec)
        fitted = {**kind.prepared_fields, **kind.unfitted}
        if any(getattr(spec, field) != value for field, value in fitted.items()):
            raise ValueError(f"task {name!r}: {' and '.join(fitted)} are fitted; leave them out.")
    for split, rows in tables.items():
        columns = label_columns(rows)
        unknown = [name for name in specs if not any(map(is_labelled, columns[name]))]
        if len(unknown) == len(specs) and split != "references":
            raise ValueError(f"no {split} row is labelled for any task: check the recipe's `tasks`.")
        if split == "training" and unknown:
            raise ValueError(f"no training row is labelled for the tasks {unknown}: leave them out.")
    training = label_columns(tables["training"])
    for name, spec in specs.items():
        labels = [label for label in training[name] if is_labelled(label)]
        specs[name] = toolkit_kind(spec).prepared(spec, labels)
    if data.class_weighting == "balanced":
        for name, weights in balanced_weights(training, specs).items():
            if specs[name].class_weights is None:
                specs[name] = replace(specs[name], class_weights=tuple(weights))
    return {name: spec.to_options() for name, spec in specs.items()}


def train(run: Run, recipe: Recipe) -> None:
    """Train to the end, from the last whole checkpoint where the run was interrupted."""
    training, trainer = recipe.training, run.trainer
    rows = {f"{split} rows": digest for split, digest in run.digests.items()}
    identity = {**recipe.identity, "processes": training.world_size, **rows}
    checkpoint = start_or_resume(Path(str(training.output_dir)), identity, recipe.run.restart)
    model, quantile = run.trainer.model, recipe.run.threshold_quantile
    if model.config.graph_scope == "references":
        trainer.fill_references(run.references, quantile)
        if model.config.use_votes:
            fit_votes(model, run.references.contents)
    # `Trainer` would do one more step if the run had ended in the middle of an epoch.
    if checkpoint is not None and has_ended(checkpoint):
        trainer.take_over(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    # Training has changed the embeddings, or HIMA's vectors.
    if model.config.graph_scope == "batch" or model.config.use_hima_stage2:
        trainer.fill_references(run.references, quantile)


def leave_tables(run: Run, data: DataArguments) -> None:
    """Save which rows the model knows (`splits.csv`) and how to read others (`tables.json`) beside it."""
    folder = Path(str(run.trainer.args.output_dir))
    saved = run.trainer.accelerator.unwrap_model(run.trainer.model).config.saved_references
    splits = write_splits(folder, run.split_rows)
    # Last: it names the references that `splits.csv` is about.
    TableSettings.of_run(data, saved["digest"], splits).save(folder)


def carry_out(recipe: Recipe) -> None:
    """Do what a recipe asks for, from the tables to the report."""
    folder, first = Path(str(recipe.training.output_dir)), recipe.training.process_index == 0
    with logged_to(folder, first):
        set_seed(recipe.training.seed)
        run = build_run(recipe)
        with only_run(folder) if first else nullcontext():
            train(run, recipe)
            summary = finish(run.trainer, run.tables, run.rows, recipe.identity, run.notes)
            if first:
                leave_tables(run, recipe.data)
                save_recipe(recipe.given, folder)
        if summary:
            print(f"\n{summary}")
        run.trainer.end_processes()
