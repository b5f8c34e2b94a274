"""A saved model: its weights, its configuration and its references belong together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientModel
from tests.modeling_mmorient.known_models import IDS

ROOT = Path(__file__).resolve().parents[2]
EARLIER = ROOT / "tests" / "saved_models" / "every_kind_with_votes"
REFERENCES = "references*"


def load(folder, **options):
    return MMOrientForMultitaskClassification.from_pretrained(folder, **options)


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits["sentiment"]


@pytest.fixture
def known(make_known, tmp_path):
    """A model, its inputs' answers differ with its references, and the folder that it was saved to."""
    torch.manual_seed(0)
    model = make_known()
    with torch.no_grad():
        for parameter in model.mmorient.hima.parameters():
            parameter.normal_()
    model.settle_references()
    model.save_pretrained(tmp_path / "model")
    return model


def test_the_configuration_names_the_references(known, tmp_path):
    saved = json.loads((tmp_path / "model" / "config.json").read_text())["saved_references"]
    facts = json.loads((tmp_path / "model" / "references.json").read_text())
    assert saved == {"number": 12, "digest": facts["sha256"]}
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert bytes(weights["mmorient.hima.references_digest"].tolist()).hex() == facts["sha256"]


def test_missing_references_are_an_error_unless_they_are_not_wanted(known, make_inputs, tmp_path):
    for path in (tmp_path / "model").glob(REFERENCES):
        path.unlink()
    for load_model in (load, MMOrientModel.from_pretrained):
        with pytest.raises(ValueError, match=r"no references\.json.* has 12 references.*references=False"):
            load_model(tmp_path / "model")
    model = load(tmp_path / "model", references=False)
    assert len(model.references) == 0
    # Saved again, it has none, and nobody misses them.
    model.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    inputs = make_inputs()
    torch.testing.assert_close(logits(again, inputs), logits(model, inputs))


def test_references_can_be_left_out_where_they_are(known, tmp_path):
    model = load(tmp_path / "model", references=False)
    assert len(model.references) == 0
    g = [bias.running_g for bias in model.mmorient.hima.batch_biases.values()]
    expected = [bias.running_g for bias in known.mmorient.hima.batch_biases.values()]
    assert all(torch.equal(*pair) for pair in zip(g, expected, strict=True))
    with pytest.raises(ValueError, match="`references` is 'no'"):
        load(tmp_path / "model", references="no")


def test_references_of_another_model_are_refused(known, make_known, tmp_path):
    other = make_known()
    other.remove_references(IDS[:3])
    other.save_pretrained(tmp_path / "other")
    mixed = tmp_path / "mixed"
    for files, names in (
        ("references*", "config.json are of a model with others"),
        ("config.json", "config.json are of a model with others"),
        ("model.safetensors", "weights are of a model with others"),
    ):
        shutil.copytree(tmp_path / "model", mixed)
        if "*" in files:
            for path in mixed.glob(files):
                path.unlink()
        for path in (tmp_path / "other").glob(files):
            shutil.copy(path, mixed / path.name)
        with pytest.raises(ValueError, match=names):
            load(mixed)
        load(mixed, references=False)
        shutil.rmtree(mixed)


def test_models_that_were_saved_before_load_with_a_warning_where_references_are_missing(tmp_path, caplog):
    folder = tmp_path / "before"
    shutil.copytree(EARLIER, folder)
    assert len(load(folder).references) > 0
    assert not any("without references" in text for text in caplog.messages)
    for path in folder.glob(REFERENCES):
        path.unlink()
    assert len(load(folder).references) == 0
    assert any("no references.json" in text for text in caplog.messages)


def test_references_are_saved_into_the_model_s_folder(known, make_inputs, tmp_path):
    folder, inputs = tmp_path / "model", make_inputs()
    others = {
        name: values
        for name, values in load_file(folder / "model.safetensors").items()
        if "running_g" not in name and "digest" not in name
    }
    for edit in (
        lambda: known.remove_references(IDS[:9]),
        lambda: known.references.remove(IDS[9:11]),  # the bank itself
        lambda: known.add_references(make_inputs(seed=3), [f"n{row}" for row in range(6)]),
        lambda: known.remove_references(known.references.ids),
    ):
        edit()
        known.save_references(folder)
        again = load(folder)
        assert again.references.ids == known.references.ids
        torch.testing.assert_close(logits(again, inputs), logits(known, inputs), atol=1e-6, rtol=1e-6)
        assert len(list(folder.glob(REFERENCES))) == 2
    now = load_file(folder / "model.safetensors")
    assert all(torch.equal(now[name], values) for name, values in others.items())


