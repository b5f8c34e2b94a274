"""The report: a page that nothing in the data can break, and the same numbers as JSON."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmorient.report.examples import MAX_THUMBNAILS
from mmorient.report.report import RunReport, ScoredSplit, write_report
from mmorient.tables.records import Record
from tests.mmorient.conftest import draw
from tests.mmorient.predictions_samples import Predictions, multi_label, single_label

VOID = {"meta", "img", "path", "use", "rect", "wbr"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """The tags of a page, its visible text, and whether all tags are closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _rows(count: int, **values: Any) -> list[Record]:
    return [Record(**{"row": str(index + 2), "text": f"text {index}", **values}) for index in range(count)]


def _split(
    *predictions: Predictions,
    name: str = "validation",
    rows: Sequence[Record] | None = None,
    **options: Any,
) -> ScoredSplit:
    count = len(predictions[0].known)
    options.setdefault("scores", {})
    return ScoredSplit(name, {p.spec.name: p for p in predictions}, rows or _rows(count), **options)


def _written(folder: Path, run: RunReport) -> tuple[Page, dict[str, Any], str]:
    write_report(folder, run)
    content = (folder / "index.html").read_text(encoding="utf-8")
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    return Page(content), numbers, content


HISTORY = [
    {"loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0, "epoch": 0.5, "image_graph_mean_degree": 16.0},
    {"loss": 1.0, "learning_rate": 5e-4, "grad_norm": 1.0, "epoch": 1.0, "image_graph_isolated_share": 0.0},
    {"eval_loss": 1.5, "eval_macro_f1": 0.3, "eval_macro_f1_a": 0.3, "epoch": 1.0},
]


@pytest.fixture
def run(folder: Path) -> RunReport:
    """A run of a single-label and a multi-label task with two splits and pictures."""
    rows = _rows(50, picture=str(folder / "images" / "a.png"))
    scores = {
        "a": {"macro_f1": 0.5, "macro_f1_interval": [0.4, 0.6], "majority_macro_f1": 0.2, "rows": 50},
        "m": {"macro_f1": 0.25, "macro_f1_interval": [0.1, 0.4], "majority_macro_f1": 0.2, "rows": 50},
    }
    mean = {"macro_f1": 0.375, "majority_macro_f1": 0.2, "own_score": float("nan")}
    options: dict[str, Any] = {"rows": rows, "scores": scores, "mean": mean}
    return RunReport(
        "A run",
        [
            _split(single_label(), multi_label(), note="Fitted on `these` rows.", table="val.csv", **options),
            _split(single_label(seed=1), multi_label(seed=1), name="test", **options),
        ],
        recipe={"tasks": {"a": ["no", "yes"]}, "learning_rate": 3e-05, "text": None},
        history=HISTORY,
        degrees={"image": np.array([0, 3, 3]), "text": np.array([0, 0, 0])},
        duration=3725.0,
        versions={"torch": "2.6"},
        notes=["Mind `this`."],
    )


def test_the_page_asks_for_nothing_and_runs_nothing(tmp_path: Path, run: RunReport) -> None:
    page, _, content = _written(tmp_path / "report", run)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value is not None and re.match(r"#|data:image/jpeg;base64,|report\.json$", value)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", content))
    assert "@import" not in content and "://" not in content
    assert "default-src 'none'" in content


def test_every_link_has_a_target_and_every_id_is_used_once(tmp_path: Path, run: RunReport) -> None:
    page, _, _ = _written(tmp_path, run)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(entry["href"]) for entry in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path, run: RunReport) -> None:
    page, _, _ = _written(tmp_path, run)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(entry.get("scope") in ("row", "col") for entry in page.all("th"))
    assert page.all("img") and all(entry["alt"] for entry in page.all("img"))
    assert all(entry.get("aria-label") or entry.get("aria-hidden") for entry in page.all("svg"))


def test_page_and_json_hold_the_same_numbers(tmp_path: Path, run: RunReport) -> None:
    page, numbers, _ = _written(tmp_path, run)
    validation = numbers["splits"][0]
    assert validation["mean"] == {"macro_f1": 0.375, "majority_macro_f1": 0.2, "own_score": None}
    for words in ("0.500 0.400–0.600", "0.375", "Own score", "Majority class", "Trained in 1 h 2 min"):
        assert words in page.text
    for task in ("a", "m"):
        values = validation["tasks"][task]
        assert f"calibration error {values['reliability']['error']:.3f}" in page.text
        for entry in values["classes"]:
            shown = f"{entry['precision']:.3f} {entry['recall']:.3f} {entry['f1']:.3f} {entry['rows']}"
            assert f"{entry['label']} {shown} {entry['answers']}" in page.text
        for example in (*values["examples"]["right"], *values["examples"]["wrong"]):
            assert f"row {example['row']} true" in page.text
    assert numbers["graphs"]["image"]["histogram"][0] == {"low": 0, "high": 0, "count": 1}
    assert numbers["curves"]["loss"] == [[0.5, 2.0], [1.0, 1.0]]
    assert "learning_rate 3e-05" in page.text
    assert (numbers["recipe"], numbers["duration_seconds"]) == (run.recipe, 3725.0)


