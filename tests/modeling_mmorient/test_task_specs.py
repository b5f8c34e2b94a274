import json

import pytest

from modeling_mmorient.task_specs import TaskSpec, parse_tasks

LONG = {
    "labels": ["none", "some", "much"],
    "kind": "ordinal",
    "weight": 0.5,
    "class_weights": [1, 2.5, 3],
    "label_smoothing": 0.1,
    "temperature": 1.5,
}


def test_short_form_is_multiclass():
    (spec,) = parse_tasks({"humour": ["no", "yes"]}).values()
    assert spec == TaskSpec("humour", ("no", "yes"), "multiclass", 1.0, None)
    assert spec.num_labels == 2


def test_forms_mean_the_same():
    expected = {
        "zeta": TaskSpec("zeta", ("a", "b")),
        "humour": TaskSpec("humour", ("none", "some", "much"), "ordinal", 0.5, (1.0, 2.5, 3.0), 0.1, 1.5),
    }
    mapping = {"zeta": ("a", "b"), "humour": LONG}
    listed = [{"name": "zeta", "labels": ["a", "b"]}, {"name": "humour", **LONG}]
    for tasks in (mapping, listed):
        assert parse_tasks(tasks) == expected
        assert list(parse_tasks(tasks)) == ["zeta", "humour"]


def test_long_form_survives_json():
    specs = parse_tasks(
        {
            "zeta": {"labels": ["a", "b"], "thresholds": [0.3]},
            "humour": LONG,
            "about": {"labels": ["x", "y"], "kind": "multilabel", "thresholds": (0.5, 0.7)},
        }
    )
    text = json.dumps([spec.to_dict() for spec in specs.values()])
    assert parse_tasks(json.loads(text)) == specs
    assert list(parse_tasks(json.loads(text))) == list(specs)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("humour", ["`tasks`", "'humour'", "dict"]),
        (5, ["`tasks`", "5"]),
        ({}, ["empty"]),
        ([], ["empty"]),
        (["humour"], ["'humour'", '"name"']),
        ([{"labels": ["a", "b"]}], ['"name"']),
        ({"": ["a", "b"]}, ["''", "non-empty"]),
        ({"  ": ["a", "b"]}, ["'  '", "non-empty"]),
        ({3: ["a", "b"]}, ["3", "string"]),
        ([{"name": "a", "labels": ["x", "y"]}] * 2, ["'a'", "twice"]),
        ({"t": "ab"}, ["'t'", "'ab'", "list"]),
        ({"t": {"a", "b"}}, ["'t'", "list"]),
        ({"t": ["a", 1]}, ["'t'", "1", "string"]),
        ({"t": ["a", ""]}, ["'t'", "non-empty"]),
        ({"t": ["a"]}, ["'t'", "at least 2"]),
        ({"t": ["a", "a"]}, ["'t'", "once"]),
        ({"t": {"labels": ["a"], "kind": "ordinal"}}, ["'t'", "at least 2"]),
        ({"t": {"labels": [], "kind": "multilabel"}}, ["'t'", "at least 1"]),
        ({"t": {"labels": ["a", "b"], "kind": "ranking"}}, ["'t'", "'ranking'", "ordinal"]),
        ({"t": {"labels": ["a", "b"], "loss": 1}}, ["'t'", "loss", "class_weights"]),
        ({"t": {"kind": "ordinal"}}, ["'t'", '"labels"']),
        ({"t": {"labels": ["a", "b"], "weight": -1}}, ["'t'", "weight", "-1"]),
        ({"t": {"labels": ["a", "b"], "weight": float("nan")}}, ["'t'", "weight", "nan"]),
        ({"t": {"labels": ["a", "b"], "weight": float("inf")}}, ["'t'", "weight", "inf"]),
        ({"t": {"labels": ["a", "b"], "weight": True}}, ["'t'", "weight", "True"]),
        ({"t": {"labels": ["a", "b"], "weight": "1"}}, ["'t'", "weight", "'1'"]),
        ({"t": {"labels": ["a", "b"], "class_weights": [1]}}, ["'t'", "class_weights", "2"]),
        ({"t": {"labels": ["a", "b"], "class_weights": [1, -1]}}, ["'t'", "class_weights", "-1"]),
        ({"t": {"labels": ["a", "b"], "class_weights": "12"}}, ["'t'", "class_weights", "'12'"]),
        ({"t": {"labels": ["a", "b"], "class_weights": 2}}, ["'t'", "class_weights", "2"]),
        ({"t": {"labels": ["a", "b"], "class_weights": {0: 1.0, 1: 2.0}}}, ["'t'", "class_weights"]),
        ({"t": {"labels": ["a", "b"], "label_smoothing": 1}}, ["'t'", "label_smoothing", "[0, 1)"]),
        ({"t": {"labels": ["a", "b"], "label_smoothing": -0.1}}, ["'t'", "label_smoothing", "-0.1"]),
        ({"t": {"labels": ["a", "b"], "temperature": 0}}, ["'t'", "temperature", "above 0"]),
        ({"t": {"labels": ["a", "b"], "temperature": None}}, ["'t'", "temperature", "None"]),
        ({"t": {"labels": ["a", "b"], "thresholds": [0.2, 0.8]}}, ["'t'", "thresholds", "list of 1"]),
        ({"t": {"labels": ["a", "b"], "thresholds": 0.2}}, ["'t'", "thresholds", "list of 1"]),
        ({"t": {"labels": ["a", "b"], "thresholds": [1]}}, ["'t'", "thresholds", "(0, 1)"]),
        ({"t": {"labels": ["a", "b", "c"], "thresholds": [0.5]}}, ["'t'", "3 classes", "most probable"]),
        ({"t": {"labels": ["a", "b"], "kind": "multilabel", "thresholds": [0.5]}}, ["'t'", "list of 2"]),
    ],
)
def test_anything_else_is_refused_with_a_word(tasks, words):
    with pytest.raises(ValueError) as caught:
        parse_tasks(tasks)
    for word in words:
        assert word in str(caught.value)
