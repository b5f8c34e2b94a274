"""Attacks on the processor: pictures and texts of every wrong form, size, mode and encoding; keywords.

What is answered is compared with the same pixels given as an array, or with the same row alone.
"""

import io
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import Case, amount, check
from pictures import FORMATS, bombs, colours, damaged, documents, encoded
from PIL import Image

from modeling_mmorient import MMOrientProcessor

sys.path.insert(0, str(Path(__file__).parents[1] / "modeling_mmorient"))
from processor_parts import SIZE, WORDS, make_parts

Attack = Callable[[Iterable[Case]], None]
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def processor() -> MMOrientProcessor:
    return MMOrientProcessor(**make_parts())


def see(
    processor: MMOrientProcessor, picture: Any, expected: Image.Image | None = None, near: float = 0.05
) -> None:
    """Processes one picture; compares with `expected`, where it is known what the picture shows."""
    pixels = processor(images=picture, text="one", return_tensors="pt")["pixel_values"]
    check(pixels.shape == (1, 3, SIZE, SIZE), f"pixels of shape {tuple(pixels.shape)}")
    check(bool(pixels.isfinite().all()), "pixels that are not finite")
    if expected is not None:
        right = processor(images=expected, text="one", return_tensors="pt")["pixel_values"]
        difference = float((pixels - right).abs().mean())
        check(difference <= near, f"pixels differ by {difference:.3f} on average")


def refuse(processor: MMOrientProcessor, picture: Any) -> None:
    processor(images=picture, text="one", return_tensors="pt")
    check(False, f"was taken for a picture: {picture!r:.100}")


