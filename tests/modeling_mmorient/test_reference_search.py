import math
import sys
from pathlib import Path

import pytest
import torch

from modeling_mmorient import reference_search
from modeling_mmorient.reference_embeds import STORAGE_DTYPES, StoredEmbeds, row_dot
from modeling_mmorient.reference_search import Queries, find_neighbors


def store(embeds, present=None, dtype="float32"):
    present = torch.ones(len(embeds), dtype=torch.bool) if present is None else present
    return StoredEmbeds.encode(embeds, present, STORAGE_DTYPES[dtype])


def search(stored, queries, k=None, threshold=None, exclude=None, present=None):
    present = torch.ones(len(queries), dtype=torch.bool) if present is None else present
    return find_neighbors(stored, Queries(queries, present, k, threshold, exclude))


def random_bank(seed, size=60, dim=6):
    """Few directions, so that ties are many; a zero vector, and two missing ones (one of those NaN)."""
    generator = torch.Generator().manual_seed(seed)
    distinct = torch.randn(size // 2, dim, generator=generator)
    embeds = distinct[torch.randint(len(distinct), (size,), generator=generator)]
    present = torch.ones(size, dtype=torch.bool)
    embeds[2] = 0.0
    embeds[3] = math.nan
    present[3:5] = False
    return embeds, present


def by_hand(stored, query, k, threshold, excluded=-1):
    """Index and cosine of the neighbours of one query, in plain Python."""
    rows = (stored.codes.double() * stored.scales.double().unsqueeze(-1)).tolist()
    query = query.double().tolist()
    length = math.sqrt(sum(x * x for x in query))
    found = []
    for index, row in enumerate(rows):
        norm = math.sqrt(sum(x * x for x in row))
        if index == excluded or not stored.present[index] or not norm or not length:
            continue
        cosine = sum(x * y for x, y in zip(row, query, strict=True)) / (norm * length)
        if threshold is None or cosine > threshold:
            found.append((round(-cosine, 12), index))
    return sorted(found)[:k]


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("k", "threshold"), [(1, None), (5, None), (100, None), (None, 0.3), (None, -1.0), (4, 0.5), (3, 0.999)]
)
def test_neighbors_match_plain_python(dtype, seed, k, threshold):
    embeds, present = random_bank(seed)
    stored = store(embeds, present, dtype)
    queries = torch.cat([torch.randn(9, 6, generator=torch.Generator().manual_seed(9)), embeds[10:16]])
    exclude = torch.tensor([-1] * 9 + list(range(10, 16)))
    found = search(stored, queries, k, threshold, exclude)
    expected = [
        by_hand(stored, query, k, threshold, own)
        for query, own in zip(queries, exclude.tolist(), strict=True)
    ]
    assert found.degrees().tolist() == [len(row) for row in expected]
    assert found.indices.shape[1] == (k or max(map(len, expected)))
    for indices, similarities, row in zip(found.indices, found.similarities, expected, strict=True):
        assert indices[: len(row)].tolist() == [index for _, index in row]
        assert similarities[: len(row)].tolist() == pytest.approx([-cosine for cosine, _ in row], abs=1e-11)
        assert (indices[len(row) :] == -1).all() and (similarities[len(row) :] == 0).all()


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_a_query_has_the_same_neighbors_alone_in_any_batch_and_in_any_order(dtype):
    generator = torch.Generator().manual_seed(0)
    stored = store(torch.randn(3000, 200, generator=generator), dtype=dtype)
    queries = torch.randn(70, 200, generator=generator)
    for k, threshold in ((10, None), (None, 0.1), (4, 0.15)):
        whole = search(stored, queries, k, threshold)
        for size in (1, 2, 3, 15, 16, 17, 33):
            rows = torch.randperm(70, generator=generator)[:size]
            part = search(stored, queries[rows], k, threshold)
            width = part.indices.shape[1]
            assert torch.equal(part.indices, whole.indices[rows, :width])
            assert torch.equal(part.similarities, whole.similarities[rows, :width])
            assert (whole.indices[rows, width:] == -1).all()


def test_similarities_of_pairs_do_not_depend_on_their_number():
    generator = torch.Generator().manual_seed(0)
    for dim in (1, 2, 7, 384, 513):
        a, b = torch.randn(2, 40, dim, generator=generator)
        whole = row_dot(a, b)
        assert torch.equal(torch.cat([row_dot(a[i : i + 1], b[i : i + 1]) for i in range(40)]), whole)
        torch.testing.assert_close(whole, (a.double() * b.double()).sum(-1))


def test_result_does_not_depend_on_the_size_of_blocks(monkeypatch):
    embeds, present = random_bank(1, size=700, dim=16)
    stored, queries = store(embeds, present), embeds[100:150]
    cases = [(6, None), (None, 0.4), (20, 0.2)]
    expected = [search(stored, queries, *case, torch.arange(100, 150)) for case in cases]
    monkeypatch.setattr(reference_search, "BLOCK_QUERIES", 7)
    monkeypatch.setattr(reference_search, "BLOCK_SIMILARITIES", 600)
    monkeypatch.setattr(reference_search, "TILE", 64)
    monkeypatch.setattr(reference_search, "BLOCK_PAIRS", 10)
    for case, wanted in zip(cases, expected, strict=True):
        found = search(stored, queries, *case, torch.arange(100, 150))
        assert torch.equal(found.indices, wanted.indices)
        assert torch.equal(found.similarities, wanted.similarities)


def test_of_equal_references_the_earlier_counts():
    direction = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    found = search(store(direction.repeat(5000, 1)), direction, k=20)
    assert found.indices[0].tolist() == list(range(20))


