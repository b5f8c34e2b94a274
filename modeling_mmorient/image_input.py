"""Pictures in any common form (files, bytes, PIL, arrays) to upright 8-bit RGB of a limited aspect ratio."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import requires_backends

try:
    from PIL import Image, ImageOps
except ImportError:  # models that read only features or texts do not need it
    Image = ImageOps = None  # type: ignore[assignment]

#: Largest picture that is decoded, in pixels (Pillow's own threshold for a decompression bomb).
MAX_PIXELS = 89_478_485
#: Largest ratio of the longer to the shorter side that is handed on.
MAX_ASPECT_RATIO = 16
#: Longest side, in pixels, of a picture whose aspect ratio had to be limited.
MAX_STRIP_LENGTH = 4096
#: File formats that are decoded. Raster formats only: EPS, for one, would start an interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_ALPHA_MODES = {"RGBA", "RGBa", "LA", "La", "PA"}
_WHITE = (255, 255, 255)


def is_single_image(images: Any) -> bool:
    """Whether `images` is one picture rather than a sequence with one entry per row."""
    return isinstance(images, str | bytes | bytearray) or not isinstance(images, Sequence)


def load_image(value: Any, channels_first: bool | None = None) -> Image.Image:
    """Turn one picture of any supported form into an RGB picture that an image processor can take.

    - EXIF orientation is applied; of an animation (GIF, WebP, APNG) the first frame is taken.
    - Transparent pictures are laid on white, the color of the page they were drawn for.
    - 16-bit gray values are divided by 257, not clipped.
    - A picture of more than `MAX_ASPECT_RATIO` : 1 is shrunk to `MAX_STRIP_LENGTH` pixels if it is
      longer, then padded with white along its short side until the ratio is met. Without it,
      resizing a 1 x 5000 picture by its shortest edge to 224 asks for 224 x 1,120,000 pixels.

    Args:
        value: A PIL picture; a numpy array or torch tensor of shape (height, width),
            (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels, as
            booleans, integers in [0, 255], `uint16`, or floats in [0, 1] or [0, 255] (an array
            without any value above 1 is taken for [0, 1]); a path (`str` or `Path`); or the bytes
            of a picture file. URLs are not fetched.
        channels_first: How to read an array that can be read both ways. Default: tensors have
            their channels first, numpy arrays last.

    Returns:
        A picture of mode RGB that shares no memory with `value`.

    Raises:
        ValueError: `value` is of another type, is a URL, cannot be read, has more than
            `MAX_PIXELS` pixels, or is an array of the wrong shape, type or range.
    """
    requires_backends(load_image, "vision")
    if isinstance(value, torch.Tensor):
        if value.is_meta or value.layout != torch.strided:
            raise ValueError(
                f"a picture tensor is dense and has values, got one of layout {value.layout} on the device "
                f"{value.device}"
            )
        tensor = value.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        picture = _from_array(array, True if channels_first is None else channels_first)
    elif isinstance(value, np.ndarray):
        picture = _from_array(value, bool(channels_first))
    elif isinstance(value, str | os.PathLike | bytes | bytearray):
        picture = _from_file(value)
    elif isinstance(value, Image.Image):
        picture = _decode(value)
    else:
        raise ValueError(
            f"cannot read a picture from {type(value).__name__}; pass a PIL image, a numpy array, "
            "a torch tensor, a path, or the bytes of a picture file"
        )
    return _limit_aspect_ratio(picture)


def _from_file(source: str | os.PathLike[str] | bytes | bytearray) -> Image.Image:
    file: Path | io.BytesIO
    if isinstance(source, bytes | bytearray):
        if not source:
            raise ValueError("the picture has zero bytes; pass None for a missing picture")
        file, name = io.BytesIO(source), f"{len(source)} bytes"
    else:
        path = os.fspath(source)
        name = repr(path) if len(path) <= 200 else f"{path[:200]!r}..."
        if _URL.match(path):
            raise ValueError(
                f"URLs are never fetched, got {name}; download it and pass the file's path or bytes"
            )
        file = Path(path)
        _check_file(file, name)
    Image.init()
    try:
        opened = Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {error} Scale the picture down before.") from error
    # Decoders raise nearly anything on a broken file (struct.error, SyntaxError, EOFError, ...).
    except Exception as error:
        raise ValueError(
            f"cannot read a picture from {name}: {error}; formats known: {', '.join(FORMATS)}"
        ) from error
    with opened:
        return _decode(opened, name)


def _check_file(path: Path, name: str) -> None:
    try:
        if path.is_file():
            problem = "the file is empty" if path.stat().st_size == 0 else None
        elif path.is_dir():
            problem = "it is a directory"
        else:
            problem = "it is no regular file" if path.exists() else "there is no such file"
    except (OSError, ValueError) as error:
        problem = str(error)[:200]
    if problem is not None:
        raise ValueError(f"cannot read a picture from {name}: {problem}; pass the path of a picture file")


def _decode(picture: Image.Image, name: str = "the PIL image") -> Image.Image:
    """Decode pixels, turn upright, and convert to RGB; `picture` itself stays as it is."""
    width, height = picture.size
    if width * height > MAX_PIXELS:  # known from the header, before any pixel is decoded
        raise ValueError(
            f"{name} has {width} x {height} pixels, more than the limit of {MAX_PIXELS}; scale it down before"
        )
    if not width or not height:
        raise ValueError(f"{name} has no pixels ({width} x {height})")
    try:
        picture.load()
        return _to_rgb(_upright(picture))
    except Exception as error:
        raise ValueError(f"cannot decode {name}: {error}") from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        # Damaged metadata says nothing about the pixels, which were decoded without complaint.
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        array = np.asarray(picture)
        if picture.mode == "I" and array.max() > 255:  # some versions of Pillow open 16-bit files like this
            array = array.clip(0, 65535).astype(np.uint16)
        return _from_array(array, channels_first=False)
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        page = Image.new("RGB", layer.size, _WHITE)
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    # convert() hands back a copy even where the mode is RGB already
    return picture.convert("RGB")


def _from_array(array: np.ndarray, channels_first: bool) -> Image.Image:
    """`channels_first` decides only where the shape allows both readings."""
    shape = array.shape
    if array.ndim not in (2, 3):
        raise ValueError(
            f"a picture array has 2 or 3 dimensions, got shape {shape}; split a batch into a list of pictures"
        )
    if 0 in shape:
        raise ValueError(f"the picture array of shape {shape} has no pixels")
    if array.ndim == 3:
        first, last = shape[0] in (1, 3, 4), shape[2] in (1, 3, 4)
        if not first and not last:
            raise ValueError(f"a picture array has 1, 3 or 4 channels, first or last, got shape {shape}")
        if first and (channels_first or not last):
            array = np.moveaxis(array, 0, -1)
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(
            f"the picture array of shape {shape} has more than {MAX_PIXELS} pixels; scale it down before"
        )
    pixels = _to_uint8(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    """Values of an array picture to [0, 255]; `load_image` says which ranges are understood."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        raise ValueError(f"a picture array holds numbers, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError("the picture array holds NaN or infinite values")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        scale, limit = (255.0, 1) if high <= 1 else (1.0, 255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        scale, limit = 1 / 257, 65535
    else:
        scale, limit = 1.0, 255
    if low < 0 or high > limit:
        raise ValueError(
            f"the picture array holds values in [{low}, {high}]; pass integers in [0, 255], "
            "uint16, or floats in [0, 1] or [0, 255], before any normalization"
        )
    return np.rint(array * scale).astype(np.uint8)


def _limit_aspect_ratio(picture: Image.Image) -> Image.Image:
    longest, shortest = max(picture.size), min(picture.size)
    if longest <= MAX_ASPECT_RATIO * shortest:
        return picture
    scale = min(1.0, MAX_STRIP_LENGTH / longest)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if scale < 1:
        # By whole pixels first: the weights of a single step from a very long strip fill gigabytes.
        picture = picture.resize((width, height), reducing_gap=3.0)
    side = -(-max(width, height) // MAX_ASPECT_RATIO)
    page = Image.new("RGB", (max(width, side), max(height, side)), _WHITE)
    page.paste(picture, ((page.width - width) // 2, (page.height - height) // 2))
    return page


def blank_image() -> Image.Image:
    """A small picture, for finding out what size an image processor hands on."""
    return Image.new("RGB", (32, 32), _WHITE)
