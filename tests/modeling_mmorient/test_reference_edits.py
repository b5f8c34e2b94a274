"""Edits of a model's references: g follows them, and one that fails changes nothing."""

import math

import pytest
import torch

from modeling_mmorient import MMOrientForMultitaskClassification
from modeling_mmorient.hima import BatchBias
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_shards import ShardedReferences
from tests.modeling_mmorient.known_models import IDS
from tests.modeling_mmorient.test_reference_files import rewrite


@torch.no_grad()
def answers(model, inputs):
    return dict(model(**inputs).logits)


def biases(model):
    return {name: getattr(model.mmorient.hima, name).batch_bias for name in ("image", "text")}


BAD_EDITS = {
    "an id that is there": ({"ids": ["m1", "x"]}, r"already.*'?m1|m1.*already"),
    "an id twice": ({"ids": ["x", "x"]}, "'x' twice"),
    "too few ids": ({"ids": ["x"]}, "shape"),
    "an unknown task": ({"labels": {"mood": torch.zeros(2, dtype=torch.long)}}, "mood"),
    "a class that is none": ({"labels": {"sentiment": torch.tensor([0, 3])}}, "value 3"),
    "labels of another number": ({"labels": {"sentiment": torch.tensor([0])}}, "shape"),
    "features that are not numbers": (
        {"image_embeds": torch.full((2, 7), math.nan)},
        "`image_embeds`.*not finite",
    ),
    "features that are infinite": ({"text_embeds": torch.full((2, 6), math.inf)}, "not finite"),
    "features too large for squares": (
        {"image_embeds": torch.full((2, 7), 3e38)},
        "`image_embeds`.*too large",
    ),
    "features of another width": ({"text_embeds": torch.zeros(2, 5)}, "text_embeds"),
    "neither picture nor text": (
        {"image_present": torch.zeros(2, dtype=torch.bool), "text_present": torch.tensor([True, False])},
        "neither an image nor a text",
    ),
}


@pytest.mark.parametrize("case", BAD_EDITS)
def test_a_bad_edit_is_named_and_changes_nothing(case, make_known, make_inputs):
    change, message = BAD_EDITS[case]
    model, queries = make_known(), make_inputs(seed=5)
    with torch.no_grad():
        before = model(**queries).logits
    given = {**make_inputs("features", 2, seed=3), **change}
    ids, labels = given.pop("ids", ["x", "y"]), given.pop("labels", None)
    with pytest.raises(ValueError, match=message):
        model.add_references(given, ids, labels)
    with pytest.raises(ValueError, match="'z'"):
        model.remove_references(["m1", "z"])
    assert model.references.ids == tuple(IDS)
    with torch.no_grad():
        for task, logits in model(**queries).logits.items():
            assert torch.equal(logits, before[task])


def test_an_edit_whose_g_cannot_be_computed_changes_nothing(make_known, make_inputs, monkeypatch):
    model, queries = make_known(), make_inputs(seed=5)
    before = answers(model, queries)
    computed = BatchBias.over
    failing = biases(model)["text"]

    def over(self, blocks):
        if self is failing:
            raise RuntimeError("out of memory")
        return computed(self, blocks)

    monkeypatch.setattr(BatchBias, "over", over)
    for edit in (
        lambda: model.add_references(make_inputs("features", 2, seed=3), ["x", "y"]),
        lambda: model.replace_references(make_inputs("features", 1, seed=3), ["m1"]),
        lambda: model.remove_references(["m1"]),
        lambda: setattr(model, "references", model.new_references()),
    ):
        with pytest.raises(RuntimeError, match="out of memory"):
            edit()
        assert model.references.ids == tuple(IDS)
        assert all(torch.equal(logits, before[task]) for task, logits in answers(model, queries).items())


@pytest.mark.parametrize("missing", ["image", "text"])
def test_references_of_one_modality_alone(missing, make_model, make_inputs):
    """g over the modality that no reference has is zero."""
    model = make_model(graph_scope="references")
    absent = {f"{missing}_present": torch.zeros(4, dtype=torch.bool)}
    model.add_references({**make_inputs("features", 4, seed=7), **absent}, IDS[:4])
    assert not biases(model).pop(missing).running_g.any()
    assert all(bias.running_g.any() for name, bias in biases(model).items() if name != missing)
    answers(model, make_inputs(seed=5))
    model.add_references(make_inputs("features", 1, seed=8), ["both"])
    assert biases(model)[missing].running_g.any()
    model.remove_references(["both"])
    assert not biases(model)[missing].running_g.any()


def test_forgotten_references_leave_nothing_behind(make_known, make_model, make_inputs):
    model, alone, queries = make_known(), make_model(graph_scope="references"), make_inputs(seed=5)
    for bias in biases(alone).values():
        bias.settle(torch.zeros_like(bias.running_g))
    expected = answers(alone, queries)
    assert any(not torch.equal(logits, expected[task]) for task, logits in answers(model, queries).items())
    model.remove_references(IDS)
    for task, logits in answers(model, queries).items():
        assert torch.equal(logits, expected[task])


