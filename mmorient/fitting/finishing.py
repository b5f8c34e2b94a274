"""From a trained model to a run's results: scores, the saved model with fitted decisions, and the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mmorient.files.whole_files import write_text
from mmorient.fitting.trainer import MultitaskTrainer
from mmorient.kinds.kinds import toolkit_kind
from mmorient.report.report import RunReport, ScoredSplit, write_report
from mmorient.scoring.decision_fitting import FittedDecisions, fit_decisions
from mmorient.scoring.scores import baseline_scores, score_table, scores
from mmorient.scoring.task_predictions import TaskPredictions, task_predictions
from mmorient.tables.records import Record, label_columns
from modeling_mmorient import __version__
from modeling_mmorient.task_specs import TaskSpec

PACKAGES = ("torch", "transformers", "accelerate", "datasets")
NOTES = {
    "validation": "The best epoch may have been chosen on these rows. They are scored before temperature and "
    "thresholds were fitted on them.",
    "test": "Nothing was chosen on these rows. They are scored with the temperature and the thresholds that "
    "were fitted on the validation rows, and that are saved with the model.",
}


@dataclass(frozen=True)
class ScoredRows:
    """The rows of a split with what the model answered.

    Args:
        predictions: By task.
        loss: Mean of the batches' losses, weighted by their rows.
        scores: From `mmorient.scoring.scores.scores`.
        baselines: From `mmorient.scoring.scores.baseline_scores`.
    """

    predictions: dict[str, TaskPredictions]
    loss: float
    scores: dict[str, Any]
    baselines: dict[str, dict[str, float]]


def finish(
    trainer: MultitaskTrainer,
    tables: Mapping[str, Sequence[Record]],
    rows: Mapping[str, Any],
    arguments: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """Score a trained model, fit its decisions, and save both in the run's folder.

    Temperature and thresholds are fitted on the validation rows and saved in the model's configuration. The
    test rows are scored with them; the validation rows without, since they were fitted on those.

    Args:
        trainer: After training. Every process calls this; the first one writes.
        tables: The records of every split, as they were read.
        rows: The same records as the trainer takes them.
        arguments: The run's, to be recorded.
        notes: What a reader of the scores must know.

    Returns:
        The table of scores, for a person; empty on other processes.
    """
    outputs = {
        split: trainer.predict(rows[split], metric_key_prefix=split)
        for split in ("validation", "test")
        if split in rows
    }
    if not trainer.is_world_process_zero():
        return ""
    model = trainer.accelerator.unwrap_model(trainer.model)
    plain = model.config.task_specs
    validation = outputs["validation"]
    fitted = fit_decisions(plain, validation.predictions, validation.label_ids, trainer.args.seed)
    model.config.tasks = {name: spec.to_options() for name, spec in fitted.specs.items()}
    scored = {
        split: _score(output, fitted.specs if split == "test" else plain, split, tables, trainer.args.seed)
        for split, output in outputs.items()
    }
    folder = Path(str(trainer.args.output_dir))
    # Not `trainer.save_model()`, which also writes a pickle of the arguments.
    model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    _write_results(folder, scored, fitted, arguments)
    fitting = [
        f"task {name}, what was fitted: {note}" for name, said in fitted.notes.items() for note in said
    ]
    write_report(folder / "report", _report(trainer, scored, tables, arguments, [*notes, *fitting]))
    last = list(scored)[-1]
    table = score_table(scored[last].scores, scored[last].baselines)
    return f"{last} rows:\n{table}\n\nmodel, processor, results.json and report/index.html: {folder}"


def _score(
    output: Any, specs: Mapping[str, TaskSpec], split: str, tables: Mapping[str, Sequence[Record]], seed: int
) -> ScoredRows:
    predictions = task_predictions(specs, output.predictions, output.label_ids)
    baselines = baseline_scores(specs, label_columns(tables["training"]), label_columns(tables[split]))
    return ScoredRows(predictions, output.metrics[f"{split}_loss"], scores(predictions, seed), baselines)


def _write_results(
    folder: Path,
    scored: Mapping[str, ScoredRows],
    fitted: FittedDecisions,
    arguments: Mapping[str, Any],
) -> None:
    results = {
        **{name: {"loss": split.loss, **split.baselines, **split.scores} for name, split in scored.items()},
        "fitted": {
            name: {field: getattr(spec, field) for field in toolkit_kind(spec).unfitted}
            for name, spec in fitted.specs.items()
        },
        "arguments": arguments,
    }
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")


def _device(device: torch.device) -> str:
    """The name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _report(
    trainer: MultitaskTrainer,
    scored: Mapping[str, ScoredRows],
    tables: Mapping[str, Sequence[Record]],
    arguments: Mapping[str, Any],
    notes: Sequence[str],
) -> RunReport:
    history = trainer.state.log_history
    return RunReport(
        title=Path(str(trainer.args.output_dir)).name,
        splits=[
            ScoredSplit(
                name,
                split.predictions,
                tables[name],
                note=NOTES[name],
                scores=_task_scores(split),
                mean=_mean(split),
            )
            for name, split in scored.items()
        ],
        recipe=arguments,
        history=history,
        degrees=trainer.degrees(),
        duration=trainer.seconds,
        device=_device(trainer.args.device),
        # A clone that was not installed has no metadata to read its own version from.
        versions={"modeling-mmorient": __version__} | {package: version(package) for package in PACKAGES},
        notes=notes,
    )


def _task_scores(split: ScoredRows) -> dict[str, dict[str, Any]]:
    """Scores by task, beside the best constant answer."""
    found = {}
    for name, task in split.scores["tasks"].items():
        kind = toolkit_kind(split.predictions[name].spec)
        baseline = split.baselines[kind.baseline_name].get(name)
        found[name] = {**task, f"{kind.baseline_name}_{kind.baseline_score}": baseline}
    return found


def _mean(split: ScoredRows) -> dict[str, Any]:
    """Scores of the tasks' mean, beside the majority class."""
    majority = split.baselines.get("majority", {}).values()
    names = ("mean_score", "mean_score_interval", "macro_f1", "macro_f1_interval")
    mean = {name: split.scores[name] for name in names if name in split.scores}
    return {**mean, "majority_macro_f1": sum(majority) / len(majority) if majority else None}
