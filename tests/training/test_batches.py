"""Precomputed features stand for raw inputs, and padding changes nothing."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import ViTImageProcessorPil

from modeling_mmorient import MMOrientProcessor
from training.assemble import train_tokenizer
from training.batches import FeatureCollator, MemeCollator, precompute_features

TEXTS = ["a short one", None, "a text that is much longer than the others are", "one more"]


@pytest.fixture
def table() -> Any:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (8, 8, 3)).tolist() for _ in TEXTS]
    labels = [{"sentiment": index % 3} for index in range(len(TEXTS))]
    return datasets.Dataset.from_dict({"image": [*images[:3], None], "text": TEXTS, "labels": labels})


class ArrayCollator(MemeCollator):
    """Pictures come as nested lists here instead of paths."""

    def __call__(self, rows: Any) -> dict[str, Any]:
        arrays = [None if row["image"] is None else np.array(row["image"], dtype=np.uint8) for row in rows]
        return super().__call__([{**row, "image": array} for row, array in zip(rows, arrays, strict=True)])


def test_features_computed_once_give_the_logits_of_the_raw_rows(
    make_model: Callable[..., Any], table: Any
) -> None:
    model = make_model("vision", tasks={"sentiment": ["a", "b", "c"]})
    size = {"height": 64, "width": 64}
    tokenizer = train_tokenizer([text for text in TEXTS if text], 50)
    processor = MMOrientProcessor(
        image_processor=ViTImageProcessorPil(size=size), tokenizer=tokenizer, text_max_length=12
    )
    collator = ArrayCollator(processor, ["sentiment"])
    rows = precompute_features(model, table, collator, 3, torch.device("cpu"), "test")
    lengths = [len(rows[index]["features"]["token_features"]) for index in range(4)]
    assert lengths[0] < lengths[2] and len(rows) == 4
    assert not any(value.requires_grad for value in rows[0]["features"].values())
    raw = collator([table[index] for index in range(4)])
    cached = FeatureCollator(["sentiment"])([rows[index] for index in range(4)])
    assert torch.equal(raw["labels"]["sentiment"], cached["labels"]["sentiment"])
    with torch.no_grad():
        expected, found = model(**raw), model(**cached)
    torch.testing.assert_close(found.logits["sentiment"], expected.logits["sentiment"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=0)


def test_a_row_that_cannot_be_read_is_named_by_its_number_in_the_table() -> None:
    def processor(images: list[Any], text: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        for row, value in enumerate(text):
            if value is None:
                raise ValueError(f"row {row}: nothing to read")
        return {}

    rows = [{"row": 7 + index, "image": None, "text": text, "labels": {}} for index, text in enumerate("ab")]
    collator = MemeCollator(processor, [])  # type: ignore[arg-type]
    assert collator(rows) == {"labels": {}}
    with pytest.raises(ValueError, match=r"^row 8: nothing to read$"):
        collator([rows[0], {**rows[1], "text": None}])