def of_forms(processor: MMOrientProcessor, folder: Path) -> Iterator[Case]:
    """One picture in every form that it can have."""
    picture = colours()
    array = np.asarray(picture)
    upside = encoded(picture.transpose(Image.Transpose.ROTATE_90), exif=_exif(6))
    gray = Image.fromarray(array[..., 0])
    palette = picture.quantize(32)
    transparent = picture.copy().convert("RGBA")
    transparent.putalpha(Image.new("L", picture.size, 0))
    blank = Image.new("RGB", picture.size, WHITE)
    keyed = encoded(palette, transparency=bytes(len(palette.getcolors() or [])))
    broken = encoded(picture, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff")
    frames = [colours(seed=seed) for seed in (1, 2)]
    known: dict[str, tuple[Any, Image.Image]] = {
        "an array": (array, picture),
        "an array with channels first": (np.moveaxis(array, -1, 0), picture),
        "a tensor": (torch.from_numpy(array.copy()).permute(2, 0, 1), picture),
        "floats up to 1": (array / 255, picture),
        "floats up to 255": (array.astype(np.float32), picture),
        "half precision": ((array / 255).astype(np.float16), picture),
        "64-bit integers": (array.astype(np.int64), picture),
        "a tensor of bfloat16": (torch.from_numpy(array / 255).bfloat16().permute(2, 0, 1), picture),
        "an array of big-endian numbers": (array.astype(">i4"), picture),
        "an array that is no copy": (array[::-1, ::-1][::-1, ::-1], picture),
        "an array that is read only": (np.asarray(picture), picture),
        "16 bits": (array.astype(np.uint16) * 257, picture),
        "gray": (gray, gray),
        "a gray array": (array[..., 0], gray),
        "a gray array with a channel": (array[..., :1], gray),
        "16-bit gray": (Image.fromarray(array[..., 0].astype(np.uint16) * 257), gray),
        "16-bit gray as a file": (encoded(Image.fromarray(array[..., 0].astype(np.uint16) * 257)), gray),
        "32-bit gray": (Image.fromarray(array[..., 0].astype(np.int32)), gray),
        "floating-point gray": (Image.fromarray(array[..., 0].astype(np.float32)), gray),
        "CMYK": (picture.convert("CMYK"), picture),
        "CMYK as a file": (encoded(picture.convert("CMYK"), "JPEG", quality=95), picture),
        "a palette": (palette, palette.convert("RGB")),
        "a palette as a file": (encoded(palette), palette.convert("RGB")),
        "a palette that is transparent": (keyed, blank),
        "transparent": (transparent, blank),
        "transparent as a file": (encoded(transparent), blank),
        "transparent as an array": (np.asarray(transparent), blank),
        "black and white": (picture.convert("1"), picture.convert("1").convert("RGB")),
        "YCbCr": (picture.convert("YCbCr"), picture),
        "HSV": (picture.convert("HSV"), picture),
        "LAB": (Image.new("LAB", picture.size, (255, 128, 128)), blank),
        "turned by its metadata": (upside, picture),
        "with broken metadata": (broken, Image.open(io.BytesIO(broken))),
        "an animation": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), frames[0]),
        "an animation of PNG": (encoded(frames[0], save_all=True, append_images=frames[1:]), frames[0]),
        "an animation of WebP": (
            encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
            frames[0],
        ),
        "a TIFF of two pages": (
            encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
            frames[0],
        ),
        "a bytearray": (bytearray(encoded(picture)), picture),
        "one pixel": (Image.new("RGB", (1, 1), (255, 0, 0)), Image.new("RGB", (9, 9), (255, 0, 0))),
    }
    for kind in FORMATS:
        path = folder / f"picture.{kind}"
        path.write_bytes(encoded(picture, kind))
        shown = Image.open(path).convert("RGB")
        known[f"a {kind} file"] = path, shown
        known[f"a {kind} file with another name"] = path.rename(folder / f"{kind}.txt"), shown
        path.write_bytes(encoded(picture, kind))
    for what, (given, expected) in known.items():
        yield Case(
            "processor inputs", f"picture is {what}", 0, "row 0", partial(see, processor, given, expected)
        )


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def of_no_pictures(processor: MMOrientProcessor, folder: Path) -> Iterator[Case]:
    array = np.asarray(colours()).astype(np.float32)
    holes = {name: array.copy() for name in ("nan", "inf", "-inf", "-1", "256", "1e30")}
    for name, values in holes.items():
        values[3, 4, 1] = float(name)
    os.mkfifo(folder / "pipe")
    (folder / "empty.png").touch()
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "secret.png").symlink_to("/etc/passwd")
    outside: list[Any] = [
        "../../../../etc/passwd",
        "/etc/passwd",
        Path("/dev/zero"),
        "/dev/stdin",
        "/proc/self/mem",
    ]
    outside += [folder, folder / "missing.png", folder / "pipe", folder / "empty.png", folder / "loop.png"]
    outside += [folder / "secret.png", "", ".", "~", "x" * 5000, "a\x00b", "\ud800.png", b"", b"/etc/passwd"]
    outside += [
        "http://localhost:1/x.png",
        "HTTPS://localhost/x",
        "file:///etc/passwd",
        "data:image/png;base64,AA",
    ]
    outside += [
        "ftp://localhost/x",
        "s3://x/y",
        "\\\\host\\share\\x.png",
        "ht\ntp://x",
        " http://localhost/x",
    ]
    wrong: list[Any] = [
        3,
        0.5,
        True,
        object(),
        {},
        {"path": "x"},
        {1},
        lambda: 3,
        MMOrientProcessor,
        1j,
        range(3),
    ]
    wrong += [np.zeros((0, 5, 3)), np.zeros((5, 0, 3)), np.zeros((5, 5, 0)), np.zeros(5), np.zeros(())]
    wrong += [np.zeros((1, 5, 5, 3)), np.zeros((5, 5, 2)), np.zeros((5, 5, 7)), np.zeros((5, 5, 3), complex)]
    wrong += [np.full((5, 5, 3), "x"), np.full((5, 5, 3), None), np.zeros((5, 5, 3), "datetime64[s]")]
    wrong += [np.full((5, 5, 3), 300), np.full((5, 5, 3), -1), np.full((5, 5, 3), 2**62), np.array([b"x"])]
    wrong += [np.ma.masked_all((5, 5, 3)), np.zeros((5, 5), [("r", "u1")]), torch.zeros(5, 5, device="meta")]
    wrong += [torch.zeros(5), torch.zeros(3, 5, 5, dtype=torch.complex64), torch.full((3, 5, 5), torch.nan)]
    wrong += [torch.zeros(3, 5, 5).to_sparse(), np.broadcast_to(np.uint8(0), (10**6, 10**6, 3))]
    wrong += [torch.zeros(1, 1, 1).expand(3, 10**5, 10**5), [[1, 2], [3, 4]], ["x.png", "y.png"]]
    for number, given in enumerate([*outside, *wrong]):
        yield _no_picture(processor, f"no picture number {number}", given)
    for name, values in holes.items():
        yield _no_picture(processor, f"picture with {name}", values)
    for name, contents in documents().items():
        yield _no_picture(processor, f"picture is {name}", contents)


def _no_picture(processor: MMOrientProcessor, name: str, given: Any) -> Case:
    things = ("picture", "image", "row 0")
    # In a list of its own: a list given as the pictures would be several rows.
    return Case("processor inputs", name, 0, things, partial(refuse, processor, [given]))


def of_damage(processor: MMOrientProcessor, seed: int) -> Iterator[Case]:
    for kind in FORMATS:
        rng = random.Random(f"{kind} {seed}")
        contents = damaged(encoded(colours(seed=seed), kind), rng)
        yield Case("damaged pictures", f"{kind} damaged", seed, "row 0", partial(see, processor, contents))


