import itertools
import math

import pytest
import torch

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientModel
from modeling_mmorient.hima import BatchBias

KINDS = ["joint", "vision", "features"]
CONTENT = {
    "image": ("pixel_values", "image_embeds", "region_features"),
    "text": ("text_embeds", "token_features"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind, make_model):
    return make_model(kind)


def take(inputs, rows):
    return {name: value[rows] for name, value in inputs.items()}


def assert_same_logits(given, expected, atol=1e-5):
    assert list(given) == list(expected)
    for name in expected:
        assert expected[name].isfinite().all()
        torch.testing.assert_close(given[name], expected[name], rtol=atol, atol=atol)


def with_missing_rows(inputs, seed):
    generator = torch.Generator().manual_seed(seed)
    size = len(next(iter(inputs.values())))
    there = {f"{m}_present": torch.rand(size, generator=generator) < 0.7 for m in ("image", "text")}
    return {**inputs, **there}


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_logits_of_a_row_do_not_depend_on_its_batch(model, kind, make_inputs, seed):
    inputs = with_missing_rows(make_inputs(kind, batch_size=9, seed=seed), seed)
    logits = model(**inputs).logits
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.tensor([row]) for row in range(9)]
    for size in (2, 5, 9, 14):
        batches.append(torch.randint(0, 9, (size,), generator=generator))
    for rows in batches:
        assert_same_logits(model(**take(inputs, rows)).logits, take(logits, rows))


@pytest.mark.parametrize("aggregation", ["dense", "csr"])
@torch.no_grad()
def test_permuting_a_training_batch_permutes_its_outputs(
    kind, make_model, make_inputs, make_labels, aggregation
):
    model = make_model(kind, aggregation=aggregation).train()
    inputs = with_missing_rows(make_inputs(kind, batch_size=9), 0)
    labels, order = make_labels(9), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    output = model(**inputs, labels=labels)
    permuted = model(**take(inputs, order), labels=take(labels, order))
    assert_same_logits(permuted.logits, take(output.logits, order))
    torch.testing.assert_close(permuted.loss, output.loss)


def pad(tensor, content):
    return torch.cat([tensor, torch.full_like(tensor[:, :3], content)], 1)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_longer_padding_changes_nothing(kind, make_model, make_inputs, training):
    model = make_model(kind).train(training)
    inputs = make_inputs(kind)
    logits = model(**inputs).logits
    padded = dict(inputs)
    for name in ("input_ids", "token_type_ids", "attention_mask", "joint_attention_mask"):
        if name in inputs:
            padded[name] = pad(inputs[name], 0)
    if "joint_input_ids" in inputs:
        # CLIP's text vector is that of the first token with the highest number.
        padded["joint_input_ids"] = pad(inputs["joint_input_ids"], 0)
    if kind == "features":
        padded["token_features"] = pad(inputs["token_features"], math.nan)
        padded["region_features"] = pad(inputs["region_features"], math.nan)
        padded["region_mask"] = pad(inputs["region_mask"], False)
    assert_same_logits(model(**padded).logits, logits)


def spoil(inputs, modality, row):
    """The same inputs with garbage in one row of a modality; token numbers stay in their range."""
    spoilt = {name: value.clone() for name, value in inputs.items()}
    for name in CONTENT[modality]:
        if name in spoilt:
            spoilt[name][row] = math.nan
    if modality == "text":
        for name in ("input_ids", "joint_input_ids"):
            if name in spoilt:
                spoilt[name][row] = 1
    return spoilt


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_content_of_missing_rows_is_not_looked_at(
    kind, make_model, make_inputs, make_labels, modality, training
):
    model = make_model(kind).train(training)
    inputs = make_inputs(kind)
    present = torch.arange(6) != 2
    results = []
    for content in (inputs, spoil(inputs, modality, 2)):
        model.zero_grad()
        output = model(**content, **{f"{modality}_present": present}, labels=make_labels())
        output.loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((output.logits, gradients))
    assert_same_logits(results[1][0], results[0][0])
    assert_same_logits(results[1][1], results[0][1])


