"""Regression tasks in the model: loss, values, labels, votes, references, and tasks that change."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification
from modeling_mmorient.calibration import decisions, intervals, probabilities
from modeling_mmorient.features import Neighbors
from modeling_mmorient.multitask import multitask_loss, task_loss
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.task_specs import TaskSpec, parse_tasks
from modeling_mmorient.votes import NeighborVotes

NAN = float("nan")
AGE = {"kind": "regression", "range": [0, 10], "mean": 4.0, "deviation": 2.0, "interval": 1.5}
TASKS: dict[str, Any] = {"age": AGE, "mood": ["bad", "good"]}
SPEC = parse_tasks(TASKS)["age"]


def small_model(**options: Any) -> MMOrientForMultitaskClassification:
    torch.manual_seed(0)
    config = MMOrientConfig(
        joint_config=None,
        text_config=None,
        image_embed_dim=6,
        text_embed_dim=5,
        region_dim=6,
        token_dim=5,
        hima_hidden_size=4,
        graph_hidden_size=4,
        learner_hidden_sizes=[8],
        **{"tasks": TASKS, **options},
    )
    return MMOrientForMultitaskClassification(config).eval()


def features(rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image_embeds": torch.randn(rows, 6, generator=generator),
        "text_embeds": torch.randn(rows, 5, generator=generator),
        "region_features": torch.randn(rows, 3, 6, generator=generator),
        "token_features": torch.randn(rows, 4, 5, generator=generator),
    }


def test_loss_is_hubers_of_standardised_values_over_the_known_ones() -> None:
    logits = torch.tensor([[0.5], [3.0], [7.0]], requires_grad=True)
    labels = torch.tensor([4.0, 2.0, NAN])  # 0 and -1 in units of the training rows
    loss = task_loss(SPEC, logits, labels)
    assert loss.item() == pytest.approx((0.5**2 / 2 + (4.0 - 0.5)) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].tolist() == pytest.approx([0.25, 0.5, 0.0])
    nothing = task_loss(SPEC, logits, torch.full((3,), NAN))
    assert nothing.item() == 0


def test_a_task_that_is_left_out_is_labelled_nowhere() -> None:
    specs = parse_tasks(TASKS)
    logits = {"age": torch.ones(2, 1, requires_grad=True), "mood": torch.zeros(2, 2)}
    loss = multitask_loss(specs, logits, {"mood": torch.tensor([0, 1])})
    loss.backward()
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
    assert logits["age"].grad is not None and not logits["age"].grad.any()


def test_answers_are_values_in_the_tables_unit_clipped_to_the_range() -> None:
    values = probabilities(SPEC, torch.tensor([[0.0], [1.25], [9.0], [-9.0]]))
    assert values[:, 0].tolist() == [4.0, 6.5, 22.0, -14.0]
    answers = decisions(SPEC, values)
    assert answers.tolist() == [4.0, 6.5, 10.0, 0.0]
    spans = intervals(SPEC, answers)
    assert spans is not None
    assert spans.tolist() == [[2.5, 5.5], [5.0, 8.0], [8.5, 10.0], [0.0, 1.5]]
    assert intervals(TaskSpec("mood", ("a", "b")), torch.tensor([1])) is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1, 2]), "give values as floating-point numbers, NaN where"),
        (torch.tensor([11.0, 2.0]), "has the value 11.0: values are numbers from 0 to 10"),
        (torch.tensor([1.0, -100.0]), "NaN stands for not labelled"),
        (torch.tensor([1.0, float("inf")]), "has the value inf"),
        (torch.tensor([[1.0, 2.0]]), r"has the shape \(1, 2\): a regression task needs \(2,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model()(**features(2), labels={"age": labels})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range": [3]}, "give the lowest and the highest value"),
        ({"range": [3, 1]}, "the first value is the lower one"),
        ({"range": [0, 1e12]}, "range 1000000000000.0: give a number from -1e"),
        ({"deviation": 0.0}, "deviation 0.0: give a number from"),
        ({"mean": "4"}, "mean '4': give a number"),
        ({"labels": ["a"]}, "a regression task has some of"),
        ({"temperature": 2.0}, "a regression task has some of"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tasks({"age": {"kind": "regression", **options}})
    with pytest.raises(ValueError, match='"labels" is needed'):
        parse_tasks({"mood": {"range": [0, 1]}})


def test_tasks_survive_their_long_form() -> None:
    assert parse_tasks([SPEC.to_dict()]) == {"age": SPEC}
    assert "labels" not in SPEC.to_dict() and "range" not in parse_tasks(TASKS)["mood"].to_dict()


def bank(values: list[float]) -> ReferenceBank:
    filled = ReferenceBank(6, 5, parse_tasks(TASKS))
    ids = [str(number) for number in range(len(values))]
    filled.add(ids, {"image": torch.eye(6)[: len(values)]}, labels={"age": torch.tensor(values)})
    return filled


def test_neighbours_vote_by_the_weighted_mean_of_their_values() -> None:
    votes = NeighborVotes(small_model().config)
    references = bank([2.0, 8.0, NAN, 5.0])
    found = Neighbors(
        torch.tensor([[0, 1, 2], [2, -1, -1]]), torch.tensor([[0.9, 0.8, 0.8], [0.5, 0.0, 0.0]])
    )
    logits = {"age": torch.zeros(2, 1), "mood": torch.zeros(2, 2)}
    voted, counted = votes(logits, references, {"image": found})
    weights = torch.tensor([1.0, torch.tensor(-1.0).exp()])  # T = 10
    prior = (5.0 - 4.0) / 2.0
    expected = (weights @ torch.tensor([-1.0, 2.0]) + prior) / (weights.sum() + 1) - prior
    assert voted["age"][0, 0].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    # Without a labelled neighbour nothing is added.
    assert voted["age"][1, 0].item() == 0 and not counted["image"].shares["age"][1].any()
    assert counted["image"].shares["age"][0, 2].item() == 0


def test_references_keep_values_on_disk_and_for_other_tasks(tmp_path: Path) -> None:
    references = bank([2.0, NAN, 5.0])
    references.save(tmp_path)
    loaded = ReferenceBank.load(tmp_path)
    torch.testing.assert_close(loaded.labels["age"], torch.tensor([2.0, NAN, 5.0]), equal_nan=True)
    assert loaded.fingerprint() == references.fingerprint()
    number, mean = loaded.label_counts["age"].tolist()
    assert (number, mean) == (2.0, 3.5)
    other = loaded.with_tasks(parse_tasks({"age": {"kind": "regression", "mean": 1.0}}))
    torch.testing.assert_close(other.labels["age"], torch.tensor([2.0, NAN, 5.0]), equal_nan=True)
    gone = loaded.with_tasks(parse_tasks({"age": ["young", "old"]}))
    assert gone.labels["age"].tolist() == [-100] * 3


def test_a_saved_model_answers_the_same_and_heads_go_by_their_unit(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    load = MMOrientForMultitaskClassification.from_pretrained
    inputs = features(3)
    expected = model(**inputs).logits["age"]
    loaded = load(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits["age"], expected)
    assert loaded.config.task_specs["age"] == SPEC
    # What is left out is as saved; with another unit the head would say other values, so it is new.
    same = load(tmp_path, tasks={"age": {"kind": "regression", "weight": 2.0}, "mood": ["bad", "good"]})
    assert same.config.task_specs["age"].interval == 1.5
    torch.testing.assert_close(same(**inputs).logits["age"], expected)
    other = load(tmp_path, tasks={"age": {**AGE, "mean": 0.0}, "mood": ["bad", "good"]})
    assert not torch.equal(other.heads[0].weight, model.heads[0].weight)


def test_the_model_gives_values_and_intervals_by_task() -> None:
    model = small_model()
    decided = model.decisions(model.probabilities(model(**features(3)).logits))
    assert decided["age"].dtype == torch.float32 and decided["age"].shape == (3,)
    assert model.intervals(decided).keys() == {"age"}
