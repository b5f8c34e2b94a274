import math

import pytest
import torch

from modeling_mmorient.multitask import (
    MultifeatureLearner,
    MultitaskHeads,
    UncertaintyWeighting,
    multitask_loss,
    task_loss,
)
from modeling_mmorient.ordinal_head import OrdinalHead
from modeling_mmorient.task_specs import TaskSpec, parse_tasks

TASKS = {
    "mood": {"labels": ["bad", "fair", "good"], "weight": 0.7, "class_weights": [1.0, 2.0, 0.5]},
    "topic": ["news", "pets"],
}
LABELS = {"mood": [0, 2, -100, 1, -100, 2, 0, -100], "topic": [-100, 1, 0, 0, -100, -100, 1, 1]}


def softmax(row):
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def linear_gradient_by_hand(spec, hidden, weight, bias, labels):
    """Gradient of the task's loss with respect to the weight (C, d) of a linear head."""
    known = [row for row, label in enumerate(labels) if label != -100]
    gradient = [[0.0] * len(hidden[0]) for _ in weight]
    for row in known:
        scores = [
            sum(w * h for w, h in zip(w_c, hidden[row], strict=True)) + b
            for w_c, b in zip(weight, bias, strict=True)
        ]
        factor = spec.weight / len(known)
        if spec.class_weights is not None:
            factor *= spec.class_weights[labels[row]]
        for c, probability in enumerate(softmax(scores)):
            error = factor * (probability - (c == labels[row]))
            for k, value in enumerate(hidden[row]):
                gradient[c][k] += error * value
    return gradient


@pytest.fixture
def heads(make_config):
    torch.manual_seed(0)
    return MultitaskHeads(make_config(tasks=TASKS), 5).double()


@pytest.fixture
def hidden():
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradients_over_partial_labels_match_hand_arithmetic(heads, hidden, steps):
    specs = parse_tasks(TASKS)
    labels = {name: torch.tensor(values) for name, values in LABELS.items()}
    counts = {name: (values != -100).sum() for name, values in labels.items()}
    for rows in torch.arange(8).chunk(steps):
        part = {name: values[rows] for name, values in labels.items()}
        loss = multitask_loss(specs, heads(hidden[rows]), part, counts if steps > 1 else None)
        loss.backward()
    for head, (name, spec) in zip(heads, specs.items(), strict=True):
        expected = linear_gradient_by_hand(
            spec, hidden.tolist(), head.weight.tolist(), head.bias.tolist(), LABELS[name]
        )
        # The loss is computed in float32 whatever the head's type.
        torch.testing.assert_close(head.weight.grad, torch.tensor(expected).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("all_unknown", [True, False])
@pytest.mark.parametrize("kind", ["multiclass", "ordinal", "multilabel"])
def test_task_without_labels_adds_exactly_nothing(make_config, kind, all_unknown):
    tasks = {"other": ["a", "b"], "quiet": {"labels": ["x", "y", "z"], "kind": kind}}
    torch.manual_seed(0)
    heads = MultitaskHeads(make_config(tasks=tasks), 5)
    hidden = (10 * torch.randn(4, 5)).requires_grad_()
    other = torch.tensor([0, 1, -100, 1])
    alone = task_loss(parse_tasks(tasks)["other"], heads(hidden)["other"], other)
    expected = torch.autograd.grad(alone, [hidden, heads[0].weight])

    unknown = torch.full((4, 3) if kind == "multilabel" else (4,), -100)
    labels = {"other": other, "quiet": unknown} if all_unknown else {"other": other}
    loss = multitask_loss(parse_tasks(tasks), heads(hidden), labels)
    gradients = torch.autograd.grad(loss, [hidden, heads[0].weight], retain_graph=True)
    assert torch.equal(loss, alone)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    for gradient in torch.autograd.grad(loss, list(heads[1].parameters())):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("kind", ["multiclass", "ordinal", "multilabel"])
def test_unlabelled_batch_has_zero_loss_that_can_be_propagated(make_config, kind):
    tasks = {"quiet": {"labels": ["x", "y", "z"], "kind": kind, "class_weights": [1.0, 2.0, 3.0]}}
    heads = MultitaskHeads(make_config(tasks=tasks), 5)
    loss = multitask_loss(parse_tasks(tasks), heads(torch.randn(4, 5)), {})
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in heads.parameters())


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_smoothed_loss_matches_plain_python(kind):
    weights = (1.0, 3.0, 0.5)
    spec = TaskSpec("t", ("a", "b", "c"), kind, class_weights=weights, label_smoothing=0.3)
    logits, labels = [[0.3, -2.0, 1.5], [4.0, 0.1, -0.7], [0.0, 1.0, 0.0]], [1, 0, -100]
    total = 0.0
    for scores, label in zip(logits[:2], labels[:2], strict=True):
        for c, p in enumerate(softmax(scores)):
            total -= weights[c] * (0.7 * (c == label) + 0.1) * math.log(p)
    loss = task_loss(spec, torch.tensor(logits), torch.tensor(labels))
    torch.testing.assert_close(loss, torch.tensor(total / 2))


