"""Rows that lose their picture or their text in training, so that no answer depends on one of them alone."""

from dataclasses import replace

import torch
from torch import nn

from .features import EncodedFeatures


class ModalityDropout(nn.Module):
    """Hides the picture or the text, with equal probability, of some rows that have both. In training only.

    A hidden modality is treated as a missing one: it gets the stand-ins, and is no row's neighbour.

    Args:
        p: Probability that a row loses one of its two modalities.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, features: EncodedFeatures) -> EncodedFeatures:
        if not self.training or self.p == 0:
            return features
        has_image, has_text = features.image_present, features.text_present
        draw = torch.rand(has_image.shape, device=has_image.device)
        hides_image = has_text & (draw < self.p / 2)
        hides_text = has_image & (draw >= self.p / 2) & (draw < self.p)
        return replace(features, image_present=has_image & ~hides_image, text_present=has_text & ~hides_text)

    def extra_repr(self) -> str:
        return f"p={self.p}"
