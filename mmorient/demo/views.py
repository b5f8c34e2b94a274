"""What the demo shows, as HTML. Names, labels and texts come from models and visitors, and are escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

import mmorient.explanation
import mmorient.report
from mmorient.demo.visits import Answered, Taught, Visit
from mmorient.explanation.heat import image_uri, legend_gradient
from mmorient.explanation.views import (
    FILTERS,
    graph_view,
    image_view,
    label_list,
    task_view,
    words_view,
)
from mmorient.report.environment import page_environment

TEMPLATE = Path(__file__).resolve().parent / "template"
REPORT = Path(mmorient.report.__file__).resolve().parent / "template"
EXPLANATION = Path(mmorient.explanation.__file__).resolve().parent / "template"
# For Gradio's own elements: the table of examples stays within its column.
GRADIO = "#examples table { table-layout: fixed; width: 100%; } #examples th:first-child { width: 7rem; }"
# Of a taught picture, in pixels.
THUMBNAIL_SIZE = 200


def style() -> str:
    """The pages' style, for everything inside an element of the class `mmorient`."""
    rules = "".join(
        path.read_text(encoding="utf-8")
        for path in (REPORT / "style.css", EXPLANATION / "explanation.css", TEMPLATE / "demo.css")
    )
    return f"<style>.mmorient {{ {rules.replace(':root', '&')} }} {GRADIO}</style>"


def show_empty(specs: Mapping[str, Any]) -> str:
    """What is shown before there are any answers."""
    return _render("empty.html.j2", tasks=list(specs.values()))


def show_problem(message: str) -> str:
    """What cannot be done, and why."""
    return _render("problem.html.j2", message=message)


def show_answers(answered: Answered, specs: Mapping[str, Any]) -> str:
    """A meme's answers: bars by task, with thresholds where there are any."""
    return _render("answers.html.j2", tasks=_tasks(answered, specs))


def show_why(answered: Answered, specs: Mapping[str, Any], visit: Visit, image_processor: Any) -> str:
    """The attention, the neighbours with their votes, and what each part of the model contributed."""
    explanation = answered.explanation

    def shown(neighbor: Mapping[str, Any]) -> dict[str, Any]:
        taught = visit.find(neighbor["id"])
        if taught is None:
            return {"thumbnail": None, "missing": "not shown", "text": None}
        return _taught_view(taught)

    return _render(
        "why.html.j2",
        picture=image_view(answered.picture, explanation["region_attention"], image_processor),
        words=words_view(explanation["words"], answered.text),
        text=answered.text,
        gradient=legend_gradient(),
        graphs=[graph_view(graph, explanation, shown) for graph in explanation["neighbors"]],
        tasks=_tasks(answered, specs),
    )


def show_taught(visit: Visit, before: Answered | None = None, after: Answered | None = None) -> str:
    """What a visitor taught, and what the latest reference changed."""
    changes = []
    if before is not None and after is not None:
        for task, labels in visit.taught[-1].labels.items():
            taught = _label_list(labels)
            sides = [_side(answered.answers[task], taught) for answered in (before, after)]
            changes.append({"task": task, "taught": taught, "before": sides[0], "after": sides[1]})
    return _render("taught.html.j2", changes=changes, taught=[_taught_view(one) for one in visit.taught])


def _side(answer: Mapping[str, Any], taught: Sequence[str]) -> dict[str, Any]:
    """One answer to a task, with how probable the taught labels are in it."""
    shares = [(score["label"], score["score"]) for score in answer["scores"] if score["label"] in taught]
    return {"decision": answer["labels"], "shares": shares}


def _tasks(answered: Answered, specs: Mapping[str, Any]) -> list[dict[str, Any]]:
    explained = answered.explanation["tasks"]
    return [
        {
            "task": task,
            "kind": specs[task].kind,
            **task_view(explained[task], answer["thresholds"]),
        }
        for task, answer in answered.answers.items()
    ]


def _taught_view(taught: Taught) -> dict[str, Any]:
    thumbnail = None
    if taught.picture is not None:
        small = taught.picture.copy()
        small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        thumbnail = image_uri(small)
    return {
        "id": taught.id,
        "thumbnail": thumbnail,
        "missing": None if thumbnail else "no picture",
        "text": taught.text or "",
        "labels": {task: _label_list(labels) for task, labels in taught.labels.items()},
    }


def _label_list(labels: Any) -> list[str]:
    return [f"{labels:.6g}"] if isinstance(labels, int | float) else label_list(labels)


def _render(template: str, **values: Any) -> Markup:
    environment = page_environment([TEMPLATE, EXPLANATION, REPORT], FILTERS)
    return Markup(environment.get_template(template).render(**values))
