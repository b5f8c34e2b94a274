"""What `forward` refuses, that refusals name argument and remedy, and what looking at values costs."""

import math

import pytest
import torch

from modeling_mmorient import input_checks
from modeling_mmorient.input_checks import MAX_ENTRY

KINDS = ("features", "joint", "vision")
MASKS = ("region_mask", "attention_mask", "joint_attention_mask", "image_present", "text_present")


@pytest.fixture(scope="module")
def asked(make_model, make_inputs):
    """By kind: a model with references, and inputs of every argument that it takes."""
    made = {}
    for kind in KINDS:
        model = make_model(kind, graph_scope="references", task_feature_dim=3)
        known = {**make_inputs(kind, 5, seed=7), "task_features": torch.randn(5, 3)}
        model.add_references(known, [f"m{place}" for place in range(5)])
        inputs = {**make_inputs(kind), "task_features": torch.randn(6, 3)}
        inputs |= {name: torch.ones(6, dtype=torch.bool) for name in ("image_present", "text_present")}
        made[kind] = model, {**inputs, "own_reference": torch.tensor([0, 1, -1, -1, 4, -1])}
    return made


def arguments(kinds=KINDS):
    """Pairs of a kind and an argument that its model takes."""
    raw = ["pixel_values", "input_ids", "attention_mask", "token_type_ids", "image_present", "text_present"]
    taken = {
        "features": [
            "image_embeds",
            "text_embeds",
            "region_features",
            "region_mask",
            "token_features",
            "task_features",
            "own_reference",
        ],
        "vision": raw,
        "joint": ["joint_input_ids", "joint_attention_mask"],
    }
    return [(kind, name) for kind in kinds for name in taken[kind]]


def refusal(model, inputs, **changes):
    with torch.no_grad(), pytest.raises(ValueError) as caught:
        model(**{**inputs, **changes})
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name"), arguments())
def test_what_is_no_dense_tensor_of_a_fitting_dtype_is_named(asked, kind, name):
    model, inputs = asked[kind]
    good = inputs[name]
    for wrong, word in (
        (good.tolist(), "list"),
        (good.numpy(), "ndarray"),
        (good.to(torch.complex64), "complex64"),
        (good.to_sparse(), "dense"),
        (good[..., None, None], "shape"),
        (torch.tensor(1).to(good.dtype), "shape"),
        (good[:5], "5"),
    ):
        message = refusal(model, inputs, **{name: wrong})
        assert f"`{name}`" in message and word in message, message


@pytest.mark.parametrize(("kind", "name"), [pair for pair in arguments() if pair[1] in MASKS])
def test_masks_hold_zeros_and_ones_of_any_dtype(asked, kind, name):
    model, inputs = asked[kind]
    with torch.no_grad():
        expected = model(**inputs).logits
        for dtype in (torch.bool, torch.uint8, torch.int32, torch.float16, torch.float64):
            found = model(**{**inputs, name: inputs[name].to(dtype)}).logits
            assert all(torch.equal(found[task], expected[task]) for task in expected)
    for value in (2.0, -1.0, 0.5, math.nan, -math.inf):
        wrong = inputs[name].float()
        wrong[1] = value
        message = refusal(model, inputs, **{name: wrong})
        assert f"`{name}` has the value {value}" in message and "True" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -2 * MAX_ENTRY])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(
            ("features", name)
            for name in ("image_embeds", "text_embeds", "region_features", "token_features")
        ),
        ("features", "task_features"),
        ("vision", "pixel_values"),
    ],
)
def test_features_that_cannot_be_computed_with_are_refused(asked, kind, name, value):
    model, inputs = asked[kind]
    wrong = inputs[name].clone()
    wrong[2].view(-1)[0] = value
    message = refusal(model, inputs, **{name: wrong})
    assert f"`{name}`" in message and "row 2" in message


def test_missing_rows_and_masked_entries_may_hold_anything(asked):
    for kind in ("features", "vision"):
        model, inputs = asked[kind]
        lacking = {**inputs, "image_present": torch.arange(6) != 2, "text_present": torch.arange(6) != 3}
        broken = {name: values.clone() for name, values in lacking.items()}
        for name, row in (
            ("pixel_values", 2),
            ("image_embeds", 2),
            ("region_features", 2),
            ("text_embeds", 3),
            ("token_features", 3),
        ):
            if name in broken:
                broken[name][row] = math.nan
        for name in ("input_ids", "token_type_ids"):
            if name in broken:
                broken[name][3] = -7
        if kind == "features":
            broken["region_features"][~inputs["region_mask"].bool()] = math.inf
            broken["token_features"][inputs["attention_mask"] == 0] = math.nan
        with torch.no_grad():
            expected, found = model(**lacking).logits, model(**broken).logits
        assert all(torch.equal(found[task], expected[task]) for task in expected)


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        ("vision", "input_ids", -1, ["-1", "0 to 49"]),
        ("vision", "input_ids", 50, ["50", "tokenizer"]),
        ("vision", "token_type_ids", 2, ["2", "0 to 1"]),
        ("joint", "joint_input_ids", 10**6, ["1000000", "0 to 49"]),
        ("features", "own_reference", 5, ["5", "0 to 4"]),
        ("features", "own_reference", -2, ["-2", "-1"]),
    ],
)
def test_ids_and_places_that_nobody_knows_are_refused(asked, kind, name, value, words):
    model, inputs = asked[kind]
    wrong = inputs[name].clone()
    wrong.view(-1)[3] = value
    message = refusal(model, inputs, **{name: wrong})
    assert all(word in message for word in [f"`{name}`", *words])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_places_are_taken_in_any_integer_dtype(asked, dtype):
    model, inputs = asked["features"]
    own = inputs["own_reference"].clamp(min=0)
    with torch.no_grad():
        expected = model(**{**inputs, "own_reference": own}).logits
        found = model(**{**inputs, "own_reference": own.to(dtype)}).logits
    assert all(torch.equal(found[task], expected[task]) for task in expected)


