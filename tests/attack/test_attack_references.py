"""Attacks on saved references: damage to their files, and files altered so that all digests fit again."""

import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Case, amount, check
from tampered_models import (
    FACTS,
    Facts,
    Inputs,
    Model,
    Tensors,
    altered,
    answer,
    edit_facts,
    edit_references,
    flip_bits,
    load_and_ask,
    refit,
    tensors_path,
)

from modeling_mmorient.reference_bank import ReferenceBank

Attack = Callable[[Iterable[Case]], None]
ROWS = 12
# What a refusal of a whole bank may name.
PLACES = (FACTS, "tensors", "references")


@pytest.fixture(scope="module")
def saved(save_known: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By storage dtype, the folder of a model with references and votes; `other`: another model's."""
    folder = tmp_path_factory.mktemp("saved")
    for name in ("float32", "float16", "int8"):
        save_known(folder / name, 0, reference_dtype=name)
    save_known(folder / "other", 7)
    return {path.name: path for path in folder.iterdir()}


def contents(bank: ReferenceBank) -> tuple[Any, ...]:
    return (
        bank.ids,
        bank.notes,
        bank.fingerprint(),
        {name: values.tolist() for name, values in bank.labels.items()},
    )


def read_damaged(source: Path, folder: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    """Loads a bank after one of its files was changed: refused, or what was saved."""
    folder.mkdir()
    for path in source.glob("references*"):
        shutil.copy(path, folder)
    path = folder / file
    path.write_bytes(change(path.read_bytes()))
    check(contents(ReferenceBank.load(folder)) == contents(ReferenceBank.load(source)), "other references")


def flipped(place: int, bit: int, old: bytes) -> bytes:
    new = bytearray(old)
    new[place] ^= 1 << bit
    return bytes(new)


def of_damage(source: Path, folder: Path) -> Iterator[Case]:
    for file in (FACTS, tensors_path(source).name):
        size = (source / file).stat().st_size
        step = max(1, size // amount(25, 500))
        changes: dict[str, Callable[[bytes], bytes]] = {
            "doubled": lambda old: old + old,
            "emptied": lambda old: b"",
        }
        changes["longer by a byte"] = lambda old: old + b"\x00"
        changes["zeros"] = lambda old: bytes(len(old))
        for place in range(0, size, step):
            changes[f"cut at {place}"] = lambda old, place=place: old[:place]  # type: ignore[misc]
            changes[f"byte {place} flipped"] = partial(flipped, place, place // step % 8)
            changes[f"byte {place} left out"] = lambda old, place=place: old[:place] + old[place + 1 :]  # type: ignore[misc]
        for what, change in changes.items():
            target = folder / f"{file}-{what}".replace(" ", "-")
            attempt = partial(read_damaged, source, target, file, change)
            yield Case("damage to references", f"{file[:10]} {what}", 0, PLACES, attempt)


def test_damage(saved: dict[str, Path], tmp_path: Path, attack: Attack) -> None:
    attack(of_damage(saved["float32"], tmp_path))


def set_entry(name: str, value: float, tensors: Tensors, facts: Facts) -> None:
    tensors[name].view(-1)[0] = value


#: Edits of the tensors, by what they do to one of them.
EDITS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "left out": lambda values: None,
    "a row less": lambda values: values[1:],
    "a row more": lambda values: torch.cat([values, values[:1]]),
    "of no dimension": lambda values: values.reshape(-1)[0].clone(),
    "of one dimension more": lambda values: values.unsqueeze(-1),
    "empty": lambda values: values[:0],
    "transposed": lambda values: values.T if values.ndim == 2 else values.unsqueeze(0),
    "in float64": lambda values: values.double(),
    "in int64": lambda values: values.long(),
    "in float16": lambda values: values.half(),
    "in int8": lambda values: values.to(torch.int8),
    "boolean": lambda values: values.bool(),
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "negative": lambda values: ~values if values.dtype == torch.bool else -values,
}


def edit_one(
    name: str, edit: Callable[[torch.Tensor], torch.Tensor | None], tensors: Tensors, facts: Facts
) -> None:
    edited = edit(tensors.pop(name))
    if edited is not None:
        tensors[name] = edited


def flip(seed: int, tensors: Tensors, facts: Facts) -> None:
    rng = random.Random(seed)
    flip_bits(tensors[rng.choice(sorted(tensors))], rng, rng.choice((1, 1, 3, 30)))


def names(source: Path) -> list[str]:
    found: list[str] = []
    shutil.copytree(source, source.with_name("names"), dirs_exist_ok=True)
    edit_references(source.with_name("names"), lambda tensors, facts: found.extend(tensors))
    return sorted(found)


def of_tensors(source: Path, kind: str) -> Iterator[tuple[str, Callable[[Tensors, Facts], None], int]]:
    """Edits of the references' tensors: what, edit, seed."""
    for name in names(source):
        for what, edit in EDITS.items():
            yield f"{kind} {name} {what}", partial(edit_one, name, edit), 0
        values: tuple[float, ...] = ()
        if name.endswith("_scales"):
            values = (float("nan"), float("inf"), -1.0, 0.0, 3e38, 1e-45)
        elif name.endswith("_codes") and kind != "int8":
            values = (float("nan"), float("inf"), 65504.0, 1e-7)
        elif name.startswith("labels/"):
            values = (-1, -99, 4, 99, 2**62)
        for value in values:
            yield f"{kind} {name} holds {value}", partial(set_entry, name, value), 0
    yield f"{kind} has another tensor", lambda tensors, facts: tensors.update(evil=torch.zeros(2)), 0
    yield f"{kind} has no tensors", lambda tensors, facts: tensors.clear(), 0
    for seed in range(amount(10, 400)):
        yield f"{kind} has flipped bits", partial(flip, seed), seed


#: Edits of the facts.
FACT_EDITS: dict[str, Callable[[Facts], Any]] = {
    **{
        f"{key} left out": lambda facts, key=key: facts.pop(key)
        for key in ("notes", "dtype", "widths", "tasks", "ids")
    },  # type: ignore[misc]
    **{
        f"{key} is {value!r:.20}": lambda facts, key=key, value=value: facts.update({key: value})  # type: ignore[misc]
        for key in ("notes", "dtype", "widths", "tasks", "ids", "tensors", "format_version")
        for value in (None, -1, 0, True, 1e400, "x", [], {}, [None], [[]], {"x": 1}, "x" * 1_000_000)
    },
    "an id twice": lambda facts: facts["ids"].__setitem__(0, facts["ids"][1]),
    "an id is a number": lambda facts: facts["ids"].__setitem__(0, 3),
    "an id is empty": lambda facts: facts["ids"].__setitem__(0, ""),
    "an id is half a pair": lambda facts: facts["ids"].__setitem__(0, "\ud800"),
    "an id less": lambda facts: facts["ids"].pop(),
    "an id more": lambda facts: facts["ids"].append("new"),
    "a million ids": lambda facts: facts.update(ids=[str(number) for number in range(1_000_000)]),
    "ids of another order": lambda facts: facts["ids"].reverse(),
    "an id with markup": lambda facts: facts["ids"].__setitem__(0, "<b>\x00\n=1+1"),
    "a width more": lambda facts: facts["widths"].update(evil=3),
    "a width is text": lambda facts: facts["widths"].update(image="7"),
    "a width is NaN": lambda facts: facts["widths"].update(image=float("nan")),
    "a width is huge": lambda facts: facts["widths"].update(image=10**400),
    "a width is another": lambda facts: facts["widths"].update(image=8),
    "no vectors": lambda facts: facts["widths"].pop("image_vectors"),
    "a task more": lambda facts: facts["tasks"].append(
        {"name": "x", "labels": ["a", "b"], "kind": "multiclass"}
    ),
    "a task less": lambda facts: facts["tasks"].pop(),
    "a task twice": lambda facts: facts["tasks"].append(facts["tasks"][0]),
    "a task of another kind": lambda facts: facts["tasks"][0].update(kind="ordinal"),
    "a task of no kind": lambda facts: facts["tasks"][0].update(kind="evil"),
    "labels of another order": lambda facts: facts["tasks"][0]["labels"].reverse(),
    "labels nested deeply": lambda facts: facts["tasks"][0].update(labels=[[[[[[]]]]]]),
    "another key": lambda facts: facts.update(evil=3),
    "a file outside": lambda facts: facts["tensors"].update(
        file="../references-0123456789abcdef.safetensors"
    ),
    "a file at the root": lambda facts: facts["tensors"].update(file="/etc/passwd"),
    "a file that is the weights": lambda facts: facts["tensors"].update(file="model.safetensors"),
    "a file that is missing": lambda facts: facts["tensors"].update(
        file="references-0123456789abcdef.safetensors"
    ),
    "a file with a line end": lambda facts: facts["tensors"].update(file=facts["tensors"]["file"] + "\n"),
    "a file that is a number": lambda facts: facts["tensors"].update(file=3),
    "another size": lambda facts: facts["tensors"].update(bytes=3),
    "a size that is text": lambda facts: facts["tensors"].update(bytes=str(facts["tensors"]["bytes"])),
    "another digest": lambda facts: facts["tensors"].update(sha256="0" * 64),
    "a digest in capitals": lambda facts: facts["tensors"].update(sha256=facts["tensors"]["sha256"].upper()),
    "a digest that is no text": lambda facts: facts["tensors"].update(sha256=None),
}


def load_altered(source: Path, folder: Path, inputs: Inputs, alter: Callable[[Path], object]) -> None:
    load_and_ask(altered(source, folder, alter), inputs, None)


def of_refitted(saved: dict[str, Path], inputs: Inputs, folder: Path) -> Iterator[Case]:
    edits: list[tuple[str, Callable[[Path], object], int]] = []
    for kind in ("float32", "float16", "int8"):
        for what, edit, seed in of_tensors(saved[kind], kind):
            edits.append((what, partial(edit_references, edit=edit), seed))
    for what, change in FACT_EDITS.items():
        edits.append((f"float32 {what}", partial(edit_facts, edit=change), 0))
    for number, (what, alter, seed) in enumerate(edits):
        attempt = partial(load_altered, saved[what.split()[0]], folder / str(number), inputs, alter)
        yield Case("references with digests refitted", what, seed, PLACES, attempt)


def test_refitted(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    attack(list(of_refitted(saved, inputs, tmp_path))[:: amount(11, 1)])


def no_safetensors(contents: bytes, folder: Path) -> None:
    facts: Facts = {}
    edit_references(folder, lambda _, found: facts.update(found))
    tensors_path(folder).unlink()
    (folder / "written").write_bytes(contents)
    refit(folder, folder / "written", facts)


#: Files that are named, measured and sealed as tensors, and are none.
NO_TENSORS = {
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.",
    "empty": b"",
    "a header of 2^63 bytes": b"\xff" * 8,
    "a header of 100 MB": (100 << 20).to_bytes(8, "little"),
    "a header that is no JSON": (2).to_bytes(8, "little") + b"[}",
    "a header nested deeply": (20_000).to_bytes(8, "little") + b"[" * 20_000,
    "a tensor of 2^60 bytes": (75).to_bytes(8, "little")
    + b'{"evil":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,0]}}',
}


def test_other_files(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    """Refitted partly, with files that are no tensors, or with another model's references."""
    alters: dict[str, Callable[[Path], object]] = {}
    for what, made in NO_TENSORS.items():
        alters[f"tensors are {what}"] = partial(no_safetensors, made)
    first = {"float32 image_codes": partial(set_entry, "image_codes", 0.25)}
    first |= {"labels": partial(set_entry, "labels/sentiment", 0)}
    for what, edit in first.items():
        alters[f"{what} edited, the model's digests not"] = partial(
            edit_references, edit=edit, everywhere=False
        )
    cases = []
    for number, (what, alter) in enumerate(alters.items()):
        attempt = partial(load_altered, saved["float32"], tmp_path / str(number), inputs, alter)
        cases.append(Case("references with digests refitted", what, 0, PLACES, attempt))
    attack(cases)
    assert torch.isfinite(answer(Model.from_pretrained(saved["float32"]), inputs)).all()
