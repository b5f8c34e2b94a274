"""Pages of explanations: one for each meme, and one that lists them. They open without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmorient.explanation.heat import legend_gradient
from mmorient.explanation.rows import SplitRows
from mmorient.explanation.views import FILTERS, answer_view, graph_view, image_view, task_view, words_view
from mmorient.report.environment import page_environment
from mmorient.report.examples import show_row
from mmorient.report.page import TEMPLATE as REPORT_TEMPLATE
from mmorient.tables.records import Record
from modeling_mmorient.explanation import Explanation, TaskExplanation
from modeling_mmorient.image_input import load_image
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec

TEMPLATE = Path(__file__).resolve().parent / "template"


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
        references: The rows that neighbours are looked up in; None: neighbours are shown by their ids alone.
        image_processor: The model's; None if it takes no pictures.
        before, after: File names of the pages beside this one.

    Raises:
        ValueError: If the picture cannot be read.
    """
    explanation, record = asdict(page.explanation), page.record
    picture = None if record.image is None else load_image(record.image)
    graphs = [
        graph_view(graph, explanation, lambda neighbor: _shown_reference(neighbor, references))
        for graph in explanation["neighbors"]
    ]
    return _render(
        "meme.html.j2",
        page=page,
        before=before,
        after=after,
        picture=image_view(picture, explanation["region_attention"], image_processor),
        words=words_view(explanation["words"], record.text),
        tasks=[_task_view(task, page) for task in page.explanation.tasks.values()],
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
        entries: From [`index_entry`].
    """
    return _render("memes.html.j2", title=title, entries=entries)


def _render(template: str, **values: Any) -> str:
    environment = page_environment([TEMPLATE, REPORT_TEMPLATE], FILTERS)
    return environment.get_template(template).render(**values)


def _answer_view(task: TaskExplanation, page: MemePage) -> dict[str, Any]:
    spec = page.specs[task.task]
    # In a multi-label task each label has its own probability.
    one = kind_of(spec).has_probabilities and not spec.several
    probability = task.probabilities[task.decision[0]] if one else None
    return answer_view(asdict(task), probability, page.truth.get(task.task))


def _task_view(task: TaskExplanation, page: MemePage) -> dict[str, Any]:
    spec, truth = page.specs[task.task], page.truth.get(task.task) or []
    limits = dict(zip(kind_of(spec).threshold_labels(spec.labels), spec.thresholds or (), strict=False))
    return {**_answer_view(task, page), "kind": spec.kind, **task_view(asdict(task), limits, truth)}


def _shown_reference(neighbor: Mapping[str, Any], references: SplitRows | None) -> dict[str, Any]:
    """A neighbour as a page shows it, from the row that it came from."""
    record = None if references is None else references.find(neighbor["id"])
    if references is None or record is None:
        missing = "not looked up" if references is None else "not in the table"
        return {"thumbnail": None, "missing": missing, "text": None}
    if references.is_other(record, neighbor["labels"]):
        return {"thumbnail": None, "missing": "the table's row of this name has other labels", "text": None}
    return show_row(record)