@pytest.mark.parametrize("sharded", [False, True])
def test_references_are_saved_into_models_of_earlier_releases(sharded, tmp_path):
    model = load(EARLIER)
    folder = tmp_path / "model"
    if sharded:
        model.save_pretrained(folder, max_shard_size="2KB")
        assert len(list(folder.glob("model-*"))) >= 2
    else:
        shutil.copytree(EARLIER, folder)
    model.remove_references(model.references.ids[:3])
    model.save_references(folder)
    assert load(folder).references.ids == model.references.ids
    own, again = model.state_dict(), load(folder).state_dict()
    assert all(torch.equal(values, again[name]) for name, values in own.items())


def test_other_models_folders_are_refused(known, make_known, make_model, tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        known.save_references(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    make_known(learner_hidden_sizes=[8]).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="holds another model: its `learner_hidden_sizes` is"):
        known.save_references(tmp_path / "other")
    with torch.no_grad():
        known.mmorient.hima.text.attention.hidden.weight.add_(1)
    with pytest.raises(ValueError, match=r"differ from the model's in 'mmorient\.hima\.text"):
        known.save_references(tmp_path / "model")
    with pytest.raises(ValueError, match="another class of models"):
        MMOrientModel.from_pretrained(tmp_path / "model").save_references(tmp_path / "model")


def test_weights_that_are_replaced_are_gone(known, tmp_path):
    folder = tmp_path / "model"
    for size, files in (("2KB", 3), ("5GB", 1), ("2KB", 3)):
        known.save_pretrained(folder, max_shard_size=size)
        weights = [path.name for path in folder.glob("model*.safetensors*")]
        assert (len(weights) == 1) == (files == 1) and ("model.safetensors" in weights) == (files == 1)
        load(folder)
    known.save_pretrained(folder, variant="half")
    assert len(list(folder.glob("model*half*"))) == 1 and len(list(folder.glob("model-0*"))) > 1
    load(folder, variant="half")


@torch.no_grad()
def test_editing_the_bank_itself_changes_g_in_the_next_answer(known, make_inputs, tmp_path):
    inputs = make_inputs()
    model = load(tmp_path / "model")
    for edited in (known, model):
        edited.references.remove(IDS[:9])
    expected = load(tmp_path / "model")
    expected.remove_references(IDS[:9])
    for edited in (known, model):
        torch.testing.assert_close(logits(edited, inputs), logits(expected, inputs), atol=1e-6, rtol=1e-6)


def test_after_training_g_is_a_running_mean_until_it_is_settled(known, make_inputs, make_labels, tmp_path):
    known.train()(**make_inputs(), labels=make_labels())
    known.eval()
    bias = known.mmorient.hima.text.batch_bias
    running = bias.running_g.clone()
    known.save_pretrained(tmp_path / "trained")
    weights = load_file(tmp_path / "trained" / "model.safetensors")
    assert not weights["mmorient.hima.references_digest"].any()
    known.references.remove(IDS[:2])
    logits(known, make_inputs())
    assert torch.equal(bias.running_g, running)
    known.settle_references()
    assert not torch.equal(bias.running_g, running)
    known.save_pretrained(tmp_path / "settled")
    assert load(tmp_path / "settled").mmorient.hima.settled_over is not None


@torch.no_grad()
def test_weights_of_a_state_dict_get_the_g_of_the_model_s_references(known, make_inputs, tmp_path):
    other = load(tmp_path / "model")
    other.remove_references(IDS[:8])
    other.save_pretrained(tmp_path / "other")
    inputs = make_inputs()
    expected = logits(known, inputs)
    known.load_state_dict(load_file(tmp_path / "other" / "model.safetensors"))
    torch.testing.assert_close(logits(known, inputs), expected, atol=1e-6, rtol=1e-6)
    # Weights that say nothing of references keep their g.
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights.pop("mmorient.hima.references_digest")
    known.load_state_dict(weights)
    torch.testing.assert_close(
        known.mmorient.hima.text.batch_bias.running_g, weights["mmorient.hima.text.batch_bias.running_g"]
    )


def test_a_state_dict_that_is_given_is_saved_with_the_references_of_now(known, tmp_path):
    weights = {name: values.clone() for name, values in known.state_dict().items()}
    known.remove_references(IDS[:4])
    known.save_pretrained(tmp_path / "given", state_dict=weights)
    assert load(tmp_path / "given").references.ids == tuple(IDS[4:])


def test_what_is_given_in_place_of_a_folder(known, tmp_path):
    weights = load_file(tmp_path / "model" / "model.safetensors")
    model = MMOrientForMultitaskClassification.from_pretrained(None, config=known.config, state_dict=weights)
    assert len(model.references) == 0
    with pytest.raises(ValueError, match="`distributed_checkpoint`"):
        known.save_pretrained(tmp_path / "parts", distributed_checkpoint=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        known.save_pretrained(tmp_path / "file")


@pytest.mark.parametrize(
    "entry", [3, [], {"number": 1}, {"number": -1, "digest": "0" * 64}, {"number": 1, "digest": "x"}]
)
def test_damaged_entries_of_the_configuration_are_refused(entry, known, tmp_path):
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "saved_references": entry}))
    with pytest.raises(ValueError, match="`saved_references`"):
        load(tmp_path / "model")


