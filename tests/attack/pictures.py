"""Picture files, good, odd and broken, made in memory."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "JPEG2000")


def colours(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """A picture of few colours, which every format can hold; lossless ones without loss."""
    random_state = np.random.default_rng(seed)
    small = random_state.choice([0, 85, 170, 255], (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, contents: bytes) -> bytes:
    """A chunk of a PNG file, with the checksum that belongs to it."""
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def png(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 2, *chunks: bytes) -> bytes:
    """A PNG file with any header: what it says of its size need not fit its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def damaged(contents: bytes, rng: random.Random) -> bytes:
    """The file cut off, or with some of its bytes altered, left out, put twice or zeroed."""
    changed = bytearray(contents)
    for _ in range(rng.choice((1, 1, 3, 20))):
        place = rng.randrange(max(len(changed), 1))
        how = rng.randrange(5)
        if how == 0:
            changed = changed[:place]
        elif how == 1 and changed:
            changed[min(place, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif how == 2:
            del changed[place : place + rng.randrange(1, 9)]
        elif how == 3:
            changed[place:place] = changed[place : place + rng.randrange(1, 99)]
        else:
            length = rng.choice((2, 4))
            changed[place : place + length] = rng.choice((b"\xff", b"\x00", b"\x7f")) * length
    return bytes(changed)


def bombs() -> dict[str, bytes]:
    """Small files that ask for much, by name."""
    zeros = zlib.compress(bytes(200 << 20), 9)
    text = chunk(b"zTXt", b"comment\x00\x00" + zeros)
    profile = chunk(b"iCCP", b"profile\x00\x00" + zeros)
    wide = struct.pack("<HHI", 42, 42, 0)
    return {
        "PNG of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1, b""),
        "PNG of 60,000 x 60,000": png(60_000, 60_000, bytes(1000)),
        "PNG of 1 x 80,000,000": png(1, 80_000_000, b""),
        "PNG of 80,000,000 x 1": png(80_000_000, 1, bytes(1000), 1, 0),
        "PNG whose pixels go on": png(8, 8, bytes(100 << 20)),
        "PNG with a long text": png(8, 8, bytes(8 * 25), 8, 2, text),
        "PNG with a long profile": png(8, 8, bytes(8 * 25), 8, 2, profile),
        "PNG of no width": png(0, 8, b""),
        "PNG of depth 99": png(8, 8, bytes(999), 99),
        "PPM of 99,999 x 99,999": b"P6 99999 99999 255\n" + bytes(100),
        "PPM with a long header": b"P6 " + b"9" * 100_000 + b" 1 255\n",
        "PPM with a comment": b"P6 #" + b"x" * 1_000_000,
        "BMP of 2^31 lines": b"BM"
        + bytes(12)
        + struct.pack("<IiiHHIIiiII", 40, 100, 2**31 - 1, 1, 24, *[0] * 6),
        "BMP of -2^31 lines": b"BM"
        + bytes(12)
        + struct.pack("<IiiHHIIiiII", 40, 100, -(2**31), 1, 24, *[0] * 6),
        "GIF of 65,535 x 65,535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",",
        "TIFF whose directories are a circle": b"II*\x00\x08\x00\x00\x00" + b"\x00\x00\x08\x00\x00\x00",
        "TIFF of odd tags": b"II*\x00\x08\x00\x00\x00\xff\xff" + wide * 4000,
        "ICO of 65,535 pictures": b"\x00\x00\x01\x00\xff\xff" + bytes(16) * 65535,
    }


def documents() -> dict[str, bytes]:
    """Files that are no pictures, or of formats that would run something, by name."""
    return {
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>',
        "SVG with an entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "HTML": b"<html><body>not found</body></html>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch evil) (w) file\n",
        "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "JSON": b'{"error": "not found"}',
        "a pickle": b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.",
        "a ZIP": b"PK\x03\x04" + bytes(60),
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "FLI": bytes([0, 0, 0, 0, 0x11, 0xAF]) + bytes(200),
        "zeros": bytes(5000),
        "one byte": b"\x89",
        "XBM": b"#define x_width 9\n#define x_height 9\nstatic char x_bits[] = {0};",
        "a header alone": b"\x89PNG\r\n\x1a\n",
    }
