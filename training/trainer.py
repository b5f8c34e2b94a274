"""`Trainer` for several tasks with partial labels, and for models whose graphs span the batch."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from transformers import Trainer
from transformers.utils import logging

from modeling_mmorient.features import GraphHealth
from modeling_mmorient.multitask import IGNORE_INDEX

logger = logging.get_logger(__name__)


class MultitaskTrainer(Trainer):
    """`transformers.Trainer` with two additions.

    - The loss of each task is a mean over the known labels of the whole optimizer step, however many
      batches and processes it is made of, so that accumulation does not change the gradient.
    - The log holds the health of the relation graphs, and a warning where one is empty or complete.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True
        self._graph_health: dict[str, GraphHealth] | None = None
        self._warned: set[tuple[str, str]] = set()

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of an optimizer step, and the number of known labels in them by task."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        tasks = list(batches[0]["labels"])
        counts = torch.stack(
            [sum((batch["labels"][task] != IGNORE_INDEX).sum() for batch in batches) for task in tasks]
        ).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.gather(counts.unsqueeze(0)).sum(0)
        return batches, dict(zip(tasks, counts, strict=True))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """As `Trainer.compute_loss`; keeps the graphs' health of the latest full batch."""
        if model.training:
            inputs = {**inputs, "output_graph_health": True}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        rows = len(next(iter(inputs["labels"].values())))
        # The last batch of an epoch may be too small for its graph to say anything.
        if model.training and (rows >= self.args.per_device_train_batch_size or self._graph_health is None):
            self._graph_health = outputs.graph_health
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As `Trainer.log`, with the graphs' health beside the training loss."""
        if "loss" in logs and self._graph_health is not None:
            for modality, health in self._graph_health.items():
                values = {name: round(value.item(), 4) for name, value in asdict(health).items()}
                logs.update({f"{modality}_graph_{name}": value for name, value in values.items()})
                self._warn(modality, values)
        super().log(logs, *args, **kwargs)

    def _warn(self, modality: str, health: dict[str, float]) -> None:
        for kind, share in (("empty", "isolated_share"), ("complete", "complete_share")):
            if health[share] > 0.99 and (modality, kind) not in self._warned:
                self._warned.add((modality, kind))
                logger.warning(
                    f"the {modality} graph is {kind} ({share} {health[share]:.2f}), so it says nothing about "
                    f"which samples are alike: change `{modality}_threshold` or `{modality}_neighbors` in "
                    "`model_options`, or the batch size."
                )
