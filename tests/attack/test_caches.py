"""Damage to both caches, of features and of fingerprints: what comes out of them is right, or is refused.

A damaged cache is no reason to stop: what it lacks is computed again. Refused is what cannot be repaired
without removing what somebody else may have put there.
"""

import copy
import functools
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from damage import DAMAGES, damaged
from harness import Case, amount, check
from PIL import Image

from mmorient.features import cache as feature_cache
from mmorient.features.cache import FeatureRows, cached_features
from mmorient.features.shards import find_rows, remove_damaged
from mmorient.files.disk_failures import explained_failures
from mmorient.tables import fingerprint_cache
from mmorient.tables.fingerprint_cache import FILE, LOCK, kept_fingerprints
from mmorient.tables.image_fingerprints import fingerprint
from mmorient.tables.records import Record
from tests.mmorient.conftest import draw
from tests.mmorient.features.test_feature_cache import TASKS, TEXTS, make_processor, make_table

Attack = Callable[[Iterable[Case]], None]
Change = Callable[[Path, random.Random], object]


def swap(path: Path, rng: random.Random) -> None:
    """Two files under each other's names."""
    other = rng.choice(sorted({*path.parent.glob("*.arrow")} - {path}))
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def take_name(path: Path, rng: random.Random) -> None:
    """A file under another one's name, which is gone."""
    path.replace(rng.choice(sorted({*path.parent.glob("*.arrow")} - {path})))


def without_checksums(path: Path, _rng: random.Random) -> None:
    """As a file was before there were any."""
    with pa.ipc.open_file(path.read_bytes()) as reader:
        plain = reader.read_all().drop_columns("checksum")
    with pa.ipc.new_file(str(path), plain.schema) as writer:
        writer.write_table(plain)


def pipe(path: Path, _rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def link_elsewhere(path: Path, _rng: random.Random) -> None:
    """The same content behind a link."""
    moved = path.with_suffix(".moved")
    path.replace(moved)
    path.symlink_to(moved)


SHARD_DAMAGES: dict[str, Change] = {
    **DAMAGES,
    "swapped": swap,
    "under another name": take_name,
    "of an old format": without_checksums,
    "a pipe": pipe,
    "a link elsewhere": link_elsewhere,
}
# What is no file was put there by somebody; it is not removed.
THINGS = ("no file", "feature_cache")


class Features:
    """A filled cache, and what comes out of it.

    Args:
        folder: For pictures and caches.
        model: With frozen encoders.
    """

    def __init__(self, folder: Path, model: Any) -> None:
        self.folder, self.model, self.processor = folder, model, make_processor()
        paths: list[str | None] = [str(folder / f"{number}.png") for number in range(5)]
        for seed, path in enumerate(paths):
            draw(seed, 12).save(str(path))
        self.table = make_table([*paths, None], TEXTS)
        rows = self.rows(folder / "whole")
        (self.store,) = (folder / "whole").iterdir()
        self.keys = list(find_rows(self.store, _Everything()))
        places = find_rows(self.store, self.keys)
        self.by_key = {key: _read(FeatureRows([places[key]], [Record("0")])) for key in self.keys}
        self.expected = _read(rows)

    def rows(self, cache: Path) -> FeatureRows:
        tables = {"all": self.table}
        with explained_failures({"feature_cache": str(cache)}):
            return cached_features(tables, self.model, self.processor, cache, 2, torch.device("cpu"))["all"]

    def copied(self, name: str) -> Path:
        """A cache of its own with the same files."""
        cache = self.folder / name
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self.folder / "whole", cache)
        return cache

    def start_anew(self, change: Callable[[Path], object], name: str) -> None:
        """A run over a changed cache has the right features, and so has the next one."""
        cache = self.copied(name)
        change(cache / self.store.name)
        for _ in range(2):
            check(_same(_read(self.rows(cache)), self.expected), "other features than before")

    def find(self, change: Callable[[Path], object], name: str) -> None:
        """What is found in a changed cache, without the encoders' work."""
        store = self.copied(name) / self.store.name
        change(store)
        remove_damaged(store, self.keys)
        for key, place in find_rows(store, self.keys).items():
            check(
                _same(_read(FeatureRows([place], [Record("0")])), self.by_key[key]),
                "other features than before",
            )

    def read_meanwhile(self, change: Callable[[Path], object], seed: int) -> None:
        """A change while a run has the files open: the right features, or a refusal."""
        store = self.copied(f"meanwhile {seed}") / self.store.name
        places = find_rows(store, self.keys)
        rows = FeatureRows([places[key] for key in self.keys], [Record("0")] * len(self.keys))
        rng = random.Random(seed)
        for row in rng.sample(range(len(rows)), rng.randrange(len(rows))):
            rows[row]
        change(store)
        for row, key in enumerate(self.keys):
            check(_same([rows[row].features], self.by_key[key]), "other features than before")


