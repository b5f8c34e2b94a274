"""`Trainer` for several tasks with partial labels, and for models with references."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from mmorient.files.disk_failures import naming
from mmorient.files.whole_files import write_text
from mmorient.fitting.checkpoint_weights import load_checkpoint
from mmorient.fitting.checkpoints import remove_older, write_manifest
from mmorient.fitting.epoch_table import EpochTable
from mmorient.fitting.references import ReferenceRows, calibrate_thresholds, fill_references
from modeling_mmorient.features import MODALITIES, DegreeStatistics
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec

logger = logging.get_logger(__name__)

# A file of a checkpoint beside `Trainer`'s own.
PROGRESS = "progress.json"


class MultitaskTrainer(Trainer):
    """`transformers.Trainer` with some additions.

    - The loss of each task is a mean over the known labels of the whole optimizer step, however many
      batches and processes it is made of, so that accumulation does not change the gradient.
    - In multi-process training HIMA's stage 2, and graphs that join the batch, span the global batch.
    - The log holds the graphs' degree statistics, and a warning where one is empty or complete.
    - Evaluations do not change the training.
    - A checkpoint's weights are loaded the way they were saved, whatever the encoders.
    - A checkpoint gets its manifest when all of it is written (`checkpoints.py`); only then are older ones
      removed.

    Raises:
        ValueError: If one process has several GPUs, which would split a batch's graph.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"one process has {self.args.n_gpu} GPUs, among which `Trainer` would split every batch and "
                "its relation graph: start a process for each with `accelerate launch`, or let this one see "
                "a single GPU (CUDA_VISIBLE_DEVICES=0)."
            )
        self.model_accepts_loss_kwargs = True
        for shown in (ProgressCallback, PrinterCallback):
            self.remove_callback(shown)
        self._table = EpochTable(self._latest)
        self.add_callback(self._table)
        self._loss_since_row: torch.Tensor | None = None
        self._batches_since_row = 0
        self._statistics: dict[str, DegreeStatistics] | None = None
        self._warned: set[tuple[str, str]] = set()
        self._degrees: dict[str, list[torch.Tensor]] = {}
        self._degrees_epoch = -1
        self._seconds_before = 0.0
        self._started: float | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of an optimizer step, and the number of known labels in them by task."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self._hide_repeats(batches)
        tasks, specs = list(batches[0]["labels"]), self._specs()
        known = [
            [kind_of(specs[task]).known(batch["labels"][task]).sum() for batch in batches] for task in tasks
        ]
        counts = torch.stack([torch.stack(numbers).sum() for numbers in known]).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.gather(counts.unsqueeze(0)).sum(0)
        return batches, dict(zip(tasks, counts, strict=True))

    def _hide_repeats(self, batches: list[dict[str, Any]]) -> None:
        """Mask rows that the sampler repeated.

        Several processes need the same number of batches, so accelerate fills the last ones of an epoch with
        rows from its beginning. Batch i of the epoch goes to process i modulo their number.
        """
        processes, size = self.args.world_size, self._train_batch_size
        if processes == 1:
            return
        rows, specs = len(self.train_dataset), self._specs()
        steps = self.args.gradient_accumulation_steps
        batches_each = math.ceil(math.ceil(rows / size) / processes)
        position = self.state.global_step % math.ceil(batches_each / steps) * steps
        for offset, batch in enumerate(batches):
            first = ((position + offset) * processes + self.args.process_index) * size
            real = min(max(rows - first, 0), size)
            for name, values in batch["labels"].items():
                values[real:] = kind_of(specs[name]).unlabelled(specs[name], 1)
            for modality in MODALITIES:
                batch[f"{modality}_present"][real:] = False

    def _specs(self) -> dict[str, TaskSpec]:
        return self.accelerator.unwrap_model(self.model).config.task_specs

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """As `Trainer.compute_loss`; keeps the graphs' degree statistics of the latest full batch."""
        if model.training:
            several = self.args.world_size > 1
            inputs = {**inputs, "output_degree_statistics": True, "gather_batch": several}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        rows = len(next(iter(inputs["labels"].values())))
        # The last batch of an epoch may be too small for its graph to say anything.
        if model.training and (rows >= self.args.per_device_train_batch_size or self._statistics is None):
            self._statistics = outputs.degree_statistics
            self._remember_degrees()
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As `Trainer.training_step`; sums the losses for the table that is shown."""
        loss = super().training_step(*args, **kwargs)
        self._loss_since_row = loss if self._loss_since_row is None else self._loss_since_row + loss
        self._batches_since_row += 1
        return loss

    def _latest(self) -> tuple[float | None, dict[str, float]]:
        """The mean loss of this process's steps since the call before, and the latest mean degrees."""
        steps = self._batches_since_row / self.args.gradient_accumulation_steps
        total, self._loss_since_row, self._batches_since_row = self._loss_since_row, None, 0
        statistics = self._statistics or {}
        degrees = {modality: graph.mean_degree.item() for modality, graph in statistics.items()}
        return None if total is None else total.item() / steps, degrees

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As `Trainer.evaluate`, but restores the random state: every data loader draws a seed."""
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    def fill_references(self, references: ReferenceRows, quantile: float | None) -> None:
        """Make rows the model's references, and log how well connected their graphs are.

        Args:
            references: The rows.
            quantile: For the thresholds that the configuration leaves open; None: they stay open.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not model.config.needs_embeds:
            return
        model.to(self.args.device)
        fill_references(model, references, self.data_collator, self.args.per_device_eval_batch_size)
        if quantile is not None:
            calibrate_thresholds(model, quantile)
        for graph, statistics in model.reference_statistics().items():
            values = {name: round(value.item(), 4) for name, value in _shares(statistics).items()}
            logger.info(f"the references' {graph} graph: {values}")
            self._warn(graph, values)

    def end_processes(self) -> None:
        """Let all processes of a run end; call this last."""
        if self.args.world_size > 1:
            self.accelerator.wait_for_everyone()
            self.accelerator.end_training()
            # Communication threads need the interpreter to release their last tensors, and abort the process
            # if it is gone. They can do so while this thread sleeps.
            time.sleep(0.5)

    def _remember_degrees(self) -> None:
        epoch = int(self.state.epoch or 0)
        if epoch != self._degrees_epoch:
            self._degrees, self._degrees_epoch = {}, epoch
        for modality, statistics in (self._statistics or {}).items():
            self._degrees.setdefault(modality, []).append(statistics.degrees)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As `Trainer.log`, with the graphs' degree statistics beside the training loss."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise ValueError(
                f"the loss is {logs['loss']} at step {self.state.global_step} (learning rate "
                f"{logs.get('learning_rate')}): choose a smaller `learning_rate` or `max_grad_norm`, or look "
                "for features that are not numbers."
            )
        if "loss" in logs and self._statistics is not None:
            for modality, statistics in self._statistics.items():
                values = {name: round(value.item(), 4) for name, value in _shares(statistics).items()}
                logs.update({f"{modality}_graph_{name}": value for name, value in values.items()})
                self._warn(modality, values)
        super().log(logs, *args, **kwargs)

    def degrees(self) -> dict[str, np.ndarray]:
        """By modality, the number of neighbours of each row that has it, in the latest epoch's batches."""
        return {
            modality: values[values >= 0]
            for modality, parts in self._degrees.items()
            if len(values := torch.cat(parts).cpu().numpy())
        }

    @property
    def seconds(self) -> float:
        """Time of the training so far, including that before an interruption."""
        return self._seconds_before + (time.perf_counter() - self._started if self._started else 0.0)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; times it."""
        self._started = time.perf_counter()
        try:
            result = super().train(*args, **kwargs)
        finally:
            self._table.close()
        self._seconds_before, self._started = self.seconds, None
        return result

    def _write_progress(self, checkpoint: Path) -> None:
        """Keep what the report shows and `Trainer`'s state does not hold."""
        degrees = {modality: values.tolist() for modality, values in self.degrees().items()}
        values = {"seconds": self.seconds, "degrees": degrees, "epoch": self._degrees_epoch}
        write_text(checkpoint / PROGRESS, json.dumps(values) + "\n")

    def _read_progress(self, checkpoint: Path) -> None:
        values = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
        self._seconds_before, self._degrees_epoch = values["seconds"], values["epoch"]
        self._degrees = {modality: [torch.tensor(kept)] for modality, kept in values["degrees"].items()}

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise ValueError(
                f"the model has weights that are not numbers at step {self.state.global_step}: choose a "
                "smaller `learning_rate`."
            )
        folder = Path(str(self.args.output_dir))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with naming(checkpoint):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # every process writes its own random state
        if self.args.should_save:
            self._write_progress(checkpoint)
            # A pickle that nothing reads.
            (checkpoint / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            write_manifest(checkpoint)
            remove_older(folder, limit, self.state.best_model_checkpoint)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_checkpoint(self.accelerator.unwrap_model(model or self.model), Path(resume_from_checkpoint))
        self._read_progress(Path(resume_from_checkpoint))

    def take_over(self, checkpoint: Path) -> None:
        """Restore the outcome of a run that had ended: its history, and its best or its last model."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self._read_progress(checkpoint)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        else:
            load_checkpoint(self.model, checkpoint)
        self.model.to(self.args.device)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            # Found by its name: the run's folder may have been moved since.
            best = Path(str(self.args.output_dir)) / Path(str(self.state.best_model_checkpoint)).name
            load_checkpoint(self.accelerator.unwrap_model(self.model), best)

    def _warn(self, modality: str, statistics: dict[str, float]) -> None:
        for kind, share in (("empty", "isolated_share"), ("complete", "complete_share")):
            if statistics[share] > 0.99 and (modality, kind) not in self._warned:
                self._warned.add((modality, kind))
                logger.warning(
                    f"the {modality} graph is {kind} ({share} {statistics[share]:.2f}), so it says nothing "
                    f"about which samples are alike: change `{modality}_threshold` or "
                    f"`{modality}_neighbors` in `model_options`, or the batch size."
                )


def _shares(statistics: DegreeStatistics) -> dict[str, torch.Tensor]:
    return {name: value for name, value in asdict(statistics).items() if name != "degrees"}
