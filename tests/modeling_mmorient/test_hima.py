import math

import pytest
import torch

from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs, complete_features
from modeling_mmorient.hima import (
    AttentionPooling,
    BatchBias,
    HierarchicalAttention,
    MonomodalAttention,
)
from modeling_mmorient.modeling_mmorient import MMOrientModel

SCORINGS = ["context", "direct"]
DIM, HIDDEN = 5, 4


def gelu(x):
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def pool_by_hand(pooling, rows, mask):
    """v and α of one set by the paper's formulas; zeros where no row is present."""
    weight, bias = pooling.hidden.weight.tolist(), pooling.hidden.bias.tolist()
    context = [1.0] if pooling.context is None else pooling.context.tolist()
    scale = 1.0 if pooling.context is None else math.sqrt(len(weight))
    alphas = [0.0] * len(rows)
    present = [j for j, there in enumerate(mask) if there]
    scores = {
        j: dot([gelu(dot(w, rows[j]) + b) for w, b in zip(weight, bias, strict=True)], context) / scale
        for j in present
    }
    total = sum(math.exp(score) for score in scores.values())
    for j in present:
        alphas[j] = math.exp(scores[j]) / total
    vector = [sum(alphas[j] * rows[j][k] for j in present) for k in range(DIM)]
    return vector, alphas


def learned(module):
    """With context vectors other than the zeros of a new one."""
    for part in module.modules():
        if isinstance(part, AttentionPooling) and part.context is not None:
            torch.nn.init.normal_(part.context)
    return module


def build_pooling(scoring, seed=0):
    torch.manual_seed(seed)
    return learned(AttentionPooling(DIM, HIDDEN, scoring))


def build_bias(scoring="context", momentum=0.1):
    torch.manual_seed(0)
    return learned(BatchBias(DIM, HIDDEN, scoring, momentum))


MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()


@pytest.mark.parametrize("scoring", SCORINGS)
def test_stage_1_matches_plain_python(scoring):
    pooling = build_pooling(scoring)
    rows = torch.randn(4, 4, DIM)
    vectors, weights = pooling(rows, MASK)
    for b in range(4):
        vector, alphas = pool_by_hand(pooling, rows[b].tolist(), MASK[b].tolist())
        assert vectors[b].tolist() == pytest.approx(vector, abs=1e-6)
        assert weights[b].tolist() == pytest.approx(alphas, abs=1e-6)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_masked_rows_may_hold_anything(scoring, garbage):
    pooling = build_pooling(scoring)
    rows = torch.randn(4, 4, DIM)
    spoilt = rows.masked_fill(~MASK.unsqueeze(-1), garbage)
    results = []
    for content in (rows, spoilt):
        pooling.zero_grad()
        content = content.clone().requires_grad_()
        vectors, weights = pooling(content, MASK)
        vectors.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in pooling.parameters()]
        results.append([vectors, weights, content.grad, *gradients])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(tensor.isfinite().all() for tensor in results[1])


@pytest.mark.parametrize("scoring", SCORINGS)
def test_set_without_rows_gives_zeros(scoring):
    for rows in (torch.randn(2, 3, DIM), torch.randn(2, 0, DIM)):
        vectors, weights = build_pooling(scoring)(rows, torch.zeros(rows.shape[:2], dtype=torch.bool))
        assert not vectors.any() and not weights.any()


