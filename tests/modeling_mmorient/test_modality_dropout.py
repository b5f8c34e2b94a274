import dataclasses

import torch

from modeling_mmorient.feature_inputs import FeatureInputs, RawInputs, complete_features
from modeling_mmorient.modality_dropout import ModalityDropout


def many_features(make_config, make_inputs, rows=6000):
    inputs = make_inputs(batch_size=rows)
    inputs["token_mask"] = inputs.pop("attention_mask")
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(rows, generator=generator) < 0.7
    text = ~image | (torch.rand(rows, generator=generator) < 0.7)
    given = FeatureInputs(**inputs, image_present=image, text_present=text)
    return complete_features(make_config(), RawInputs(), given, torch.float32)


def test_each_modality_is_hidden_as_often_and_never_both(make_config, make_inputs):
    torch.manual_seed(0)
    before = many_features(make_config, make_inputs)
    after = ModalityDropout(0.4).train()(before)
    both = before.image_present & before.text_present
    assert (after.image_present | after.text_present).all()
    assert not (after.image_present & ~before.image_present).any()
    for name in ("image_present", "text_present"):
        hidden = getattr(before, name) & ~getattr(after, name)
        assert not hidden[~both].any()
        assert abs(hidden[both].float().mean() - 0.2) < 0.03
    for field in dataclasses.fields(before):
        if not field.name.endswith("present"):
            assert getattr(after, field.name) is getattr(before, field.name)


def test_nothing_is_hidden_in_evaluation_or_without_probability(make_config, make_inputs):
    before = many_features(make_config, make_inputs, rows=6)
    state = torch.get_rng_state()
    assert ModalityDropout(0.9).eval()(before) is before
    assert ModalityDropout(0.0).train()(before) is before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_hides_learns_its_stand_ins(make_model, make_inputs, make_labels):
    torch.manual_seed(0)
    for p, learns in ((0.0, False), (0.9, True)):
        model = make_model(modality_dropout=p).train()
        model(**make_inputs(batch_size=12), labels=make_labels(12)).loss.backward()
        gradient = model.mmorient.hima.image.missing.grad
        assert bool(gradient.any()) is learns