def test_weights_with_another_digest_are_refused(known, tmp_path):
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["mmorient.hima.references_digest"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="its weights are of a model with others"):
        load(tmp_path / "model")


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from transformers.utils import logging
from modeling_mmorient import MMOrientForMultitaskClassification
from tests.modeling_mmorient.kills import end_at
from tests.modeling_mmorient.test_saved_model import load
logging.disable_progress_bar()

folder, outcomes = Path({folder!r}), []
models = {{12: load(folder), 5: load(folder)}}
models[5].remove_references(models[5].references.ids[5:])
g = {{number: model.mmorient.hima.text.batch_bias.running_g for number, model in models.items()}}
save = {save!r}
step = 0
while True:
    step += {stride}
    models[12].save_pretrained(folder)
    child = os.fork()
    if not child:
        end_at(step)
        getattr(models[5], save)(folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    found = load(folder)
    number = len(found.references)
    assert torch.equal(found.mmorient.hima.text.batch_bias.running_g, g[number]), step
    outcomes.append(number)
    if not code:
        break
assert outcomes == sorted(outcomes, reverse=True) and set(outcomes) == {{12, 5}}, outcomes
print(len(outcomes))
"""


@pytest.mark.parametrize("save", [pytest.param("save_pretrained", marks=pytest.mark.slow), "save_references"])
def test_a_kill_between_any_two_files_leaves_the_old_model_or_the_new_one(save, known, tmp_path):
    stride = 1 if os.environ.get("ATTACK") == "large" else 4
    script = KILLED.format(root=str(ROOT), folder=str(tmp_path / "model"), save=save, stride=stride)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


SAVERS = """
import os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from transformers.utils import logging
from tests.modeling_mmorient.test_saved_model import load
logging.disable_progress_bar()

folder = Path({folder!r})
model = load(folder)
children = []
for saver in range(4):
    if not (child := os.fork()):
        for number in range({saves}):
            kept = 1 + (saver + number) % 11
            edited = load(folder, references=False)
            edited.references = model.references
            edited.remove_references(model.references.ids[kept:])
            (edited.save_pretrained if number % 2 else edited.save_references)(folder)
        os._exit(0)
    children.append(child)
reads = 0
while children:
    found = load(folder)  # which refuses parts of two saves
    reads += 1
    done, status = os.waitpid(-1, os.WNOHANG)
    if done:
        assert status == 0
        children.remove(done)
left = [path for path in folder.iterdir() if path.suffix != ".py"]
assert len(left) == 4, left
print(reads)
"""


def test_four_processes_save_and_one_loads(known, tmp_path):
    saves = 80 if os.environ.get("ATTACK") == "large" else 4
    script = SAVERS.format(root=str(ROOT), folder=str(tmp_path / "model"), saves=saves)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


def edit_weights(folder, edit, name="model.safetensors"):
    tensors = load_file(folder / name)
    edit(tensors)
    save_file(tensors, folder / name, {"format": "pt"})


def shorten(tensors):
    tensors["heads.0.weight"] = tensors["heads.0.weight"][1:].clone()


def make_complex(tensors):
    tensors["heads.0.weight"] = tensors["heads.0.weight"].to(torch.complex64)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (
            lambda folder: edit_weights(folder, shorten),
            r"'heads.0.weight' has the shape \(2, 16\).*\(3, 16\)",
        ),
        (lambda folder: edit_weights(folder, make_complex), "'heads.0.weight' as C64"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "model.safetensors cannot be read"),
    ],
    ids=["other size", "complex", "no configuration", "no weights", "no safetensors"],
)
def test_files_that_are_no_model_are_refused(known, tmp_path, alter, said):
    alter(tmp_path / "model")
    with pytest.raises((ValueError, OSError), match=said):
        load(tmp_path / "model")


def test_weights_of_other_sizes_can_be_made_anew(known, tmp_path):
    edit_weights(tmp_path / "model", shorten)
    _, info = load(tmp_path / "model", ignore_mismatched_sizes=True, output_loading_info=True)
    assert [name for name, *_ in info["mismatched_keys"]] == ["heads.0.weight"]


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/model.safetensors", 3, "model.bin", "x.safetensors"]
)
def test_an_index_names_files_of_its_folder(known, tmp_path, shard):
    folder = tmp_path / "shards"
    known.save_pretrained(folder, max_shard_size="5KB")
    index = folder / "model.safetensors.index.json"
    entries = json.loads(index.read_text())
    entries["weight_map"]["heads.0.weight"] = shard
    index.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=str(folder)):
        load(folder)
