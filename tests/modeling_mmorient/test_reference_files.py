import hashlib
import json
import pathlib
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_mmorient import reference_files
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_embeds import STORAGE_DTYPES
from tests.modeling_mmorient.test_reference_bank import TASKS, contents, filled_bank, random_embeds


def tensors_file(folder):
    (path,) = folder.glob("*.safetensors")
    return path


def rewrite(folder, facts, changed_tensors=None):
    """Change a bank's files so that they still fit their digests."""
    sidecar = folder / "references.json"
    values = json.loads(sidecar.read_text()) | facts
    path = tensors_file(folder)
    if changed_tensors is not None:
        changed = load_file(path) | changed_tensors
        path.unlink()
        save_file({name: value for name, value in changed.items() if value is not None}, folder / "new")
        digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
        path = (folder / "new").rename(folder / f"references-{digest[:16]}.safetensors")
        values["tensors"] = {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}
    values.pop("sha256", None)
    sidecar.write_text(json.dumps({**values, "sha256": reference_files._metadata_digest(values)}))


@pytest.fixture
def folder(tmp_path):
    filled_bank().save(tmp_path / "bank")
    return tmp_path / "bank"


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
@pytest.mark.parametrize("size", [1, 6])
def test_a_saved_bank_loads_as_it_was(tmp_path, dtype, size):
    bank = ReferenceBank(4, 3, TASKS, dtype, "two\nlines") if size == 1 else filled_bank(size, dtype)
    if size == 1:
        bank.add(["\u00e4 \U0001f600 ../"], random_embeds(1))
    bank.save(tmp_path)
    loaded = ReferenceBank.load(tmp_path)
    assert contents(loaded) == contents(bank)
    assert (loaded.dtype, loaded.notes, loaded.widths) == (bank.dtype, bank.notes, bank.widths)
    assert {name: spec.labels for name, spec in loaded.tasks.items()} == {
        name: spec.labels for name, spec in TASKS.items()
    }
    found, expected = (which.search("text", torch.ones(1, 3), k=3) for which in (loaded, bank))
    assert torch.equal(found.similarities, expected.similarities)


def test_an_empty_bank_loads(tmp_path):
    ReferenceBank(4, 3, TASKS).save(tmp_path)
    loaded = ReferenceBank.load(tmp_path)
    assert len(loaded) == 0
    loaded.add(["a"], random_embeds(1))


def test_saving_again_leaves_the_new_bank_s_two_files_alone(folder):
    bank = ReferenceBank.load(folder)
    for _ in range(2):
        bank.save(folder)
        assert len(list(folder.iterdir())) == 2
    bank.remove(["r0"])
    bank.save(folder)
    assert len(list(folder.iterdir())) == 2
    assert contents(ReferenceBank.load(folder)) == contents(bank)


@pytest.mark.parametrize("name", ["references.json", "tensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, "one byte less"])
def test_a_file_cut_short_is_refused(folder, name, share):
    path = tensors_file(folder) if name == "tensors" else folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] if isinstance(share, str) else data[: int(share * len(data))])
    with pytest.raises(ValueError, match="was cut short or altered"):
        ReferenceBank.load(folder)


def test_every_altered_byte_of_the_tensors_is_noticed(folder):
    path = tensors_file(folder)
    data = path.read_bytes()
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="SHA-256"):
            ReferenceBank.load(folder)


@pytest.mark.parametrize("change", [('"r1"', '"r9"'), ('"no"', '"No"'), ('"sha256"', '"sha"')])
def test_altered_facts_are_noticed(folder, change):
    path = folder / "references.json"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ValueError, match="SHA-256"):
        ReferenceBank.load(folder)


def test_a_million_references_are_loaded(tmp_path):
    size = 10**6
    bank = ReferenceBank(2, 2, TASKS, "int8")
    labels = {"humour": torch.arange(size) % 3}
    bank.add([str(place) for place in range(size)], {"text": torch.randn(size, 2)}, labels=labels)
    bank.save(tmp_path)
    loaded = ReferenceBank.load(tmp_path)
    assert len(loaded) == size and loaded.ids[-1] == str(size - 1)
    assert torch.equal(loaded.labels["humour"], labels["humour"])
    sought = bank.embeds("text", torch.tensor([7, size - 1]))
    found = loaded.search("text", sought, k=1)
    torch.testing.assert_close(found.similarities, torch.ones(2, 1).double())


def test_a_fingerprint_is_that_of_all_there_is(tmp_path):
    bank, other = filled_bank(), filled_bank()
    assert bank.fingerprint() == other.fingerprint()
    bank.save(tmp_path)
    assert ReferenceBank.load(tmp_path).fingerprint() == bank.fingerprint()
    other.remove(["r1"])
    assert other.fingerprint() != bank.fingerprint()


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*references.json: name the folder"):
        ReferenceBank.load(tmp_path / "nowhere")
    tensors_file(folder).unlink()
    with pytest.raises(ValueError, match=r"needs references-.*, which is not there"):
        ReferenceBank.load(folder)


