import importlib.util
import itertools
import logging
import math

import pytest
import torch

from modeling_mmorient import neighbors
from modeling_mmorient.features import DegreeStatistics
from modeling_mmorient.neighbors import (
    DenseGraph,
    SparseGraph,
    build_graph,
)
from modeling_mmorient.relation_graph import GraphSAGELayer

FORMS = ["dense", "csr", "torch_scatter"]


@pytest.fixture(params=FORMS)
def form(request):
    if request.param == "torch_scatter":
        pytest.importorskip("torch_scatter")
    return request.param


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else None


def neighbors_by_hand(embeds, present, threshold, max_neighbors):
    """The neighbours of each row, as sets of row numbers."""
    sets = []
    for i, own in enumerate(embeds):
        cosines = {}
        for j, other in enumerate(embeds):
            if i != j and present[i] and present[j] and (value := cosine(own, other)) is not None:
                cosines[j] = value
        if threshold is not None:
            cosines = {j: value for j, value in cosines.items() if value > threshold}
        if max_neighbors is not None and len(cosines) > max_neighbors:
            last = sorted(cosines.values(), reverse=True)[max_neighbors - 1]
            cosines = {j: value for j, value in cosines.items() if value >= last - 1e-6}
        sets.append(set(cosines))
    return sets


def neighborhood_mean(x, present, graph):
    return GraphSAGELayer.aggregate(x, graph.neighborhood(x, present))


def degree_statistics(graph, present):
    return DegreeStatistics.of(graph.degrees(), present, present.sum() - 1)


def as_sets(graph):
    if isinstance(graph, DenseGraph):
        return [set(row.nonzero().flatten().tolist()) for row in graph.adjacency]
    offsets, columns = graph.row_offsets.tolist(), graph.columns.tolist()
    return [set(columns[start:stop]) for start, stop in itertools.pairwise(offsets)]


def random_embeds(seed, size=12, dim=3):
    """Random rows, two of them equal, one of them zero, and two missing (one of those NaN)."""
    embeds = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))
    present = torch.ones(size, dtype=torch.bool)
    embeds[1] = embeds[0]
    embeds[2] = 0.0
    embeds[3] = math.nan
    present[3:5] = False
    return embeds, present


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("threshold", "max_neighbors"),
    [(0.3, None), (-0.5, None), (0.999, None), (None, 1), (None, 3), (None, 50), (0.2, 2), (0.8, 5)],
)
def test_neighbors_match_plain_python(form, seed, threshold, max_neighbors):
    embeds, present = random_embeds(seed)
    graph = build_graph(embeds, present, threshold, max_neighbors, form)
    expected = neighbors_by_hand(embeds.tolist(), present.tolist(), threshold, max_neighbors)
    assert as_sets(graph) == expected
    assert graph.degrees().tolist() == [len(row) for row in expected]
    assert not expected[2] and not expected[3] and not any({2, 3, 4} & row for row in expected)


def test_all_of_a_tie_are_neighbors(form):
    angles = torch.tensor([0.0, 0.5, -0.5, 1.0])
    embeds = torch.stack([angles.cos(), angles.sin()], -1)
    graph = build_graph(embeds, torch.ones(4, dtype=torch.bool), None, 1, form)
    assert as_sets(graph)[0] == {1, 2}


@pytest.mark.parametrize("size", [17, 61, 120])
def test_graph_of_repeated_rows_does_not_depend_on_their_order(size):
    """Augmented data repeat pictures and texts, so that ties are the rule."""
    generator = torch.Generator().manual_seed(size)
    distinct = torch.randn(size // 4, 512, generator=generator)
    embeds = distinct[torch.randint(0, len(distinct), (size,), generator=generator)]
    present = torch.ones(size, dtype=torch.bool)
    adjacency = build_graph(embeds, present, None, 4, "dense").adjacency
    for _ in range(10):
        order = torch.randperm(size, generator=generator)
        shuffled = build_graph(embeds[order], present, None, 4, "dense").adjacency
        assert torch.equal(shuffled, adjacency[order][:, order])


def test_scale_of_embeddings_does_not_matter(form):
    embeds, present = random_embeds(0)
    expected = as_sets(build_graph(embeds, present, 0.2, 3, form))
    for scale in (1e-12, 1e12):
        assert as_sets(build_graph(scale * embeds, present, 0.2, 3, form)) == expected


def test_graph_is_the_same_under_autocast(form):
    torch.manual_seed(0)
    embeds, present = torch.randn(120, 512), torch.ones(120, dtype=torch.bool)
    expected = as_sets(build_graph(embeds, present, 0.05, 4, form))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_sets(build_graph(embeds, present, 0.05, 4, form)) == expected


def test_sparse_graph_is_built_in_blocks(monkeypatch):
    embeds, present = random_embeds(1, size=23)
    expected = as_sets(build_graph(embeds, present, 0.1, 4, "csr"))
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 5)
    assert as_sets(build_graph(embeds, present, 0.1, 4, "csr")) == expected


def mean_by_hand(x, present, sets):
    means = []
    for i, row in enumerate(sets):
        members = [x[i]] + [x[j] for j in sorted(row) if present[j]]
        means.append([sum(column) / len(members) for column in zip(*members, strict=True)])
    return means


