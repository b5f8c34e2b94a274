"""Small tokenizers and image processors for the tests of the processor."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BatchFeature,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIZE = 24
SQUARE = {"height": SIZE, "width": SIZE}
MEME = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
WORDS = ["when", "the", "build", "is", "green", "and", "red", "one", "two"]
FRAME = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
JOINT_FRAME = ("<pad>", "<s>", "</s>", "<unk>")


def make_tokenizer(
    frame: tuple[str, ...] = FRAME, limit: int = 256, special: bool = True, **options: Any
) -> PreTrainedTokenizerFast:
    """One token a word, lower-cased, between the second and third token of `frame`."""
    pad, start, end, unknown = frame
    vocabulary = {word: index for index, word in enumerate([*frame, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}", special_tokens=[(start, 1), (end, 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=limit,
        **{"pad_token": pad, "cls_token": start, "unk_token": unknown, "eos_token": end, **options},
    )


def make_image_processor(**options: Any) -> Any:
    return CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SQUARE, **options)


def make_parts() -> dict[str, Any]:
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return {
        "image_processor": make_image_processor(),
        "joint_tokenizer": make_tokenizer(JOINT_FRAME, limit=12),
        "tokenizer": make_tokenizer(model_input_names=names),
    }


def same(first: BatchFeature, second: BatchFeature) -> bool:
    return set(first) == set(second) and all(torch.equal(first[n], second[n]) for n in first)