def test_a_task_may_be_called_mean(tmp_path: Path) -> None:
    scores = {"mean": {"macro_f1": 0.25}, "other": {"macro_f1": 0.75}}
    page, numbers, _ = _written(
        tmp_path, RunReport("A run", [_split(single_label("mean"), scores=scores, mean={"macro_f1": 0.5})])
    )
    assert numbers["splits"][0]["scores"]["mean"] == {"macro_f1": 0.25}
    assert page.text.index("mean 0.250") < page.text.index("other 0.750") < page.text.index("mean 0.500")


def test_examples_are_drawn_from_the_first_split_alone(tmp_path: Path, run: RunReport) -> None:
    _, numbers, _ = _written(tmp_path, run)
    first, last = (split["tasks"]["a"]["examples"] for split in numbers["splits"])
    assert len(first["right"]) == len(first["wrong"]) == 6
    assert last == {"right": [], "wrong": []}


def test_the_same_run_gives_the_same_files(tmp_path: Path, run: RunReport) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, run)
    for name in ("index.html", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_in_the_data_becomes_markup(tmp_path: Path) -> None:
    predictions = single_label(name=f"task {HOSTILE}", labels=(f"x {HOSTILE}", "y"))
    rows = _rows(50, text=f"text {HOSTILE}", picture=f"/no/{HOSTILE}.png")
    split = _split(
        predictions,
        name=f"split {HOSTILE}",
        rows=rows,
        scores={HOSTILE: {HOSTILE: HOSTILE, "macro_f1": 0.5}},
        note=f"`{HOSTILE}`",
        table=HOSTILE,
    )
    history = [{"eval_loss": 1.0, f"eval_macro_f1_{predictions.spec.name}": 0.5, "loss": 1, "epoch": 1.0}]
    page, _, content = _written(
        tmp_path,
        RunReport(
            HOSTILE,
            [split],
            recipe={HOSTILE: HOSTILE},
            versions={HOSTILE: HOSTILE},
            notes=[HOSTILE, f"`{HOSTILE}"],
            history=history,
            degrees={HOSTILE: np.array([1, 2])},
        ),
    )
    assert "<script" not in content and not page.all("img")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert f"text {HOSTILE}" in page.text and "picture cannot be read" in page.text


def test_texts_in_any_script_stay_in_their_place(tmp_path: Path) -> None:
    texts = ["مرحبا بالعالم", "👩‍👩‍👧‍👦🎉", "\u202eevil", "a" * 5000, "half a character \ud83d", "\x00\x1b"]
    rows = [Record(str(index), None, texts[index % len(texts)]) for index in range(50)]
    page, _, _ = _written(tmp_path, RunReport("A run", [_split(single_label(), rows=rows)]))
    quotes = [entry for entry in page.all("p") if entry.get("class") == "quote"]
    assert quotes and all(entry["dir"] == "auto" for entry in quotes)
    assert "a" * 300 not in page.text


def test_a_report_of_nearly_nothing(tmp_path: Path) -> None:
    """One row, a task without a label, no history, no graph."""
    known, unknown = single_label(rows=1), single_label(name="b", rows=1, unknown=1)
    page, numbers, _ = _written(tmp_path, RunReport("A run", [_split(known, unknown)]))
    assert "Nothing was logged during the training." in page.text
    assert "no relation graphs" in page.text and "No row is labelled." in page.text
    assert any(note.startswith("validation, task b: no row is labelled") for note in numbers["notes"])
    assert numbers["splits"][0]["tasks"]["b"]["confusion"] == [[0] * 3] * 3
    _written(tmp_path, RunReport("No split", []))


def test_a_run_without_evaluation_says_so(tmp_path: Path, run: RunReport) -> None:
    page, _, _ = _written(tmp_path, replace(run, history=HISTORY[:2]))
    assert "not evaluated during the training" in page.text


def test_many_classes_labels_and_tasks_stay_bounded(tmp_path: Path, folder: Path) -> None:
    draw(1, size=400).save(folder / "images" / "large.png")
    rows = _rows(100, picture=str(folder / "images" / "large.png"))
    classes = tuple(f"class {index} with quite a long name" for index in range(30))
    tasks = [
        single_label("many", classes, rows=100),
        multi_label("labels", classes, rows=100),
        *(single_label(f"task {index}", rows=100) for index in range(28)),
    ]
    history = [{f"eval_macro_f1_{task.spec.name}": 0.1, "eval_macro_f1": 0.1, "epoch": 1} for task in tasks]
    page, _, content = _written(tmp_path, RunReport("A run", [_split(*tasks, rows=rows)], history=history))
    assert 0 < len(page.all("img")) <= MAX_THUMBNAILS
    assert len(content) < 3_000_000
    legend = [entry for entry in page.all("svg") if entry.get("aria-hidden")]
    assert len(legend) == 30 + 6  # every task once, and their mean in each of six charts


def test_predictions_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="validation split has 3 rows, and predictions of task 'a' for 50"):
        _split(single_label(), rows=_rows(3))


def test_what_is_there_is_replaced_and_nothing_else_is_left(tmp_path: Path, run: RunReport) -> None:
    (tmp_path / "index.html").write_text("before")
    write_report(tmp_path, run)
    assert "before" not in (tmp_path / "index.html").read_text()
    assert {path.name for path in tmp_path.iterdir() if path.is_file() and "png" not in path.name} == {
        "index.html",
        "report.json",
    }
