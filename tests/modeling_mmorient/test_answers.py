"""Answers with names: `label` says of each row what `decisions` and `probabilities` say in numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BatchFeature

from modeling_mmorient import MMOrientForMultitaskClassification
from modeling_mmorient.answers import Answer


def _processor(inputs: dict[str, torch.Tensor]) -> Callable[..., BatchFeature]:
    """Stands for one: gives these features, whatever it is asked."""
    return lambda images, text, return_tensors: BatchFeature(inputs)


def test_every_row_is_answered_as_in_numbers(
    make_model: Callable[..., MMOrientForMultitaskClassification], make_inputs: Callable[..., Any]
) -> None:
    tasks = {
        "mood": ["bad", "so-so", "good"],
        "funny": {"labels": ["no", "yes"], "thresholds": [0.3]},
        "about": {"labels": ["politics", "animals"], "kind": "multilabel", "thresholds": [0.4, 0.6]},
    }
    model, inputs = make_model(tasks=tasks), make_inputs(batch_size=8)
    answers = model.label(_processor(inputs), text=["words"] * 8)
    probabilities = model.probabilities(model(**inputs).logits)
    decisions = model.decisions(probabilities)
    assert len(answers) == 8 and all(list(row) == list(tasks) for row in answers)
    for row, answer in enumerate(answers):
        mood, about = answer["mood"], answer["about"]
        assert mood.labels == [model.config.task_specs["mood"].labels[int(decisions["mood"][row])]]
        assert list(mood.probabilities.values()) == pytest.approx(probabilities["mood"][row].tolist())
        assert about.labels == [
            name for name, share in about.probabilities.items() if share > about.thresholds[name]
        ]
        assert (mood.thresholds, answer["funny"].thresholds) == ({}, {"yes": 0.3})


def test_what_is_no_number_and_a_model_in_training_are_refused(
    make_model: Callable[..., MMOrientForMultitaskClassification], make_inputs: Callable[..., Any]
) -> None:
    model, processor = make_model(), _processor(make_inputs(batch_size=2))
    with pytest.raises(ValueError, match="training mode"):
        model.train().label(processor, text="words")
    with torch.no_grad():
        next(model.heads.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"row 0: .*logits of task 'sentiment' are not finite"):
        model.eval().label(processor, text="words")


def test_an_answer_reads_as_a_line() -> None:
    answer = Answer(["yes"], {"no": 0.6, "yes": 0.4}, {"yes": 0.3})
    assert str(answer) == "yes  (no 0.60, yes 0.40 > 0.300)"
    assert str(Answer([], {"a": 0.4}, {"a": 0.5})) == "none of them  (a 0.40 <= 0.500)"
