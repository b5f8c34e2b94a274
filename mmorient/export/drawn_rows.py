"""Drawn memes as a processor's tensors: what a graph is traced with and checked on."""

import csv
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmorient.samples.memes import MIN_ROWS, draw_memes

# A meme: its image and its text, None where it has none.
Meme = tuple[Image.Image | None, str | None]


def drawn_memes(count: int, seed: int = 0) -> list[Meme]:
    """Drawn memes, of which every third lacks its image or its text and some texts are a single word."""
    with TemporaryDirectory() as folder:
        tables = draw_memes(folder, rows=max(MIN_ROWS, count), seed=seed)
        rows = [row for path in tables.values() for row in csv.DictReader(path.open(encoding="utf-8"))]
        memes: list[Meme] = []
        for number, row in enumerate(rows[:count]):
            with Image.open(Path(folder) / row["image"]) as image:
                image.load()
            text = row["text"].split()[0] if number % 5 == 4 else row["text"]
            memes.append((None if number % 6 == 1 else image, None if number % 6 == 4 else text))
    return memes


def as_inputs(model: Any, processor: Any, memes: Sequence[Meme], seed: int = 0) -> dict[str, torch.Tensor]:
    """What the model is asked about memes: the processor's tensors, and random `task_features` if it has any.

    A processor without tokenizers gets no texts, one without an image processor no images; a meme that is
    left without both gets a text or an image again.
    """
    images = [image for image, _ in memes] if processor.image_processor is not None else None
    has_text = processor.tokenizer is not None or processor.joint_tokenizer is not None
    texts = [text for _, text in memes] if has_text else None
    if texts is None and images is not None:
        images = [image or Image.new("RGB", (64, 64), "gray") for image in images]
    if images is None and texts is not None:
        texts = [text or "none" for text in texts]
    inputs = dict(processor(images=images, text=texts, return_tensors="pt"))
    if model.config.task_feature_dim:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(memes), model.config.task_feature_dim)
        inputs["task_features"] = torch.randn(shape, generator=generator)
    return inputs


def as_arrays(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The same as onnxruntime takes it."""
    return {name: values.numpy() for name, values in inputs.items()}