@pytest.mark.parametrize("name", ["../references-0123456789abcdef.safetensors", "/etc/passwd", "", None, 3])
def test_the_sidecar_cannot_lead_out_of_the_folder(folder, name):
    shutil.copy(tensors_file(folder), folder.parent / "references-0123456789abcdef.safetensors")
    rewrite(folder, {"tensors": {"file": name, "bytes": 1, "sha256": ""}})
    with pytest.raises(ValueError, match="names the tensors file"):
        ReferenceBank.load(folder)


FACTS = {
    r"has the format_version 2: this release reads 1": {"format_version": 2},
    r"`ids` holds 'r0' twice": {"ids": ["r0", "r0", "r2", "r3", "r4", "r5"]},
    r"`ids` holds '' at 5": {"ids": ["r0", "r1", "r2", "r3", "r4", ""]},
    r"'image_codes' as \(\(6, 4\), torch.float32\), and references.json makes it \(\(5, 4\)": {
        "ids": ["r0", "r1", "r2", "r3", "r4"]
    },
    r"'image_codes' .* makes it \(\(6, 5\)": {"widths": {"image": 5, "text": 3}},
    r"the widths {'image': 4}": {"widths": {"image": 4}},
    r"`text_embed_dim` is '3'": {"widths": {"image": 4, "text": "3"}},
    r"'image_codes' .* makes it \(\(6, 4\), torch.int8\)": {"dtype": "int8"},
    r"`dtype` is \['int8'\]": {"dtype": ["int8"]},
    r"'labels/humour' as .* makes it None": {"tasks": []},
    r"'labels/anger' as None": {"tasks": [{"name": "anger", "labels": ["no", "yes"]}]},
    r"has no \"tensors\"": {"tensors": None},
    r"`image_embed_dim` is 10{30}": {"widths": {"image": 10**30, "text": 3}},
}


@pytest.mark.parametrize("message", FACTS)
def test_a_sidecar_that_does_not_fit_is_refused(folder, message):
    rewrite(folder, FACTS[message])
    with pytest.raises(ValueError, match=message):
        ReferenceBank.load(folder)


@pytest.mark.parametrize("text", ["[]", "1", "", "{", "\udcff", "[" * 100_000])
def test_a_sidecar_that_is_no_json_object_is_refused(folder, text):
    (folder / "references.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="was cut short or altered"):
        ReferenceBank.load(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"image_codes": torch.full((6, 4), torch.nan)},
            "reference 'r0' has 'image' that is not finite",
        ),
        ({"text_scales": torch.full((6,), torch.inf)}, "reference 'r0' has 'text' that is not finite"),
        (
            {"image_scales": torch.full((6,), 3e38)},
            "reference 'r0' has 'image' .* larger than 2e\\+09",
        ),
        ({"image_codes": torch.ones(6, 4)}, "reference 'r1' has 'image' .* said to be missing"),
        ({"image_present": torch.zeros(6, dtype=torch.bool)}, "said to be missing"),
        ({"text_codes": None}, "'text_codes' as None"),
        ({"more": torch.ones(1)}, "'more' as .* makes it None"),
        ({"labels/humour": torch.full((6,), 3)}, "`labels\\['humour'\\]` has the value 3"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, tensors, message):
    rewrite(folder, {}, tensors)
    with pytest.raises(ValueError, match=message):
        ReferenceBank.load(folder)


def test_a_save_that_fails_leaves_the_old_bank(folder, monkeypatch):
    old, before = contents(ReferenceBank.load(folder)), sorted(folder.iterdir())

    def full(*_, **__):
        raise OSError("no space left on device")

    for name in ("save_file", "_digest", "json"):
        with monkeypatch.context() as patched, pytest.raises((OSError, AttributeError)):
            patched.setattr(reference_files, name, full)
            filled_bank(8).save(folder)
        assert sorted(folder.iterdir()) == before
        assert contents(ReferenceBank.load(folder)) == old


def test_tensors_that_cannot_be_removed_stay(folder, monkeypatch):
    """Some systems keep a file while anybody reads it."""
    bank = ReferenceBank.load(folder)
    real = pathlib.Path.unlink

    def in_use(path, **options):
        if path.suffix == ".safetensors":
            raise PermissionError("in use")
        real(path, **options)

    for name in ("r0", "r1"):
        bank.remove([name])
        with monkeypatch.context() as patched:
            patched.setattr("pathlib.Path.unlink", in_use)
            bank.save(folder)
        assert contents(ReferenceBank.load(folder)) == contents(bank)
    assert len(list(folder.iterdir())) == 4
    bank.save(folder)
    assert len(list(folder.iterdir())) == 2


def test_a_bank_is_not_saved_into_a_model(folder):
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds a model.*model\.save_references"):
        filled_bank(8).save(folder)