def test_smoothed_multilabel_loss_matches_plain_python():
    spec = TaskSpec("t", ("a", "b"), "multilabel", class_weights=(2.0, 1.0), label_smoothing=0.2)
    loss = task_loss(spec, torch.tensor([[0.5, -1.0]]), torch.tensor([[1, 0]]))
    yes, no = sigmoid(0.5), sigmoid(-1.0)
    expected = -(2 * 0.9 * math.log(yes) + 0.1 * math.log(1 - yes))
    expected -= 0.1 * math.log(no) + 0.9 * math.log(1 - no)
    torch.testing.assert_close(loss, torch.tensor(expected / 2))


def test_multilabel_loss_matches_plain_python():
    spec = TaskSpec("about", ("a", "b", "c"), "multilabel", class_weights=(1.0, 3.0, 0.5))
    logits = [[0.3, -2.0, 1.5], [4.0, 0.1, -0.7]]
    labels = [[1, 0, -100], [0, 1, 1]]
    total, count = 0.0, 0
    for scores, row in zip(logits, labels, strict=True):
        for score, label, weight in zip(scores, row, spec.class_weights, strict=True):
            if label == -100:
                continue
            count += 1
            total -= weight * math.log(sigmoid(score)) if label else math.log(1 - sigmoid(score))
    loss = task_loss(spec, torch.tensor(logits), torch.tensor(labels))
    assert loss.item() == pytest.approx(total / count, rel=1e-6)


