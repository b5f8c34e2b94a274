"""Attacks on saved models' folders: files that are missing, mixed, altered, links, pickles, or name code."""

import itertools
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Case, amount, check
from tampered_models import (
    CONFIG,
    FACTS,
    WEIGHTS,
    Inputs,
    Model,
    Tensors,
    altered,
    answer,
    edit_json,
    edit_weights,
    load_and_ask,
    tensors_path,
)
from transformers import AutoModel, AutoProcessor

from modeling_mmorient import MMOrientProcessor

sys.path.insert(0, str(Path(__file__).parents[1] / "modeling_mmorient"))
from processor_parts import make_parts

Attack = Callable[[Iterable[Case]], None]
Alter = Callable[[Path], object]
SWEEP = "tampered folders"
#: What code that ran would leave behind, in the folder that it ran in.
EVIL = "from pathlib import Path\nPath({!r}).touch()\nclass Evil: pass\n"


@pytest.fixture(scope="module")
def saved(save_known: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders: a `model` with a processor, the same one in `shards`, and an `other` model."""
    folder, made = tmp_path_factory.mktemp("saved"), {}
    for name, seed in (("model", 0), ("other", 7)):
        model = save_known(folder / name, seed)
        MMOrientProcessor(**make_parts()).save_pretrained(folder / name)
        if name == "model":
            model.save_pretrained(folder / "shards", max_shard_size="10KB")
        made[name] = folder / name
    return made | {"shards": folder / "shards"}


def ask(source: Path, folder: Path, alter: Alter, inputs: Inputs, expected: torch.Tensor | None) -> None:
    load_and_ask(altered(source, folder, alter), inputs, expected)
    check(not (folder / "evil").exists(), "code of the folder was run")


def replace_file(name: str, contents: bytes, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(contents)


def link_file(name: str, target: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


def move_and_link(name: str, folder: Path) -> None:
    """As in the Hub's cache: the file lies elsewhere, and a link leads to it."""
    elsewhere = folder.with_name(f"{folder.name}-blobs")
    elsewhere.mkdir()
    (folder / name).rename(elsewhere / name)
    (folder / name).symlink_to(elsewhere / name)


def make_pipe(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


def make_folder(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()


def files(folder: Path) -> dict[str, str]:
    """The files of a saved model, by what they are."""
    return {"configuration": CONFIG, "weights": WEIGHTS, "facts": FACTS, "tensors": tensors_path(folder).name}


def of_files(saved: dict[str, Path]) -> Iterator[tuple[str, Alter]]:
    for what, name in files(saved["model"]).items():
        yield f"{what} missing", lambda folder, name=name: (folder / name).unlink()  # type: ignore[misc]
        yield f"{what} empty", partial(replace_file, name, b"")
        yield f"{what} a link to nothing", partial(link_file, name, "nothing")
        yield f"{what} a link to itself", partial(link_file, name, name)
        yield f"{what} a link elsewhere", partial(move_and_link, name)
        yield f"{what} a link to another's", partial(link_file, name, str(saved["other"] / name))
        yield f"{what} a pipe", partial(make_pipe, name)
        yield f"{what} a folder", partial(make_folder, name)
        yield f"{what} cut in half", partial(cut, name)
        yield f"{what} a pickle", partial(replace_file, name, b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.")
        yield f"{what} zeros", partial(replace_file, name, bytes(10_000))
    kinds = list(files(saved["model"]))
    for number in (1, 2, 3):
        for chosen in itertools.combinations(kinds, number):
            yield f"another model's {' and '.join(chosen)}", partial(mix, saved["other"], chosen)


def cut(name: str, folder: Path) -> None:
    contents = (folder / name).read_bytes()
    (folder / name).write_bytes(contents[: len(contents) // 2])


def mix(other: Path, chosen: tuple[str, ...], folder: Path) -> None:
    for what in chosen:
        if what == "tensors":
            shutil.copy(tensors_path(other), folder)
        else:
            name = files(folder)[what]
            shutil.copy(other / name, folder / name)


def set_config(changes: dict[str, Any], folder: Path) -> None:
    (folder / "evil.py").write_text(EVIL.format(str(folder / "evil")))
    edit_json(folder / CONFIG, lambda config: config.update(changes))


#: Changes of `config.json`, each on its own.
CONFIG_CHANGES: list[dict[str, Any]] = [
    {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}},
    {"auto_map": "evil.Evil"},
    {"auto_map": {"AutoModel": "../evil.Evil"}},
    {"trust_remote_code": True},
    {"text_config": {"model_type": "bert", "auto_map": {"AutoModel": "evil.Evil"}}},
    {"text_config": {"model_type": "evil"}},
    {"model_type": "bert"},
    {"model_type": None},
    {"architectures": ["Evil"]},
    {"architectures": 3},
    {"transformers_version": "99.0"},
    {"transformers_version": 3},
    {"_name_or_path": "/etc/passwd"},
    {"_commit_hash": "../../x"},
    {"dtype": "float16"},
    {"dtype": "float64"},
    {"dtype": "int8"},
    {"dtype": "nothing"},
    {"dtype": "__class__"},
    {"dtype": 3},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    {"quantization_config": {"quant_method": "nothing"}},
    {"quantization_config": "x"},
    {"attn_implementation": "evil/kernel"},
    {"_attn_implementation": "evil/kernel"},
    {"_attn_implementation_internal": "evil/kernel"},
    {"experts_implementation": "evil/kernel"},
    {"base_model_tp_plan": {"*": "colwise"}},
    {"use_kernels": True},
    {"configuration_files": ["config.4.0.0.json"]},
    {"image_embed_dim": 8},
    {"region_dim": 4},
    {"hima_hidden_size": 9},
    {"hima_hidden_size": "8"},
    {"graph_hidden_size": 5},
    {"learner_hidden_sizes": [24]},
    {"learner_hidden_sizes": [24, 17]},
    {"learner_hidden_sizes": []},
    {"task_feature_dim": 3},
    {"use_hima_stage1": False, "use_hima_stage2": False},
    {"use_hima_stage2": False},
    {"use_in_modal": False},
    {"use_votes": False},
    {"graph_scope": "batch", "use_votes": False},
    {"uncertainty_weighting": True},
    {"hima_scoring": "direct"},
    {"reference_dtype": "int8"},
    {"reference_dtype": "int4"},
    {"image_neighbors": None, "image_threshold": None},
    {"tasks": [{"name": "new", "labels": ["a", "b"]}]},
    {"tasks": []},
    {"tasks": {"sentiment": 3}},
    {"saved_references": {"number": 3, "digest": "0" * 64}},
    {"saved_references": {"number": 12, "digest": "../../x"}},
    {"saved_references": "x"},
    {"saved_references": {}},
    {"lora_r": 8},
    {"zzz": {"a": [1] * 1000}},
]


def names_of(changes: dict[str, Any]) -> tuple[str, ...]:
    """What a refusal may name: the field, or the weight or feature that is of another size."""
    return (*changes, "auto_map", "weights", "features", "references", "task")


def empty_names(index: dict[str, Any]) -> None:
    index["weight_map"] = {}


#: Changes of the index of weights in several files.
INDEX_CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a file outside": lambda index: index["weight_map"].update(
        {next(iter(index["weight_map"])): "../x.safetensors"}
    ),
    "a file at the root": lambda index: index["weight_map"].update(
        {next(iter(index["weight_map"])): "/etc/passwd"}
    ),
    "a file that is missing": lambda index: index["weight_map"].update(
        {next(iter(index["weight_map"])): "x.safetensors"}
    ),
    "a name that is a number": lambda index: index["weight_map"].update({next(iter(index["weight_map"])): 3}),
    "a pickle": lambda index: index["weight_map"].update(
        {next(iter(index["weight_map"])): "pytorch_model.bin"}
    ),
    "no map": lambda index: index.pop("weight_map") and None,
    "an empty map": empty_names,
    "a list": lambda index: [],
    "a map that is a list": lambda index: index.update(weight_map=[1, 2]),
    "no metadata": lambda index: index.pop("metadata") and None,
    "a weight less": lambda index: index["weight_map"].pop(next(iter(index["weight_map"]))) and None,
    "a million weights": lambda index: index["weight_map"].update(
        {f"evil.{number}": "model-00001-of-00002.safetensors" for number in range(amount(20_000, 1_000_000))}
    ),
    "a wrong size": lambda index: index["metadata"].update(total_size=-1),
}


def set_weight(name: str, make: Callable[[torch.Tensor], torch.Tensor], tensors: Tensors) -> None:
    tensors[name] = make(tensors[name]).contiguous()


def of_weights() -> Iterator[tuple[str, Alter]]:
    makers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "a row less": lambda tensor: tensor[1:],
        "of a dimension more": lambda tensor: tensor.unsqueeze(0),
        "of no dimension": lambda tensor: tensor.reshape(-1)[0].clone(),
        "whole numbers": lambda tensor: torch.zeros_like(tensor, dtype=torch.long),
        "boolean": lambda tensor: torch.zeros_like(tensor, dtype=torch.bool),
        "complex": lambda tensor: torch.zeros_like(tensor, dtype=torch.complex64),
    }
    names = (
        "mmorient.hima.image.attention.hidden.weight",
        "mmorient.hima.text.batch_bias.running_g",
        "mmorient.hima.references_digest",
        "heads.0.weight",
        "votes.weights",
    )
    for name in names:
        for what, make in makers.items():
            yield f"{name} {what}", partial(edit_weights_if, name, partial(set_weight, name, make))
        yield f"{name} left out", partial(edit_weights_if, name, lambda tensors, name=name: tensors.pop(name))  # type: ignore[misc]
    yield "another weight", partial(edit_weights, edit=lambda tensors: tensors.update(evil=torch.zeros(3)))
    yield "no weights", partial(edit_weights, edit=lambda tensors: tensors.clear())


def edit_weights_if(name: str, edit: Callable[[Tensors], None], folder: Path) -> None:
    def checked(tensors: Tensors) -> None:
        assert name in tensors, sorted(tensors)
        edit(tensors)

    edit_weights(folder, checked)


def test_files(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    expected = answer(Model.from_pretrained(saved["model"]), inputs)
    cases = []
    for number, (what, alter) in enumerate(of_files(saved)):
        folder = tmp_path / str(number)
        attempt = partial(ask, saved["model"], folder, alter, inputs, expected)
        cases.append(Case(SWEEP, what, 0, str(folder), attempt))
    attack(cases)


def test_configurations(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    expected = answer(Model.from_pretrained(saved["model"]), inputs)
    cases = []
    for number, changes in enumerate(CONFIG_CHANGES):
        alter = partial(set_config, changes)
        attempt = partial(ask, saved["model"], tmp_path / str(number), alter, inputs, expected)
        what = f"config.json has {json.dumps(changes):.60}"
        # Other branches, widths and dtypes give other answers, of which nothing is known.
        attempt = partial(
            ask_changed, attempt, saved["model"], tmp_path / str(number), alter, inputs, changes
        )
        cases.append(Case(SWEEP, what, 0, names_of(changes), attempt))
    attack(cases)


def ask_changed(
    attempt: Callable[[], None],
    source: Path,
    folder: Path,
    alter: Alter,
    inputs: Inputs,
    changes: dict[str, Any],
) -> None:
    """As `attempt`, where the change is none of how the model computes."""
    if set(changes) & {"dtype", "image_neighbors", "reference_dtype", "tasks", "graph_scope", "use_votes"}:
        kind = getattr(torch, str(changes.get("dtype", "float32")), None)
        asked = {
            name: values.to(kind) if isinstance(kind, torch.dtype) and values.is_floating_point() else values
            for name, values in inputs.items()
        }
        load_and_ask(altered(source, folder, alter), asked, None)
    else:
        attempt()


def test_weights(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    expected = answer(Model.from_pretrained(saved["model"]), inputs)
    cases = []
    for number, (what, alter) in enumerate(of_weights()):
        attempt = partial(ask, saved["model"], tmp_path / str(number), alter, inputs, expected)
        cases.append(Case(SWEEP, f"weights: {what}", 0, ("weights", what.split()[0]), attempt))
    for what, change in INDEX_CHANGES.items():
        folder = tmp_path / f"index-{what}".replace(" ", "-")
        alter = partial(change_index, change)
        attempt = partial(ask, saved["shards"], folder, alter, inputs, expected)
        cases.append(Case(SWEEP, f"weights' index: {what}", 0, ("weights", "index"), attempt))
    header = int.from_bytes((saved["model"] / WEIGHTS).read_bytes()[:8], "little") + 8
    for seed in range(amount(10, 400)):
        attempt = partial(
            ask,
            saved["model"],
            tmp_path / f"flip-{seed}",
            partial(flip_header, seed, header),
            inputs,
            expected,
        )
        cases.append(Case(SWEEP, "weights: a bit of the header flipped", seed, "weights", attempt))
    attack(cases)


def change_index(change: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    edit_json(folder / "model.safetensors.index.json", change)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.")


def flip_header(seed: int, size: int, folder: Path) -> None:
    """Flips a bit of what the weights' file says of itself; its numbers have no digest."""
    contents = bytearray((folder / WEIGHTS).read_bytes())
    rng = random.Random(seed)
    contents[rng.randrange(size)] ^= 1 << rng.randrange(8)
    (folder / WEIGHTS).write_bytes(contents)


def plant(names: dict[str, str], folder: Path) -> None:
    """Puts further files into a folder."""
    for name, contents in names.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(contents.replace("FOLDER", str(folder)))
    (folder / "evil.py").write_text(EVIL.format(str(folder / "evil")))


#: Further files, which must not change what is loaded, nor what lies outside the folder.
PLANTED: dict[str, dict[str, str]] = {
    "an adapter": {"adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "evil/model"}'},
    "an adapter of nothing": {"adapter_config.json": "x"},
    "a pickle beside": {"pytorch_model.bin": "x"},
    "settings of generation": {"generation_config.json": '{"auto_map": {"x": "evil.Evil"}}'},
    "code beside": {"modeling_mmorient.py": EVIL.format("FOLDER/evil"), "configuration_mmorient.py": "1/0"},
    "a save that deletes outside": {
        ".saved/.obsolete": '["../victim", "/tmp/victim", "..", ".", "", "model/../../victim"]'
    },
    "a save that deletes nothing known": {".saved/.obsolete": "[[]]"},
    "a save with a folder": {".saved/.obsolete": "[]", ".saved/inner/file": "x"},
    "a save of rubbish": {".saving-evil/file": "x", ".saving-evil/.obsolete": '["config.json"]'},
    "an index of weights beside": {"model.safetensors.index.json": '{"weight_map": {"x": "../x"}}'},
    "a lock": {".saving.lock": ""},
}


def ask_planted(
    source: Path, folder: Path, names: dict[str, str], inputs: Inputs, expected: torch.Tensor
) -> None:
    victim = folder.with_name("victim")
    victim.touch()
    ask(source, folder, partial(plant, names), inputs, expected)
    check(victim.exists(), "a file outside the folder was deleted")


def test_further_files(saved: dict[str, Path], inputs: Inputs, tmp_path: Path, attack: Attack) -> None:
    expected = answer(Model.from_pretrained(saved["model"]), inputs)
    cases = []
    for number, (what, names) in enumerate(PLANTED.items()):
        attempt = partial(ask_planted, saved["model"], tmp_path / str(number), names, inputs, expected)
        cases.append(Case(SWEEP, f"with {what}", 0, str(tmp_path), attempt))
    attack(cases)


def add_entries(entries: dict[str, Any], contents: dict[str, Any]) -> None:
    for name, entry in entries.items():
        if isinstance(entry, dict) and isinstance(contents.get(name), dict):
            contents[name].update(entry)
        else:
            contents[name] = entry


def load_with_code(
    source: Path, folder: Path, changes: dict[str, dict[str, Any]], load: Callable[[Path], Any]
) -> None:
    def alter(copied: Path) -> None:
        (copied / "evil.py").write_text(EVIL.format(str(copied / "evil")))
        for name, entries in changes.items():
            if not (copied / name).exists():
                (copied / name).write_text("{}")
            edit_json(copied / name, partial(add_entries, entries))

    try:
        load(altered(source, folder, alter))
    except ValueError as error:  # how transformers refuses to run it
        if "trust_remote_code=True" not in str(error):
            raise
    finally:
        check(not (folder / "evil").exists(), "code of the folder was run")


def test_code(saved: dict[str, Path], tmp_path: Path, attack: Attack) -> None:
    """Files that name code, loaded in every way without the leave to run any."""
    code = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer"), "evil.Evil")
    places: list[dict[str, dict[str, Any]]] = [
        {CONFIG: {"auto_map": code}},
        {"processor_config.json": {"auto_map": code, "processor_class": "Evil"}},
        {"tokenizer_config.json": {"auto_map": code, "tokenizer_class": "Evil"}},
        {"preprocessor_config.json": {"auto_map": code, "image_processor_type": "Evil"}},
        {"processor_config.json": {"image_processor": {"auto_map": code}}},
    ]
    loads: dict[str, Callable[[Path], Any]] = {
        "model": Model.from_pretrained,
        "AutoModel": AutoModel.from_pretrained,
        "processor": MMOrientProcessor.from_pretrained,
        "AutoProcessor": AutoProcessor.from_pretrained,
    }
    cases = []
    for number, changes in enumerate(places):
        for name, load in loads.items():
            attempt = partial(load_with_code, saved["model"], tmp_path / f"{number}-{name}", changes, load)
            things = (str(tmp_path), "trust_remote_code", "auto_map", "tokenizer", "processor")
            cases.append(
                Case("code in folders", f"{name} with {json.dumps(changes):.50}", 0, things, attempt)
            )
    attack(cases)