def test_order_of_rows_does_not_matter():
    pooling, order = build_pooling("context"), torch.tensor([2, 0, 3, 1])
    rows = torch.randn(4, 4, DIM)
    vectors, weights = pooling(rows, MASK)
    shuffled_vectors, shuffled_weights = pooling(rows[:, order], MASK[:, order])
    torch.testing.assert_close(shuffled_vectors, vectors)
    torch.testing.assert_close(shuffled_weights, weights[:, order])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_of_many_rows_add_up(dtype):
    pooling = build_pooling("context").to(dtype)
    _, weights = pooling(torch.zeros(1, 700, DIM, dtype=dtype), torch.ones(1, 700, dtype=torch.bool))
    assert weights.float().sum().item() == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("present", [[1, 1, 1, 1, 1], [1, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_stage_2_matches_plain_python(scoring, present):
    bias = build_bias(scoring).train()
    vectors = torch.randn(5, DIM)
    g, _ = pool_by_hand(bias.attention, vectors.tolist(), present)
    result = bias(vectors, torch.tensor(present).bool())
    for row, vector in zip(result.tolist(), vectors.tolist(), strict=True):
        assert row == pytest.approx([v + g_k for v, g_k in zip(vector, g, strict=True)], abs=1e-6)


def own_g(bias, vectors, present):
    return torch.tensor(pool_by_hand(bias.attention, vectors.tolist(), present.tolist())[0])


def test_running_g_is_the_mean_of_the_first_batches_and_then_moves_by_momentum():
    bias = build_bias(momentum=0.25).train()
    present = torch.ones(3, dtype=torch.bool)
    seen, expected = [], None
    for step in range(1, 9):
        vectors = torch.randn(3, DIM)
        bias(vectors, present)
        seen.append(own_g(bias, vectors, present))
        expected = torch.stack(seen).mean(0) if step <= 4 else 0.75 * expected + 0.25 * seen[-1]
        torch.testing.assert_close(bias.running_g, expected, atol=1e-6, rtol=1e-5)


def test_without_momentum_running_g_is_the_mean_of_all_batches():
    bias = build_bias(momentum=0.0).train()
    present = torch.ones(3, dtype=torch.bool)
    seen = []
    for _ in range(20):
        vectors = torch.randn(3, DIM)
        bias(vectors, present)
        seen.append(own_g(bias, vectors, present))
    torch.testing.assert_close(bias.running_g, torch.stack(seen).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_number_of_batches_is_counted_in_any_precision(dtype):
    bias = build_bias(momentum=0.0).to(dtype).train()
    for _ in range(300):
        bias(torch.zeros(1, DIM, dtype=dtype), torch.ones(1, dtype=torch.bool))
    assert bias.batches_seen.item() == 300


def test_batches_without_the_modality_do_not_count():
    bias = build_bias().train()
    there, absent = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    first, second = torch.randn(3, DIM), torch.randn(3, DIM)
    bias(torch.randn(3, DIM), absent)
    assert not bias.running_g.any()
    bias(first, there)
    bias(torch.full((3, DIM), math.nan), absent)
    bias(second, there)
    expected = (own_g(bias, first, there) + own_g(bias, second, there)) / 2
    torch.testing.assert_close(bias.running_g, expected)


def test_evaluation_adds_running_g_and_leaves_it_alone():
    bias = build_bias()
    vectors, present = torch.randn(3, DIM), torch.ones(3, dtype=torch.bool)
    bias.eval()
    assert torch.equal(bias(vectors, present), vectors)
    bias.train()
    bias(torch.randn(3, DIM), present)
    kept = {name: tensor.clone() for name, tensor in bias.named_buffers()}
    bias.eval()
    assert torch.equal(bias(vectors, present), vectors + kept["running_g"])
    assert all(torch.equal(tensor, kept[name]) for name, tensor in bias.named_buffers())


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("sizes", [[7], [1, 2, 4], [0, 3, 0, 4], [6, 1]])
def test_g_over_blocks_is_the_softmax_over_all_of_them(scoring, sizes):
    bias = build_bias(scoring)
    vectors = 3 * torch.randn(7, DIM, generator=torch.Generator().manual_seed(1))
    expected, _ = pool_by_hand(bias.attention, vectors.tolist(), [True] * 7)
    for ordered in (vectors, vectors.flip(0)):  # the largest score in a later block, and in an earlier
        g = bias.over(ordered.split(sizes))
        assert g.dtype == torch.float64 and g.tolist() == pytest.approx(expected, abs=1e-5)
    assert not bias.over([]).any() and not bias.over([vectors[:0]]).any()


def test_running_g_holds_no_graph():
    bias = build_bias().train()
    bias(torch.randn(3, DIM, requires_grad=True), torch.ones(3, dtype=torch.bool))
    assert bias.running_g.grad_fn is None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stage_2", [True, False])
def test_row_without_the_modality_gets_the_stand_in(make_config, training, stage_2):
    torch.manual_seed(0)
    attention = MonomodalAttention(make_config(use_hima_stage2=stage_2), DIM).train(training)
    torch.nn.init.normal_(attention.missing)
    rows, mask = torch.randn(4, 3, DIM), torch.ones(4, 3, dtype=torch.bool)
    present = torch.tensor([True, False, True, True])
    rows[1] = math.nan
    vectors, weights = attention(rows, mask, present)
    assert torch.equal(vectors[1], attention.missing) and not weights[1].any()
    without, _ = attention(rows[present], mask[present], present[present])
    torch.testing.assert_close(vectors[present], without)
    vectors.sum().backward()
    assert torch.equal(attention.missing.grad, torch.ones(DIM))
    assert all(p.grad.isfinite().all() for p in attention.parameters() if p.grad is not None)


def test_new_model_attends_to_all_rows_alike(make_config, make_inputs):
    torch.manual_seed(0)
    model = MMOrientModel(make_config()).train()
    output = model(**make_inputs(), output_attentions=True)
    for weights in (output.region_attention, output.token_attention):
        present = weights > 0
        expected = present / present.sum(-1, keepdim=True)
        torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("stage_2", [True, False])
def test_size_and_offset_of_a_row_do_not_matter(make_config, stage_2):
    torch.manual_seed(0)
    attention = learned(MonomodalAttention(make_config(use_hima_stage2=stage_2), DIM))
    rows, mask, present = torch.randn(4, 3, DIM), torch.ones(4, 3).bool(), torch.ones(4).bool()
    expected = attention(rows, mask, present)
    moved = attention(rows * torch.tensor([0.5, 1.0, 40.0]).view(3, 1) + 7, mask, present)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_masked_rows_reach_no_gradient(make_config, garbage):
    torch.manual_seed(0)
    attention = learned(MonomodalAttention(make_config(), DIM)).train()
    rows, present = torch.randn(4, 4, DIM), torch.tensor([True, False, True, True])
    results = []
    hidden = ~(MASK & present.unsqueeze(-1)).unsqueeze(-1)
    for content in (rows.masked_fill(hidden, 0.0), rows.masked_fill(hidden, garbage)):
        content.requires_grad_()
        vectors, weights = attention(content, MASK, present)
        attention.zero_grad()
        vectors.square().sum().backward()
        results.append([vectors, weights, content.grad, *(p.grad.clone() for p in attention.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(tensor.isfinite().all() for tensor in results[1])


def test_picture_and_text_stand_side_by_side(make_config, make_inputs):
    config, inputs = make_config(), make_inputs()
    inputs["token_mask"] = inputs.pop("attention_mask")
    features = complete_features(config, RawInputs(), FeatureInputs(**inputs), torch.float32)
    torch.manual_seed(0)
    attention = HierarchicalAttention(config).eval()
    both = attention(features)
    assert both.vectors.shape == (6, config.hima_dim)
    assert both.region_attention.shape == features.region_mask.shape
    assert both.token_attention.shape == features.token_mask.shape
    features.token_features = torch.randn_like(features.token_features)
    changed = attention(features)
    assert torch.equal(changed.vectors[:, : config.region_dim], both.vectors[:, : config.region_dim])
    assert not torch.equal(changed.vectors[:, config.region_dim :], both.vectors[:, config.region_dim :])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_that_overflows_leaves_the_running_mean_as_it_was(bad):
    torch.manual_seed(0)
    bias = BatchBias(4, 3, "context", 0.1).train()
    present = torch.ones(5, dtype=torch.bool)
    bias(torch.randn(5, 4), present)
    before = bias.running_g.clone(), bias.batches_seen.clone()
    vectors = torch.randn(5, 4)
    vectors[2] = bad
    bias(vectors, present)
    assert torch.equal(bias.running_g, before[0]) and torch.equal(bias.batches_seen, before[1])
