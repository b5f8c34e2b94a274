"""Rows that are a model's references: predicted, they meet their own label."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from mmorient.tables.settings import TableSettings
from mmorient.tables.split_rows import SPLITS, read_split_rows
from modeling_mmorient import MMOrientForMultitaskClassification
from modeling_mmorient.features import EncodedFeatures
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_graph import find_copies


@dataclass(frozen=True)
class KnownReferences:
    """How to tell which rows are references.

    Args:
        bank: The references.
        digests: Of their pictures and texts (`split_rows.content_digest`); None where they are not known, and
            rows count as references that equal what is stored of one.
        reason: Why the digests are not known, for a person.
    """

    bank: ReferenceBank
    digests: Collection[str] | None
    reason: str = ""

    def equal(self, features: EncodedFeatures) -> torch.Tensor:
        """(B,) bool: True = a reference equals what the encoders make of the row."""
        bank = self.bank.to(features.image_embeds.device)
        return (find_copies(bank, features) >= 0).any(-1)


def known_references(
    name: str, model: MMOrientForMultitaskClassification, settings: TableSettings
) -> KnownReferences:
    """How to tell the references of a saved model.

    Args:
        name: Folder or Hub id that the model was loaded from.
        model: The model.
        settings: Those saved with it.

    Raises:
        ValueError: If there is a `splits.csv` that is not what a run writes.
    """
    bank = model.references
    if not len(bank):
        return KnownReferences(bank, frozenset())
    rows = read_split_rows(Path(name), settings.splits)
    if rows is None:
        return KnownReferences(bank, None, f"{name} has no {SPLITS}")
    saved = model.config.saved_references
    if saved is None or saved["digest"] != settings.references:
        return KnownReferences(bank, None, f"the references in {name} were edited since its {SPLITS}")
    return KnownReferences(bank, frozenset(row.digest for row in rows if row.reference))
