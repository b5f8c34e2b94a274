"""What a reader of a report must see before its scores, as far as the numbers tell it themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmorient.kinds.kinds import TOOLKIT_KINDS

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
    yield from TOOLKIT_KINDS[values["kind"]].notes(values, scores)


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
