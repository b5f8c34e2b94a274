import math
from statistics import fmean, pvariance

import pytest
import torch

from modeling_mmorient import searched_references
from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs, complete_features
from modeling_mmorient.neighbors import DenseGraph, build_graph
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_graph import ReferenceNeighborhood
from modeling_mmorient.relation_graph import CrossModalRelationLearning, GraphSAGELayer

WIDTH = 11
LAYERS = ("in_modal_image", "in_modal_text", "cross_modal_image", "cross_modal_text")


def sage_by_hand(layer, x, present, neighbor_sets):
    """x' by the formula of the paper, one number after the other."""
    weight, bias = layer.linear.weight.tolist(), layer.linear.bias.tolist()
    outputs = []
    for i, own in enumerate(x):
        members = [own] + [x[j] for j in sorted(neighbor_sets[i]) if present[j]]
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        both = own + mean
        raw = [
            sum(w * value for w, value in zip(row, both, strict=True)) + b
            for row, b in zip(weight, bias, strict=True)
        ]
        length = math.sqrt(sum(value * value for value in raw))
        outputs.append([value / length for value in raw])
    return outputs


def standardized_by_hand(embeds):
    rows = embeds.tolist()
    return [[(x - fmean(row)) / math.sqrt(pvariance(row) + 1e-5) for x in row] for row in rows]


def random_graph(size, seed):
    generator = torch.Generator().manual_seed(seed)
    adjacency = torch.rand(size, size, generator=generator) < 0.4
    adjacency.fill_diagonal_(False)
    adjacency[0] = False
    return adjacency


