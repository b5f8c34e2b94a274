import pytest
import torch

from modeling_mmorient.calibration import decisions, probabilities
from modeling_mmorient.task_specs import TaskSpec

LOGITS = torch.tensor([[0.0, 2.0, -1.0], [4.0, -4.0, 0.5]])


def test_temperature_softens_and_keeps_the_order():
    plain = probabilities(TaskSpec("t", ("a", "b", "c")), LOGITS)
    soft = probabilities(TaskSpec("t", ("a", "b", "c"), temperature=2.0), LOGITS)
    torch.testing.assert_close(plain, LOGITS.softmax(-1))
    torch.testing.assert_close(soft, (LOGITS / 2).softmax(-1))
    torch.testing.assert_close(soft.sum(-1), torch.ones(2))
    assert soft.argsort().equal(plain.argsort()) and (soft.amax(-1) < plain.amax(-1)).all()


def test_labels_of_a_multilabel_task_are_scaled_apart():
    spec = TaskSpec("t", ("a", "b", "c"), "multilabel", temperature=4.0, thresholds=(0.4, 0.7, 0.5))
    p = probabilities(spec, LOGITS)
    torch.testing.assert_close(p, (LOGITS / 4).sigmoid())  # .5 .62 .44 / .73 .27 .53
    assert decisions(spec, p).tolist() == [[1, 0, 0], [1, 0, 1]]
    assert decisions(TaskSpec("t", ("a", "b", "c"), "multilabel"), p).tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("thresholds", "expected"), [(None, [0, 1, 1]), ((0.2,), [1, 1, 1]), ((0.9,), [0, 0, 1])]
)
def test_a_threshold_decides_between_two_labels(thresholds, expected):
    spec = TaskSpec("t", ("no", "yes"), thresholds=thresholds)
    assert decisions(spec, torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.05, 0.95]])).tolist() == expected


def test_probabilities_are_float32_from_half_precision():
    assert probabilities(TaskSpec("t", ("a", "b", "c")), LOGITS.half()).dtype == torch.float32


def test_a_model_uses_what_its_configuration_holds(make_model, make_inputs):
    tasks = {
        "calm": {"labels": ["no", "yes"], "temperature": 3.0, "thresholds": [0.05]},
        "about": {"labels": ["x", "y"], "kind": "multilabel", "thresholds": [0.01, 0.99]},
    }
    model = make_model(tasks=tasks)
    logits = model(**make_inputs()).logits
    p = model.probabilities(logits)
    torch.testing.assert_close(p["calm"], (logits["calm"] / 3).softmax(-1))
    answers = model.decisions(p)
    assert answers["calm"].equal((p["calm"][:, 1] > 0.05).long())
    assert answers["about"].tolist() == [[1, 0]] * 6
