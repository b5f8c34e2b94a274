"""What the demo shows is well-formed, escaped, and says what the answer holds."""

from dataclasses import asdict
from typing import Any

import pytest
from PIL import Image

from mmorient.demo.views import show_answers, show_empty, show_problem, show_taught, show_why, style
from mmorient.demo.visits import Answered, Taught, Visit
from mmorient.recipes.tasks import task_specs
from modeling_mmorient.explanation import TaskExplanation
from tests.mmorient.explaining import explanation, neighbor
from tests.mmorient.report.test_report import HOSTILE, Page

SPECS: dict[str, Any] = task_specs(
    {
        "mood": ["bad", "so-so", "good"],
        "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
        "stars": {"kind": "regression"},
    }
)
PICTURE = Image.new("RGB", (60, 40), "teal")


def answered(
    specs: dict[str, Any] = SPECS, text: str = "green cat", neighbors: Any = None, **decisions: Any
) -> Answered:
    """An answer of made-up numbers."""
    labelled = {name: spec for name, spec in specs.items() if spec.labels}
    found = explanation(labelled, text=text, neighbors=neighbors, **decisions)
    for name in specs.keys() - labelled.keys():
        found.tasks[name] = TaskExplanation(name, {}, ["3.5"], {"HIMA text": {"value": 0.5}}, {}, 3.5, (1, 6))
    answers = {
        name: {
            "labels": task.decision,
            "scores": [{"label": label, "score": score} for label, score in task.probabilities.items()],
            "thresholds": {"politics": 0.25} if name == "about" else {},
            "value": task.value,
            "interval": task.interval,
        }
        for name, task in ((name, found.tasks[name]) for name in specs)
    }
    return Answered(PICTURE, text, answers, asdict(found))


def taught(**labels: Any) -> Visit:
    return Visit((Taught("yours 1", "key", PICTURE, "votes", labels),), object())


def test_answers_have_a_bar_for_each_label_and_their_limits() -> None:
    given = answered(mood=["good"], about=[])
    page = Page(show_answers(given, SPECS))
    assert len([tag for tag in page.all("i") if tag.get("class") == "value"]) == 5
    shares = given.explanation["tasks"]["mood"]["probabilities"]
    assert all(f"{label} " in page.text and f"{share:.1%}" in page.text for label, share in shares.items())
    assert "above 25.0%: yes" in page.text
    assert [tag["style"] for tag in page.all("i") if tag.get("class") == "base"] == ["left:25.0%"]
    assert "multilabel none Probability" in page.text
    assert "regression 3.5 Nine of ten true values lie within such an interval: 1 to 6" in page.text


def test_why_shows_heat_words_neighbours_and_parts() -> None:
    neighbors = {"image": [neighbor("yours 1", mood="good"), neighbor("17", mood="bad")], "text": []}
    given = answered(neighbors=neighbors, mood=["good"])
    page = Page(show_why(given, SPECS, taught(mood="good"), None))
    sources = [tag["src"] or "" for tag in page.all("img")]
    # The picture, its heat, and the taught one; of the model's own references there is no picture.
    assert len(sources) == 3 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "Picture graph 2 neighbours" in page.text and "Text graph 0 neighbours" in page.text
    assert "id 17" in page.text and "vote 100.0%" in page.text and "not shown" in page.text
    assert "green cat" in page.text and "HIMA text" in page.text


def test_without_references_it_says_so() -> None:
    given = answered()
    without = Answered(None, None, given.answers, {**given.explanation, "neighbors": {}, "words": None})
    text = Page(show_why(without, SPECS, Visit(), None)).text
    assert "The model has no references" in text
    assert "The meme has no picture." in text and "The meme has no text." in text


def test_what_was_taught_stands_beside_what_it_changed() -> None:
    before, after = answered(mood=["bad"], about=["animals"]), answered(mood=["good"], about=[])
    page = Page(show_taught(taught(mood="good", about=[], stars=4), before, after))
    share = before.answers["mood"]["scores"][2]["score"]
    assert f"mood , taught good : bad ( good {share:.1%}) → good ( good {share:.1%})" in page.text
    assert "about , taught none : animals → none" in page.text
    assert "stars , taught 4 : 3.5 → 3.5" in page.text
    assert "Taught in this visit 1" in page.text
    assert "Nothing was taught in this visit." in Page(show_taught(Visit())).text


def test_before_a_question_it_says_what_can_be_asked() -> None:
    text = Page(show_empty(SPECS)).text
    assert "mood : bad, so-so, good" in text and "stars" in text and "Answer" in text


@pytest.mark.parametrize("show", ["empty", "problem", "answers", "why", "taught"])
def test_nothing_in_names_and_texts_becomes_markup(show: str) -> None:
    specs: dict[str, Any] = task_specs({f"task {HOSTILE}": [f"x {HOSTILE}", "y"]})
    label, task = f"x {HOSTILE}", f"task {HOSTILE}"
    labels = {task: label}
    given = answered(specs, HOSTILE, {"image": [neighbor(HOSTILE, **labels)]}, **{task: [label]})
    visit = Visit((Taught(HOSTILE, "key", None, HOSTILE, labels),), object())
    content = {
        "empty": lambda: show_empty(specs),
        "problem": lambda: show_problem(HOSTILE),
        "answers": lambda: show_answers(given, specs),
        "why": lambda: show_why(given, specs, visit, None),
        "taught": lambda: show_taught(visit, given, given),
    }[show]()
    page = Page(content)
    assert "<script" not in content and "<img src=x" not in content and HOSTILE in page.text
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_style_is_for_the_demos_own_elements() -> None:
    rules = style()
    assert ":root" not in rules and rules.count("{") == rules.count("}")
    assert rules.startswith("<style>.mmorient {") and rules.count("<") == 2
