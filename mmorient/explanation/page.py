"""Pages of explanations: one for each meme, and one that lists them. They open without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmorient.explanation.heat import (
    describe_heat,
    draw_heat,
    heat,
    legend_gradient,
    picture_uri,
    scaled,
    seen_picture,
)
from mmorient.explanation.rows import SplitRows, neighbor_labels
from mmorient.report.environment import page_environment
from mmorient.report.examples import show_row
from mmorient.report.page import MODALITIES
from mmorient.report.page import TEMPLATE as REPORT_TEMPLATE
from mmorient.tables.records import Record
from modeling_mmorient.explanation import Explanation, NeighborExplanation, TaskExplanation
from modeling_mmorient.image_input import load_picture
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec

TEMPLATE = Path(__file__).resolve().parent / "template"
# A task with more labels shows the most probable ones; a table below has all of them.
MAX_LABELS = 10
# Labels of a multi-label task whose contributions are drawn.
MAX_DRAWN = 3
# Neighbours of a graph that are seen at once, and that are shown at all.
FIRST_NEIGHBORS = 6
MAX_NEIGHBORS = 32
MAX_WORDS = 20


@dataclass(frozen=True)
class MemePage:
    """What one page is made of.

    Args:
        file: Its name.
        title: What a person calls the meme.
        record: The meme.
        truth: By task, the labels that it has; tasks that it is not labelled for are left out.
        explanation: Of the model's answers to it.
        specs: The model's tasks.
    """

    file: str
    title: str
    record: Record
    truth: Mapping[str, Sequence[str]]
    explanation: Explanation
    specs: Mapping[str, TaskSpec]


def render_meme(
    page: MemePage, references: SplitRows | None, image_processor: Any, before: str | None, after: str | None
) -> str:
    """The page of one meme.

    Args:
        page: The meme and its explanation.
        references: Where neighbours are looked up to show them; None: they are shown by their ids alone.
        image_processor: The model's; None if it takes no pictures.
        before, after: File names of the pages beside this one.

    Raises:
        ValueError: If the picture cannot be read.
    """
    explanation = page.explanation
    tasks = [_task_view(task, page) for task in explanation.tasks.values()]
    graphs = [
        _graph_view(graph, neighbors, explanation, references)
        for graph, neighbors in explanation.neighbors.items()
    ]
    return _render(
        "meme.html.j2",
        page=page,
        before=before,
        after=after,
        picture=_picture_view(page, image_processor),
        words=_words_view(page),
        tasks=tasks,
        graphs=graphs,
        looked_up=references is not None,
        gradient=legend_gradient(),
    )


def index_entry(page: MemePage) -> dict[str, Any]:
    """What the list of all pages shows of one."""
    answers = [_answer_view(task, page) for task in page.explanation.tasks.values()]
    shown = show_row(replace(page.record, row=page.title))
    return {**shown, "file": page.file, "answers": answers}


def render_index(title: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The page that lists all others.

    Args:
        title: Its heading.
        entries: Of [`index_entry`].
    """
    return _render("memes.html.j2", title=title, entries=entries)


def _render(template: str, **values: Any) -> str:
    environment = page_environment(
        [TEMPLATE, REPORT_TEMPLATE], {"share": _share, "signed": _signed, "ends": _ends}
    )
    return environment.get_template(template).render(**values)


def _picture_view(page: MemePage, image_processor: Any) -> dict[str, Any] | None:
    if page.record.image is None:
        return None
    picture = load_picture(page.record.image)
    view = {"plain": picture_uri(scaled(picture)), "heat": None}
    attention = page.explanation.region_attention
    if attention is None:
        return view
    found = heat(attention)
    drawn = draw_heat(scaled(seen_picture(image_processor, picture)), found.levels)
    grid = f"{len(attention)} × {len(attention[0])}"
    return {
        **view,
        "heat": picture_uri(drawn),
        "where": describe_heat(attention),
        "scale": found,
        "grid": grid,
    }


def _words_view(page: MemePage) -> dict[str, Any] | None:
    words = page.explanation.words
    if not words:
        return None
    found = heat([weight for _, weight in words])
    read = " ".join(word for word, _ in words)
    text = " ".join((page.record.text or "").split())
    by_weight = sorted(words, key=lambda entry: -entry[1])
    return {
        "words": [(word, weight, level) for (word, weight), level in zip(words, found.levels, strict=True)],
        "scale": found,
        "heaviest": by_weight[:MAX_WORDS],
        "given": text if text.casefold() != read.casefold() else None,
    }


