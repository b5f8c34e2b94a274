"""What the templates show of an explanation, in the form that JSON holds (`asdict` of an `Explanation`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from mmorient.explanation.heat import describe_heat, draw_heat, heat, image_uri, scaled, seen_image
from mmorient.report.environment import GRAPHS

# A task with more labels shows only the most probable ones; a table below the chart has all.
MAX_LABELS = 10
# Labels of a multi-label task whose contributions are drawn.
MAX_DRAWN = 3
# Neighbours of a graph that are visible at first, and that are shown at all.
FIRST_NEIGHBORS = 6
MAX_NEIGHBORS = 32
MAX_WORDS = 20


def image_view(
    picture: Image.Image | None, attention: Sequence[Sequence[float]] | None, image_processor: Any
) -> dict[str, Any] | None:
    """A picture with the attention to its regions; None without a picture."""
    if picture is None:
        return None
    view = {"plain": image_uri(scaled(picture)), "heat": None}
    if attention is None:
        return view
    found = heat(attention)
    drawn = draw_heat(scaled(seen_image(image_processor, picture)), found.levels)
    grid = f"{len(attention)} × {len(attention[0])}"
    return {
        **view,
        "heat": image_uri(drawn),
        "where": describe_heat(attention),
        "scale": found,
        "grid": grid,
    }


def words_view(words: Sequence[Sequence[Any]] | None, text: str | None) -> dict[str, Any] | None:
    """Words with the attention to each; None where none are weighed.

    Args:
        words: Pairs of a word and its share.
        text: As it was given.
    """
    if not words:
        return None
    found = heat([weight for _, weight in words])
    read = " ".join(word for word, _ in words)
    given = " ".join((text or "").split())
    return {
        "words": [(word, weight, level) for (word, weight), level in zip(words, found.levels, strict=True)],
        "scale": found,
        "heaviest": sorted(words, key=lambda entry: -entry[1])[:MAX_WORDS],
        "given": given if given.casefold() != read.casefold() else None,
    }


def answer_view(
    task: Mapping[str, Any], probability: float | None, truth: Sequence[str] | None
) -> dict[str, Any]:
    """An answer, how probable it is, and what is true.

    Args:
        task: A `TaskExplanation`.
        probability: Of the answer; None where each of several labels has its own, or there is none.
        truth: The labels that the meme has; None: it is not labelled.
    """
    return {
        "task": task["task"],
        "decision": task["decision"],
        "probability": probability,
        "truth": truth,
        "right": None if truth is None or task["value"] is not None else set(truth) == set(task["decision"]),
        "interval": task["interval"],
    }


def task_view(
    task: Mapping[str, Any], thresholds: Mapping[str, float], truth: Sequence[str] = ()
) -> dict[str, Any]:
    """Probabilities of a task's labels, and what each branch and the votes add to them.

    Args:
        task: A `TaskExplanation`.
        thresholds: By label, the probability above which it holds.
        truth: The labels that the meme has.
    """
    likely, decision, contributions = task["probabilities"], task["decision"], task["contributions"]
    by_probability = sorted(likely, key=lambda label: -likely[label])
    shown = {*by_probability[:MAX_LABELS], *decision, *truth}
    drawn = [label for label in by_probability if label in decision][:MAX_DRAWN] or by_probability[:1]
    if task["value"] is not None:
        drawn = list(next(iter(contributions.values()), ()))
    values = [abs(by_label[label]) for by_label in contributions.values() for label in drawn]
    labels = [
        {
            "label": label,
            "probability": probability,
            "decided": label in decision,
            "true": label in truth,
            "threshold": thresholds.get(label),
        }
        for label, probability in likely.items()
        if label in shown
    ]
    branches = [
        {"label": label, "branches": [(name, by_label[label]) for name, by_label in contributions.items()]}
        for label in drawn
    ]
    return {
        **{name: task[name] for name in ("decision", "value", "interval", "probabilities", "contributions")},
        "labels": labels,
        "left_out": len(likely.keys() - shown),
        "drawn": branches,
        "largest": max(values, default=0) or 1,
    }


def graph_view(
    graph: str, explanation: Mapping[str, Any], show: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, Any]:
    """The neighbours of one graph.

    Args:
        graph: `image` or `text`.
        explanation: An `Explanation`.
        show: Gives what is shown of a neighbour beside its numbers: `thumbnail`, or `missing` (why there is
            none), and `text`.
    """
    neighbors, tasks = explanation["neighbors"][graph], explanation["tasks"]
    shown = [{**show(one), **_neighbor_view(one, tasks)} for one in neighbors[:MAX_NEIGHBORS]]
    return {
        "graph": graph,
        "title": GRAPHS.get(graph, graph),
        "number": len(neighbors),
        "first": shown[:FIRST_NEIGHBORS],
        "more": shown[FIRST_NEIGHBORS:],
        "left_out": neighbors[MAX_NEIGHBORS:],
        "votes": {
            name: _votes_view(task["votes"][graph]) for name, task in tasks.items() if graph in task["votes"]
        },
    }


def _votes_view(added: Mapping[str, float]) -> dict[str, Any]:
    largest = sorted(added.items(), key=lambda entry: -abs(entry[1]))[:MAX_LABELS]
    return {
        "labels": sorted(largest, key=lambda entry: -entry[1]),
        "left_out": len(added) - len(largest),
    }


def _neighbor_view(neighbor: Mapping[str, Any], tasks: Mapping[str, Any]) -> dict[str, Any]:
    known = {task: label_list(labels) for task, labels in neighbor["labels"].items()}
    return {
        "neighbor": neighbor,
        "tasks": [
            {
                "task": task,
                "labels": labels,
                "same": set(labels) == set(tasks[task]["decision"]),
                "vote": neighbor["vote_weights"].get(task),
            }
            for task, labels in known.items()
        ],
    }


def label_list(labels: str | Sequence[str]) -> list[str]:
    """What is known of a neighbour for one task, as a list of labels."""
    return [labels] if isinstance(labels, str) else list(labels)


def share(value: float) -> str:
    """A share in percent."""
    return f"{value:.1%}"


def ends(interval: Sequence[float]) -> str:
    """Both ends of an interval."""
    return "{:.4g} to {:.4g}".format(*interval)


def signed(value: float) -> str:
    """A number with its sign, a minus as wide as a plus; a number that rounds to zero has no minus."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


# Used by the macros in explanation.html.j2.
FILTERS = {"share": share, "signed": signed, "ends": ends}
