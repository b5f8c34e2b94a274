"""Heads, votes and references go by the tasks' names and labels when a model is loaded for other tasks."""

import pytest
import torch
from transformers import AutoModel

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification
from modeling_mmorient.task_specs import parse_tasks
from modeling_mmorient.votes import WEIGHT

TASKS = {
    "mood": {"labels": ["sad", "so so", "glad"], "class_weights": [3.0, 1.0, 2.0], "temperature": 1.7},
    "joke": {"labels": ["no", "yes"], "thresholds": [0.3], "weight": 0.5},
    "about": {"labels": ["cats", "dogs"], "kind": "multilabel", "thresholds": [0.2, 0.7]},
    "heat": {"labels": ["none", "some", "much"], "kind": "ordinal"},
    "tone.keys weight": ["flat", "sharp"],
}
LABELS = {
    "mood": torch.arange(12) % 3,
    "joke": torch.arange(12) % 2,
    "about": torch.stack([torch.arange(12) % 2, torch.arange(12) % 3 % 2], -1),
    "heat": torch.arange(12) % 4 % 3,
    "tone.keys weight": torch.tensor([0, 1, -100] * 4),
}
LABEL_LISTS = {name: task["labels"] if isinstance(task, dict) else task for name, task in TASKS.items()}


@pytest.fixture
def saved(make_config, make_inputs, tmp_path):
    """A model with references, of which each head, vote and share differs from every other."""
    torch.manual_seed(0)
    config = make_config(graph_scope="references", tasks=TASKS, uncertainty_weighting=True)
    model = MMOrientForMultitaskClassification(config).eval()
    with torch.no_grad():
        for module in (model.heads, model.votes, model.loss_weighting):
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape))
    model.add_references(make_inputs("features", 12, seed=7), [f"r{row}" for row in range(12)], LABELS)
    model.save_pretrained(tmp_path)
    return model


def places(name, labels):
    return [LABEL_LISTS[name].index(label) for label in labels]


def load(folder, how, tasks, **options):
    if how == "tasks":
        return MMOrientForMultitaskClassification.from_pretrained(folder, tasks=tasks, **options)
    if how == "AutoModel":
        return AutoModel.from_pretrained(folder, tasks=tasks, **options)
    config = MMOrientConfig.from_pretrained(folder, tasks=tasks)
    return MMOrientForMultitaskClassification.from_pretrained(folder, config=config, **options)


@torch.no_grad()
@pytest.mark.parametrize("how", ["tasks", "AutoModel", "config"])
@pytest.mark.parametrize("form", ["labels", "list"])
def test_tasks_and_labels_in_another_order_get_their_own_answers(
    how, form, saved, make_inputs, tmp_path, caplog
):
    inputs = make_inputs()
    asked = {
        "tone.keys weight": ["sharp", "flat"],
        "about": ["dogs", "cats"],
        "heat": ["none", "some", "much"],
        "mood": ["so so", "glad", "sad"],
        "joke": ["yes", "no"],
    }
    given = asked if form == "labels" else [{"name": name, "labels": own} for name, own in asked.items()]
    model = load(tmp_path, how, given)
    assert list(model.config.task_specs) == list(asked)
    expected, found = saved(**inputs).logits, model(**inputs).logits
    assert list(found) == list(asked)
    for name, labels in asked.items():
        torch.testing.assert_close(found[name], expected[name][:, places(name, labels)])
        known, own = model.references.labels[name], saved.references.labels[name]
        if name == "about":
            assert torch.equal(known, own[:, places(name, labels)])
        else:
            assert [labels[label] if label >= 0 else None for label in known] == [
                LABEL_LISTS[name][label] if label >= 0 else None for label in own
            ]
    specs = model.config.task_specs
    assert specs["mood"].class_weights == (1.0, 2.0, 3.0) and specs["mood"].temperature == 1.7
    assert specs["joke"].thresholds == pytest.approx([0.7]) and specs["joke"].weight == 0.5
    assert specs["about"].thresholds == (0.7, 0.2) and specs["about"].kind == "multilabel"
    assert specs["heat"].kind == "ordinal"
    answers = saved.decisions(saved.probabilities(expected))
    again = model.decisions(model.probabilities(found))
    for name, labels in asked.items():
        if name == "about":
            assert torch.equal(again[name], answers[name][:, places(name, labels)])
        else:
            assert [labels[row] for row in again[name]] == [LABEL_LISTS[name][row] for row in answers[name]]
    shares = model.loss_weighting.log_variances
    for number, name in enumerate(asked):
        assert shares[number] == saved.loss_weighting.log_variances[list(TASKS).index(name)]
    # Saved in the new order, it stays so.
    model.save_pretrained(tmp_path / "again")
    again = MMOrientForMultitaskClassification.from_pretrained(tmp_path / "again")
    for name, logits in again(**inputs).logits.items():
        torch.testing.assert_close(logits, found[name])