def test_references_that_differ_by_less_than_the_matrix_product_sees_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 512, generator=generator)
    noise = torch.randn(2000, 512, generator=generator)
    stored = store(query + 1e-3 * noise)
    exact = torch.nn.functional.cosine_similarity(
        query.double(), stored.decode(torch.arange(2000)).double(), eps=0
    )
    assert search(stored, query, k=16).indices[0].tolist() == exact.topk(16).indices.tolist()


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_search_is_exact_under_reduced_matmul_precision_and_autocast(precision):
    generator = torch.Generator().manual_seed(0)
    stored = store(torch.randn(2000, 64, generator=generator))
    queries = torch.randn(20, 64, generator=generator)
    expected = search(stored, queries, k=8)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = search(stored, queries, k=8)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.similarities, expected.similarities)


def test_rounded_products_lose_no_neighbor_among_many_alike(monkeypatch):
    """Where 32-bit products may be taken in fewer bits, as GPUs then do and this test does for the CPU."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(1, 64, generator=generator)
    stored = store(direction + 0.02 * torch.randn(3000, 64, generator=generator))
    queries = direction + 0.02 * torch.randn(40, 64, generator=generator)
    unit = torch.nn.functional.normalize
    exact = unit(queries.double(), dim=-1) @ unit(stored.decode(torch.arange(3000)).double(), dim=-1).T
    product = torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda a, b, **options: product(a.bfloat16().float(), b.bfloat16().float(), **options)
    )
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert torch.equal(search(stored, queries, k=8).indices, exact.topk(8).indices)
    above = search(stored, queries, threshold=0.9999)
    assert torch.equal(above.degrees(), (exact > 0.9999).sum(-1))


@pytest.mark.parametrize("k", [None, 5])
def test_neighbors_are_above_the_threshold_by_however_little(k):
    generator = torch.Generator().manual_seed(0)
    stored, queries = (
        store(torch.randn(200, 64, generator=generator)),
        torch.randn(20, 64, generator=generator),
    )
    nearest = search(stored, queries, k=1)
    for row in range(20):
        largest = nearest.similarities[row].item()
        for threshold, degree in ((largest, 0), (math.nextafter(largest, -1.0), 1)):
            assert search(stored, queries[row : row + 1], k, threshold).degrees().tolist() == [degree]


def test_missing_and_zero_queries_have_no_neighbors():
    stored = store(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    queries = torch.stack([torch.ones(4), torch.zeros(4), torch.full((4,), math.nan)])
    present = torch.tensor([True, True, False])
    for k, threshold in ((3, None), (None, -1.0), (None, 0.0)):
        assert search(stored, queries, k, threshold, present=present).degrees()[1:].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-40, 2.0**40, 2.0**100])
def test_scale_of_embeddings_does_not_matter(dtype, scale):
    embeds = torch.randn(300, 32, generator=torch.Generator().manual_seed(0))
    expected = search(store(embeds, dtype=dtype), embeds[:20], k=5)
    found = search(store(scale * embeds, dtype=dtype), scale * embeds[:20], k=5)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_tiny_banks(size):
    stored, queries = store(torch.ones(size, 3)), torch.ones(4, 3)
    assert search(stored, queries, k=5).degrees().tolist() == [size] * 4
    assert search(stored, queries, threshold=0.5).degrees().tolist() == [size] * 4
    assert search(stored, queries[:0], k=5).indices.shape == (0, 5)


def test_float32_is_stored_exactly():
    embeds = (
        torch.randn(100, 33, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-30, 30, 100)[:, None]
    )
    assert torch.equal(store(embeds).decode(torch.arange(100)), embeds)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_errors_of_what_is_decoded_stay_within_half_a_step(dtype):
    embeds = torch.randn(100, 33, generator=torch.Generator().manual_seed(0)).double()
    error = (store(embeds.float(), dtype=dtype).decode(torch.arange(100)) - embeds.float()).abs()
    step = embeds.abs().amax(-1, keepdim=True) / 127 if dtype == "int8" else embeds.abs() * 2**-10
    assert (error <= step / 2 * (1 + 1e-3) + 1e-7).all()
    assert error.max() > 1e-4


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "normal"), ("int8", "normal"), ("int8", "spiked")])
def test_errors_of_cosines_stay_within_the_stated_bounds(dtype, kind):
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(500, 384, generator=generator)
    if kind == "spiked":
        embeds[:, 0] *= 50
    stored = store(embeds, dtype=dtype)
    unit = torch.nn.functional.normalize
    queries = unit(torch.cat([embeds, torch.randn(500, 384, generator=generator)]).double(), dim=-1)
    exact = queries @ unit(embeds.double(), dim=-1).T
    kept = queries @ unit(stored.decode(torch.arange(500)).double(), dim=-1).T
    if dtype == "float16":
        bound = torch.full((500,), 2**-11 + math.sqrt(384) * 2**-25)
    else:
        bound = math.sqrt(384) / 254 * embeds.abs().amax(-1) / embeds.norm(dim=-1)
    error = (exact - kept).abs()
    assert (error <= bound.double() * (1 + 1e-3)).all()
    assert error.max() > 1e-5  # the bound is not about nothing


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_memory_does_not_grow_with_the_references(dtype):
    """All 300 x 300,000 similarities would take 340 MiB in float32."""
    stored = store(torch.randn(300_000, 16, generator=torch.Generator().manual_seed(0)), dtype=dtype)
    queries = torch.randn(300, 16, generator=torch.Generator().manual_seed(1))
    search(stored, queries[:20], k=2)

    def resident(field):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split(f"{field}:")[1].split()[0]) / 2**10

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    search(stored, queries, k=16)
    assert resident("VmHWM") - before < 80
