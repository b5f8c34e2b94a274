"""Time to find near-duplicate pictures, and to start a run with and without kept fingerprints.

    make bench
    python benchmarks/near_duplicates.py [--rows 2000 50000] [--compared 2000] [--pictures 5000] [--json FILE]

First table: drawn fingerprints of several kinds. `each with each` is the plain way (hashes compared by a
matrix product, then the cells of every remaining pair). Where many hashes are alike it takes hours, so it
gets `--compared` rows at most. Both ways must find the same pairs wherever all pairs are listed.

Second table: a table of `--pictures` drawn pictures in a temporary folder, read with a fifth held out for the
test and a tenth for validation: without kept fingerprints, filling them, and with them, as every later start
and every other process of a run does.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers.utils import logging

from mmorient.recipes.arguments import DataArguments
from mmorient.tables import fingerprint_cache
from mmorient.tables.near_images import MOST_PAIRS, NEAR_BITS, NEAR_CELLS, WORST_CELLS, near_pairs
from mmorient.tables.splits import read_splits

PLAIN_BLOCK = 1024
Prints = tuple[np.ndarray, np.ndarray]


def plain_pairs(gradients: np.ndarray, cells: np.ndarray) -> list[tuple[int, int]]:
    """The pairs by comparing each picture with each other one."""
    # Of vectors of ±1, (bits - dot product) / 2 is the number of bits that differ.
    signs = np.unpackbits(gradients, axis=1).astype(np.float32) * 2 - 1
    pairs = []
    for start in range(0, len(signs), PLAIN_BLOCK):
        differing = (signs.shape[1] - signs[start : start + PLAIN_BLOCK] @ signs[start:].T) / 2
        for i, j in zip(*np.nonzero(differing <= NEAR_BITS), strict=True):
            if i < j:
                colors = np.abs(cells[start + i].astype(int) - cells[start + j]).sum(-1)
                if np.sort(colors)[-WORST_CELLS:].sum() <= 3 * WORST_CELLS * NEAR_CELLS:
                    pairs.append((int(start + i), int(start + j)))
    return pairs


def different(generator: np.random.Generator, rows: int) -> Prints:
    """Pictures that have nothing in common."""
    return (
        generator.integers(0, 256, (rows, 32), dtype=np.uint8),
        generator.integers(0, 256, (rows, 256, 3), dtype=np.uint8),
    )


def some_copies(generator: np.random.Generator, rows: int) -> Prints:
    """Every tenth picture is a copy of another one, with up to 14 bits changed."""
    gradients, cells = different(generator, rows)
    bits = np.unpackbits(gradients, axis=1)
    for row in range(9, rows, 10):
        source = int(generator.integers(0, row))
        bits[row], cells[row] = bits[source], cells[source] // 8 * 8
        bits[row, generator.permutation(256)[: generator.integers(0, 15)]] ^= 1
    return np.packbits(bits, axis=1), cells


def templates(generator: np.random.Generator, rows: int) -> Prints:
    """Ten templates with different words on each copy: equal hashes, and cells that differ."""
    gradients, cells = different(generator, 10)
    indices = generator.integers(0, 10, rows)
    written = cells[indices]
    written[:, :48] = generator.integers(0, 2, (rows, 48, 1), dtype=np.uint8) * 255
    return gradients[indices], written


def blank(generator: np.random.Generator, rows: int) -> Prints:
    """Pictures of one color, whose hashes are all equal."""
    colors = generator.integers(0, 256, (rows, 1, 3), dtype=np.uint8)
    return np.zeros((rows, 32), np.uint8), np.repeat(colors, 256, axis=1)


def one_picture(generator: np.random.Generator, rows: int) -> Prints:
    """Copies of a single picture."""
    gradients, cells = different(generator, 1)
    noise = generator.integers(0, 8, (rows, 256, 1), dtype=np.uint8)
    return np.repeat(gradients, rows, axis=0), cells // 2 + noise


KINDS: dict[str, tuple[Callable[[np.random.Generator, int], Prints], bool]] = {
    "different": (different, False),
    "1 in 10 a copy": (some_copies, False),
    "10 templates": (templates, True),
    "blank": (blank, True),
    "one picture": (one_picture, True),
}


def measure_search(rows: int, compared: int) -> list[dict[str, Any]]:
    """Both ways over each kind of pictures."""
    found = []
    for name, (draw, alike) in KINDS.items():
        prints = draw(np.random.default_rng(0), rows)
        pairs, seconds = _timed(near_pairs, *prints)
        line: dict[str, Any] = {"kind": name, "rows": rows, "pairs": len(pairs), "seconds": seconds}
        if rows <= compared or not alike:
            expected, line["plain_seconds"] = _timed(plain_pairs, *prints)
            if len(pairs) < MOST_PAIRS and sorted(pairs) != sorted(expected):
                raise SystemExit(f"error: {name}, {rows} rows: the two ways differ.")
        found.append(line)
        plain = line.get("plain_seconds")
        ratio = "" if plain is None else f"{plain / seconds:8.1f}x"
        shown = "" if plain is None else f"{plain:.2f}"
        print(f"{rows:>7} {name:<16}{len(pairs):>9}{seconds:>10.2f}{shown:>16}{ratio:>10}", flush=True)
    return found


def measure_start(rows: int, side: int) -> dict[str, float]:
    """Seconds to read a table without kept fingerprints, while they are filled, and with them."""
    # Otherwise fingerprints of images that were just drawn would not be kept.
    fingerprint_cache.SETTLED_NS = -1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda row: _draw(folder / "images" / f"{row}.jpg", row, side), range(rows)))
        lines = [f"{row}.jpg,text {row},{'ab'[row % 2]}\n" for row in range(rows)]
        (folder / "train.csv").write_text("image,text,label\n" + "".join(lines), encoding="utf-8")
        data = DataArguments(data_dir=name, tasks={"label": ["a", "b"]}, test_share=0.2, validation_share=0.1)
        seconds = {}
        for way, cache in (("without", None), ("filling", folder), ("with", folder)):
            _, seconds[way] = _timed(read_splits, data, 0, cache)
        kept = (folder / fingerprint_cache.FILE).stat().st_size / 2**20
    print(
        f"{rows:>7} pictures of {side} x {side}: without {seconds['without']:.1f} s, filling "
        f"{seconds['filling']:.1f} s, with {seconds['with']:.1f} s, "
        f"{seconds['without'] / seconds['with']:.1f}x; {kept:.1f} MiB kept",
        flush=True,
    )
    return {"rows": rows, "side": side, "kept_mib": kept, **seconds}


def _draw(path: Path, seed: int, side: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=85)


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[2000, 50000])
    parser.add_argument("--compared", type=int, default=2000)
    parser.add_argument("--pictures", type=int, nargs="*", default=[5000])
    parser.add_argument("--side", type=int, default=256, help="of a drawn picture, in pixels")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    print(f"{'rows':>7} {'pictures':<16}{'pairs':>9}{'seconds':>10}{'each with each':>16}{'ratio':>10}")
    search = [line for rows in arguments.rows for line in measure_search(rows, arguments.compared)]
    start = [measure_start(rows, arguments.side) for rows in arguments.pictures]
    if arguments.json:
        figures = json.dumps({"search": search, "start": start}, indent=2)
        arguments.json.write_text(figures + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
