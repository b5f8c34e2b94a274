import subprocess
import sys

import pytest
import torch

from modeling_mmorient import reference_search
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_embeds import STORAGE_DTYPES

pytest.importorskip("faiss")
DIM = 16


def clustered(size, seed):
    """Vectors around fifty centres, (size, DIM)."""
    centres = torch.randn(50, DIM, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, DIM, generator=generator)
    return centres[torch.randint(50, (size,), generator=generator)] + 0.5 * noise


def make_bank(size=2000, dtype="float32"):
    """A bank with a zero vector at 1 and missing texts at 2 and 3."""
    bank = ReferenceBank(3, DIM, dtype=dtype)
    texts = clustered(size, seed=1)
    texts[1] = 0.0
    has = torch.ones(size, dtype=torch.bool)
    has[2:4] = False
    ids = [f"r{place}" for place in range(size)]
    bank.add(ids, {"text": texts, "image": torch.ones(size, 3)}, {"text": has})
    return bank


def equal(found, expected):
    indices = torch.equal(found.indices, expected.indices)
    return indices and torch.equal(found.similarities, expected.similarities)


@pytest.fixture
def messages(monkeypatch):
    """What the bank warns of."""
    said = []
    monkeypatch.setattr("modeling_mmorient.reference_bank.logger.warning", said.append)
    return said


def test_places_are_those_of_the_bank_where_the_first_reference_is_not_searched():
    bank = ReferenceBank(3, 2)
    bank.add(["zero", "right", "up"], {"text": torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])})
    bank.build_index("text", "Flat")
    assert bank.search("text", torch.tensor([[2.0, 0.1], [0.1, 2.0]]), k=2).indices.tolist() == [
        [1, 2],
        [2, 1],
    ]


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
@pytest.mark.parametrize(("k", "threshold"), [(1, None), (16, None), (5, 0.8), (3000, None)])
def test_a_flat_index_finds_what_the_exact_search_finds(dtype, k, threshold):
    bank = make_bank(dtype=dtype)
    queries = torch.cat([clustered(40, seed=2), torch.zeros(1, DIM), torch.full((1, DIM), torch.nan)])
    queries = torch.cat([queries, bank.embeds("text", torch.arange(4, 24))])
    present, exclude = torch.ones(62, dtype=torch.bool), torch.full((62,), -1)
    present[41] = False
    exclude[42:] = torch.arange(4, 24)
    arguments = ("text", queries, present, k, threshold, exclude)
    expected = bank.search(*arguments)
    bank.build_index("text", "Flat")
    assert equal(bank.search(*arguments), expected)
    assert expected.degrees()[40:42].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("factory", "parameters", "least"),
    [
        ("IVF32,Flat", {"nprobe": 4}, 0.97),
        ("HNSW16", {"efSearch": 64}, 0.97),
        ("IVF32,SQ8", {"nprobe": 32}, 0.99),
    ],
)
def test_an_approximate_index_finds_nearly_all_and_ranks_them_exactly(factory, parameters, least):
    bank, queries = make_bank(), clustered(300, seed=2)
    expected = bank.search("text", queries, k=16)
    bank.build_index("text", factory, **parameters)
    found = bank.search("text", queries, k=16)
    hits = (expected.indices.unsqueeze(-1) == found.indices.unsqueeze(1)).any(-1)
    assert hits.double().mean() >= least
    # The cosines of those that were found are exact, to the last bit.
    known = {
        (row, index): cosine
        for row in range(300)
        for index, cosine in zip(
            expected.indices[row].tolist(), expected.similarities[row].tolist(), strict=True
        )
    }
    for row in range(300):
        pairs = list(zip(found.indices[row].tolist(), found.similarities[row].tolist(), strict=True))
        assert all(known.get((row, index), cosine) == cosine for index, cosine in pairs)
        assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def test_search_parameters_reach_the_index():
    bank, queries = make_bank(), clustered(300, seed=2)
    expected = bank.search("text", queries, k=16)
    bank.build_index("text", "IVF200,Flat", nprobe=1)
    assert not torch.equal(bank.search("text", queries, k=16).indices, expected.indices)
    bank.build_index("text", "IVF200,Flat", nprobe=200)
    assert equal(bank.search("text", queries, k=16), expected)


def test_the_index_is_what_is_searched_and_drop_index_ends_that(monkeypatch):
    bank, queries = make_bank(), clustered(3, seed=2)
    bank.build_index("text", "Flat")
    with monkeypatch.context() as patched:
        patched.setattr(reference_search, "_scan", lambda *_, **__: pytest.fail("searched exactly"))
        bank.search("text", queries, k=2)
        with pytest.raises(pytest.fail.Exception):
            bank.search("image", torch.ones(1, 3), k=2)
        bank.drop_index("text")
        with pytest.raises(pytest.fail.Exception):
            bank.search("text", queries, k=2)
    bank.drop_index("text")
    with pytest.raises(ValueError, match="`modality` is 'sound'"):
        bank.drop_index("sound")