@pytest.mark.parametrize("seed", range(3))
def test_mean_matches_plain_python(form, seed):
    embeds, has_edges = random_embeds(seed)
    graph = build_graph(embeds, has_edges, 0.1, 4, form)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 6, generator=generator)
    # The nodes of a cross-modal layer are missing in other rows than the graph's.
    present = torch.rand(12, generator=generator) < 0.6
    mean = neighborhood_mean(x, present, graph)
    expected = mean_by_hand(x.tolist(), present.tolist(), as_sets(graph))
    torch.testing.assert_close(mean, torch.tensor(expected))


CASES = {
    "usual": (12, 0.1, 4),
    "isolated nodes": (12, 0.8, None),
    "no edge": (12, 0.9999999, None),
    "one row": (1, None, 3),
    "two rows": (2, None, 3),
}


@pytest.mark.parametrize("backend", ["csr", "torch_scatter"])
@pytest.mark.parametrize("case", CASES)
def test_backends_agree_forward_and_backward(backend, case):
    if backend == "torch_scatter":
        pytest.importorskip("torch_scatter")
    size, threshold, max_neighbors = CASES[case]
    torch.manual_seed(0)
    embeds, present = torch.randn(size, 3), torch.ones(size, dtype=torch.bool)
    if size > 5:
        present[3:5] = False
    x, upstream = torch.randn(size, 6), torch.randn(size, 6)
    results = []
    for aggregation in ("dense", backend):
        graph = build_graph(embeds, present, threshold, max_neighbors, aggregation)
        nodes = x.clone().requires_grad_()
        mean = neighborhood_mean(nodes, present, graph)
        mean.backward(upstream)
        results.append((mean, nodes.grad, graph.degrees()))
    for dense, other in zip(*results, strict=True):
        torch.testing.assert_close(other, dense, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_mean_keeps_the_type_of_its_nodes(form, dtype):
    embeds, present = random_embeds(0)
    graph = build_graph(embeds.to(dtype), present, None, 3, form)
    nodes = torch.randn(12, 6).to(dtype).requires_grad_()
    mean = neighborhood_mean(nodes, present, graph)
    mean.float().sum().backward()
    assert mean.dtype == dtype and nodes.grad.isfinite().all()
    exact = neighborhood_mean(nodes.detach().double(), present, graph)
    torch.testing.assert_close(mean.double(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("with_scatter", [True, False])
def test_auto_takes_the_matrix_for_small_batches(monkeypatch, with_scatter):
    monkeypatch.setattr(neighbors, "SPARSE_FROM", 10)
    if not with_scatter:
        monkeypatch.setattr(neighbors, "torch_scatter", None)
    for size, kind in ((9, DenseGraph), (10, SparseGraph)):
        graph = build_graph(torch.randn(size, 3), torch.ones(size, dtype=torch.bool), None, 2, "auto")
        assert isinstance(graph, kind)


def test_missing_torch_scatter_falls_back_with_one_warning(monkeypatch, caplog):
    monkeypatch.setattr(neighbors, "torch_scatter", None)
    neighbors.logger.warning_once.cache_clear()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    embeds, present = random_embeds(0)
    with caplog.at_level(logging.WARNING):
        graphs = [build_graph(embeds, present, None, 3, "torch_scatter") for _ in range(3)]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "torch-scatter" in caplog.text and "'csr'" in caplog.text
    assert all(not graph.use_scatter for graph in graphs)
    assert as_sets(graphs[0]) == as_sets(build_graph(embeds, present, None, 3, "csr"))


def test_torch_scatter_is_used_where_it_is_installed():
    installed = importlib.util.find_spec("torch_scatter") is not None
    graph = build_graph(torch.randn(4, 3), torch.ones(4, dtype=torch.bool), None, 2, "torch_scatter")
    assert graph.use_scatter is installed


def test_degree_statistics_counts_over_the_rows_that_have_the_modality(form):
    # Rows 0, 1, 2 point the same way, row 3 the other way, row 4 is missing.
    embeds = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-1.0, 0.0], [1.0, 0.0]])
    present = torch.tensor([True, True, True, True, False])
    statistics = degree_statistics(build_graph(embeds, present, 0.5, None, form), present)
    assert statistics.mean_degree.item() == pytest.approx(6 / 4)
    assert statistics.isolated_share.item() == pytest.approx(1 / 4)
    assert statistics.complete_share.item() == 0.0
    complete = degree_statistics(build_graph(embeds, present, -1.0, None, form), present)
    assert complete.isolated_share.item() == pytest.approx(0.0)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_degree_statistics_of_few_rows(form, number):
    present = torch.arange(4) < number
    statistics = degree_statistics(build_graph(torch.ones(4, 2), present, None, 3, form), present)
    expected = {0: (0.0, 0.0, 0.0), 1: (0.0, 1.0, 0.0), 2: (1.0, 0.0, 1.0)}[number]
    assert (
        statistics.mean_degree.item(),
        statistics.isolated_share.item(),
        statistics.complete_share.item(),
    ) == expected