def test_class_weights_scale_single_rows_and_task_weights_the_task():
    logits = torch.tensor([[0.2, 1.0], [0.5, -0.5]])
    labels = torch.tensor([0, 1])
    each = [-math.log(softmax(row)[y]) for row, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    weighted = TaskSpec("t", ("a", "b"), weight=0.25, class_weights=(2.0, 5.0))
    expected = (2.0 * each[0] + 5.0 * each[1]) / 2
    assert task_loss(weighted, logits, labels).item() == pytest.approx(expected, rel=1e-6)
    total = multitask_loss({"t": weighted}, {"t": logits}, {"t": labels})
    assert total.item() == pytest.approx(0.25 * expected, rel=1e-6)


def test_task_of_weight_zero_trains_nothing(make_config):
    tasks = {"off": {"labels": ["a", "b"], "weight": 0}}
    heads = MultitaskHeads(make_config(tasks=tasks), 3)
    loss = multitask_loss(parse_tasks(tasks), heads(torch.randn(2, 3)), {"off": torch.tensor([0, 1])})
    loss.backward()
    assert loss.item() == 0.0
    assert not heads[0].weight.grad.any()


def ordinal_head(num_classes, dtype=torch.float32):
    torch.manual_seed(num_classes)
    head = OrdinalHead(4, num_classes).to(dtype)
    torch.nn.init.normal_(head.first_cut)
    torch.nn.init.normal_(head.gaps)
    return head


@pytest.mark.parametrize("num_classes", [2, 3, 4, 7])
def test_ordinal_probabilities_match_proportional_odds(num_classes):
    head = ordinal_head(num_classes)
    hidden = torch.randn(6, 4)
    cuts = [head.first_cut.item()]
    for gap in head.gaps.tolist():
        cuts.append(cuts[-1] + math.log1p(math.exp(gap)) + 1e-3)
    assert cuts == sorted(cuts) and len(cuts) == num_classes - 1
    for score, logits in zip(head.score(hidden).squeeze(-1).tolist(), head(hidden).tolist(), strict=True):
        above = [1.0, *(sigmoid(score - cut) for cut in cuts), 0.0]
        expected = [above[k] - above[k + 1] for k in range(num_classes)]
        assert [math.exp(value) for value in logits] == pytest.approx(expected, abs=1e-6)
        assert sum(math.exp(value) for value in logits) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_ordinal_head_is_stable_for_large_scores(num_classes, size):
    head = ordinal_head(num_classes)
    with torch.no_grad():
        head.score.weight.fill_(size)
        head.gaps.fill_(-50.0)
    hidden = torch.tensor([[1.0] * 4, [-1.0] * 4, [0.0] * 4])
    logits = head(hidden)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, num_classes - 1, 1])).backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert logits[0].argmax() == num_classes - 1 and logits[1].argmax() == 0


def test_ordinal_score_moves_probability_upwards():
    head = ordinal_head(5)
    with torch.no_grad():
        head.score.weight.copy_(torch.eye(4)[:1])
    scores = torch.linspace(-6, 6, 25).unsqueeze(-1) * torch.eye(4)[0]
    expected_class = (head(scores).softmax(-1) * torch.arange(5)).sum(-1)
    assert (expected_class.diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ordinal_logits_are_float32_in_half_precision(dtype):
    assert ordinal_head(4, dtype)(torch.randn(2, 4, dtype=dtype)).dtype == torch.float32


def test_heads_keep_the_order_of_the_tasks(make_config):
    tasks = {"zeta": ["a", "b"], "alpha": ["a", "b", "c"], "mid": {"labels": ["a"], "kind": "multilabel"}}
    logits = MultitaskHeads(make_config(tasks=tasks), 3)(torch.randn(2, 3))
    shapes = {name: tuple(value.shape) for name, value in logits.items()}
    assert list(shapes.items()) == [("zeta", (2, 2)), ("alpha", (2, 3)), ("mid", (2, 1))]


@pytest.mark.parametrize("sizes", [[], [7], [7, 3]])
def test_learner_has_a_block_for_each_hidden_size(make_config, sizes):
    config = make_config(learner_hidden_sizes=sizes)
    learner = MultifeatureLearner(config)
    assert learner.output_dim == ([config.fused_dim, *sizes])[-1]
    assert learner(torch.randn(2, config.fused_dim)).shape == (2, learner.output_dim)


SPECS = parse_tasks({"mood": ["bad", "good"], "about": {"labels": ["a", "b"], "kind": "multilabel"}})


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"modd": torch.tensor([0, 1])}, ["'modd'", "'mood'"]),
        (torch.tensor([0, 1]), ["Tensor", "dict"]),
        ({"mood": torch.tensor([[0], [1]])}, ["'mood'", r"\(2, 1\)", r"\(2,\)"]),
        ({"mood": torch.tensor([0, 2])}, ["'mood'", "2", "0 to 1"]),
        ({"mood": torch.tensor([0, -1])}, ["'mood'", "-1", "-100"]),
        ({"about": torch.tensor([0, 1])}, ["'about'", "multilabel", r"\(2, 2\)"]),
        ({"about": torch.tensor([[0, 1], [2, 0]])}, ["'about'", "2", "0 to 1"]),
    ],
)
def test_bad_labels_are_named(labels, words):
    logits = {"mood": torch.zeros(2, 2), "about": torch.zeros(2, 2)}
    with pytest.raises(ValueError) as caught:
        multitask_loss(SPECS, logits, labels)
    for word in words:
        assert word.replace("\\", "") in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        {"mood": torch.tensor([0.0, 1.0])},
        {"about": torch.tensor([[0.5, 1.0], [0.0, 0.2]])},
        {"mood": [0, 1]},
    ],
    ids=["float class indices", "fractional labels", "a list"],
)
def test_labels_of_a_wrong_type_are_named(labels):
    logits = {"mood": torch.zeros(2, 2), "about": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=next(iter(labels))):
        multitask_loss(SPECS, logits, labels)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_labels_of_any_integer_type_count(dtype):
    logits = {"mood": torch.randn(2, 2), "about": torch.randn(2, 2)}
    labels = {"mood": torch.tensor([0, 1]), "about": torch.tensor([[0, 1], [1, 0]])}
    expected = multitask_loss(SPECS, logits, labels)
    cast = {name: values.to(dtype) for name, values in labels.items()}
    assert torch.equal(multitask_loss(SPECS, logits, cast), expected)


