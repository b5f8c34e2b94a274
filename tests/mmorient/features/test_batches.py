"""Rows of any length become batches with masks, and a row that cannot be read is named."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mmorient.features.batches import FeatureCollator, MemeCollator, ahead
from mmorient.tables.records import Record


def test_features_are_padded_and_masked() -> None:
    rows = [
        Record(
            "2",
            features={
                "token_features": torch.full((length, 3), float(length)),
                "region_features": torch.ones(2, 4),
                "image_embeds": torch.full((5,), float(length)),
                "text_present": torch.tensor(length > 1),
            },
            labels={"sentiment": length, "humour": -100},
        )
        for length in (1, 3)
    ]
    batch = FeatureCollator(["humour", "sentiment"])(rows)
    assert batch["attention_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch["region_mask"].all() and batch["region_mask"].shape == (2, 2)
    assert batch["token_features"].sum(-1).tolist() == [[3.0, 0.0, 0.0], [9.0, 9.0, 9.0]]
    assert batch["image_embeds"][:, 0].tolist() == [1.0, 3.0]
    assert batch["text_present"].tolist() == [False, True]
    assert {task: values.tolist() for task, values in batch["labels"].items()} == {
        "humour": [-100, -100],
        "sentiment": [1, 3],
    }


def test_a_row_that_cannot_be_read_is_named_by_its_number_in_the_table() -> None:
    def processor(images: Any = None, text: Any = None, return_tensors: str | None = None) -> dict[str, Any]:
        for row, value in enumerate(text or [None]):
            if value is None:
                raise ValueError(f"row {row}: nothing to read")
        return {}

    rows = [Record(str(7 + index), text=text) for index, text in enumerate("ab")]
    collator = MemeCollator(processor, [])  # type: ignore[arg-type]
    assert collator(rows) == {"labels": {}}
    with pytest.raises(ValueError, match=r"^row 8: nothing to read$"):
        collator([rows[0], Record("8")])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_made_ahead_are_the_same_batches(device: str) -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(1, 4):
            made.append(number)
            yield number
        raise ValueError("the fourth cannot be read")

    used = []
    with pytest.raises(ValueError, match="the fourth"):
        for number in ahead(batches(), torch.device(device)):
            used.append(number)
    assert used == made == [1, 2, 3]