def test_pictures(processor: MMOrientProcessor, tmp_path: Path, attack: Attack) -> None:
    cases = [*of_forms(processor, tmp_path), *of_no_pictures(processor, tmp_path)]
    for what, contents in bombs().items():
        attempt = partial(see, processor, contents)
        cases.append(Case("processor inputs", f"picture is {what}", 0, "row 0", attempt))
    attack(cases)


def test_damaged_pictures(processor: MMOrientProcessor, attack: Attack) -> None:
    attack(case for seed in range(amount(30, 2000)) for case in of_damage(processor, seed))


def strips(processor: MMOrientProcessor) -> Iterator[Case]:
    """Pictures at the limits of what is taken."""
    sizes = [(1, 60_000), (60_000, 1), (16, 1), (17, 1), (1, 1)]
    if amount(0, 1):
        sizes += [(9400, 9500), (89_000_000, 1), (1, 89_000_000), (20_000, 4_000)]
    for size in sizes:
        for mode in ("1", "RGB", "RGBA", "I;16", "CMYK") if amount(0, 1) else ("1", "RGBA"):
            attempt = partial(see_new, processor, mode, size)
            yield Case("processor inputs", f"{mode} of {size}", 0, "row 0", attempt, seconds=60)


def see_new(processor: MMOrientProcessor, mode: str, size: tuple[int, int]) -> None:
    see(processor, Image.new(mode, size))


def test_large_pictures(processor: MMOrientProcessor, attack: Attack) -> None:
    attack(strips(processor))


