"""Train MM-ORIENT on a table of memes.

    accelerate launch training/train.py RECIPE.yaml [--field value ...]
    python training/train.py RECIPE.yaml --inspect

Fields are those of `DataArguments`, `ModelArguments` (`training/recipe.py`) and transformers'
`TrainingArguments`. Leaves the model, its processor and `results.json` in `output_dir`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import TrainingArguments, set_seed

from training.assemble import assemble
from training.batches import FeatureCollator, MemeCollator
from training.feature_cache import cached_features
from training.inspection import inspection_report
from training.labels import balanced_weights, labelled_tasks, task_specs
from training.recipe import DataArguments, ModelArguments, parse_recipe
from training.scoring import compute_metrics, majority_scores, score_table
from training.splits import load_splits, read_splits
from training.trainer import MultitaskTrainer


def build_trainer(
    data: DataArguments, model_arguments: ModelArguments, training: TrainingArguments
) -> tuple[MultitaskTrainer, Any, dict[str, float]]:
    """Trainer, processor and the majority class's scores on the validation rows."""
    assert isinstance(data.tasks, dict)
    train, validation = load_splits(data, training.seed)
    specs = task_specs(data.tasks)
    tasks = {
        name: {key: value for key, value in spec.to_dict().items() if key != "name"}
        for name, spec in specs.items()
    }
    for split, table in (("training", train), ("validation", validation)):
        known = labelled_tasks(table["labels"])
        if not known:
            raise ValueError(f"no {split} row is labelled for any task: check the recipe's `tasks`.")
        if split == "training" and (unknown := [name for name in specs if name not in known]):
            raise ValueError(f"no training row is labelled for the tasks {unknown}: leave them out.")
    if data.class_weighting == "balanced":
        for name, weights in balanced_weights(train["labels"], specs).items():
            tasks[name]["class_weights"] = weights
    texts = [text for text in train["text"][:] if text]
    model, processor = assemble(model_arguments, tasks, texts)
    collator: MemeCollator | FeatureCollator = MemeCollator(processor, list(tasks))
    rows: Mapping[str, Any] = {"training": train, "validation": validation}
    if model.config.freeze_encoders and model_arguments.precompute_features:
        rows = cached_features(
            rows,
            model,
            processor,
            model_arguments.feature_cache,
            batch_size=training.per_device_eval_batch_size,
            device=training.device,
            workers=training.dataloader_num_workers,
        )
        collator = FeatureCollator(list(tasks))
    trainer = MultitaskTrainer(
        model=model,
        args=training,
        train_dataset=rows["training"],
        eval_dataset=rows["validation"],
        data_collator=collator,
        compute_metrics=compute_metrics,
        processing_class=processor,
    )
    return trainer, processor, majority_scores(train["labels"][:], validation["labels"][:])


def main(argv: list[str]) -> None:
    data, model_arguments, training = parse_recipe(argv)
    if data.inspect:
        print(inspection_report(read_splits(data, training.seed), data))
        return
    set_seed(training.seed)
    trainer, processor, majority = build_trainer(data, model_arguments, training)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        output = Path(str(training.output_dir))
        # Not `trainer.save_model()`, which leaves a pickle of the arguments beside the model.
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(output)
        processor.save_pretrained(output)
        results = {"metrics": metrics, "majority": majority, "recipe": argv}
        (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"\n{score_table(metrics, majority)}\n\nmodel, processor and results.json: {output}")
    # Processes that leave at different times would abort the others.
    trainer.accelerator.end_training()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