class _Everything:
    def __contains__(self, key: object) -> bool:
        return True


def _read(rows: FeatureRows) -> list[dict[str, torch.Tensor]]:
    return [rows[row].features for row in range(len(rows))]


def _same(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> bool:
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(some, others, strict=True)
    )


@pytest.fixture
def features(tmp_path: Path, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Features:
    monkeypatch.setattr(feature_cache, "SHARD_ROWS", 2)
    return Features(tmp_path, copy.deepcopy(make_model("vision", tasks=TASKS)))


def one_file(store: Path, damage: Change, rng: random.Random) -> None:
    damage(rng.choice(sorted(store.glob("*.arrow"))), rng)


def at(path: str, place: int, bit: int, store: Path) -> None:
    """One bit of a file flipped, without another file in its place."""
    with (store / path).open("r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ 1 << bit]))


def cut(path: str, size: int, store: Path) -> None:
    os.truncate(store / path, size)


def test_runs_over_damaged_features(features: Features, attack: Attack) -> None:
    def cases() -> Iterator[Case]:
        for name, damage in SHARD_DAMAGES.items():
            for seed in range(amount(1, 8)):
                change = functools.partial(one_file, damage=damage, rng=random.Random(seed))
                attempt = functools.partial(features.start_anew, change, f"{name} {seed}")
                yield Case("feature cache", f"a run, a file {name}", seed, THINGS, attempt)
        for name in ("a folder", "flipped", "empty", "gone", "a link to itself"):
            change = functools.partial(damage_lock, damage=DAMAGES[name])
            attempt = functools.partial(features.start_anew, change, f"lock {name}")
            yield Case("feature cache", f"a run, its lock {name}", 0, (".lock", *THINGS), attempt)

    attack(cases())


def damage_lock(store: Path, damage: Change) -> None:
    (store / ".lock").write_bytes(b"locked")
    damage(store / ".lock", random.Random(0))


def test_each_place_of_a_features_file(features: Features, attack: Attack) -> None:
    """Flipped and cut at every n-th byte, before a run finds it and while it is open."""

    def cases() -> Iterator[Case]:
        for path in sorted(features.store.glob("*.arrow"))[: amount(1, 3)]:
            size, step = path.stat().st_size, amount(331, 61)
            for place in range(0, size, step):
                for what, change in (
                    ("flipped", functools.partial(at, path.name, place, place % 8)),
                    ("cut", functools.partial(cut, path.name, place)),
                ):
                    name = f"{path.name[:6]} {what} at byte"
                    attempt = functools.partial(features.find, change, "bytes")
                    yield Case("feature cache", name, place, THINGS, attempt)
                    open_ = functools.partial(features.read_meanwhile, change, place)
                    yield Case("feature cache, while it is read", name, place, "is damaged", open_)

    attack(cases())


def test_overwritten_features(features: Features, attack: Attack) -> None:
    def overwrite(store: Path, seed: int) -> None:
        rng = random.Random(seed)
        path = rng.choice(sorted(store.glob("*.arrow")))
        path.write_bytes(damaged(path.read_bytes(), rng))

    attack(
        Case(
            "feature cache",
            "overwritten",
            seed,
            THINGS,
            functools.partial(features.find, functools.partial(overwrite, seed=seed), "overwritten"),
        )
        for seed in range(amount(30, 1000))
    )


class Prints:
    """A filled cache of fingerprints, and what comes out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures: list[str | bytes] = []
        for seed in range(6):
            draw(seed, 20).save(folder / f"{seed}.png")
            self.pictures.append(str(folder / f"{seed}.png"))
        self.pictures.append((folder / "5.png").read_bytes())
        self.expected = [fingerprint(picture).to_record() for picture in self.pictures]
        self.read(folder / "whole")

    def read(self, cache: Path) -> None:
        with kept_fingerprints(cache) as known:
            found = [known.fingerprint(picture).to_record() for picture in self.pictures]
        check(found == self.expected, "other fingerprints than before")

    def start_anew(self, change: Callable[[Path], object], name: str) -> None:
        cache = self.folder / name
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self.folder / "whole", cache)
        change(cache)
        self.read(cache)
        self.read(cache)


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prints:
    monkeypatch.setattr(fingerprint_cache, "SETTLED_NS", -1)
    return Prints(tmp_path)


def test_damaged_fingerprints(prints: Prints, attack: Attack) -> None:
    def changed(cache: Path, file: str, damage: Change, seed: int) -> None:
        if file == LOCK:
            (cache / LOCK).write_bytes(b"locked")
        damage(cache / file, random.Random(seed))

    def overwrite(path: Path, rng: random.Random) -> None:
        path.write_bytes(damaged(path.read_bytes(), rng))

    def cases() -> Iterator[Case]:
        size = (prints.folder / "whole" / FILE).stat().st_size
        for place in range(0, size, amount(97, 23)):
            for what, change in (
                ("flipped", functools.partial(at, FILE, place, place % 8)),
                ("cut", functools.partial(cut, FILE, place)),
            ):
                attempt = functools.partial(prints.start_anew, change, "bytes")
                yield Case("fingerprint cache", f"{what} at byte", place, FILE, attempt)
        for file in (FILE, LOCK):
            for name, damage in {**DAMAGES, "a pipe": pipe, "a link elsewhere": link_elsewhere}.items():
                for seed in range(amount(1, 8)):
                    made = functools.partial(changed, file=file, damage=damage, seed=seed)
                    if file == LOCK and name == "a pipe":
                        continue
                    attempt = functools.partial(prints.start_anew, made, f"{file} {name} {seed}")
                    yield Case("fingerprint cache", f"{file} {name}", seed, file, attempt)
        for seed in range(amount(20, 1000)):
            made = functools.partial(changed, file=FILE, damage=overwrite, seed=seed)
            attempt = functools.partial(prints.start_anew, made, "overwritten")
            yield Case("fingerprint cache", "overwritten", seed, FILE, attempt)

    attack(cases())


def test_pictures_that_change_between_runs(prints: Prints, attack: Attack) -> None:
    """With every other time, size and content that a file can get while it keeps its name."""

    def change(seed: int) -> None:
        rng = random.Random(seed)
        path, other = (Path(str(picture)) for picture in rng.sample(prints.pictures[:6], 2))
        before, state = path.read_bytes(), path.stat()
        try:
            way = rng.randrange(4)
            if way == 0:  # as `cp -p` does
                content, state = other.read_bytes(), other.stat()
                path.write_bytes(content)
            elif way == 1:
                Image.new("RGB", (9, 9), (rng.randrange(256), 7, 7)).save(path)
            elif way == 2:
                path.unlink()
                path.symlink_to(other)
            else:
                draw(rng.randrange(1000), 20).save(path)
            if way != 2:
                os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
            with kept_fingerprints(prints.folder / "whole") as known:
                found = known.fingerprint(str(path)).to_record()
            check(found == fingerprint(str(path)).to_record(), "the picture that was there before")
        finally:
            path.unlink()
            path.write_bytes(before)

    attack(
        Case("fingerprint cache", "another picture", seed, FILE, functools.partial(change, seed))
        for seed in range(amount(20, 300))
    )
