"""Every form of picture comes out upright, 8-bit, RGB and of sane shape, or not at all."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_mmorient import image_input
from modeling_mmorient.image_input import MAX_ASPECT_RATIO, MAX_STRIP_LENGTH, load_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _sample(width: int = 6, height: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _encoded(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be of this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def _assert_pixels(value: Any, expected: np.ndarray, **options: Any) -> None:
    loaded = load_image(value, **options)
    assert loaded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(loaded), expected)


def test_all_forms_of_a_picture_are_the_same_picture(tmp_path: Path) -> None:
    pixels = _sample()
    picture = Image.fromarray(pixels)
    path = tmp_path / "meme.png"
    picture.save(path)
    forms: list[Any] = [picture, path, str(path), path.read_bytes(), bytearray(path.read_bytes())]
    forms += [pixels, np.moveaxis(pixels, -1, 0), pixels.astype(np.int64), pixels / 255.0]
    forms += [pixels.astype(np.float32), pixels.astype(np.uint16) * 257]
    forms += [torch.from_numpy(pixels), torch.from_numpy(np.moveaxis(pixels, -1, 0) / 255.0)]
    forms += [torch.from_numpy(pixels / 255.0).requires_grad_(), Image.open(path)]
    for form in forms:
        _assert_pixels(form, pixels)


def test_the_given_picture_is_left_alone() -> None:
    pixels = _sample()
    picture = Image.fromarray(pixels)
    load_image(picture).paste(RED, (0, 0, 6, 5))
    load_image(pixels).paste(RED, (0, 0, 6, 5))
    np.testing.assert_array_equal(np.asarray(picture), _sample())
    np.testing.assert_array_equal(pixels, _sample())


def test_gray_arrays_and_booleans() -> None:
    gray = _sample()[:, :, 0]
    expected = np.repeat(gray[:, :, None], 3, axis=2)
    for form in (gray, gray[:, :, None], gray[None], torch.from_numpy(gray)):
        _assert_pixels(form, expected)
    _assert_pixels(gray > 127, np.where(expected > 127, 255, 0).astype(np.uint8))


def test_ambiguous_arrays_follow_the_custom_of_their_library() -> None:
    pixels = _sample(width=3, height=3)
    _assert_pixels(pixels, pixels)
    _assert_pixels(torch.from_numpy(pixels), np.moveaxis(pixels, 0, -1))
    _assert_pixels(torch.from_numpy(pixels), pixels, channels_first=False)
    _assert_pixels(pixels, np.moveaxis(pixels, 0, -1), channels_first=True)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes_without_transparency(mode: str) -> None:
    picture = Image.fromarray(_sample()).convert(mode)
    _assert_pixels(picture, np.asarray(picture.convert("RGB")))


def test_transparency_shows_white() -> None:
    clear, half = (255, 0, 0, 0), (0, 0, 0, 128)
    picture = Image.new("RGBA", (3, 1), clear)
    picture.putpixel((1, 0), (*BLUE, 255))
    picture.putpixel((2, 0), half)
    expected = np.array([[WHITE, BLUE, (127, 127, 127)]], dtype=np.uint8)
    _assert_pixels(picture, expected)
    _assert_pixels(np.asarray(picture), expected)
    _assert_pixels(_encoded(picture, format="PNG"), expected)
    _assert_pixels(Image.new("LA", (1, 1), (0, 0)), expected[:, :1])


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_color_shows_white(mode: str) -> None:
    picture = Image.new(mode, (2, 1), 0)
    picture.putpixel((1, 0), 9 if mode != "RGB" else RED)
    if mode == "P":
        picture.putpalette([0, 0, 0] * 9 + list(RED))
    transparent = (0, 0, 0) if mode == "RGB" else 0
    loaded = load_image(_encoded(picture, format="PNG", transparency=transparent))
    assert loaded.getpixel((0, 0)) == WHITE
    assert loaded.getpixel((1, 0)) == ((9, 9, 9) if mode == "L" else RED)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    expected = np.repeat(np.array([[0, 1, 128, 255]], dtype=np.uint8)[:, :, None], 3, axis=2)
    picture = Image.fromarray(values)
    assert picture.mode == "I;16"
    _assert_pixels(picture, expected)
    _assert_pixels(values, expected)
    _assert_pixels(picture.convert("I"), expected)
    _assert_pixels(_encoded(picture, format="PNG"), expected)
    _assert_pixels(_encoded(picture, format="TIFF"), expected)
    _assert_pixels(Image.fromarray(values / np.float32(65535)), expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN, BLUE)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = _encoded(frames[0], format=kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.n_frames == 3
        animation.seek(0)
        _assert_pixels(animation, np.full((4, 4, 3), RED, dtype=np.uint8))
    _assert_pixels(data, np.full((4, 4, 3), RED, dtype=np.uint8))


def test_exif_orientation_is_applied() -> None:
    picture = Image.fromarray(_sample())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    _assert_pixels(_encoded(picture, format="PNG", exif=exif), np.rot90(_sample(), -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_a_good_picture() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12" + b"\xff" * 20
    picture = Image.fromarray(_sample())
    _assert_pixels(_encoded(picture, format="PNG", exif=exif), _sample())


def test_one_pixel() -> None:
    _assert_pixels(Image.new("RGB", (1, 1), RED), np.array([[RED]], dtype=np.uint8))
    _assert_pixels(np.array([[RED]], dtype=np.uint8), np.array([[RED]], dtype=np.uint8))
    _assert_pixels(torch.tensor(RED).view(3, 1, 1), np.array([[RED]], dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 200), (70_000, 2), (1, 80_000)])
def test_strips_are_brought_to_a_sane_shape(size: tuple[int, int]) -> None:
    loaded = load_image(Image.new("RGB", size, RED))
    assert max(loaded.size) <= MAX_ASPECT_RATIO * min(loaded.size)
    assert max(loaded.size) == min(max(size), MAX_STRIP_LENGTH)
    assert (loaded.width > loaded.height) == (size[0] > size[1])
    middle = loaded.getpixel(((loaded.width - 1) // 2, (loaded.height - 1) // 2))
    assert middle == RED
    assert loaded.getpixel((0, 0)) == WHITE


def test_common_shapes_are_left_alone() -> None:
    for size in ((16, 1), (30, 400), (1000, 900)):
        assert load_image(Image.new("RGB", size)).size == size


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_unread() -> None:
    with pytest.raises(ValueError, match=r"(?i)scale .*down before"):
        load_image(_png_header(50_000, 50_000))
    with pytest.raises(ValueError, match="10000 x 10000 pixels, more than the limit"):
        load_image(_png_header(10_000, 10_000))


def test_a_bomb_is_refused_where_pillow_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match="50000 x 50000 pixels, more than the limit"):
        load_image(_png_header(50_000, 50_000))


def test_large_arrays_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_input, "MAX_PIXELS", 10)
    with pytest.raises(ValueError, match="more than 10 pixels"):
        load_image(_sample())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "zero bytes"),
        (b"not a picture", "13 bytes"),
        (_encoded(Image.new("RGB", (64, 64), RED), format="PNG")[:60], "bytes"),
        (_encoded(Image.effect_noise((64, 64), 50), format="JPEG")[:900], "bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot read"),
        ("https://example.com/meme.png", "never fetched.*download"),
        ("data:image/png;base64,AAAA", "never fetched"),
        ("file:///meme.png", "never fetched"),
        ("no/such/file.png", "no such file"),
        ("nul\0byte", "cannot read"),
        ("x" * 10_000, "cannot read"),
        (np.zeros((4, 4, 3)) * np.nan, "NaN"),
        (np.full((4, 4, 3), np.inf), "infinite"),
        (np.zeros(4), "2 or 3 dimensions"),
        (np.zeros((2, 4, 4, 3)), "list of pictures"),
        (np.zeros((5, 4, 5)), "1, 3 or 4 channels"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.full((4, 4, 3), -1), "normalization"),
        (np.full((4, 4, 3), 300), "normalization"),
        (np.full((4, 4, 3), -0.5), "normalization"),
        (np.full((4, 4), 256.0), "normalization"),
        (np.full((4, 4), "a"), "dtype"),
        (np.zeros((4, 4), dtype=complex), "dtype"),
        (Image.new("RGB", (0, 2)), "no pixels"),
        (7, "int"),
        ({"bytes": b""}, "dict"),
    ],
)
def test_what_cannot_be_read_is_an_error(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_image(value)
    assert len(str(caught.value)) < 1000


def test_paths_that_are_no_picture_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    for path, message in (
        (tmp_path, "directory"),
        (tmp_path / "empty.png", "empty"),
        (tmp_path / "text.png", "text.png"),
        (Path("/dev/null"), "no regular file"),
    ):
        with pytest.raises(ValueError, match=message):
            load_image(path)
