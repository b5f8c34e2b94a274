"""Passes of rows through a model in which a row's answer has the same bits alone and among any others.

Matrix products sum up in an order that depends on how many rows they have, so the last bits of a row's logits
depend on the size of its batch. They do not where every pass has the same shape:

- On CPU a pass is one row, of its own length.
- On an accelerator, which takes about as long for a few rows as for one, a pass is always `PASS_ROWS` rows
  with both modalities, texts padded to the processor's full length. What is missing is filled up with copies
  of the last row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

PASS_ROWS = 8

Inputs = Mapping[str, torch.Tensor]


def rows_of_a_pass(device: torch.device) -> int:
    """How many rows a pass has on a device."""
    return 1 if device.type == "cpu" else PASS_ROWS


def prepare_row(
    processor: Any, image: Any, text: str | None, device: torch.device
) -> dict[str, torch.Tensor]:
    """One row's inputs of the model, (1, ...) each, for `logits_of_rows`.

    Args:
        processor: The model's.
        image: As the processor takes it; None: the row has none.
        text: None: the row has none.
        device: Of the model.

    Raises:
        ValueError: If the processor refuses the row.
    """
    given: dict[str, Any] = {"images": [image], "text": [text]}
    if rows_of_a_pass(device) == 1:
        given = {name: values for name, values in given.items() if values[0] is not None}
        return dict(processor(**given, return_tensors="pt"))
    if image is None and processor.image_processor is None:
        del given["images"]
    tokenizers = (processor.tokenizer, processor.joint_tokenizer)
    if text is None and tokenizers == (None, None):
        del given["text"]
    elif processor.tokenizer is not None:
        given["padding"] = "max_length"
    inputs = dict(processor(**given, return_tensors="pt"))
    for name, filler in (("input_ids", getattr(tokenizers[1], "pad_token_id", 0)), ("attention_mask", 0)):
        values = inputs.get(f"joint_{name}")
        if values is not None:
            short = processor.joint_max_length - values.shape[1]
            inputs[f"joint_{name}"] = functional.pad(values, (0, short), value=filler)
    return inputs


def logits_of_rows(model: Any, rows: Sequence[Inputs]) -> list[dict[str, torch.Tensor]]:
    """Logits (1, C) by task of each row.

    Args:
        model: In evaluation mode.
        rows: Of `prepare_row`, on the model's device.
    """
    number = rows_of_a_pass(model.device)
    if number == 1:
        return [model(**row).logits for row in rows]
    found = []
    for start in range(0, len(rows), number):
        some = list(rows[start : start + number])
        filled = some + [some[-1]] * (number - len(some))
        logits = model(**{name: torch.cat([row[name] for row in filled]) for name in some[0]}).logits
        found += [{task: values[[index]] for task, values in logits.items()} for index in range(len(some))]
    return found