def test_references_that_are_set_are_attended_to(make_known, make_model, make_inputs):
    known, model = make_known(), make_model(graph_scope="references")
    model.references = known.references
    expected = answers(known, make_inputs(seed=5))
    for task, logits in answers(model, make_inputs(seed=5)).items():
        assert torch.equal(logits, expected[task])


def test_references_without_what_stage_2_attends_to_are_refused(make_known, make_inputs, tmp_path):
    model = make_known()
    with pytest.raises(ValueError, match=r"no \['image_vectors', 'text_vectors'\].*use_hima_stage2"):
        model.references = ReferenceBank(7, 6, model.config.task_specs)
    assert model.references.ids == tuple(IDS)
    make_known(use_hima_stage2=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_hima_stage2"):
        MMOrientForMultitaskClassification.from_pretrained(tmp_path, use_hima_stage2=True)


def test_the_references_a_user_holds_follow_the_edits(make_known, make_inputs):
    model = make_known()
    held = model.references
    model.add_references(make_inputs("features", 1, seed=3), ["x"])
    assert held is model.references and held.ids == (*IDS, "x")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_reference_gets_the_same_answer_beside_rows_that_are_none(dtype, make_known, make_inputs):
    model = make_known(reference_dtype=dtype)
    rows = make_inputs("features", 12, seed=7)
    own = torch.arange(12)
    with torch.no_grad():
        expected = model(**rows, own_reference=own).logits
        mixed = model(**rows, own_reference=torch.where(own % 3 == 1, -1, own)).logits
        none = model(**rows, own_reference=torch.full((12,), -1)).logits
    without = answers(model, rows)
    for task, logits in mixed.items():
        torch.testing.assert_close(logits[own % 3 != 1], expected[task][own % 3 != 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(logits[own % 3 == 1], without[task][own % 3 == 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(none[task], without[task], atol=1e-5, rtol=0)


def test_training_goes_on_after_inference_mode(make_known, make_inputs, make_labels):
    model, rows = make_known(), make_inputs("features", 12, seed=7)
    own = torch.arange(12)
    with torch.inference_mode():
        model(**{name: values[:5] for name, values in rows.items()}, own_reference=own[:5])
        model.references.to("cpu")
    labels = {task: values for task, values in make_labels(12).items() if task in model.config.tasks}
    model.train()(**rows, own_reference=own, labels=labels).loss.backward()
    assert model.votes.weights.grad.abs().sum() > 0
    model.replace_references({name: values[:1] for name, values in rows.items()}, ["m0"])


def test_matrix_products_of_reduced_precision_set_the_newer_way(make_known, make_inputs):
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this release of torch has one way to set it")
    model, before = make_known(), torch.backends.fp32_precision
    expected = answers(model, make_inputs())
    try:
        torch.backends.fp32_precision = "tf32"
        for task, logits in answers(model, make_inputs()).items():
            torch.testing.assert_close(logits, expected[task], atol=1e-3, rtol=1e-3)
    finally:
        torch.backends.fp32_precision = before


def test_models_do_not_share_what_they_are_given(make_known, make_model, make_inputs):
    known, model = make_known(), make_model(graph_scope="references")
    model.references = known.references
    expected = answers(model, make_inputs(seed=5))
    known.remove_references(IDS[:5])
    assert model.references.ids == tuple(IDS)
    assert all(torch.equal(v, expected[task]) for task, v in answers(model, make_inputs(seed=5)).items())
    with pytest.raises(ValueError, match="`references` is None"):
        model.references = None


def test_vectors_belong_to_whoever_has_the_modality(tmp_path):
    bank = ReferenceBank(2, 2, image_vector_dim=3, text_vector_dim=3)
    image, vectors = torch.ones(2, 2), torch.ones(2, 3)
    with pytest.raises(ValueError, match="'a' has 'image' and no 'image_vectors'"):
        bank.add(["a", "b"], {"image": image})
    present = {"image": torch.tensor([True, False])}
    with pytest.raises(ValueError, match="'b' has 'image_vectors' and no 'image'"):
        bank.add(
            ["a", "b"],
            {"image": image, "image_vectors": vectors, "text": image, "text_vectors": vectors},
            present,
        )
    bank.add(["a", "b"], {"image": image, "image_vectors": vectors})
    bank.save(tmp_path)
    assert ReferenceBank.load(tmp_path).ids == ("a", "b")
    rewrite(tmp_path, {}, {"image_vectors_present": torch.tensor([True, False])})
    with pytest.raises(ValueError, match=r"'b' has 'image_vectors' .* said to be missing"):
        ReferenceBank.load(tmp_path)
    nothing = {"image_vectors_present": torch.tensor([True, False]), "image_vectors_codes": torch.eye(2, 3)}
    nothing["image_vectors_codes"][1] = 0.0
    rewrite(tmp_path, {}, nothing)
    with pytest.raises(ValueError, match="'b' has 'image' and no 'image_vectors'"):
        ReferenceBank.load(tmp_path)


def test_a_model_whose_references_cannot_be_saved_is_not_saved_in_part(make_known, tmp_path):
    model = make_known()
    model.references = ShardedReferences(model.references)
    with pytest.raises(ValueError, match="split over the processes"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_process_saves_nothing(make_known, tmp_path):
    make_known().save_pretrained(tmp_path, False)
    assert not list(tmp_path.glob("references*"))