@pytest.mark.parametrize("modality", ["image", "text"])
def test_garbage_of_missing_rows_does_not_reach_unfrozen_encoders(
    kind, make_model, make_inputs, make_labels, modality
):
    if kind == "features":
        pytest.skip("no encoder")
    model = make_model(kind, freeze_encoders=False)
    present = {f"{modality}_present": torch.arange(6) != 2}
    model(**spoil(make_inputs(kind), modality, 2), **present, labels=make_labels()).loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


@pytest.mark.parametrize("modality", ["image", "text"])
@torch.no_grad()
def test_nothing_given_of_a_modality_means_missing_in_all_rows(model, kind, make_inputs, modality):
    inputs = make_inputs(kind)
    own = {
        "image": ("pixel_values", "image_embeds", "region_features", "region_mask"),
        "text": (
            *("input_ids", "attention_mask", "token_type_ids", "joint_input_ids"),
            *("joint_attention_mask", "text_embeds", "token_features"),
        ),
    }[modality]
    rest = {name: value for name, value in inputs.items() if name not in own}
    said = model(**inputs, **{f"{modality}_present": torch.zeros(6, dtype=torch.bool)}).logits
    assert_same_logits(model(**rest).logits, said)


@torch.no_grad()
def test_row_without_picture_and_text_has_logits_of_its_own(model, kind, make_inputs):
    absent = {f"{modality}_present": torch.zeros(6, dtype=torch.bool) for modality in ("image", "text")}
    logits = model(**make_inputs(kind), **absent).logits
    for values in logits.values():
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=0, atol=1e-6)


def test_stand_ins_learn_from_missing_rows(model, kind, make_inputs, make_labels):
    model.zero_grad()
    absent = {f"{modality}_present": torch.arange(6) % 2 == 0 for modality in ("image", "text")}
    model(**make_inputs(kind), **absent, labels=make_labels()).loss.backward()
    stand_ins = {name: p.grad for name, p in model.named_parameters() if "missing" in name}
    assert len(stand_ins) == 4
    assert all(gradient.abs().sum() > 0 for gradient in stand_ins.values())


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_a_new_model_with_missing_rows_are_moderate(
    kind, make_config, make_inputs, make_labels, training
):
    """One step of a new model must not be drowned by its rows without a picture."""
    norms = []
    for present in (torch.ones(6, dtype=torch.bool), torch.arange(6) != 2):
        torch.manual_seed(0)
        model = MMOrientForMultitaskClassification(make_config(kind)).train(training)
        model(**make_inputs(kind), image_present=present, labels=make_labels()).loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
    assert norms[1] < 100 * norms[0]


def test_zero_text_is_a_text_of_padding_only(model, kind, make_inputs):
    inputs = make_inputs(kind)
    inputs["attention_mask"][2] = 0
    with torch.no_grad():
        said = model(**inputs, text_present=torch.arange(6) != 2).logits
        assert_same_logits(model(**inputs).logits, said)


@pytest.mark.parametrize("present", [torch.tensor([1, 1, 0, 1, 1, 1]), torch.arange(6) != 2])
@torch.no_grad()
def test_presence_may_be_given_as_numbers(model, kind, make_inputs, present):
    logits = model(**make_inputs(kind), image_present=present).logits
    assert_same_logits(model(**make_inputs(kind), image_present=present.bool()).logits, logits)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_accumulated_gradients_are_those_of_the_whole_batch(make_model, make_inputs, make_labels, steps):
    model, inputs, labels = make_model(), make_inputs(), make_labels(seed=3)
    model(**inputs, labels=labels).loss.backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    counts = {name: (values != -100).sum() for name, values in labels.items()}
    for rows in torch.arange(6).chunk(steps):
        part = {name: values[rows] for name, values in labels.items()}
        model(**take(inputs, rows), labels=part, num_items_in_batch=counts).loss.backward()
    for name, parameter in model.named_parameters():
        if expected[name] is None:  # stage 2's scores, which evaluation does not use
            assert "batch_bias" in name and parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_unlabelled_task_changes_neither_loss_nor_gradients(make_model, make_inputs, make_labels):
    labels = make_labels()
    results = []
    for given in (
        {"sentiment": labels["sentiment"]},
        {
            "sentiment": labels["sentiment"],
            "humour": torch.full((6,), -100),
            "about": torch.full((6, 2), -100),
        },
    ):
        model = make_model().train()
        loss = model(**make_inputs(), labels=given).loss
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