@torch.no_grad()
def test_what_is_new_is_said_in_a_table_and_among_the_missing_keys(saved, make_inputs, tmp_path, caplog):
    asked = {
        "heat": {"labels": ["much", "some", "none"], "kind": "ordinal"},  # turned round
        "mood": ["sad", "glad", "other"],  # other labels
        "joke": ["no", "yes"],
        "irony": ["no", "yes"],  # nobody knows it
        "about": {"labels": ["cats", "dogs"], "kind": "multiclass"},  # another kind
    }
    model, info = MMOrientForMultitaskClassification.from_pretrained(
        tmp_path, tasks=asked, output_loading_info=True
    )
    new = {f"heads.{number}." for number in (0, 1, 3, 4)}
    assert {".".join(key.split(".")[:2]) + "." for key in info["missing_keys"]} == new
    (table,) = [text for text in caplog.messages if "The tasks are not those that were saved" in text]
    said = {line.split("  ")[0]: line for line in table.splitlines()[2:]}
    assert all(said[name].endswith("new: train it") for name in ("heat", "mood", "irony", "about"))
    assert said["joke"].endswith("taken over") and said["tone.keys weight"].endswith("left out")
    inputs = make_inputs()
    torch.testing.assert_close(model(**inputs).logits["joke"], saved(**inputs).logits["joke"])
    weights = model.votes.weights
    assert torch.equal(weights[:, 2], saved.votes.weights[:, 1])
    assert all((weights[:, number] == WEIGHT).all() for number in (0, 1, 3, 4))
    assert model.heads[0].first_cut == 0
    labels = model.references.labels
    assert (labels["mood"] == -100).all() and (labels["irony"] == -100).all()
    assert torch.equal(labels["heat"], torch.tensor([2, 1, 0])[saved.references.labels["heat"]])
    specs = model.config.task_specs
    assert specs["mood"].class_weights is None and specs["heat"].temperature == 1.0


def test_fields_that_are_given_win_over_saved_ones(saved, tmp_path):
    asked = {"mood": {"labels": LABEL_LISTS["mood"], "temperature": 3.0}, "joke": {"labels": ["no", "yes"]}}
    config = MMOrientConfig.from_pretrained(tmp_path, tasks=asked)
    assert config.task_specs["mood"].temperature == 3.0
    assert config.task_specs["mood"].class_weights == (3.0, 1.0, 2.0)
    same = load(tmp_path, "tasks", {**TASKS, "joke": {"labels": ["no", "yes"], "thresholds": None}})
    assert same.config.task_specs["joke"].thresholds is None
    whole = MMOrientConfig(
        **{**config.to_dict(), "tasks": {"mood": ["glad", "sad", "so so"]}, "uncertainty_weighting": True}
    )
    loaded = MMOrientForMultitaskClassification.from_pretrained(tmp_path, config=whole)
    assert loaded.config.task_specs == parse_tasks({"mood": ["glad", "sad", "so so"]})
    assert torch.equal(loaded.heads[0].weight, saved.heads[0].weight[[2, 0, 1]])


def test_no_key_of_the_state_dict_names_a_task(saved):
    assert not [key for key in saved.state_dict() if any(name in key for name in TASKS)]


@pytest.mark.parametrize(
    "tasks", [3, "mood", {}, {"mood": "sad"}, {"mood": {}}, [3], [{"labels": ["a", "b"]}]]
)
def test_tasks_that_are_none_are_refused(tasks, saved, tmp_path):
    with pytest.raises(ValueError, match="task"):
        load(tmp_path, "tasks", tasks)


def test_heads_that_were_not_loaded_are_new(saved, make_config, tmp_path):
    saved.mmorient.save_pretrained(tmp_path / "base")
    _, info = MMOrientForMultitaskClassification.from_pretrained(
        tmp_path / "base", tasks={"joke": ["no", "yes"]}, output_loading_info=True
    )
    assert {"heads.0.weight", "heads.0.bias"} <= set(info["missing_keys"])
    assert not any(key.startswith("heads.1.") for key in info["missing_keys"])