@pytest.mark.parametrize("count", [3, {"mood": 3}], ids=["one number", "a task left out"])
def test_bad_label_counts_are_named(count):
    logits = {"mood": torch.zeros(2, 2), "about": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="num_items_in_batch"):
        multitask_loss(SPECS, logits, {"mood": torch.tensor([0, 1]), "about": torch.zeros(2, 2)}, count)


def learned_shares(values):
    weighting = UncertaintyWeighting(len(values))
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor(values))
    return weighting


def test_learned_shares_match_plain_python(heads, hidden):
    specs, logits = parse_tasks(TASKS), heads(hidden)
    labels = {name: torch.tensor(values) for name, values in LABELS.items()}
    shares = [0.4, -1.2]
    expected = 0.0
    for s, (name, spec) in zip(shares, specs.items(), strict=True):
        loss = task_loss(spec, logits[name], labels[name]).item()
        expected += spec.weight * (math.exp(-s) * loss + s / 2)
    loss = multitask_loss(specs, logits, labels, weighting=learned_shares(shares))
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_learned_shares_do_not_see_how_a_step_is_cut(heads, hidden):
    specs = parse_tasks(TASKS)
    labels = {name: torch.tensor(values) for name, values in LABELS.items()}
    counts = {name: (values != -100).sum() for name, values in labels.items()}
    gradients = []
    for parts in (1, 4, 8):
        weighting = learned_shares([0.4, -1.2])
        for rows in torch.arange(8).chunk(parts):
            part = {name: values[rows] for name, values in labels.items()}
            multitask_loss(specs, heads(hidden[rows]), part, counts, weighting).backward()
        gradients.append(weighting.log_variances.grad)
    assert gradients[0].abs().min() > 0.01
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


def test_unlabelled_task_does_not_move_its_share(heads, hidden):
    weighting = learned_shares([0.4, -1.2])
    loss = multitask_loss(
        parse_tasks(TASKS), heads(hidden), {"mood": torch.tensor(LABELS["mood"])}, None, weighting
    )
    loss.backward()
    assert weighting.log_variances.grad[0] != 0 and weighting.log_variances.grad[1] == 0


def test_shares_exist_only_where_asked_for_and_are_saved(make_model, tmp_path):
    assert make_model().loss_weighting is None
    model = make_model(uncertainty_weighting=True)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.loss_weighting.log_variances.equal(model.loss_weighting.log_variances)
    assert loaded.loss_weighting.log_variances.any()
