import dataclasses
import math

import pytest
import torch

from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs, complete_features, masked_mean
from modeling_mmorient.features import EncodedFeatures


def given_features(make_inputs, **changes):
    inputs = make_inputs()
    inputs["token_mask"] = inputs.pop("attention_mask")
    return FeatureInputs(**{**inputs, **changes})


def test_masked_mean_matches_plain_python_and_ignores_masked_rows():
    rows = torch.randn(3, 4, 2)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    means = masked_mean(rows.masked_fill(mask.unsqueeze(-1) == 0, math.nan), mask)
    for row, present, mean in zip(rows.tolist(), mask.tolist(), means.tolist(), strict=True):
        kept = [values for values, there in zip(row, present, strict=True) if there]
        expected = [sum(column) / len(kept) for column in zip(*kept, strict=True)] if kept else [0.0, 0.0]
        assert mean == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(masked_mean(rows, None), rows.mean(1))


def test_complete_features_have_masks_and_presence(make_config, make_inputs):
    given = given_features(make_inputs, region_mask=None, token_mask=None)
    features = complete_features(make_config(), RawInputs(), given, torch.float32)
    assert features.region_mask.all() and features.region_mask.shape == (6, 5)
    assert features.token_mask.all() and features.token_mask.shape == (6, 8)
    assert features.image_present.all() and features.text_present.all()
    assert all(
        getattr(features, name).dtype == torch.bool
        for name in ("region_mask", "token_mask", "image_present", "text_present")
    )


@pytest.mark.parametrize("modality", ["image", "text"])
def test_modality_of_which_nothing_is_given_is_missing(make_config, make_inputs, modality):
    rows, embeds = {
        "image": ("region_features", "image_embeds"),
        "text": ("token_features", "text_embeds"),
    }[modality]
    nothing = {rows: None, embeds: None, "region_mask": None, "token_mask": None}
    features = complete_features(
        make_config(), RawInputs(), given_features(make_inputs, **nothing), torch.float32
    )
    assert not getattr(features, f"{modality}_present").any()
    assert not getattr(features, rows).any() and not getattr(features, embeds).any()
    other = "text" if modality == "image" else "image"
    assert getattr(features, f"{other}_present").all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_embeds": None}, "image_embeds"),
        ({"region_features": None}, "region_features"),
        ({"text_embeds": None}, "text_embeds"),
        ({"token_features": None}, "token_features"),
        ({"image_embeds": torch.zeros(6, 8)}, "image_embeds"),
        ({"text_embeds": torch.zeros(5, 6)}, "text_embeds"),
        ({"region_features": torch.zeros(6, 5, 9)}, "region_features"),
        ({"region_features": torch.zeros(6, 10)}, "region_features"),
        ({"token_features": torch.zeros(1, 8, 9)}, "token_features"),
    ],
)
def test_gaps_and_wrong_shapes_are_named(make_config, make_inputs, changes, named):
    with pytest.raises(ValueError, match=named):
        complete_features(make_config(), RawInputs(), given_features(make_inputs, **changes), torch.float32)


def test_row_whose_mask_is_empty_is_missing(make_config, make_inputs):
    token_mask = torch.ones(6, 8)
    token_mask[4] = 0
    features = complete_features(
        make_config(), RawInputs(), given_features(make_inputs, token_mask=token_mask), torch.float32
    )
    assert features.text_present.tolist() == [True] * 4 + [False, True]


def test_features_are_inputs_again(make_config, make_inputs):
    features = complete_features(make_config(), RawInputs(), given_features(make_inputs), torch.float32)
    inputs = features.as_inputs()
    assert "task_features" not in inputs
    inputs["token_mask"] = inputs.pop("attention_mask")
    again = complete_features(make_config(), RawInputs(), FeatureInputs(**inputs), torch.float32)
    for field in dataclasses.fields(EncodedFeatures):
        before, after = getattr(features, field.name), getattr(again, field.name)
        assert before is after is None or torch.equal(before, after)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_kept_in_half_precision_run_in_a_float32_model(make_model, make_inputs, dtype):
    model, inputs = make_model(), make_inputs()
    halved = {n: v.to(dtype) if v.is_floating_point() else v for n, v in inputs.items()}
    with torch.no_grad():
        expected, logits = model(**inputs).logits, model(**halved).logits
    for name in expected:
        torch.testing.assert_close(logits[name].float(), expected[name], rtol=0, atol=0.2)
