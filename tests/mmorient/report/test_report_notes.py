"""What the report warns of."""

from typing import Any

import numpy as np

from mmorient.report.notes import derived_notes
from mmorient.report.numbers import graph_numbers, task_numbers
from tests.mmorient.predictions_samples import single_label


def _numbers(**changed: Any) -> dict[str, Any]:
    return {"splits": [], "curves": {}, "graphs": {}, **changed}


def _split(scores: dict[str, Any], **sample: Any) -> dict[str, Any]:
    tasks = {"a": task_numbers(single_label(**sample))}
    return {"name": "validation", "tasks": tasks, "scores": {"a": scores}}


def test_good_numbers_give_no_note() -> None:
    scores = {"macro_f1": 0.5, "macro_f1_interval": [0.4, 0.6], "majority_macro_f1": 0.2}
    graphs = {"image": graph_numbers(np.array([0, 1, 2]))}
    assert derived_notes(_numbers(splits=[_split(scores)], curves={"loss": [[1, 0.5]]}, graphs=graphs)) == []
    assert derived_notes(_numbers(splits=[_split({})])) == []


def test_a_score_that_is_not_above_the_majority_class() -> None:
    (note,) = derived_notes(_numbers(splits=[_split({"macro_f1": 0.2, "majority_macro_f1": 0.25})]))
    assert note == "validation, task a: macro-F1 0.200 is not above the majority class's 0.250."
    scores = {"macro_f1": 0.3, "macro_f1_interval": [0.2, 0.4], "majority_macro_f1": 0.25}
    (note,) = derived_notes(_numbers(splits=[_split(scores)]))
    assert "begins at 0.200 and so holds the majority class's 0.250" in note


def test_classes_that_do_not_occur_and_tasks_without_a_label() -> None:
    (note,) = derived_notes(_numbers(splits=[_split({}, unknown=50)]))
    assert note == "validation, task a: no row is labelled, so there is no score."
    split = _split({}, labels=tuple(map(str, range(30))), rows=2)
    (note, *_) = derived_notes(_numbers(splits=[split]))
    assert note.startswith("validation, task a: no row has the class '0', '1', ") and "more: nothing" in note


def test_classes_that_are_never_answered() -> None:
    split = _split({})
    split["tasks"]["a"]["classes"][1]["answers"] = 0
    assert derived_notes(_numbers(splits=[split])) == ["validation, task a: the model never answers 'yes'."]


def test_a_loss_that_is_not_finite() -> None:
    (note,) = derived_notes(_numbers(curves={"loss": [[0.5, 1.0], [1.5, None], [2.0, None]]}))
    assert note == "The training loss was not finite at 2 logged step(s), first at epoch 1.5."


def test_graphs_that_are_empty_complete_or_without_a_row() -> None:
    degrees = {"image": np.zeros(300, dtype=int), "text": np.full(300, 299)}
    empty, complete = derived_notes(
        _numbers(graphs={key: graph_numbers(value) for key, value in degrees.items()})
    )
    assert "The picture graph is empty: 100.0% of its rows" in empty and "`image_neighbors`" in empty
    assert "The text graph is complete" in complete and "`text_threshold`" in complete
    (note,) = derived_notes(_numbers(graphs={"text": graph_numbers(np.array([], dtype=int))}))
    assert note == "The text graph has no row: none has the modality."
