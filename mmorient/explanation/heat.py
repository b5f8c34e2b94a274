"""Heat: attention drawn over a picture and behind words.

Attention is shown relative to an even share, the mean over the regions or words, so that nearly even
attention looks even: there is no heat at an even share or less, and full heat at the largest share or at
twice the even one, whichever is larger.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image

# Longest side of a picture in the page, in pixels.
PICTURE_SIZE = 512
# Of full heat; the picture below still shows through.
OPACITY = 0.75
LEGEND_STEPS = 9


class Heat(NamedTuple):
    """Shares of attention as heat.

    Args:
        levels: Of the shares' shape, 0 (an even share or less) to 1 (`full` or more).
        even: The even share.
        full: The share at which heat is full.
        largest: The largest share.
    """

    levels: np.ndarray
    even: float
    full: float
    largest: float


def heat(shares: Any) -> Heat:
    r"""Heat of shares of attention.

        level = clip((w - m) / (max(2m, max w) - m), 0, 1), where m is the mean of w

    Args:
        shares: w, at least one, in any shape and none below 0. They need not sum to one: special tokens have
            attention too, but are not words.
    """
    weights = np.asarray(shares, dtype=float)
    even, largest = float(weights.mean()), float(weights.max())
    full = max(2 * even, largest)
    levels = (weights - even).clip(0) / (full - even) if even else np.zeros_like(weights)
    return Heat(levels, even, full, largest)


def draw_heat(picture: Image.Image, levels: np.ndarray) -> Image.Image:
    """A picture in gray with heat over it, smooth between the centres of the regions.

    Args:
        picture: RGB.
        levels: (grid rows, grid columns) in [0, 1]; the grid covers the picture.
    """
    field = Image.fromarray(levels.astype(np.float32))
    smooth = np.asarray(field.resize(picture.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colors = _colors(smooth)
    alpha = colors[..., 3:]
    gray = np.asarray(picture.convert("L"), dtype=float)[..., None] / 255
    mixed = gray * (1 - alpha) + colors[..., :3] * alpha
    return Image.fromarray(np.rint(mixed * 255).astype(np.uint8))


def _colors(levels: np.ndarray) -> np.ndarray:
    """RGBA in [0, 1]; the colormap's ends, nearly white and nearly black, are left out."""
    colors = matplotlib.colormaps["YlOrRd"](0.3 + levels * 0.5)
    colors[..., 3] = OPACITY * np.sqrt(levels)  # little more than an even share is still visible
    return colors


def legend_gradient() -> str:
    """The colours from no heat to full heat as a CSS gradient."""
    steps = [
        f"rgb({red:.0%} {green:.0%} {blue:.0%} / {alpha:.2f})"
        for red, green, blue, alpha in _colors(np.linspace(0, 1, LEGEND_STEPS))
    ]
    return f"linear-gradient(to right, {', '.join(steps)})"


def seen_image(image_processor: Any, picture: Image.Image) -> Image.Image:
    """The part of a picture that the model sees: all of it, unless the image processor crops it.

    The grid of regions covers only that part. (`MMOrientProcessor.from_backbones` crops nothing.)
    """
    cuts = getattr(image_processor, "do_center_crop", False) or getattr(image_processor, "crop_pct", None)
    if not cuts:
        return picture
    handed_on = image_processor(images=picture, do_rescale=False, do_normalize=False, return_tensors="np")
    channels_first: Any = handed_on["pixel_values"][0]
    return Image.fromarray(np.moveaxis(channels_first, 0, -1).clip(0, 255).astype(np.uint8))


def scaled(picture: Image.Image) -> Image.Image:
    """A picture scaled, up or down, so that its longest side is `PICTURE_SIZE`: heat needs the pixels."""
    factor = PICTURE_SIZE / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def image_uri(picture: Image.Image) -> str:
    """A picture as a `data:` URI of a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def describe_heat(attention: Sequence[Sequence[float]]) -> str:
    """Where the most attention lies, for those who do not see the picture."""
    weights = np.asarray(attention, dtype=float)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    rows, columns = weights.shape
    return (
        f"most attention, {weights.max():.1%}, in row {row + 1} of {rows} from the top, "
        f"column {column + 1} of {columns} from the left"
    )
