"""Visitors ask one model; what one of them teaches, nobody else meets."""

import base64
import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from mmorient.demo import visits
from mmorient.demo.views import show_answers, show_taught, show_why
from mmorient.demo.visits import Meme, SharedModel, Visit
from tests.mmorient.predicting import save_model
from tests.mmorient.report.test_report import Page
from tests.mmorient.serving.published import image, publish

LABELS = {"mood": "good"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture
def model(folder: Path) -> SharedModel:
    return SharedModel(pipeline("image-classification", model=str(folder), trust_remote_code=True))


@pytest.fixture
def meme(tmp_path: Path) -> Meme:
    path = tmp_path / "a.png"
    path.write_bytes(base64.b64decode(image(7)))
    return Meme(path, "green cat")


def test_an_answer_is_the_pipelines(model: SharedModel, meme: Meme) -> None:
    found = model.answer(meme, Visit())
    expected = model.pipeline({"image": str(meme.image), "text": meme.text}, explain=True)
    assert found.answers == expected["answers"] and found.explanation == expected["explanation"]
    assert found.picture.size == (48, 40) and found.text == "green cat"
    alone = model.answer(Meme(None, " votes "), Visit())
    assert alone.picture is None and alone.answers == model.pipeline({"text": " votes "})["answers"]


def test_a_taught_meme_is_a_reference_of_its_visitor_alone(model: SharedModel, meme: Meme) -> None:
    visit, before = Visit(), model.answer(meme, Visit())
    number = len(model.model.references)
    taught = model.teach(meme, LABELS, visit)
    assert [one.id for one in taught.taught] == ["yours 1"] and taught.taught[0].labels == LABELS
    after = model.answer(meme, taught)
    assert after.answers != before.answers
    nearest = after.explanation["neighbors"]["image"][0]
    assert nearest["id"] == "yours 1" and nearest["labels"] == LABELS
    assert nearest["similarity"] == pytest.approx(1)
    # The others, and the same visitor who forgets, meet the model as it was, bit for bit.
    assert model.answer(meme, visit) == before and model.answer(meme, Visit()) == before
    assert len(model.model.references) == number == len(model.references)


def test_teaching_is_adding_a_reference(model: SharedModel, meme: Meme, folder: Path) -> None:
    other = pipeline("image-classification", model=str(folder), trust_remote_code=True)
    request = {"references": [{"id": "yours 1", **meme.row(), "labels": LABELS}]}
    inputs, ids, labels, _ = other.read_references(request)
    other.model.add_references(inputs, ids, labels)
    expected = other({"image": str(meme.image), "text": meme.text}, explain=True)
    found = model.answer(meme, model.teach(meme, LABELS, Visit()))
    assert found.answers == expected["answers"] and found.explanation == expected["explanation"]


def test_the_same_meme_taught_again_takes_its_place(model: SharedModel, meme: Meme) -> None:
    first = model.teach(meme, LABELS, Visit())
    both = model.teach(Meme(None, "votes"), {"mood": "bad"}, first)
    again = model.teach(meme, {"mood": "bad"}, both)
    assert [(one.id, one.labels["mood"]) for one in again.taught] == [("yours 2", "bad"), ("yours 1", "bad")]
    assert len(again.references) == len(both.references) == len(model.references) + 2
    # What a visit held before stays what it was.
    assert [one.labels for one in first.taught] == [LABELS]
    assert model.answer(meme, first).explanation["neighbors"]["image"][0]["labels"] == LABELS


def test_an_id_is_nobody_elses(model: SharedModel, meme: Meme) -> None:
    model.references = copy.copy(model.references)
    inputs, ids, labels, _ = model.pipeline.read_references({"references": [{"id": "yours 1", "text": "a"}]})
    model.references.add(ids, *model.model.reference_entries(inputs), labels)
    assert model.teach(meme, LABELS, Visit()).taught[0].id == "yours 2"


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (Meme(None, None), LABELS, "give a picture, a text, or both"),
        (Meme(None, "  \n"), LABELS, "give a picture, a text, or both"),
        (Meme(None, "a"), {}, "Choose a label of at least one task"),
        (Meme(None, "a"), {"mood": "x"}, r"`labels.mood` is 'x'; give a label among"),
        (Meme(None, "a"), {"x": "y"}, "`labels` has an unknown field 'x'"),
        (Meme(None, "a" * 100_001), LABELS, "characters"),
    ],
)
def test_what_cannot_be_taught_says_why(
    model: SharedModel, given: Meme, labels: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.teach(given, labels, Visit())


def test_a_broken_file_says_what_is_wrong(model: SharedModel, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    for act in (model.answer, lambda meme, visit: model.teach(meme, LABELS, visit)):
        with pytest.raises(ValueError, match="`image`: cannot read a picture"):
            act(Meme(path, None), Visit())


def test_a_visit_has_a_limit(model: SharedModel, meme: Meme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MOST_TAUGHT", 1)
    visit = model.teach(meme, LABELS, Visit())
    with pytest.raises(ValueError, match="can teach 1 memes"):
        model.teach(Meme(None, "votes"), LABELS, visit)
    assert model.teach(meme, {"mood": "bad"}, visit).taught[0].labels == {"mood": "bad"}


def test_visitors_at_the_same_time_meet_their_own_references(model: SharedModel, meme: Meme) -> None:
    visited = [Visit(), *(model.teach(meme, {"mood": mood}, Visit()) for mood in ("good", "bad"))]
    expected = [model.answer(meme, visit) for visit in visited]
    assert expected[0] != expected[1] != expected[2]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: model.answer(meme, visited[number % 3]), range(60)))
    for number, answered in enumerate(found):
        assert answered.answers == expected[number % 3].answers
        assert answered.explanation == expected[number % 3].explanation


def test_an_error_leaves_the_model_as_it_was(
    model: SharedModel, meme: Meme, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, visit = model.answer(meme, Visit()), model.teach(meme, LABELS, Visit())
    with monkeypatch.context() as patched:
        patched.setattr(model.pipeline, "answer_request", lambda request: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.answer(meme, visit)
    assert model.answer(meme, Visit()) == before


def test_every_kind_of_task_is_answered_taught_and_shown(tmp_path: Path) -> None:
    tasks = {
        "mood": {"labels": ["bad", "good"], "kind": "ordinal"},
        "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
        "stars": {"kind": "regression", "range": [1, 5]},
    }
    folder = save_model(tmp_path / "model", tasks)
    model = SharedModel(pipeline("image-classification", model=str(folder), trust_remote_code=True))
    before = model.answer(Meme(None, "votes"), Visit())
    visit = model.teach(Meme(None, "votes"), {"mood": "good", "about": [], "stars": 4.5}, Visit())
    after = model.answer(Meme(None, "votes"), visit)
    known = after.explanation["neighbors"]["text"][0]["labels"]
    assert known == {"mood": "good", "about": [], "stars": "4.5"}
    shown = Page(show_taught(visit, before, after)).text
    assert "about , taught none" in shown and "stars , taught 4.5" in shown and "mood , taught good" in shown
    assert "stars regression" in Page(show_answers(after, model.specs)).text
    assert "yours 1" in Page(show_why(after, model.specs, visit, None)).text
    with pytest.raises(ValueError, match=r"`labels.stars` is 7"):
        model.teach(Meme(None, "votes"), {"stars": 7}, Visit())
