"""The command: rows and single memes become pages; what is wrong is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import mmorient.explanation.explain
from mmorient.commands.explain import main
from mmorient.commands.running import run
from mmorient.explanation.explain import BATCH_ROWS
from modeling_mmorient.explanation import Explanation
from tests.mmorient.explaining import explanation, neighbor
from tests.mmorient.predicting import TASKS, texts, write_rows
from tests.mmorient.report.test_report import Page


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str | None]]:
    """Pictures and texts that were explained, with made-up numbers."""
    seen: list[tuple[Any, str | None]] = []

    def explain(
        model: Any, processor: Any, images: Sequence[Any], texts: Sequence[str | None]
    ) -> list[Explanation]:
        assert 0 < len(images) == len(texts) <= BATCH_ROWS
        seen.extend(zip(images, texts, strict=True))
        neighbors = {"image": [neighbor("2")], "text": [neighbor("3"), neighbor("nobody")]}
        return [
            explanation(model.config.task_specs, text, image is not None, neighbors)
            for image, text in zip(images, texts, strict=True)
        ]

    monkeypatch.setattr(mmorient.explanation.explain, "explain", explain)
    return seen


@pytest.fixture
def recipe(folder: Path) -> Path:
    """Twenty training rows, and 20 validation rows of which the second has no picture."""
    for name, seed in (("train", 0), ("val", 1)):
        rows = [
            {
                "image": "" if index == 1 else f"{'abc'[index % 3]}.png",
                "text": f"{name} {text}",
                "mood": "good",
            }
            for index, text in enumerate(texts(20, seed))
        ]
        write_rows(folder / f"{name}.csv", rows)
    tasks = {"mood": {"labels": TASKS["mood"]}}
    values = {"train_file": "train.csv", "validation_file": "val.csv", "tasks": tasks}
    path = folder / "recipe.yaml"
    # Its three pictures are in every part.
    path.write_text(yaml.safe_dump({**values, "data_dir": str(folder), "allow": ["split_duplicates"]}))
    return path


def _page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_rows_become_pages_with_their_neighbors(
    saved_model: Path, recipe: Path, explained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output = recipe.parent / "out" / "pages"
    main([str(saved_model), str(output), str(recipe), "--rows", "0-17,19"])
    files = [f"validation-{index}.html" for index in (*range(18), 19)]
    assert {path.name for path in output.iterdir()} == {*files, "index.html"}
    assert f"19 page(s) and index.html: {output}" in capsys.readouterr().out
    expected = [f"val {text}" for text in texts(20, 1)]
    assert [text for _, text in explained] == [*expected[:18], expected[19]]
    assert explained[1][0] is None and Path(explained[0][0]).name == "a.png"
    page = _page(output / files[1])
    assert "Row 3, index 1 in validation" in page.text and "The meme has no picture." in page.text
    first, second = texts(20)[:2]
    assert f"train {first}" in page.text and f"train {second}" in page.text
    assert "not in the table id nobody" in page.text
    beside = {0: [files[1]], 1: [files[0], files[2]], 17: [files[16], files[18]], 18: [files[17]]}
    for index, others in beside.items():
        links = [entry["href"] for entry in _page(output / files[index]).all("a")]
        assert [link for link in links if link in files] == others and links[0] == "index.html"
    index = _page(output / "index.html")
    assert {entry["href"] for entry in index.all("a")} == set(files)


def test_other_parts_and_fields_of_the_recipe(
    saved_model: Path, recipe: Path, explained: list[Any], tmp_path: Path
) -> None:
    arguments = [str(saved_model), str(tmp_path / "out"), str(recipe), "--rows", "0", "--part", "training"]
    main([*arguments, "--", "--train_file", "val.csv", "--validation_file", "train.csv"])
    assert [text for _, text in explained] == [f"val {texts(20, 1)[0]}"]
    assert (tmp_path / "out" / "training-0.html").is_file()


def test_rows_of_their_own_are_the_references_where_the_recipe_has_them(
    saved_model: Path, recipe: Path, explained: list[Any], tmp_path: Path
) -> None:
    write_rows(recipe.parent / "bank.csv", [{"image": "", "text": "of the bank", "mood": "bad"}])
    fields = ["--", "--references_file", "bank.csv"]
    main([str(saved_model), str(tmp_path / "out"), str(recipe), "--rows", "0", *fields])
    assert "of the bank" in _page(tmp_path / "out" / "validation-0.html").text


def test_a_single_meme(saved_model: Path, recipe: Path, explained: list[Any], tmp_path: Path) -> None:
    picture = recipe.parent / "images" / "a.png"
    main([str(saved_model), str(tmp_path / "out"), "--image", str(picture), "--text", "the cat votes"])
    assert explained == [(str(picture), "the cat votes")]
    page = _page(tmp_path / "out" / "meme.html")
    assert "a.png" in page.text and "not looked up id 2" in page.text
    assert len(page.all("img")) == 2
    main([str(saved_model), str(tmp_path / "out"), "--text", "words", "--references", str(recipe)])
    page = _page(tmp_path / "out" / "meme.html")
    assert explained[1] == (None, "words") and f"train {texts(20)[0]}" in page.text
    assert "index.html" in {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --image, --text or both for a single meme, or else a recipe"),
        (["RECIPE", "--text", "x", "--rows", "0"], "or else a recipe"),
        (["RECIPE"], "a recipe needs --rows"),
        (["--text", "x", "--rows", "0"], "--rows a recipe"),
        (["--text", "x", "--part", "test"], "--split is for a recipe's rows"),
        (["--text", "x", "--", "--seed", "1"], "--seed stands behind `--`, and there is no recipe"),
        (["RECIPE", "--rows", "3-1"], "--rows is '3-1': give indices counted from 0"),
        (["RECIPE", "--rows", "0-3,20-22"], "--rows names 20-22, and the validation split has 20 rows"),
        (["RECIPE", "--rows", "0", "--part", "test"], "--split is 'test', and the recipe's splits are"),
        (["nowhere.yaml", "--rows", "0"], "'nowhere.yaml' is no file"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--text", "x", "--references", "nowhere.yaml"], "'nowhere.yaml' is no file"),
    ],
)
def test_errors_name_what_is_wrong_and_leave_nothing(
    saved_model: Path,
    recipe: Path,
    explained: list[Any],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    given = [str(recipe) if argument == "RECIPE" else argument for argument in arguments]
    output = recipe.parent / "out"
    with pytest.raises(SystemExit) as caught:
        run(main, [str(saved_model), str(output), *given])
    said = f"{caught.value}\n{capsys.readouterr().err}"
    assert message in said and "Traceback" not in said
    assert not list(output.glob("*"))


def test_an_output_that_is_a_file_is_refused(saved_model: Path, explained: list[Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("before")
    with pytest.raises(SystemExit, match=r"error: .*out"):
        run(main, [str(saved_model), str(tmp_path / "out"), "--text", "x"])
    assert (tmp_path / "out").read_text() == "before"


def test_a_models_own_explanation(saved_model: Path, folder: Path) -> None:
    picture = folder / "images" / "a.png"
    main([str(saved_model), str(folder / "out"), "--image", str(picture), "--text", "the cat votes"])
    page = _page(folder / "out" / "meme.html")
    assert len(page.all("img")) == 2 and "even share of 2 × 2 regions" in page.text
    assert "even share of 3 words" in page.text
    for task in TASKS:
        assert task in page.text
