"""A processor's parts from pretrained encoders, fitted to memes and to the encoder's limits."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoTokenizer, ViTImageProcessorPil

# From its module: transformers 5.17 otherwise hands out a stand-in that asks for torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .encoder_kinds import OFFSET_KINDS


def load_config(source: Any) -> Any:
    """The configuration of the encoder at `source` (Hub id or folder), never by code of its own."""
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def load_tokenizer(source: Any, config: Any) -> Any:
    """The tokenizer at `source`, limited to the positions that the encoder of `config` has."""
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        if config.model_type in OFFSET_KINDS:
            positions -= config.pad_token_id + 1
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def load_image_processor(source: Any) -> Any:
    """The image processor at `source`, set to show the whole picture.

    Most image processors resize the shorter side and cut out the center. The captions of memes
    stand at their borders, so the whole picture is squashed to the size of the cut instead.
    """
    loader: Any = AutoImageProcessor  # mypy cannot follow its decorator
    image_processor = loader.from_pretrained(source, trust_remote_code=False)
    if getattr(image_processor, "do_center_crop", False):
        image_processor.size = image_processor.crop_size
        image_processor.do_center_crop = False
    elif getattr(image_processor, "crop_pct", None) is not None:
        # ConvNeXt's processor (ResNet has it, too) cannot skip its crop; ViT's does everything else it does.
        options = ("do_resize", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
        side = image_processor.size["shortest_edge"]
        image_processor = ViTImageProcessorPil(
            size={"height": side, "width": side},
            resample=image_processor.resample,
            **{name: getattr(image_processor, name) for name in options},
        )
    return image_processor
