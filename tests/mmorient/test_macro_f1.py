"""The metric against a plain-Python reference, and loading it without a network."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

evaluate = pytest.importorskip("evaluate")

METRIC = Path(__file__).parents[2] / "training" / "macro_f1"


@pytest.fixture
def metric(tmp_path: Path) -> Any:
    return evaluate.load(str(METRIC), cache_dir=str(tmp_path))


def reference_f1(predictions: list[int], references: list[int], of: int) -> float:
    rows = [(p, r) for p, r in zip(predictions, references, strict=True) if r != -100]
    hits = sum(p == of and r == of for p, r in rows)
    wrong = sum((p == of) != (r == of) for p, r in rows)
    return 2 * hits / (2 * hits + wrong) if hits + wrong else 0.0


def draw(seed: int, classes: int = 4, rows: int = 30) -> tuple[list[int], list[int]]:
    rng = random.Random(seed)
    predictions = [rng.randrange(classes) for _ in range(rows)]
    references = [rng.choice([-100, *range(classes)]) for _ in range(rows)]
    return predictions, references


@pytest.mark.parametrize("seed", range(4))
def test_is_the_mean_of_the_f1_of_the_classes_that_occur(metric: Any, seed: int) -> None:
    predictions, references = draw(seed, rows=6)
    rows = [(p, r) for p, r in zip(predictions, references, strict=True) if r != -100]
    classes = {index for row in rows for index in row}
    expected = sum(reference_f1(predictions, references, c) for c in classes) / len(classes)
    result = metric.compute(predictions=predictions, references=references)
    assert result == {"macro_f1": pytest.approx(expected)}


@pytest.mark.parametrize("num_classes", [4, 7])
def test_num_classes_counts_absent_classes_as_zero(metric: Any, num_classes: int) -> None:
    predictions, references = draw(0)
    result = metric.compute(
        predictions=predictions, references=references, num_classes=num_classes, per_class=True
    )
    expected = [reference_f1(predictions, references, c) for c in range(num_classes)]
    assert result["classes"] == list(range(num_classes))
    assert result["f1_per_class"] == pytest.approx(expected)
    assert result["macro_f1"] == pytest.approx(sum(expected) / num_classes)
    json.dumps(result)  # plain numbers, fit for a report


def test_unlabeled_rows_change_nothing(metric: Any) -> None:
    predictions, references = draw(1)
    kept = [(p, r) for p, r in zip(predictions, references, strict=True) if r != -100]
    assert len(kept) < len(references)
    alone = metric.compute(predictions=[p for p, _ in kept], references=[r for _, r in kept])
    assert metric.compute(predictions=predictions, references=references) == alone


def test_an_unlabeled_row_adds_no_class(metric: Any) -> None:
    result = metric.compute(predictions=[0, 1, 2], references=[0, 1, -100])
    assert result == {"macro_f1": 1.0}


def test_the_majority_class_alone_scores_low(metric: Any) -> None:
    result = metric.compute(predictions=[0] * 10, references=[0] * 9 + [1])
    assert result["macro_f1"] == pytest.approx((18 / 19 + 0) / 2)


def test_batches_add_up(metric: Any) -> None:
    predictions, references = draw(2)
    whole = metric.compute(predictions=predictions, references=references)
    for start in range(0, len(predictions), 7):
        part = slice(start, start + 7)
        metric.add_batch(predictions=predictions[part], references=references[part])
    assert metric.compute() == whole


def test_no_labeled_row_is_an_error(metric: Any) -> None:
    with pytest.raises(ValueError, match="2 rows, none of them labeled"):
        metric.compute(predictions=[0, 1], references=[-100, -100])


@pytest.mark.parametrize(
    ("predictions", "references", "num_classes", "named"),
    [
        ([0, -1], [0, 1], None, "-1.0"),
        ([0, 5], [0, 1], 3, "5.0"),
        ([0], [-7], 3, "-7.0"),
        ([0.25, 0.75], [0, 1], None, "0.25, 0.75"),
        ([0, float("nan")], [0, 1], None, "nan"),
    ],
)
def test_what_is_no_class_index_is_an_error(
    metric: Any, predictions: list[float], references: list[int], num_classes: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=rf"got \[{named}\] in labeled rows"):
        metric.compute(predictions=predictions, references=references, num_classes=num_classes)


def test_an_out_of_range_prediction_in_an_unlabeled_row_is_left_out(metric: Any) -> None:
    assert metric.compute(predictions=[0, 9], references=[0, -100], num_classes=1) == {"macro_f1": 1.0}


def test_loads_without_touching_the_network(tmp_path: Path) -> None:
    """A fresh process and home, in which every look-up or connection raises and is recorded."""
    script = """
import socket, sys
attempts = []
def refuse(*arguments, **options):
    attempts.append(arguments)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import evaluate
metric = evaluate.load(sys.argv[1])
assert metric.compute(predictions=[0, 1], references=[0, 1]) == {"macro_f1": 1.0}
assert not attempts, attempts
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    subprocess.run(
        [sys.executable, "-c", script, str(METRIC)],
        env=kept | {"HF_HOME": str(tmp_path)},
        check=True,
        timeout=120,
    )
