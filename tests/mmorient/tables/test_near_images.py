"""Pictures that look alike: exactly those of the plain definition, whatever the pictures are."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pytest

from mmorient.tables import near_images
from mmorient.tables.image_fingerprints import Fingerprint
from mmorient.tables.near_images import NearImages, near_pairs

Prints = tuple[np.ndarray, np.ndarray]


def defined_pairs(gradients: np.ndarray, cells: np.ndarray) -> list[tuple[int, int]]:
    """Each with each, by the definition."""
    bits = np.unpackbits(gradients, axis=1)
    pairs = []
    for i, j in combinations(range(len(bits)), 2):
        if (bits[i] != bits[j]).sum() <= 20:
            differences = np.sort(np.abs(cells[i].astype(int) - cells[j]).sum(-1))
            if differences[-13:].sum() <= 20 * 13 * 3:
                pairs.append((i, j))
    return pairs


def flipped(bits: np.ndarray, generator: np.random.Generator, most: int) -> np.ndarray:
    """Copies of hashes with up to `most` bits changed."""
    changed = bits.copy()
    for row in changed:
        row[generator.permutation(256)[: generator.integers(0, most + 1)]] ^= 1
    return changed


def random_prints(generator: np.random.Generator, rows: int) -> Prints:
    return (
        generator.integers(0, 256, (rows, 32), dtype=np.uint8),
        generator.integers(0, 256, (rows, 256, 3), dtype=np.uint8),
    )


def copies(generator: np.random.Generator, rows: int) -> Prints:
    """Of a few pictures, around both limits."""
    pictures = generator.integers(0, 4, rows)
    bits = generator.integers(0, 2, (4, 256), dtype=np.uint8)[pictures]
    colors = generator.integers(0, 200, (4, 256, 3))[pictures]
    noise = generator.integers(0, 50, (rows, 256, 3)) * (generator.random((rows, 256, 1)) < 0.025)
    return np.packbits(flipped(bits, generator, 14), axis=1), (colors + noise).astype(np.uint8)


def one_template(generator: np.random.Generator, rows: int) -> Prints:
    """One hash, other words: cells that differ stand where the words do."""
    cells = np.full((rows, 256, 3), 90, dtype=np.uint8)
    words = generator.integers(0, 120, (12, 30, 1))
    cells[:, :30] = words[generator.integers(0, 12, rows)] + generator.integers(0, 30, (rows, 30, 1))
    return np.repeat(generator.integers(0, 256, (1, 32), dtype=np.uint8), rows, axis=0), cells


def blank(generator: np.random.Generator, rows: int) -> Prints:
    """Of one color each, which leaves nothing of a hash."""
    colors = generator.integers(0, 128, (rows, 1, 3), dtype=np.uint8)
    return np.zeros((rows, 32), dtype=np.uint8), np.repeat(colors, 256, axis=1)


def half_blank(generator: np.random.Generator, rows: int) -> Prints:
    """White bars above pictures, as memes have them: most parts of hashes are equal."""
    gradients, cells = copies(generator, rows)
    gradients[:, :28], cells[:, :224] = 0, 255
    return gradients, cells


KINDS = (random_prints, copies, one_template, blank, half_blank)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("draw", KINDS, ids=lambda draw: draw.__name__)
def test_the_pairs_are_those_of_the_definition(
    draw: Callable[..., Prints], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_images, "BLOCK", 7)
    monkeypatch.setattr(near_images, "SLICE", 5)
    gradients, cells = draw(np.random.default_rng(seed), 60)
    expected = defined_pairs(gradients, cells)
    assert sorted(near_pairs(gradients, cells)) == expected
    if draw is not random_prints:
        assert 0 < len(expected) < 60 * 59 / 2


@pytest.mark.parametrize("lookup_cost", [0, 10**9], ids=["looked up", "compared"])
def test_both_ways_to_compare_hashes_find_the_same(lookup_cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_images, "LOOKUP_COST", lookup_cost)
    for draw in KINDS:
        gradients, cells = draw(np.random.default_rng(9), 50)
        assert sorted(near_pairs(gradients, cells)) == defined_pairs(gradients, cells)


@pytest.mark.parametrize(("bits", "parts"), [(20, 20), (20, 21), (21, 21)])
@pytest.mark.parametrize("seed", range(5))
def test_hashes_are_near_up_to_the_last_bit(bits: int, parts: int, seed: int) -> None:
    """Also where the bits that differ are in as many parts of a hash as can be."""
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 2, 256, dtype=np.uint8)
    second = first.copy()
    second[generator.permutation(parts)[:bits] + parts * generator.integers(0, 11, bits)] ^= 1
    cells = np.zeros((2, 256, 3), dtype=np.uint8)
    found = near_pairs(np.packbits(np.stack([first, second]), axis=1), cells)
    assert found == ([(0, 1)] if bits == 20 else [])


@pytest.mark.parametrize("shared", range(21))
def test_hashes_that_share_a_single_part_are_found_by_it(
    shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_images, "LOOKUP_COST", 0)
    bits = np.zeros((2, 256), dtype=np.uint8)
    bits[1, [part for part in range(21) if part != shared]] = 1
    assert near_pairs(np.packbits(bits, axis=1), np.zeros((2, 256, 3), dtype=np.uint8)) == [(0, 1)]


@pytest.mark.parametrize(("worst", "near"), [(20, True), (21, False)])
def test_cells_are_near_up_to_the_limit(worst: int, near: bool) -> None:
    cells = np.zeros((2, 256, 3), dtype=np.uint8)
    cells[1, :13] = 20
    cells[1, 0, 0] = 20 + 13 * 3 * (worst - 20)  # one cell carries what is too much
    assert near_pairs(np.zeros((2, 32), dtype=np.uint8), cells) == ([(0, 1)] if near else [])


def groups_of(count: int, pairs: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> np.ndarray:
    """(count, count) bool: which rows are connected."""
    reach = np.eye(count, dtype=bool)
    for i, j in pairs:
        reach[i, j] = reach[j, i] = True
    for _ in range(count.bit_length()):
        reach = reach @ reach
    return reach


@pytest.mark.parametrize("draw", [copies, blank], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_beyond_the_most_pairs_those_that_connect_groups_are_found(
    draw: Callable[..., Prints], seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(near_images, "MOST_PAIRS", 20)
    monkeypatch.setattr(near_images.logger, "propagate", True, raising=False)
    monkeypatch.setattr(near_images.logging.get_logger("transformers"), "propagate", True)
    gradients, cells = draw(np.random.default_rng(seed), 70)
    expected = defined_pairs(gradients, cells)
    found = near_pairs(gradients, cells)
    assert len(expected) > 100 and set(found) <= set(expected) and len(found) < 20 + 2 * 70
    assert "more than 20 pairs of pictures look alike" in caplog.text
    assert np.array_equal(groups_of(70, found), groups_of(70, expected))
    # Held-out rows are chosen among the first ones, before the others are looked at.
    first = [(i, j) for i, j in found if j < 40]
    alone = [(i, j) for i, j in expected if j < 40]
    assert np.array_equal(groups_of(40, first), groups_of(40, alone))


def test_thousands_of_equal_pictures_are_connected_in_a_moment() -> None:
    pairs = near_pairs(np.zeros((3000, 32), np.uint8), np.zeros((3000, 256, 3), np.uint8))
    assert len(pairs) < near_images.MOST_PAIRS + 2 * 3000
    assert {row for pair in pairs for row in pair} == set(range(3000))


def test_what_is_found_once_serves_any_choice_and_order_of_rows() -> None:
    generator = np.random.default_rng(3)
    gradients, cells = copies(generator, 30)
    prints: list[Fingerprint | None] = [
        Fingerprint(bytes([row]) * 16, *values)
        for row, values in enumerate(zip(gradients, cells, strict=True))
    ]
    prints[7] = None
    near = NearImages(prints)
    for _ in range(10):
        rows = generator.integers(0, 30, 25)  # some more than once
        some = [prints[row] for row in rows]
        assert near.among(some) == NearImages(some).among(some)
        firsts = {int(row): place for place, row in reversed(list(enumerate(rows))) if row != 7}
        of_all = {tuple(sorted((firsts[i], firsts[j]))) for i, j in near.among(prints) if {i, j} <= {*firsts}}
        assert near.among(some) == sorted(of_all)


def test_no_picture_and_a_single_one_have_no_pairs() -> None:
    assert NearImages([]).among([]) == NearImages([None]).among([None]) == []
    alone = Fingerprint(bytes(16), np.zeros(32, np.uint8), np.zeros((256, 3), np.uint8))
    assert NearImages([alone, None, alone]).among([alone, None, alone]) == []
