"""A small saved model, and ways to alter its files so that their digests fit again."""

import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from harness import check
from safetensors.torch import load_file, save_file

from modeling_mmorient import MMOrientForMultitaskClassification

Model = MMOrientForMultitaskClassification
Inputs = dict[str, torch.Tensor]
Tensors = dict[str, torch.Tensor]
Facts = dict[str, Any]
CONFIG, WEIGHTS, FACTS = "config.json", "model.safetensors", "references.json"
DIGEST = "mmorient.hima.references_digest"


class Warnings(logging.Handler):
    """What transformers and this package warn of meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@torch.no_grad()
def answer(model: Model, inputs: Inputs) -> torch.Tensor:
    """All logits of each row, (B, classes of all tasks)."""
    return torch.cat(list(model.eval()(**inputs).logits.values()), -1)


def load_and_ask(folder: Path, inputs: Inputs, expected: torch.Tensor | None) -> None:
    """Loads a folder's model and checks what it answers.

    Args:
        folder: That was altered.
        inputs: To ask with.
        expected: The right logits; others are right only where a warning says what is new. None: what is
            right is not known, but it is finite, and the same after the model is saved and loaded.
    """
    warnings = Warnings()
    loggers = [logging.getLogger(name) for name in ("transformers", "modeling_mmorient")]
    for logger in loggers:
        logger.addHandler(warnings)
    try:
        model = Model.from_pretrained(folder)
    finally:
        for logger in loggers:
            logger.removeHandler(warnings)
    found = answer(model, inputs)
    if expected is not None:
        equal = found.shape == expected.shape and torch.allclose(found, expected, 1e-4, 1e-4)
        check(equal or warnings.said, f"other logits without a warning: {found}")
        return
    check(bool(found.isfinite().all()), f"logits {found}")
    again = folder.with_name(folder.name + "-again")
    model.save_pretrained(again)
    check(
        torch.allclose(answer(Model.from_pretrained(again), inputs), found, 1e-4, 1e-4), "other logits again"
    )


def altered(source: Path, folder: Path, alter: Callable[[Path], object]) -> Path:
    """A copy of a saved model, altered."""
    shutil.copytree(source, folder, symlinks=True)
    alter(folder)
    return folder


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edits a JSON object; what `edit` returns takes its place, unless it is None."""
    contents = json.loads(path.read_text())
    edited = edit(contents)
    path.write_text(json.dumps(contents if edited is None else edited))


def edit_weights(folder: Path, edit: Callable[[Tensors], None], name: str = WEIGHTS) -> None:
    tensors = load_file(folder / name)
    edit(tensors)
    save_file(tensors, folder / name, {"format": "pt"})


def tensors_path(folder: Path) -> Path:
    return folder / json.loads((folder / FACTS).read_text())["tensors"]["file"]


def digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def edit_references(folder: Path, edit: Callable[[Tensors, Facts], None], everywhere: bool = True) -> None:
    """Edits references, and makes all digests fit: of tensors and facts, in configuration and weights.

    Args:
        folder: Of a model, or of a bank alone.
        edit: Changes tensors and facts, which are without the digests.
        everywhere: Also those in configuration and weights, where there are any.
    """
    path = tensors_path(folder)
    facts = json.loads((folder / FACTS).read_text())
    del facts["sha256"], facts["tensors"]
    tensors = load_file(path)
    path.unlink()
    edit(tensors, facts)
    written = folder / "written"
    save_file({name: values.contiguous() for name, values in tensors.items()}, written)
    refit(folder, written, facts, everywhere)


def refit(folder: Path, written: Path, facts: Facts, everywhere: bool = True) -> None:
    """Takes a file of tensors and facts for the references of a folder; arguments as in `edit_references`."""
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    name = f"references-{digest[:16]}.safetensors"
    facts = {**facts, "tensors": {"file": name, "bytes": written.stat().st_size, "sha256": digest}}
    written.rename(folder / name)
    seal(folder, facts, everywhere)


def seal(folder: Path, facts: Facts, everywhere: bool = True) -> None:
    """Writes facts with the digest that they have now; arguments as in `edit_references`."""
    digest = digest_of(facts)
    (folder / FACTS).write_text(json.dumps({**facts, "sha256": digest}))
    if not everywhere or not (folder / CONFIG).exists():
        return
    ids = facts.get("ids")
    number = len(ids) if isinstance(ids, list) else 0
    edit_json(
        folder / CONFIG, lambda config: config.update(saved_references={"number": number, "digest": digest})
    )
    edit_weights(
        folder, lambda weights: weights.update({DIGEST: torch.tensor(list(bytes.fromhex(digest))).byte()})
    )


def edit_facts(folder: Path, edit: Callable[[Facts], None]) -> None:
    """Edits all of `references.json`, the tensors' entry included, and makes the digests fit."""
    facts = json.loads((folder / FACTS).read_text())
    del facts["sha256"]
    edit(facts)
    seal(folder, facts)


def flip_bits(tensor: torch.Tensor, rng: random.Random, number: int) -> None:
    """Flips bits of a tensor in its place."""
    flat = tensor.view(-1).view(torch.uint8) if tensor.dtype != torch.bool else tensor.view(-1)
    for _ in range(number if len(flat) else 0):
        place = rng.randrange(len(flat))
        flat[place] = (
            not flat[place] if tensor.dtype == torch.bool else int(flat[place]) ^ 1 << rng.randrange(8)
        )