def long(unit: str) -> str:
    """A text that repeats this one, of a megabyte in a large run."""
    return unit * (amount(100_000, 1_000_000) // len(unit))


#: Texts that are texts, however odd.
TEXTS = {
    "empty": "",
    "blank": " \t\n\u3000\u200b",
    "NUL": "one\x00two",
    "controls": "".join(map(chr, range(32))) + "one",
    "from right to left": "\u202eeno \u05d0\u05d1\u05d2 one",
    "surrogates": "one \ud83d\ude00 two",
    "half a surrogate pair": "one \ud83d two",
    "a long text": long("one two "),
    "a long text without a space": long("a"),
    "a long text of marks": "a" + long("\u0301"),
    "a long text of links": long("http://"),
    "a long text of names": long("@"),
    "a long text of addresses": long("memes.com/"),
    "a long text of joiners": long("\u200d"),
    "a long text of flags": long("\U0001f3f4"),
    "a long text of dots": long("www."),
    "a long text of pairs": long("@aa.b@c."),
    "special tokens": "[PAD] [CLS] [SEP] [MASK] </s> <s> <|endoftext|>",
    "private use": "\ue000\U0010ffff\ufdd0",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 100,
    "a number": "12345" * 1000,
    "braces": "{0.__class__} %s %n ${x} {{}}",
    "markup": "<script>alert(1)</script>&amp;",
    "a path": "../../etc/passwd",
    "JSON": '{"text": null}',
}


def read(processor: MMOrientProcessor, text: str) -> None:
    """The text beside others: its tokens must be those that it has alone."""
    together = processor(images=[colours()] * 3, text=["one two", text, None], return_tensors="pt")
    alone = processor(images=[colours()], text=[text], return_tensors="pt")
    check(together["text_present"].tolist()[::2] == [True, False], "others' presence")
    for ids, mask in (("input_ids", "attention_mask"), ("joint_input_ids", "joint_attention_mask")):
        beside = together[ids][1][together[mask][1].bool()]
        check(torch.equal(beside, alone[ids][0][alone[mask][0].bool()]), f"{ids} differ from those alone")
        check(len(beside) > 0 and int(beside.max()) < 50, f"{ids} {beside}")
    check(bool(alone["text_present"][0]) == bool(together["text_present"][1]), "text_present differs")


def refuse_call(processor: MMOrientProcessor, **arguments: Any) -> None:
    found = processor(**{"return_tensors": "pt", **arguments})
    check(
        False,
        f"answered: { ({name: getattr(values, 'shape', values) for name, values in found.items()})!r:.200}",
    )


def of_texts(processor: MMOrientProcessor) -> Iterator[Case]:
    for what, text in TEXTS.items():
        yield Case(
            "processor inputs", f"text is {what}", 0, ("row 1", "text"), partial(read, processor, text)
        )
    for seed in range(amount(30, 3000)):
        rng = random.Random(seed)
        # Half of the characters are of the first plane's ends, where what is odd is.
        drawn = [
            chr(rng.choice((rng.randrange(0x110000), rng.randrange(0x300)))) for _ in range(rng.randrange(60))
        ]
        text = "".join(rng.choice((*WORDS, " ", character)) for character in drawn)
        yield Case(
            "processor inputs", "text is drawn", seed, ("row 1", "text"), partial(read, processor, text)
        )


def of_no_texts(processor: MMOrientProcessor) -> Iterator[Case]:
    """What is no text, and no list of texts."""
    wrong: list[Any] = [
        3,
        0.5,
        float("nan"),
        True,
        b"one",
        bytearray(b"one"),
        object(),
        {},
        {"text": "one"},
        {"one"},
    ]
    wrong += [
        ["one"],
        ["one", "two"],
        [["one"]],
        ("one", "two"),
        [None],
        [],
        np.array("one"),
        np.str_,
        10**400,
    ]
    for number, given in enumerate(wrong):
        attempt = partial(refuse_call, processor, text=["one", given])
        yield Case("processor inputs", f"no text number {number}", 0, "row 1", attempt)
        attempt = partial(refuse_call, processor, images=[colours(), colours()], text=["one", given])
        yield Case("processor inputs", f"no text number {number} with a picture", 0, "row 1", attempt)
    whole: list[Any] = [
        [],
        {},
        3,
        b"one",
        {"one"},
        (text for text in ["one"]),
        np.array(["one"]),
        [None],
        [""],
    ]
    for number, given in enumerate(whole):
        attempt = partial(refuse_call, processor, text=given)
        yield Case("processor inputs", f"no texts number {number}", 0, ("text", "row 0"), attempt)


def of_calls(processor: MMOrientProcessor) -> Iterator[Case]:
    """Arguments that do not fit each other."""
    for pictures, texts in ((1, 2), (2, 1), (0, 1), (3, 1000)):
        attempt = partial(refuse_call, processor, images=[colours()] * pictures, text=["one"] * texts)
        name = f"{pictures} pictures and {texts} texts"
        yield Case("processor inputs", name, 0, (f"{pictures} pictures", "images is an empty list"), attempt)
    for name, arguments in {
        "nothing": {},
        "None": {"images": None, "text": None},
        "rows of nothing": {"images": [None, colours()], "text": [" ", None]},
        "two pictures a row": {"images": [[colours(), colours()]], "text": ["one"]},
        "lists of lists": {"images": [[[colours()]]], "text": ["one"]},
        "a generator": {"images": (colours() for _ in range(2))},
        "a set": {"text": {"one", "two"}},
        "a batch as one array": {"images": np.zeros((2, 5, 5, 3), np.uint8)},
        "an unknown argument": {"text": "one", "zzz": 3},
    }.items():
        things = ("images", "picture", "text", "there is no input", "zzz")
        yield Case(
            "processor inputs", f"called with {name}", 0, things, partial(refuse_call, processor, **arguments)
        )


def test_texts(processor: MMOrientProcessor, attack: Attack) -> None:
    attack([*of_texts(processor), *of_no_texts(processor), *of_calls(processor)])


#: Keywords of a call that cannot be right.
KEYWORDS: dict[str, list[Any]] = {
    "return_tensors": ["tf", "x", 3, ["pt"]],
    "padding": ["x", 3, "do_not_pad", [True]],
    "truncation": ["x", "only_second", 3],
    "max_length": [-1, 0, 1, 10**9, "x", 0.5, None],
    "pad_to_multiple_of": [-1, 0, "x", 10**9],
    "stride": [-1, "x", 10**9],
    "padding_side": ["x", 3],
    "input_data_format": ["x", 3],
    "size": [{"height": 10**6, "width": 10**6}, {"height": 0, "width": 0}, {"x": 3}, -1, "x"],
    "crop_size": [{"height": 10**6, "width": 10**6}, {"height": 0, "width": 0}, "x"],
    "do_resize": [False, "x"],
    "do_center_crop": [False, "x"],
    "do_normalize": ["x"],
    "rescale_factor": [float("nan"), float("inf"), "x", 0],
    "image_mean": [[0.5], "x", [float("nan")] * 3],
    "image_std": [[0, 0, 0], [0.5], "x"],
    "resample": [99, "x"],
    "text_kwargs": [3, {"x": 3}, {"padding": "x"}],
    "images_kwargs": [3, {"x": 3}],
    "is_split_into_words": [True],
    "return_overflowing_tokens": [True],
    "text_pair": ["one"],
}


def call(processor: MMOrientProcessor, keyword: str, value: Any) -> None:
    pictures = [colours(), colours(20, 90)]
    found = processor(images=pictures, text=["one", "one two"], **{"return_tensors": "pt", keyword: value})
    for name, values in found.items():
        check(len(values) == 2, f"{len(values)} rows of {name}")
        if name == "pixel_values":
            check(all(bool(torch.as_tensor(one).isfinite().all()) for one in values), "pixels are not finite")


def test_keywords(processor: MMOrientProcessor, attack: Attack) -> None:
    cases = []
    for keyword, values in KEYWORDS.items():
        for number, value in enumerate(values):
            attempt = partial(call, processor, keyword, value)
            cases.append(Case("processor inputs", f"{keyword} is value {number}", 0, keyword, attempt))
    attack(cases)
