"""Duplicates: copies are found whatever was done to them, different memes are not."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from mmorient.tables.duplicates import find_duplicates, group_rows, normalized_text
from mmorient.tables.image_fingerprints import Fingerprint, fingerprint
from tests.mmorient.conftest import draw


def printed(picture: Image.Image, format: str = "PNG", **options: Any) -> Fingerprint:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return fingerprint(file.getvalue())


def photo(seed: int) -> Image.Image:
    """Smooth shapes, as photos have."""
    return draw(seed, 192).filter(ImageFilter.GaussianBlur(6))


def stamped(picture: Image.Image, words: str) -> Image.Image:
    copy = picture.copy()
    pen = ImageDraw.Draw(copy)
    pen.rectangle((0, 0, 192, 40), fill="white")
    pen.text((8, 4), words, fill="black", font_size=30)
    return copy


def signed(picture: Image.Image) -> Image.Image:
    """With a site's name in a corner."""
    copy = picture.copy()
    ImageDraw.Draw(copy).text((110, 180), "site.example", fill="white", font_size=10)
    return copy


COPIES = {
    "recompressed": lambda picture: printed(picture, "JPEG", quality=40),
    "smaller": lambda picture: printed(picture.resize((110, 110))),
    "wider": lambda picture: printed(picture.resize((300, 192))),
    "lighter": lambda picture: printed(picture.point(lambda value: min(255, value + 12))),
    "with a small stamp": lambda picture: printed(signed(picture), "WEBP"),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("seed", range(3))
def test_changed_copies_are_near_and_not_the_same(change: Any, seed: int) -> None:
    found = find_duplicates(
        [printed(photo(seed)), printed(photo(seed + 10)), change(photo(seed))], [None] * 3
    )
    assert found["near picture"] == [(0, 2)] and found["same picture"] == []


def test_other_words_on_one_template_are_another_meme() -> None:
    template = photo(0)
    memes = [printed(stamped(template, words)) for words in ("WHEN IT BUILDS", "MONDAYS")]
    assert find_duplicates(memes, [None, None])["near picture"] == []


def test_flat_pictures_are_near_only_where_their_colors_are() -> None:
    flat = [printed(Image.new("RGB", (20, 20), color)) for color in ("red", "blue", (254, 1, 0))]
    assert find_duplicates(flat, [None] * 3)["near picture"] == [(0, 2)]


def test_copies_of_a_file_are_the_same_and_stand_for_each_other() -> None:
    first, near = printed(photo(1)), printed(photo(1), "JPEG")
    found = find_duplicates([None, first, near, first, None, near], [None] * 6)
    assert found["same picture"] == [(1, 3), (2, 5)] and found["near picture"] == [(1, 2)]


def test_pairs_across_blocks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmorient.tables.near_images.BLOCK", 2)
    prints = [printed(photo(seed % 4), quality=30 + seed, format="JPEG") for seed in range(8)]
    assert find_duplicates(prints, [None] * 8)["near picture"] == [(seed, seed + 4) for seed in range(4)]


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("Come at me, BRO!", "come at me bro", True),
        ("one\ntwo", "one  two", True),
        ("\uff29\uff4d\uff47", "IMG", True),  # full-width letters
        ("STRASSE", "straße", True),
        ("10 years", "11 years", False),
        ("???", "!!!", False),
        ("? ?", "??", True),
        ("\U0001f602", "\U0001f62d", False),
        ("नमस्ते", "नमस्कार", False),
    ],
)
def test_texts_are_compared_by_letters_and_digits(first: str, second: str, equal: bool) -> None:
    assert (normalized_text(first) == normalized_text(second)) is equal
    found = find_duplicates([None, None], [first, second])
    assert found["near text"] == ([(0, 1)] if equal else []) and found["same text"] == []


def test_equal_texts_are_the_same_and_stand_for_each_other() -> None:
    found = find_duplicates([None] * 6, ["a b", None, "A b!", "a b ", "A b!", ""])
    assert found["same text"] == [(0, 3), (2, 4)] and found["near text"] == [(0, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_the_connected_components(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = [tuple(generator.integers(0, 20, 2).tolist()) for _ in range(12)]
    reach = np.eye(20, dtype=bool)
    for i, j in pairs:
        reach[i, j] = reach[j, i] = True
    for _ in range(20):
        reach = reach @ reach
    groups = group_rows(20, pairs)
    assert np.array_equal(groups[:, None] == groups[None], reach)