def _answer_view(task: TaskExplanation, page: MemePage) -> dict[str, Any]:
    """The answer, how probable it is, and what is true."""
    truth = page.truth.get(task.task)
    return {
        "task": task.task,
        "decision": task.decision,
        # Of several labels each has its own.
        "probability": _probability(page.specs[task.task], task),
        "truth": truth,
        "right": None if truth is None or task.value is not None else set(truth) == set(task.decision),
        "interval": task.interval,
    }


def _probability(spec: TaskSpec, task: TaskExplanation) -> float | None:
    """Of the answer; None where each of several labels has its own, or there is none."""
    one = kind_of(spec).has_probabilities and not kind_of(spec).label_shape(spec)
    return task.probabilities[task.decision[0]] if one else None


def _task_view(task: TaskExplanation, page: MemePage) -> dict[str, Any]:
    spec, truth = page.specs[task.task], page.truth.get(task.task) or []
    by_probability = sorted(task.probabilities, key=lambda label: -task.probabilities[label])
    shown = {*by_probability[:MAX_LABELS], *task.decision, *truth}
    limits = dict(zip(kind_of(spec).threshold_labels(spec.labels), spec.thresholds or (), strict=False))
    drawn = [label for label in by_probability if label in task.decision][:MAX_DRAWN] or by_probability[:1]
    if task.value is not None:
        drawn = list(kind_of(spec).columns(spec))
    values = [abs(by_label[label]) for by_label in task.contributions.values() for label in drawn]
    return {
        **_answer_view(task, page),
        "kind": spec.kind,
        "value": task.value,
        "labels": [
            {
                "label": label,
                "probability": probability,
                "decided": label in task.decision,
                "true": label in truth,
                "threshold": limits.get(label),
            }
            for label, probability in task.probabilities.items()
            if label in shown
        ],
        "left_out": len(task.probabilities.keys() - shown),
        "drawn": [
            {
                "label": label,
                "branches": [(name, by_label[label]) for name, by_label in task.contributions.items()],
            }
            for label in drawn
        ],
        "largest": max(values, default=0) or 1,
        "probabilities": task.probabilities,
        "contributions": task.contributions,
    }


def _graph_view(
    graph: str,
    neighbors: Sequence[NeighborExplanation],
    explanation: Explanation,
    references: SplitRows | None,
) -> dict[str, Any]:
    shown = [_neighbor_view(neighbor, explanation, references) for neighbor in neighbors[:MAX_NEIGHBORS]]
    votes = {
        name: _votes_view(task.votes[graph])
        for name, task in explanation.tasks.items()
        if graph in task.votes
    }
    return {
        "graph": graph,
        "title": MODALITIES.get(graph, graph),
        "number": len(neighbors),
        "first": shown[:FIRST_NEIGHBORS],
        "more": shown[FIRST_NEIGHBORS:],
        "left_out": neighbors[MAX_NEIGHBORS:],
        "votes": votes,
    }


def _votes_view(added: Mapping[str, float]) -> dict[str, Any]:
    largest = sorted(added.items(), key=lambda entry: -abs(entry[1]))[:MAX_LABELS]
    return {
        "labels": sorted(largest, key=lambda entry: -entry[1]),
        "left_out": len(added) - len(largest),
    }


def _neighbor_view(
    neighbor: NeighborExplanation, explanation: Explanation, references: SplitRows | None
) -> dict[str, Any]:
    record = None if references is None else references.find(neighbor.id)
    row: dict[str, Any]
    if references is None or record is None:
        missing = "not looked up" if references is None else "not in the table"
        row = {"thumbnail": None, "missing": missing, "text": None}
    elif references.is_other(record, neighbor):
        row = {"thumbnail": None, "missing": "the table's row of this name has other labels", "text": None}
    else:
        row = show_row(record)
    tasks = [
        {
            "task": task,
            "labels": neighbor_labels(neighbor, task),
            "same": set(neighbor_labels(neighbor, task)) == set(explanation.tasks[task].decision),
            "vote": neighbor.vote_weights.get(task),
        }
        for task in neighbor.labels
    ]
    return {**row, "neighbor": neighbor, "tasks": tasks}


def _share(value: float) -> str:
    return f"{value:.1%}"


def _ends(interval: tuple[float, float]) -> str:
    return "{:.4g} to {:.4g}".format(*interval)


def _signed(value: float) -> str:
    """A number with its sign, a minus as wide as a plus; what rounds to nothing has no minus."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
