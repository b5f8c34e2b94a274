"""The references of a run: filled from a table's rows in one pass, and what their graphs look like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.utils import logging

from mmorient.features.batches import padded_indices
from mmorient.tables.records import Record
from modeling_mmorient import MMOrientForMultitaskClassification
from modeling_mmorient.features import MODALITIES
from modeling_mmorient.multitask import multitask_loss
from modeling_mmorient.reference_graph import calibrate_threshold
from modeling_mmorient.task_kinds import kind_of

logger = logging.get_logger(__name__)

# Most references that the votes are fitted on before training, and steps of the fit.
VOTING_REFERENCES, VOTING_STEPS = 10_000, 200


@dataclass(frozen=True)
class ReferenceRows:
    """Rows that become a model's references.

    Args:
        rows: As the trainer takes them.
        ids: One id for each row, all different.
        contents: Digest of each row's picture and text: equal for exact copies.
        notes: Where they come from, for a person; saved with the model.
    """

    rows: Any
    ids: Sequence[str]
    contents: Sequence[str]
    notes: str


class OwnReferences(Dataset[Record]):
    """Training rows with their own indices among the references, so that no row meets its own label.

    Args:
        rows: Records, as the trainer takes them.
        indices: By row, the indices of the references that are the row or a copy of it; empty if none is.
    """

    def __init__(self, rows: Any, indices: Sequence[Sequence[int]]) -> None:
        self.rows, self.indices = rows, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> Record:
        return replace(self.rows[row], own_references=self.indices[row])


def own_indices(training: Sequence[str], references: Sequence[str]) -> list[Sequence[int]]:
    """By training row, the indices of the references that are the row or an exact copy of it.

    Args:
        training, references: Digest of each row's picture and text, such as
            `mmorient.tables.split_rows.record_digest`.
    """
    indices: dict[str, list[int]] = {}
    for index, content in enumerate(references):
        indices.setdefault(content, []).append(index)
    # Copies share one list.
    return [indices.get(content, ()) for content in training]


@torch.no_grad()
def fill_references(
    model: MMOrientForMultitaskClassification,
    references: ReferenceRows,
    collator: Callable[[Sequence[Record]], dict[str, Any]],
    batch_size: int,
) -> None:
    """Make rows the references of a model, in place of those it has, and compute what depends on them.

    HIMA stage 2's g is computed over them. Every process does this with all rows.

    Args:
        model: On the device it runs on.
        references: The rows.
        collator: Makes batches of the rows.
        batch_size: Rows at a time.

    Raises:
        ValueError: If a row has features that are not finite, naming it.
    """
    loader = DataLoader(
        references.rows,
        batch_size=batch_size,
        collate_fn=collator,
        # A separate generator: filling must not change the random numbers drawn afterwards.
        generator=torch.Generator(),
    )
    entries: list[dict[str, torch.Tensor]] = []
    present: list[dict[str, torch.Tensor]] = []
    labels: list[dict[str, torch.Tensor]] = []
    for batch in loader:
        labels.append(batch.pop("labels"))
        inputs = {name: values.to(model.device) for name, values in batch.items()}
        for kept, found in zip((entries, present), model.reference_entries(inputs), strict=True):
            kept.append({name: values.cpu() for name, values in found.items()})
    bank = model.new_references(references.notes)
    bank.add(references.ids, _joined(entries), _joined(present), _joined(labels))
    model.references = bank


def calibrate_thresholds(model: MMOrientForMultitaskClassification, quantile: float) -> None:
    """Set the thresholds that the model's configuration leaves open, by `calibrate_threshold`."""
    for graph in MODALITIES:
        if getattr(model.config, f"{graph}_threshold") is not None:
            continue
        try:
            threshold = calibrate_threshold(model.references, graph, quantile)
        except ValueError as error:
            if getattr(model.config, f"{graph}_neighbors") is None:
                raise
            logger.warning(f"the {graph} graph gets no threshold, and only its number of neighbours: {error}")
            continue
        setattr(model.config, f"{graph}_threshold", threshold)


def fit_votes(model: MMOrientForMultitaskClassification, contents: Sequence[str]) -> None:
    """Initialise T, s and a of the neighbours' votes: fit them so that the votes and a bias for each class
    predict the references' own labels best, each reference left out of its own vote with its exact copies.

    Training goes on from there, but a few hundred small steps change them little.

    Args:
        model: With its references.
        contents: The references' digests, as in [`ReferenceRows`].
    """
    votes, bank, config = model.votes, model.references, model.config
    assert votes is not None
    # The first ones are enough: only a few numbers are fitted.
    first = torch.arange(min(len(bank), VOTING_REFERENCES), device=bank.device)
    own = padded_indices(own_indices(contents[: len(first)], contents)).to(bank.device)
    neighbors = {
        graph: bank.search(
            graph,
            bank.embeds(graph, first),
            bank.present[graph][first],
            getattr(config, f"{graph}_neighbors"),
            getattr(config, f"{graph}_threshold"),
            exclude=own,
        )
        for graph in MODALITIES
    }
    labels = {name: values[first] for name, values in bank.labels.items()}
    biases = {
        name: torch.zeros(len(kind_of(spec).columns(spec)), device=bank.device, requires_grad=True)
        for name, spec in config.task_specs.items()
    }
    with torch.enable_grad():
        optimizer = torch.optim.Adam([*votes.parameters(), *biases.values()], lr=0.05)
        for _ in range(VOTING_STEPS):
            alike = {name: bias.expand(len(first), -1) for name, bias in biases.items()}
            logits, _ = votes(alike, bank, neighbors)
            optimizer.zero_grad()
            multitask_loss(config.task_specs, logits, labels).backward()
            optimizer.step()
    votes.zero_grad()


def _joined(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
