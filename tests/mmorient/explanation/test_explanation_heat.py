"""Heat: nothing at an even share, more for more, in the right place."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor, ViTImageProcessor

from mmorient.explanation.heat import (
    PICTURE_SIZE,
    describe_heat,
    draw_heat,
    heat,
    image_uri,
    legend_gradient,
    scaled,
    seen_image,
)

GRAY = Image.new("RGB", (70, 70), (128, 128, 128))


def test_even_attention_has_no_heat() -> None:
    found = heat([[0.25, 0.25], [0.25, 0.25]])
    assert not found.levels.any()
    assert (found.even, found.full, found.largest) == (0.25, 0.5, 0.25)
    assert np.array_equal(np.asarray(draw_heat(GRAY, found.levels)), np.asarray(GRAY))


def test_nearly_even_attention_stays_pale_and_strong_attention_is_full() -> None:
    assert heat([0.26, 0.25, 0.25, 0.24]).levels.max() == pytest.approx(0.04)
    found = heat([0.7, 0.3, 0.0, 0.0])
    assert found.levels.tolist() == pytest.approx([1, 0.05 / 0.45, 0, 0])
    assert found.full == found.largest == 0.7


def test_levels_depend_on_ratios_alone() -> None:
    weights = np.random.default_rng(0).random(9)
    assert np.allclose(heat(weights).levels, heat(weights / 7).levels)


def test_no_attention_at_all_and_a_single_word_have_no_heat() -> None:
    assert heat([0.0, 0.0]).levels.tolist() == [0, 0]
    assert heat([0.4]).levels.tolist() == [0]


@pytest.mark.parametrize("place", [(0, 0), (0, 6), (3, 2), (6, 6)])
def test_heat_lies_where_the_attention_is(place: tuple[int, int]) -> None:
    levels = np.zeros((7, 7))
    levels[place] = 1
    drawn = np.asarray(draw_heat(GRAY, levels)).astype(int)
    warmth = (drawn[..., 0] - drawn[..., 2]).reshape(7, 10, 7, 10).mean((1, 3))
    assert np.unravel_index(warmth.argmax(), warmth.shape) == place
    assert np.array_equal(drawn[35, 69 if place[1] < 4 else 0], [128, 128, 128])  # far from it: gray


def test_grids_that_are_not_square_cover_the_picture() -> None:
    drawn = np.asarray(draw_heat(Image.new("RGB", (60, 20)), np.array([[0.0, 0.0, 1.0]])))
    assert drawn.shape == (20, 60, 3)
    assert drawn[10, 55].any() and not drawn[10, 5].any()


def test_the_legend_has_the_colours_of_the_heat() -> None:
    assert legend_gradient().startswith("linear-gradient(to right, rgb(") and "/ 0.00)" in legend_gradient()
    assert not set(legend_gradient()) & set("<>\"'&;")


def test_what_is_cut_off_gets_no_heat() -> None:
    stripes = Image.new("RGB", (90, 30), (255, 0, 0))
    stripes.paste((0, 0, 255), (30, 0, 60, 30))
    whole = ViTImageProcessor(size={"height": 32, "width": 32})
    assert seen_image(whole, stripes) is stripes
    cutting = CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})
    seen = seen_image(cutting, stripes)
    assert seen.size == (30, 30)
    assert np.array_equal(np.unique(np.asarray(seen).reshape(-1, 3), axis=0), [[0, 0, 255]])


@pytest.mark.parametrize(("size", "expected"), [((64, 32), (512, 256)), ((1, 2048), (1, 512))])
def test_pictures_get_one_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert max(expected) == PICTURE_SIZE
    found = scaled(Image.new("RGB", size))
    assert found.size == expected
    head, _, content = image_uri(found).partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == expected


def test_the_warmest_region_is_said_in_words() -> None:
    assert describe_heat([[0.1, 0.1, 0.2], [0.5, 0.1, 0.0]]) == (
        "most attention, 50.0%, in row 2 of 2 from the top, column 1 of 3 from the left"
    )