@pytest.mark.parametrize("edit", ["add", "remove", "replace"])
def test_an_edit_drops_the_index_and_says_how_to_build_it_again(edit, messages):
    bank = make_bank()
    bank.build_index("text", "IVF1,Flat", nprobe=1)
    query = clustered(1, seed=2)
    nearest = bank.ids[bank.search("text", query, k=1).indices[0, 0]]
    if edit == "add":
        bank.add(["new"], {"text": query})
        expected = "new"
    elif edit == "replace":
        bank.replace(["r7"], {"text": query})
        expected = "r7"
    else:
        second = bank.search("text", query, k=2).indices[0, 1]
        expected = bank.ids[second]
        bank.remove([nearest])
    assert bank.ids[bank.search("text", query, k=1).indices[0, 0]] == expected
    assert len(messages) == 1
    assert "the text index is dropped" in messages[0]
    assert "build_index('text', 'IVF1,Flat', nprobe=1)" in messages[0]
    bank.remove(["r10"])
    assert len(messages) == 1


def test_an_edit_that_fails_keeps_the_index(messages):
    bank = make_bank()
    bank.build_index("text", "Flat")
    with pytest.raises(ValueError, match="a reference 'r1' already"):
        bank.add(["r1"], {"text": torch.ones(1, DIM)})
    with pytest.raises(ValueError, match="the text index finds a number of neighbours only"):
        bank.search("text", torch.ones(1, DIM), threshold=0.5)
    assert not messages


def test_neighbors_of_references_are_sought_anew_with_another_index():
    bank, places = make_bank(), torch.arange(4, 40)
    present = torch.ones(len(places), dtype=torch.bool)
    asked = ("text", bank.embeds("text", places), present, 16, None, places)
    expected = bank.neighbors(*asked)
    bank.build_index("text", "IVF200,Flat", nprobe=1)
    assert not torch.equal(bank.neighbors(*asked).indices, expected.indices)
    bank.drop_index("text")
    assert equal(bank.neighbors(*asked), expected)


def test_the_same_references_for_other_tasks_or_devices_keep_the_index_and_files_do_not(tmp_path):
    bank = make_bank()
    bank.build_index("text", "Flat")
    for other in (bank.with_tasks({}), bank.to("cpu")):
        with pytest.raises(ValueError, match="drop_index"):
            other.search("text", torch.ones(1, DIM), threshold=0.5)
    bank.save(tmp_path)
    ReferenceBank.load(tmp_path).search("text", torch.ones(1, DIM), threshold=0.5)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_tiny_banks(size):
    bank = ReferenceBank(3, DIM)
    bank.add([f"r{place}" for place in range(size)], {"text": torch.ones(size, DIM)})
    bank.build_index("text", "Flat")
    bank.build_index("image", "Flat")
    assert bank.search("text", torch.ones(4, DIM), k=5).degrees().tolist() == [size] * 4
    assert bank.search("text", torch.ones(0, DIM), k=5).indices.shape == (0, 5)
    assert bank.search("image", torch.ones(4, 3), k=5).degrees().tolist() == [0] * 4


def test_a_query_has_the_same_neighbors_alone_and_in_any_batch():
    bank, queries = make_bank(), clustered(64, seed=2)
    for factory in ("Flat", "IVF32,Flat", "HNSW16"):
        bank.build_index("text", factory)
        whole = bank.search("text", queries, k=8)
        for row in range(0, 64, 7):
            alone = bank.search("text", queries[row : row + 1], k=8)
            assert torch.equal(alone.indices[0], whole.indices[row])
            assert torch.equal(alone.similarities[0], whole.similarities[row])


def test_what_faiss_refuses_is_named():
    bank = make_bank(100)
    for modality, factory, parameters, message in (
        ("text", "Nonsense", {}, "the index 'Nonsense' with {} over 97 references: .*could not parse"),
        ("text", "IVF500,Flat", {}, "over 97 references: .*at least as large as number of clusters"),
        ("text", "Flat", {"nprobes": 3}, "with {'nprobes': 3} .*could not set parameter nprobes"),
        ("text", "Flat", {"nprobe": "many"}, "'many'"),
        ("sound", "Flat", {}, "`modality` is 'sound'"),
    ):
        with pytest.raises(ValueError, match=message):
            bank.build_index(modality, factory, **parameters)
    bank.search("text", torch.ones(1, DIM), threshold=0.5)  # no index was taken over


def test_without_faiss_the_extra_is_named():
    script = """
import sys
sys.modules["faiss"] = None
import torch
from modeling_mmorient.reference_bank import ReferenceBank
bank = ReferenceBank(2, 2)
bank.add(["a"], {"text": torch.ones(1, 2)})
assert bank.search("text", torch.ones(1, 2), k=1).indices.tolist() == [[0]]
try:
    bank.build_index("text")
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "mmorient[faiss]"' in result.stdout, result.stderr


def test_faiss_is_not_loaded_before_it_is_needed():
    script = "import sys, modeling_mmorient.reference_bank; print('faiss' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