SWITCHES = ("use_hima_stage1", "use_hima_stage2", "use_in_modal", "use_cross_modal")
BRANCHES = {
    "use_hima_stage1": "hima.",
    "use_hima_stage2": "batch_bias.",
    "use_in_modal": "in_modal_",
    "use_cross_modal": "cross_modal_",
}


COMBINATIONS = [
    ("features", *values)
    for values in itertools.product([True, False], [True, False], [True, False], [True, False], [0, 3])
]
# With encoders: one branch at a time, since each asks for other features of them.
COMBINATIONS += [
    (kind, *values)
    for kind in ("joint", "vision")
    for values in (
        (True, True, False, False, 0),
        (False, False, True, False, 0),
        (False, False, False, True, 0),
        (False, False, False, False, 3),
    )
]


@pytest.mark.parametrize(("kind", *SWITCHES, "task_feature_dim"), COMBINATIONS)
def test_every_combination_of_branches(
    make_model,
    make_config,
    make_inputs,
    make_labels,
    tmp_path,
    kind,
    use_hima_stage1,
    use_hima_stage2,
    use_in_modal,
    use_cross_modal,
    task_feature_dim,
):
    values = (use_hima_stage1, use_hima_stage2, use_in_modal, use_cross_modal)
    switches = dict(zip(SWITCHES, values, strict=True))
    options = {**switches, "task_feature_dim": task_feature_dim}
    nothing_left = not any((values[0], values[2], values[3], task_feature_dim))
    if (switches["use_hima_stage2"] and not switches["use_hima_stage1"]) or nothing_left:
        with pytest.raises(ValueError, match="use_hima_stage1"):
            make_config(kind, **options)
        return
    model = make_model(kind, **options)
    own = " ".join(name for name in model.state_dict() if "feature_encoders" not in name)
    for switch, branch in BRANCHES.items():
        assert (branch in own) is switches[switch]
    assert ("relations." in own) is (switches["use_in_modal"] or switches["use_cross_modal"])
    inputs = make_inputs(kind)
    if task_feature_dim:
        inputs["task_features"] = torch.randn(6, task_feature_dim)
    model.train()(**inputs, labels=make_labels()).loss.backward()
    unused = [n for n, p in model.named_parameters() if "feature_encoders" not in n and p.grad is None]
    assert unused == []
    model.eval().save_pretrained(tmp_path)
    again = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_same_logits(again(**inputs).logits, model(**inputs).logits, atol=1e-6)


def test_task_features_join_before_the_learner(make_model, make_inputs):
    model = make_model(task_feature_dim=3)
    a = torch.randn(6, 3)
    with torch.no_grad():
        fused = model.mmorient(**make_inputs(), task_features=a).pooler_output
    assert fused.shape == (6, model.config.fused_dim)
    assert torch.equal(fused[:, -3:], a)


@pytest.mark.parametrize("wrong", [None, torch.zeros(6, 2), torch.zeros(5, 3)])
def test_task_features_of_a_wrong_shape_are_named(make_model, make_inputs, wrong):
    with pytest.raises(ValueError, match="task_features"):
        make_model(task_feature_dim=3)(**make_inputs(), task_features=wrong)


def test_task_features_without_a_width_are_refused(make_model, make_inputs):
    with pytest.raises(ValueError, match="task_feature_dim"):
        make_model()(**make_inputs(), task_features=torch.zeros(6, 3))


