"""Pages of explanations: nothing in the data can break them, and they say what the explanation holds."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmorient.explanation.page import MemePage, index_entry, render_index, render_meme
from mmorient.explanation.rows import SplitRows
from mmorient.explanation.views import FIRST_NEIGHBORS, MAX_LABELS, MAX_NEIGHBORS, MAX_WORDS
from mmorient.recipes.tasks import task_specs
from mmorient.tables.records import Record, Records
from modeling_mmorient.explanation import Explanation, NeighborExplanation, TaskExplanation
from modeling_mmorient.task_specs import TaskSpec
from tests.mmorient.explaining import BRANCHES, explanation, neighbor
from tests.mmorient.report.test_report import HOSTILE, Page

TASKS = {
    "mood": ["bad", "so-so", "good"],
    "about": {"labels": ["politics", "animals"], "kind": "multilabel", "thresholds": [0.3, 0.7]},
    "funny": {"labels": ["no", "yes"], "thresholds": [0.25]},
}
SPECS = task_specs(TASKS)
TEXT = "when the build is green"
TRUTH = {"mood": ["bad"], "about": ["animals"]}


@pytest.fixture
def meme(folder: Path) -> Record:
    return Record("7", str(folder / "images" / "a.png"), TEXT)


@pytest.fixture
def references(read: Callable[..., Records]) -> SplitRows:
    content = "image,text,mood\na.png,first reference,good\n,second reference,bad\nb.png,,\n"
    return SplitRows(read(content, tasks={"mood": ["bad", "so-so", "good"]}), SPECS)


def _page(
    meme: Record,
    found: Explanation | None = None,
    specs: dict[str, TaskSpec] = SPECS,
    references: SplitRows | None = None,
    truth: dict[str, list[str]] = TRUTH,
) -> Page:
    page = MemePage("m.html", "Row 7", meme, truth, explanation(specs) if found is None else found, specs)
    return Page(render_meme(page, references, None, "before.html", None))


def _styles(page: Page, part: str) -> list[str]:
    return [str(entry["style"]) for _, entry in page.tags if part in str(entry.get("style") or "")]


def _neighbors(count: int) -> list[NeighborExplanation]:
    return [neighbor(f"id {index}", 0.9 - index / 1000, count, mood="good") for index in range(count)]


def test_the_page_asks_for_nothing_and_runs_nothing(meme: Record, references: SplitRows) -> None:
    found = explanation(SPECS, neighbors={"image": [neighbor("2", mood="good")], "text": _neighbors(9)})
    page = MemePage("m.html", "Row 7", meme, TRUTH, found, SPECS)
    for content in (
        render_meme(page, references, None, "before.html", "after.html"),
        render_index("Answers", [index_entry(page)]),
    ):
        parsed = Page(content)
        assert not parsed.all("script") and not parsed.all("link") and not parsed.all("iframe")
        for _, attributes in parsed.tags:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("src", "href"):
                    assert value is not None
                    assert re.match(r"#|data:image/jpeg;base64,|(m|index|before|after)\.html$", value)
        assert "@import" not in content and "://" not in content and "url(" not in content
        assert "default-src 'none'" in content


def test_the_page_can_be_read_without_seeing_it(meme: Record, references: SplitRows) -> None:
    found = explanation(SPECS, neighbors={"image": [neighbor("2", mood="good")], "text": []})
    page = _page(meme, found, references=references)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(entry.get("scope") in ("row", "col") for entry in page.all("th"))
    assert len(page.all("img")) == 3 and all(entry["alt"] for entry in page.all("img"))
    assert any("most attention" in str(entry["alt"]) for entry in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(entry["href"]) for entry in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_answers_truth_and_probabilities_are_said(meme: Record) -> None:
    found = explanation(SPECS, mood=["so-so"], about=["animals"], funny=["yes"])
    page = _page(meme, found)
    assert "mood so-so" in page.text and "✗ true: bad" in page.text
    assert "about animals ✓ right" in page.text  # of several labels each has its own probability
    assert page.text.count("✓ right") == page.text.count("✗ true:") == 1  # the third has no label
    for task in found.tasks.values():
        for label, probability in task.probabilities.items():
            answer = " answer" if label in task.decision else ""
            true = " true" if label in TRUTH.get(task.task, []) else ""
            assert f"{label}{answer}{true} {probability:.1%}" in page.text
    for limit in ("30.0%", "70.0%", "25.0%"):
        assert page.text.count(f"above {limit}: yes") == 1


def test_every_part_is_drawn_for_the_answer_and_told_for_all_labels(meme: Record) -> None:
    found = explanation(SPECS, mood=["so-so"], about=[], funny=["yes"])
    page = _page(meme, found)
    for task in found.tasks.values():
        likely = max(task.probabilities, key=lambda label: task.probabilities[label])
        shown = task.decision or [likely]
        for branch in BRANCHES:
            for label in shown:
                value = f"{task.contributions[branch][label]:+.2f}".replace("-", "−")
                assert f"{branch} {value}" in page.text
        for label, probability in task.probabilities.items():
            values = " ".join(f"{task.contributions[branch][label]:+.2f}" for branch in BRANCHES)
            assert f"{label} {probability:.1%} {values}".replace("-", "−") in page.text.replace(
                "so-so", "so−so"
            )


def test_bars_stay_in_their_tracks(meme: Record) -> None:
    widths = [
        float(found[1])
        for style in _styles(_page(meme), "width:")
        if (found := re.search(r"width:([\d.]+)%", style))
    ]
    lefts = [
        (float(found[1]), float(found[2]))
        for style in _styles(_page(meme), "left:")
        if (found := re.fullmatch(r"left:([\d.]+)%;width:([\d.]+)%", style))
    ]
    assert widths and all(0 <= width <= 100 for width in widths)
    assert lefts and all(left >= 0 and left + width <= 100.1 for left, width in lefts)
    # The largest of each task's bars fills its side.
    assert sum(width == 50 for _, width in lefts) == len(SPECS)


def test_a_value_that_rounds_to_nothing_has_no_sign_of_its_own(meme: Record) -> None:
    task = TaskExplanation(
        "mood",
        {"bad": 0.5, "so-so": 0.3, "good": 0.2},
        ["bad"],
        {"HIMA text": dict.fromkeys(SPECS["mood"].labels, -0.001)},
        {},
    )
    page = _page(meme, replace(explanation(SPECS), tasks={"mood": task}))
    assert "HIMA text +0.00" in page.text and "−0.00" not in page.text


def test_words_are_shaded_by_their_shares(meme: Record) -> None:
    words = [("when", 0.1), ("the", 0.1), ("build", 0.5), ("is", 0.1), ("green", 0.1)]
    page = _page(meme, replace(explanation(SPECS), words=words))
    assert _styles(page, "--level") == [
        f"--level:{level}" for level in ("0.00", "0.00", "1.00", "0.00", "0.00")
    ]
    assert "when the build is green" in page.text and "build 50.0%" in page.text
    assert "even share of 5 words" in page.text and "as it was given" not in page.text


def test_a_text_that_the_model_reads_otherwise_is_shown_both_ways(meme: Record) -> None:
    page = _page(meme, replace(explanation(SPECS), words=[("when", 0.5), ("the", 0.3)]))
    assert f"The text as it was given: {TEXT}" in page.text


def test_long_texts_list_the_heaviest_words(meme: Record) -> None:
    words = [(f"w{index}", index / 5000) for index in range(100)]
    page = _page(meme, replace(explanation(SPECS), words=words))
    assert f"The {MAX_WORDS} words with most attention" in page.text
    assert "w99 2.0%" in page.text and "w79 " not in page.text.split("with most attention")[1]


def test_what_is_missing_is_said(meme: Record, folder: Path) -> None:
    page = _page(replace(meme, picture=None), explanation(SPECS, picture=False))
    assert "The meme has no picture." in page.text and not page.all("img")
    page = _page(replace(meme, text=None), explanation(SPECS, text=None))
    assert "The meme has no text." in page.text and len(page.all("img")) == 2
    page = _page(meme, explanation(SPECS, picture=False))
    assert "no grid of regions" in page.text and len(page.all("img")) == 1
    page = _page(meme, replace(explanation(SPECS), words=None))
    assert TEXT in page.text and "The model weighs no words." in page.text
    page = _page(meme, replace(explanation(SPECS), neighbors={}))
    assert "The model has no references" in page.text
    assert _page(meme).text.count("None: no reference is similar enough") == 2


def test_neighbors_are_shown_as_far_as_the_table_knows_them(meme: Record, references: SplitRows) -> None:
    neighbors = {
        "image": [
            neighbor("2", 0.875, 4, mood="good"),
            neighbor("3", 0.75, 4, mood="bad"),
            neighbor("4", 0.5, 4),
            neighbor("99", 0.25, 4, mood="so-so", about=["politics", "animals"]),
        ],
        "text": [neighbor("2", 0.75, 1, mood="bad")],  # in the table it is good
    }
    found = explanation(SPECS, neighbors=neighbors, mood=["good"], about=[])
    page = _page(meme, found, references=references)
    assert "id 2 similarity 0.875 weight 20.0% mood good vote 25.0% first reference" in page.text
    assert "no picture id 3 similarity 0.750 weight 20.0% mood bad vote 25.0% second reference" in page.text
    assert "id 4 similarity 0.500 weight 20.0% no text" in page.text
    assert "not in the table id 99" in page.text and "about politics, animals vote 25.0%" in page.text
    assert "row of this name has other labels id 2 similarity 0.750" in page.text
    assert page.text.count("first reference") == 1
    assert len(page.all("img")) == 2 + 2
    assert len(page.all("strong")) == 1  # of the labels only `good` is the answer


def test_neighbors_without_a_table_are_shown_by_their_ids(meme: Record) -> None:
    page = _page(meme, explanation(SPECS, neighbors={"text": [neighbor("2", mood="good")]}))
    assert "not looked up id 2" in page.text and "--references names the recipe" in page.text


def test_votes_are_told_by_graph(meme: Record) -> None:
    found = explanation(SPECS)
    text = _page(meme, found).text.replace("−", "-")
    for graph in ("image", "text"):
        for name, task in found.tasks.items():
            by_value = sorted(task.votes[graph].items(), key=lambda entry: -entry[1])
            assert f"{name} : " + " , ".join(f"{label} {value:+.2f}" for label, value in by_value) in text


def test_a_model_without_votes_tells_none(meme: Record) -> None:
    found = explanation(SPECS, neighbors={"text": [NeighborExplanation("2", 0.5, 0.5, {}, {"mood": "bad"})]})
    tasks = {name: replace(task, votes={}) for name, task in found.tasks.items()}
    page = _page(meme, replace(found, tasks=tasks))
    assert "mood bad" in page.text and "vote " not in page.text.split("Text graph")[-1]
    assert "votes add" not in page.text


def test_many_neighbors_stay_bounded(meme: Record) -> None:
    page = _page(meme, explanation(SPECS, neighbors={"text": _neighbors(MAX_NEIGHBORS + 10)}))
    assert page.text.count("similarity 0.") == MAX_NEIGHBORS + 1
    assert f"{MAX_NEIGHBORS - FIRST_NEIGHBORS} more" in page.text
    weight = 10 / (MAX_NEIGHBORS + 11)
    assert f"10 others, with {weight:.1%} of the weight together, are not shown" in page.text
    assert f"the closest has similarity {0.9 - MAX_NEIGHBORS / 1000:.3f}" in page.text


def test_many_classes_show_the_probable_ones_and_a_table_of_all(meme: Record) -> None:
    labels = [f"class {index:02}" for index in range(40)]
    specs = task_specs({"many": labels, "labels": {"labels": labels, "kind": "multilabel"}})
    found = explanation(specs, labels=labels[:30])
    shares = found.tasks["many"].probabilities
    rarest = min(labels, key=lambda label: shares[label])
    page = _page(meme, found, specs, truth={"many": [rarest]})
    assert f"{rarest} true {shares[rarest]:.1%}" in page.text  # what is true is shown, however improbable
    assert f"{40 - MAX_LABELS - 1} less probable labels are in the table alone" in page.text
    assert page.text.count("class 29 answer") == 1
    assert all(page.text.count(f"{label} ") >= 2 for label in labels)
    assert page.text.count("Parts of the model, for") == 1 + 3
    assert page.text.count(f"; less to {40 - MAX_LABELS} others") == 2 * 2


def test_nothing_in_the_data_becomes_markup(folder: Path) -> None:
    specs: dict[str, Any] = task_specs({f"task {HOSTILE}": [f"x {HOSTILE}", "y"]})
    label = f"x {HOSTILE}"
    neighbors = {HOSTILE: [NeighborExplanation(HOSTILE, 0.5, 0.5, {}, {f"task {HOSTILE}": label})]}
    found = explanation(specs, text=HOSTILE, neighbors=neighbors)
    task = found.tasks[f"task {HOSTILE}"]
    hostile = replace(
        task,
        contributions={HOSTILE: dict.fromkeys(task.probabilities, 1.0)},
        votes={HOSTILE: dict.fromkeys(task.probabilities, 1.0)},
    )
    meme, truth = Record(HOSTILE, str(folder / "images" / "a.png"), f"text {HOSTILE}"), {task.task: [label]}
    page = MemePage("m.html", HOSTILE, meme, truth, replace(found, tasks={task.task: hostile}), specs)
    for content in (
        render_meme(page, None, None, None, None),
        render_index(HOSTILE, [index_entry(page)]),
    ):
        parsed = Page(content)
        assert "<script" not in content and "<img src=x" not in content
        assert all(not name.startswith("on") for _, attributes in parsed.tags for name in attributes)
        assert f"text {HOSTILE}" in parsed.text


def test_texts_in_any_script_stay_in_their_place(meme: Record) -> None:
    for text in ("مرحبا بالعالم", "\u202eevil", "half a character \ud83d", "\x00\x1b", "a" * 5000):
        found = explanation(SPECS, text=text)
        content = render_meme(
            MemePage("m.html", "Row 7", replace(meme, text=text), TRUTH, found, SPECS), None, None, None, None
        )
        content.encode("utf-8")
        page = Page(content)
        words = [entry for entry in page.all("p") if entry.get("class") == "words"]
        assert words and all(entry["dir"] == "auto" for entry in words)


def test_the_list_says_what_the_model_answered(meme: Record) -> None:
    found = explanation(SPECS, mood=["good"], about=[], funny=["no"])
    page = Page(
        render_index("Answers", [index_entry(MemePage("m.html", "Row 7", meme, TRUTH, found, SPECS))])
    )
    probability = found.tasks["mood"].probabilities["good"]
    assert f"mood ✗ good {probability:.1%}; true: bad" in page.text
    assert "about ✗ none ; true: animals" in page.text and "funny no" in page.text
    assert [entry["href"] for entry in page.all("a")] == ["m.html", "m.html"]
    assert TEXT in page.text and len(page.all("img")) == 1


def test_a_picture_that_cannot_be_read_is_an_error(meme: Record) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.png"):
        _page(replace(meme, picture="nowhere.png"))