@pytest.mark.parametrize("seed", range(3))
def test_layer_matches_the_formula(seed):
    torch.manual_seed(seed)
    layer = GraphSAGELayer(5, 4)
    x, present, adjacency = torch.randn(7, 5), torch.rand(7) < 0.7, random_graph(7, seed)
    sets = [set(row.nonzero().flatten().tolist()) for row in adjacency]
    expected = sage_by_hand(layer, x.tolist(), present.tolist(), sets)
    torch.testing.assert_close(
        layer(x, DenseGraph(adjacency).neighborhood(x, present)), torch.tensor(expected)
    )
    alone = sage_by_hand(layer, x.tolist(), present.tolist(), [set()] * 7)
    torch.testing.assert_close(layer(x), torch.tensor(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_is_finite_where_it_gives_zero(dtype):
    """A stand-in that was never trained is zero, and so is a new layer's bias."""
    layer = GraphSAGELayer(5, 4).to(dtype)
    torch.nn.init.zeros_(layer.linear.bias)
    x = torch.zeros(2, 5, dtype=dtype, requires_grad=True)
    output = layer(x)
    assert not output.any()
    output.sum().backward()
    gradients = [x.grad, layer.linear.weight.grad, layer.linear.bias.grad]
    assert all(gradient.isfinite().all() and gradient.abs().max() < 1e4 for gradient in gradients)


def build_relations(make_config, seed=0, **options):
    torch.manual_seed(seed)
    relations = CrossModalRelationLearning(make_config(**options)).train()
    torch.nn.init.normal_(relations.missing_image)
    torch.nn.init.normal_(relations.missing_text)
    return relations


def features_of(config, inputs):
    inputs = dict(inputs)
    inputs["token_mask"] = inputs.pop("attention_mask")
    return complete_features(config, RawInputs(), FeatureInputs(**inputs), torch.float32)


def by_layer(vectors):
    return dict(zip(LAYERS, vectors.split(WIDTH, -1), strict=True))


@pytest.mark.parametrize("moved", ["image", "text"])
def test_each_layer_reads_the_right_graph(make_config, make_inputs, moved):
    """Vectors of one modality moved a little change its nodes but no graph; other directions change both."""
    config = make_config(image_neighbors=1, text_neighbors=1)
    relations, inputs = build_relations(make_config, image_neighbors=1, text_neighbors=1), make_inputs()
    nodes = {"in_modal_image": "image", "cross_modal_image": "image"}
    graphs = {"in_modal_image": "image", "cross_modal_text": "image"}
    before = by_layer(relations(features_of(config, inputs)).vectors)

    embeds = inputs[f"{moved}_embeds"]
    near = {**inputs, f"{moved}_embeds": embeds + 1e-3 * torch.randn_like(embeds)}
    after = by_layer(relations(features_of(config, near)).vectors)
    for layer in LAYERS:
        reads_nodes = nodes.get(layer, "text") == moved
        assert torch.equal(after[layer], before[layer]) is not reads_nodes, layer

    turned = {**inputs, f"{moved}_embeds": inputs[f"{moved}_embeds"].roll(1, 0)}
    after = by_layer(relations(features_of(config, turned)).vectors)
    for layer in LAYERS:
        reads = moved in (nodes.get(layer, "text"), graphs.get(layer, "text"))
        assert torch.equal(after[layer], before[layer]) is not reads, layer


@pytest.mark.parametrize("training", [True, False])
def test_size_and_offset_of_an_embedding_decide_on_neighbors_alone(make_config, make_inputs, training):
    """Nodes are standardised, the search for neighbours reads the cosine of the embeddings as given."""
    config = make_config(image_neighbors=1, text_neighbors=1)
    relations = build_relations(make_config, image_neighbors=1, text_neighbors=1).train(training)
    inputs = make_inputs()
    before = relations(features_of(config, inputs)).vectors
    larger = {**inputs, "image_embeds": inputs["image_embeds"] * 30}
    torch.testing.assert_close(relations(features_of(config, larger)).vectors, before, rtol=1e-3, atol=1e-3)
    # The direction of an offset by a large constant is that of the constant: other neighbours.
    offset = torch.randn(len(before), 1) * 5
    shifted = {**inputs, "image_embeds": inputs["image_embeds"] + offset}
    after = relations(features_of(config, shifted)).vectors
    assert torch.allclose(after, before, rtol=1e-3, atol=1e-3) is not training


def test_cross_modal_picture_is_rebuilt_from_samples_that_read_alike(make_config):
    config = make_config(image_neighbors=1, text_neighbors=1)
    relations = build_relations(make_config, image_neighbors=1, text_neighbors=1)
    # Images 0 and 1 look alike; texts 0 and 2 read alike, and so do 1 and 3.
    image = torch.randn(4, 7)
    image[1] = 2 * image[0]
    text = torch.randn(4, 6)
    text[2:] = 2 * text[:2]
    rows = {
        "region_features": torch.randn(4, 5, 10),
        "token_features": torch.randn(4, 8, 9),
        "attention_mask": torch.ones(4, 8),
    }
    features = features_of(config, {"image_embeds": image, "text_embeds": text, **rows})
    layers = by_layer(relations(features).vectors)
    sets = {"image": {0: {1}}, "text": {0: {2}}}
    nodes = {"image": standardized_by_hand(image), "text": standardized_by_hand(text)}
    for layer, modality, graph in (
        ("in_modal_image", "image", "image"),
        ("in_modal_text", "text", "text"),
        ("cross_modal_image", "image", "text"),
        ("cross_modal_text", "text", "image"),
    ):
        neighbor_sets = [sets[graph][0], set(), set(), set()]
        module = getattr(relations, layer)
        expected = sage_by_hand(module, nodes[modality], [True] * 4, neighbor_sets)[0]
        torch.testing.assert_close(layers[layer][0], torch.tensor(expected))


@pytest.mark.parametrize("training", [True, False])
def test_layers_over_references_match_plain_python(make_config, training):
    options = {
        "image_neighbors": 3,
        "text_neighbors": 2,
        "image_threshold": -0.2,
        "graph_scope": "references",
    }
    relations = build_relations(make_config, **options).train(training)
    generator = torch.Generator().manual_seed(0)
    known = {name: torch.randn(9, width, generator=generator) for name, width in (("image", 7), ("text", 6))}
    present = {"image": torch.arange(9) % 4 != 1, "text": torch.arange(9) != 2}
    bank = ReferenceBank(7, 6)
    bank.add([str(place) for place in range(9)], known, present)
    rows = {
        "image_embeds": torch.randn(4, 7, generator=generator),
        "text_embeds": torch.randn(4, 6, generator=generator),
        "region_features": torch.zeros(4, 5, 10),
        "token_features": torch.zeros(4, 8, 9),
        "attention_mask": torch.ones(4, 8),
    }
    layers = by_layer(relations(features_of(relations.config, rows), bank).vectors)
    for layer, modality, graph in (
        ("in_modal_image", "image", "image"),
        ("in_modal_text", "text", "text"),
        ("cross_modal_image", "image", "text"),
        ("cross_modal_text", "text", "image"),
    ):
        cosines = torch.nn.functional.cosine_similarity(
            rows[f"{graph}_embeds"][:, None], known[graph], dim=-1
        )
        nodes = standardized_by_hand(known[modality]) + standardized_by_hand(rows[f"{modality}_embeds"])
        neighbor_sets = {}
        for row in range(4):
            found = [(-cosines[row, place].item(), place) for place in range(9) if present[graph][place]]
            limit = options.get(f"{graph}_threshold", -1.0)
            near = [place for cosine, place in sorted(found) if -cosine > limit]
            neighbor_sets[9 + row] = set(near[: options[f"{graph}_neighbors"]])
        everyone = [neighbor_sets.get(node, set()) for node in range(13)]
        there = [*present[modality].tolist(), *[True] * 4]
        expected = sage_by_hand(getattr(relations, layer), nodes, there, everyone)[9:]
        torch.testing.assert_close(layers[layer], torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aggregation", ["dense", "csr"])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_missing_row_is_noticed_by_nobody(make_config, make_inputs, modality, aggregation):
    relations = build_relations(make_config, aggregation=aggregation)
    config, inputs = relations.config, make_inputs()
    present = torch.ones(6, dtype=torch.bool)
    present[2] = False
    inputs[f"{modality}_present"] = present
    vectors = relations(features_of(config, inputs)).vectors
    for garbage in (math.nan, 0.0, 1e6):
        spoilt = {**inputs, f"{modality}_embeds": inputs[f"{modality}_embeds"].clone()}
        spoilt[f"{modality}_embeds"][2] = garbage
        torch.testing.assert_close(relations(features_of(config, spoilt)).vectors, vectors)
    # Nobody takes the row's stand-in for one of its neighbors' features.
    with torch.no_grad():
        getattr(relations, f"missing_{modality}").add_(1.0)
    assert torch.equal(relations(features_of(config, inputs)).vectors[present], vectors[present])
    # The in-modal layer of the others is what it is in a batch without that row.
    others = {name: value[present] for name, value in inputs.items()}
    removed = by_layer(relations(features_of(config, others)).vectors)
    layer = f"in_modal_{modality}"
    torch.testing.assert_close(by_layer(vectors)[layer][present], removed[layer])


def test_missing_modality_is_rebuilt_from_the_neighbors_of_the_other(make_config, make_inputs):
    relations, inputs = build_relations(make_config), make_inputs()
    inputs["image_present"] = torch.arange(6) != 2
    before = by_layer(relations(features_of(relations.config, inputs)).vectors)
    changed = {**inputs, "image_embeds": inputs["image_embeds"] + 1}
    after = by_layer(relations(features_of(relations.config, changed)).vectors)
    assert torch.equal(after["in_modal_image"][2], before["in_modal_image"][2])
    assert not torch.equal(after["cross_modal_image"][2], before["cross_modal_image"][2])


def test_row_without_anything_stands_alone(make_config, make_inputs):
    relations, inputs = build_relations(make_config), make_inputs()
    inputs["image_present"] = inputs["text_present"] = torch.arange(6) != 2
    layers = by_layer(relations(features_of(relations.config, inputs)).vectors)
    for layer, missing in (
        ("in_modal_image", relations.missing_image),
        ("in_modal_text", relations.missing_text),
        ("cross_modal_image", relations.missing_image),
        ("cross_modal_text", relations.missing_text),
    ):
        alone = getattr(relations, layer)(missing.unsqueeze(0))
        torch.testing.assert_close(layers[layer][2], alone[0])


def test_evaluation_looks_at_no_other_row(make_config, make_inputs):
    relations, inputs = build_relations(make_config).eval(), make_inputs()
    result = relations(features_of(relations.config, inputs), output_statistics=True)
    assert result.degree_statistics is None
    one = {name: value[2:3] for name, value in inputs.items()}
    alone = relations(features_of(relations.config, one)).vectors
    torch.testing.assert_close(result.vectors[2:3], alone)


def test_stand_ins_learn(make_config, make_inputs):
    relations, inputs = build_relations(make_config), make_inputs()
    inputs["image_present"] = inputs["text_present"] = torch.arange(6) != 2
    relations(features_of(relations.config, inputs)).vectors[:, 0::3].sum().backward()
    for missing in (relations.missing_image, relations.missing_text):
        assert missing.grad.abs().sum() > 0


@pytest.mark.parametrize("in_modal", [True, False])
@pytest.mark.parametrize("cross_modal", [True, False])
def test_switches_decide_which_layers_exist(make_config, make_inputs, in_modal, cross_modal):
    if not (in_modal or cross_modal):
        assert make_config(use_in_modal=False, use_cross_modal=False).needs_embeds is False
        return
    relations = build_relations(make_config, use_in_modal=in_modal, use_cross_modal=cross_modal)
    kinds = [kind for kind, on in (("in_modal", in_modal), ("cross_modal", cross_modal)) if on]
    expected = {f"{kind}_{modality}" for kind in kinds for modality in ("image", "text")}
    layers = {name.split(".")[0] for name in relations.state_dict()} - {"missing_image", "missing_text"}
    assert layers == expected
    vectors = relations(features_of(relations.config, make_inputs())).vectors
    assert vectors.shape == (6, relations.config.relation_dim) == (6, WIDTH * len(expected))


def test_health_tells_of_both_graphs(make_config, make_inputs):
    relations = build_relations(make_config, image_neighbors=2, text_neighbors=None, text_threshold=0.9999)
    health = relations(features_of(relations.config, make_inputs()), output_statistics=True).degree_statistics
    assert health["image"].mean_degree.item() == pytest.approx(2.0)
    assert health["text"].isolated_share.item() == pytest.approx(1.0)


def attention(x, neighbors):
    """Another aggregator than the mean: x_j weighed by exp(x_i . x_j / sqrt d), the row itself among them."""
    scale = x.shape[-1] ** -0.5
    weights = neighbors.weights * (scale * neighbors.scores(x)).exp()
    total, number = neighbors.weighted_sum(weights)
    own = (scale * (x * x).sum(-1, keepdim=True)).exp()
    return (total + own * x) / (number + own)


def attention_by_hand(x, nodes, sets):
    rows = []
    for own, members in zip(x.double(), sets, strict=True):
        everyone = torch.stack([own, *[nodes[member].double() for member in sorted(members)]])
        rows.append((everyone @ own * len(own) ** -0.5).softmax(0) @ everyone)
    return torch.stack(rows).float()


@pytest.mark.parametrize("form", ["dense", "csr", "torch_scatter"])
def test_a_layer_may_weigh_the_neighbors_of_a_batch_as_it_likes(form):
    if form == "torch_scatter":
        pytest.importorskip("torch_scatter")
    torch.manual_seed(0)
    x, embeds = torch.randn(9, 5, requires_grad=True), torch.randn(9, 3)
    everyone = torch.ones(9, dtype=torch.bool)
    present = torch.arange(9) % 4 != 1
    graph = build_graph(embeds, everyone, None, 3, form)
    adjacency = build_graph(embeds, everyone, None, 3, "dense").adjacency
    sets = [set((row & present).nonzero().flatten().tolist()) for row in adjacency]
    found = attention(x, graph.neighborhood(x, present))
    expected = attention_by_hand(x, x, sets)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn(9, 5)
    gradients = [torch.autograd.grad(each, x, upstream, retain_graph=True)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    # Of a part of the rows.
    part = attention(x[2:5], graph.rows(slice(2, 5)).neighborhood(x, present))
    torch.testing.assert_close(part, found[2:5])


def test_a_layer_may_weigh_references_as_it_likes(monkeypatch):
    torch.manual_seed(0)
    bank = ReferenceBank(5, 5)
    known = {"image": torch.randn(9, 5), "text": torch.randn(9, 5)}
    bank.add([str(place) for place in range(9)], known, {"image": torch.arange(9) % 4 != 1})
    found = bank.search("text", torch.randn(7, 5), k=4, threshold=0.2)
    x = torch.randn(7, 5)
    nodes = torch.tensor(standardized_by_hand(known["image"]))
    sets = [{place for place in row if place >= 0 and place % 4 != 1} for row in found.indices.tolist()]
    layer = attention(x, ReferenceNeighborhood(bank, "image", found))
    torch.testing.assert_close(layer, attention_by_hand(x, nodes, sets))
    monkeypatch.setattr(searched_references, "BLOCK_NODES", 8)  # two rows at a time
    assert torch.equal(attention(x, ReferenceNeighborhood(bank, "image", found)), layer)