def test_internals_come_on_request_only(model, kind, make_inputs):
    inputs = make_inputs(kind)
    assert set(model(**inputs).keys()) == {"logits"}
    output = model(**inputs, output_attentions=True)
    assert set(output.keys()) == {"logits", "region_attention", "token_attention"}
    for weights in (output.region_attention, output.token_attention):
        torch.testing.assert_close(weights.sum(-1), torch.ones(6))
    assert torch.equal(output.token_attention > 0, inputs["attention_mask"].bool())
    output = model(**inputs, output_hidden_states=True)
    assert set(output.keys()) == {"logits", "region_features", "token_features"}
    features = model.encode(**inputs)
    torch.testing.assert_close(output.region_features, features.region_features)
    torch.testing.assert_close(output.token_features, features.token_features)
    statistics = model.train()(**inputs, output_degree_statistics=True).degree_statistics
    model.eval()
    assert set(statistics) == {"image", "text"}
    assert statistics["image"].mean_degree >= 2


def test_nothing_is_batch_by_batch(model, kind, make_inputs, make_labels):
    inputs = make_inputs(kind, batch_size=13)
    model.train()
    output = model(**inputs, labels=make_labels(13), output_attentions=True, output_degree_statistics=True)
    model.eval()
    tensors = [output.loss, *output.logits.values(), output.region_attention, output.token_attention]
    tensors += [value for found in output.degree_statistics.values() for value in vars(found).values()]
    assert all(list(tensor.shape).count(13) <= 1 for tensor in tensors)


def test_base_model_gives_the_learner_its_input(model, kind, make_inputs):
    with torch.no_grad():
        output = model.mmorient(**make_inputs(kind))
    assert isinstance(model.base_model, MMOrientModel)
    assert set(output.keys()) == {"pooler_output"}
    assert output.pooler_output.shape == (6, model.config.fused_dim)


def test_training_moves_running_g_and_evaluation_uses_it(kind, make_model, make_inputs):
    model, inputs = make_model(kind), make_inputs(kind)
    biases = [module for module in model.modules() if isinstance(module, BatchBias)]
    assert len(biases) == 2
    before = [bias.running_g.clone() for bias in biases]
    with torch.no_grad():
        logits = model(**inputs).logits
        model.train()(**inputs)
    assert all(not torch.equal(b.running_g, old) for b, old in zip(biases, before, strict=True))
    with torch.no_grad():
        later = model.eval()(**inputs).logits
    assert any(not torch.equal(later[name], logits[name]) for name in logits)


def test_new_encoders_start_as_their_own_kind_does(make_config):
    config = make_config("joint")
    model = MMOrientForMultitaskClassification(config)
    query = model.encoders.text.encoder.layer[0].attention.self.query.weight
    assert query.std().item() == pytest.approx(config.text_config.initializer_range, rel=0.3)
    # Glorot: uniform within sqrt(6 / (fan in + fan out)).
    learner = model.learner[0].weight
    assert learner.abs().max().item() == pytest.approx((6 / sum(learner.shape)) ** 0.5, rel=0.05)


def test_training_learns_a_rule_in_a_few_steps(make_config, make_inputs):
    torch.manual_seed(0)
    config = make_config(tasks={"side": ["left", "right"]})
    model = MMOrientForMultitaskClassification(config).train()
    inputs = make_inputs(batch_size=32)
    labels = {"side": (inputs["image_embeds"][:, 0] > 0).long()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_same_rows_alone_or_doubled_train_alike_without_graphs(make_model, make_inputs, make_labels):
    """Every loss is a mean over labels: rows given twice give the same gradients."""
    model = make_model(use_in_modal=False, use_cross_modal=False, use_hima_stage2=False).train()
    inputs, labels = make_inputs(), make_labels()
    results = []
    for rows in (torch.arange(6), torch.arange(12) % 6):
        model.zero_grad()
        model(**take(inputs, rows), labels=take(labels, rows)).loss.backward()
        results.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert_same_logits(results[1], results[0], atol=1e-5)
