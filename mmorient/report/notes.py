"""What a reader of a report must see before its scores, as far as the numbers tell it themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

# Share of rows from which a graph says nothing about which rows are alike, as in the trainer's warning.
DEGENERATE = 0.99
GRAPH_NAMES = {"image": "picture", "text": "text"}


def derived_notes(numbers: Mapping[str, Any]) -> list[str]:
    """Notes about scores, classes, the loss and the graphs, from `mmorient.report.report.report_numbers`."""
    notes = []
    for split in numbers["splits"]:
        for task, values in split["tasks"].items():
            where = f"{split['name']}, task {task}"
            notes += [f"{where}: {note}" for note in _task_notes(values, split["scores"].get(task) or {})]
    return [*notes, *_curve_notes(numbers["curves"]), *_graph_notes(numbers["graphs"])]


def _task_notes(values: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
    if not values["rows"]:
        yield "no row is labelled, so there is no score."
        return
    if absent := [entry["label"] for entry in values["classes"] if not entry["rows"]]:
        yield f"no row has the class {_listed(absent)}: nothing is known about it."
    if silent := [entry["label"] for entry in values["classes"] if entry["rows"] and not entry["answers"]]:
        yield f"the model never answers {_listed(silent)}."
    if count := values["reliability"]["not_finite"]:
        yield f"{count} probabilities are not finite; they are missing in the reliability diagram."
    score, majority = scores.get("macro_f1"), scores.get("majority_macro_f1")
    low = (scores.get("macro_f1_interval") or [None])[0]
    if score is not None and majority is not None:
        if score <= majority:
            yield f"macro-F1 {score:.3f} is not above the majority class's {majority:.3f}."
        elif low is not None and low <= majority:
            yield (
                f"the interval of macro-F1 begins at {low:.3f} and so holds the majority class's "
                f"{majority:.3f}: on these rows the two cannot be told apart."
            )


def _curve_notes(curves: Mapping[str, Any]) -> Iterator[str]:
    for name, meaning in (("loss", "training loss"), ("eval_loss", "evaluation loss")):
        if lost := [epoch for epoch, value in curves.get(name, ()) if value is None]:
            yield f"The {meaning} was not finite at {len(lost)} logged step(s), first at epoch {lost[0]:.3g}."


def _graph_notes(graphs: Mapping[str, Any]) -> Iterator[str]:
    for modality, graph in graphs.items():
        name = f"The {GRAPH_NAMES.get(modality, modality)} graph"
        remedy = (
            "it does not tell which rows are alike. "
            f"Change `{modality}_threshold` or `{modality}_neighbors` in `model_options`."
        )
        if not graph["rows"]:
            yield f"{name} has no row: none has the modality."
        elif graph["isolated_share"] > DEGENERATE:
            yield f"{name} is empty: {graph['isolated_share']:.1%} of its rows have no neighbour; {remedy}"
        elif graph["rows"] > 2 and graph["mean_degree"] > DEGENERATE * (graph["rows"] - 1):
            yield f"{name} is complete: nearly every row is joined with every other; {remedy}"


def _listed(labels: list[str], shown: int = 5) -> str:
    more = f" and {len(labels) - shown} more" if len(labels) > shown else ""
    return ", ".join(repr(label) for label in labels[:shown]) + more