@pytest.mark.parametrize("kind", ["vision", "joint"])
def test_texts_beyond_the_positions_and_pictures_of_other_sizes_are_refused(asked, kind):
    model, inputs = asked[kind]
    names = {"vision": ("input_ids", "attention_mask", "token_type_ids"), "joint": ("joint_input_ids",)}[kind]
    no_mask = {**inputs, "joint_attention_mask": None}
    for length, word in ((17, "16 positions"), (0, "at least one token")):
        ids = {name: torch.ones(6, length, dtype=torch.long) for name in names}
        assert word in refusal(model, no_mask, **ids)
    pixels = inputs["pixel_values"]
    wrong = [pixels[:, :2], pixels[..., :0]]
    if kind == "joint":
        wrong.append(pixels[..., :32])
    for values in wrong:
        message = refusal(model, inputs, pixel_values=values)
        assert "`pixel_values` has the shape" in message and "the encoder reads (batch_size, 3, " in message


def test_masks_of_nothing_are_not_dropped(asked):
    model, inputs = asked["features"]
    assert "`region_features`" in refusal(model, inputs, region_features=None)
    assert "`token_features` or `input_ids`" in refusal(model, inputs, token_features=None)
    assert "no picture" in refusal(model, inputs, region_features=None, image_embeds=None, region_mask=None)


def test_nothing_at_all_is_an_error(asked):
    model, _ = asked["features"]
    assert "neither a picture nor a text" in refusal(model, {}, image_present=torch.ones(2))


def test_inputs_on_another_device_than_the_model_are_refused(asked):
    model, inputs = asked["features"]
    message = refusal(model, {name: values.to("meta") for name, values in inputs.items()})
    assert "meta" in message and "cpu" in message
    assert "`text_embeds`" in refusal(model, inputs, text_embeds=inputs["text_embeds"].to("meta"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_rows_is_answered(asked, make_labels, kind):
    model, inputs = asked[kind]
    nobody = {name: values[:0] for name, values in inputs.items()}
    with torch.no_grad():
        output = model(**nobody, labels=make_labels(0))
        encoded = model.encode(**{name: values for name, values in nobody.items() if name != "own_reference"})
    assert [tuple(values.shape) for values in output.logits.values()] == [(0, 3), (0, 4), (0, 2)]
    assert output.loss == 0
    assert encoded.region_features.shape[0] == 0


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_looked_at_once(asked, make_labels, monkeypatch, kind, labelled):
    """The checks wait for the device a single time, whatever there is to check."""
    model, inputs = asked[kind]
    waits = []
    settle = input_checks.ValueChecks.settle
    monkeypatch.setattr(
        input_checks.ValueChecks,
        "settle",
        lambda checks: waits.append(len(checks._gathered)) or settle(checks),
    )
    extra = {"labels": make_labels(), "num_items_in_batch": dict.fromkeys(make_labels(), torch.tensor(3))}
    with torch.no_grad():
        model(**inputs, **(extra if labelled else {}))
    assert len(waits) == 1 and waits[0] >= 2 + 6 * labelled


@pytest.mark.parametrize(
    "name", ["image_embeds", "text_embeds", "region_features", "token_features", "task_features"]
)
def test_where_nobody_can_look_the_row_alone_answers_nan(asked, monkeypatch, name):
    model, inputs = asked["features"]
    with torch.no_grad():
        expected = model(**inputs).logits
    for value in (math.nan, math.inf, 3e38):
        wrong = inputs[name].clone()
        wrong[2].view(-1)[0] = value
        with torch.no_grad(), monkeypatch.context() as patched:
            for module in ("encoders", "modeling_mmorient", "label_checks"):
                patched.setattr(f"modeling_mmorient.{module}.can_look", lambda values: False)
            found = model(**{**inputs, name: wrong}).logits
        for task, values in found.items():
            assert values[2].isnan().all()
            others = torch.arange(6) != 2
            torch.testing.assert_close(values[others], expected[task][others])


@pytest.mark.parametrize("count", [-1, math.nan, math.inf, "x", torch.ones(2), 10**400, 1j, True, 0.5])
def test_label_counts_that_are_none_are_named(asked, make_labels, count):
    model, inputs = asked["features"]
    counts = {**dict.fromkeys(make_labels(), 3), "humour": count}
    message = refusal(model, inputs, labels=make_labels(), num_items_in_batch=counts)
    assert "`num_items_in_batch['humour']`" in message and "whole number" in message
