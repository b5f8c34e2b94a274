"""Examples: the surest rows, and pictures and texts of any kind."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmorient.report.examples import TEXT_LENGTH, Example, choose_examples, shorten, show_row, thumbnail
from mmorient.tables.records import Record
from modeling_mmorient.task_specs import TaskSpec
from tests.mmorient.predictions_samples import Predictions, multi_label, single_label


def test_the_surest_rows_of_each_class_come_first_and_classes_take_turns() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.3, 0.7], [0.6, 0.4], [0.99, 0.01]])
    labels = np.array([0, 0, 0, 1, 1, -100])
    predictions = Predictions(
        TaskSpec("a", ("no", "yes")), probabilities, probabilities.argmax(-1), labels, labels != -100
    )
    chosen = choose_examples(predictions, 3)
    assert [example.index for example in chosen["right"]] == [2, 3, 0]
    assert chosen["wrong"] == [Example(4, ["yes"], ["no"], 0.6)]


def test_choice_is_the_same_every_time_and_equal_rows_come_in_order() -> None:
    predictions = single_label(rows=200)
    assert choose_examples(predictions, 6) == choose_examples(predictions, 6)
    same = Predictions(
        TaskSpec("a", ("no", "yes")),
        np.full((4, 2), 0.5),
        np.zeros(4, dtype=int),
        np.zeros(4, dtype=int),
        np.ones(4, dtype=bool),
    )
    assert [example.index for example in choose_examples(same, 3)["right"]] == [0, 1, 2]


def test_right_and_wrong_are_judged_by_the_decision() -> None:
    predictions = single_label(rows=100, unknown=10)
    chosen = choose_examples(predictions, 1000)
    right = {example.index for example in chosen["right"]}
    wrong = {example.index for example in chosen["wrong"]}
    assert right == {i for i in range(10, 100) if predictions.decisions[i] == predictions.labels[i]}
    assert wrong == set(range(10, 100)) - right


def test_a_multilabel_row_is_right_if_all_labels_are_and_shows_the_surest_mistake() -> None:
    probabilities = np.array([[0.9, 0.2], [0.6, 0.8], [0.1, 0.1]])
    labels = np.array([[1, 0], [0, 0], [0, 0]])
    predictions = Predictions(
        TaskSpec("m", ("cats", "dogs"), "multilabel"),
        probabilities,
        (probabilities > 0.5).astype(int),
        labels,
        np.ones(3, dtype=bool),
    )
    chosen = choose_examples(predictions, 5)
    assert [(example.index, example.answer) for example in chosen["right"]] == [(2, []), (0, ["cats"])]
    assert [example.probability for example in chosen["right"]] == pytest.approx([0.9, 0.8])
    assert chosen["wrong"] == [Example(1, [], ["cats", "dogs"], 0.8)]


@pytest.mark.parametrize("sample", [single_label, multi_label])
def test_without_a_labelled_row_there_is_no_example(sample) -> None:
    assert choose_examples(sample(unknown=50), 3) == {"right": [], "wrong": []}


def _opened(uri: str) -> Image.Image:
    head, content = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def test_pictures_of_any_kind_become_small_rgb_pictures() -> None:
    frames = [Image.new("P", (300, 200), color) for color in (1, 2)]
    for content in (
        _file(Image.new("CMYK", (300, 200)), "JPEG"),
        _file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        _file(Image.new("RGBA", (300, 200)), "PNG"),
        _file(Image.new("I;16", (300, 200)), "PNG"),
        _file(Image.new("1", (3000, 2000)), "PNG"),
    ):
        uri = thumbnail(content)
        assert uri is not None
        picture = _opened(uri)
        assert picture.mode == "RGB" and picture.size == (160, 107)
    strip = thumbnail(_file(Image.new("L", (9000, 1)), "PNG"))
    assert strip is not None and max(_opened(strip).size) == 160


def test_what_is_no_picture_becomes_none(tmp_path: Path) -> None:
    whole = _file(Image.effect_noise((300, 200), 50), "JPEG")
    bomb = _file(Image.new("1", (20000, 20000)), "PNG")
    for value in (
        whole[:500],
        b"",
        b"text",
        str(tmp_path / "no such file"),
        str(tmp_path),
        bomb,
        3,
        "http://x/y",
    ):
        assert thumbnail(value) is None


def test_a_row_says_why_it_shows_no_picture() -> None:
    assert show_row(Record("2")) == {
        "row": "2",
        "thumbnail": None,
        "missing": "no picture",
        "text": "",
    }
    assert show_row(Record("2", b"text", "t"))["missing"] == "picture cannot be read"
    shown = show_row(Record("2", _file(Image.new("RGB", (5, 5)), "PNG"), "t"))
    assert shown["thumbnail"] and shown["missing"] is None


@pytest.mark.parametrize(
    "text",
    ["word " * 200, "x" * 1000, "a " + "x" * 1000, "👩‍👩‍👧‍👦" * 200, "مرحبا " * 200, "one\ntwo\t three"],
)
def test_texts_are_one_line_of_bounded_length(text: str) -> None:
    short = shorten(text)
    assert len(short) <= TEXT_LENGTH and "\n" not in short
    if len(text) > TEXT_LENGTH:
        assert short.endswith("…") and len(short) > TEXT_LENGTH // 2
    else:
        assert short == "one two three"


def test_texts_are_cut_between_words() -> None:
    assert shorten("word " * 200).removesuffix("…").split() == ["word"] * 55
