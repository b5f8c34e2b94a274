"""The sample memes: what each label follows from is measured with simple classifiers."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from mmorient.samples import memes as sample_memes
from mmorient.samples.memes import (
    COLUMNS,
    MAX_ROWS,
    MIN_ROWS,
    PICTURE_SIZE,
    STRIP_HEIGHT,
    TASKS,
    draw_memes,
)

ROWS = 16 * MIN_ROWS
# Accuracies are means over the classes, so guessing scores one over the number of classes. They are
# cross-validated over all rows, which leaves a standard error of about 0.02.
NEAR = 0.07


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Memes(NamedTuple):
    folder: Path
    train: list[dict[str, str]]
    validation: list[dict[str, str]]

    @property
    def rows(self) -> list[dict[str, str]]:
        return self.train + self.validation


def draw(folder: Path, **options: Any) -> Memes:
    tables = draw_memes(folder, **options)
    return Memes(folder, read(tables["train"]), read(tables["validation"]))


@pytest.fixture(scope="module")
def memes(tmp_path_factory: pytest.TempPathFactory) -> Memes:
    return draw(tmp_path_factory.mktemp("memes"), rows=ROWS, seed=1)


class Features(NamedTuple):
    """Standardized features of every meme, (rows, features) each."""

    text: np.ndarray
    scene: np.ndarray


@pytest.fixture(scope="module")
def features(memes: Memes) -> Features:
    """Bags of words, and the downsampled colors of the picture below the caption."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    words = text.CountVectorizer().fit_transform([row["text"] for row in memes.rows]).toarray()
    scenes = []
    for row in memes.rows:
        with Image.open(memes.folder / row["image"]) as picture:
            scene = picture.crop((0, STRIP_HEIGHT, PICTURE_SIZE, PICTURE_SIZE))
            scenes.append(np.asarray(scene.resize((8, 6), Image.Resampling.BOX)).ravel())
    return Features(standardized(words), standardized(np.stack(scenes)))


def standardized(values: np.ndarray) -> np.ndarray:
    scale = (values.std(axis=0) + 1e-6) * np.sqrt(values.shape[1])
    return np.divide(values - values.mean(axis=0), scale)


def accuracy(features: np.ndarray, memes: Memes, task: str) -> float:
    """Cross-validated accuracy of the better one of a linear and an interaction-capable model."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    linear_model = pytest.importorskip("sklearn.linear_model")
    model_selection = pytest.importorskip("sklearn.model_selection")
    labels = [row[task] for row in memes.rows]
    folds = model_selection.StratifiedKFold(4, shuffle=True, random_state=0)
    models = (
        linear_model.LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"),
        ensemble.RandomForestClassifier(50, random_state=0, class_weight="balanced"),
    )
    return max(
        float(
            model_selection.cross_val_score(
                model, features, labels, cv=folds, scoring="balanced_accuracy"
            ).mean()
        )
        for model in models
    )


def test_text_alone_solves_sentiment_and_nothing_else(memes: Memes, features: Features) -> None:
    assert accuracy(features.text, memes, "sentiment") > 0.98
    assert accuracy(features.text, memes, "setting") < 1 / 3 + NEAR
    assert accuracy(features.text, memes, "sarcasm") < 1 / 2 + NEAR


def test_scene_alone_solves_setting_and_nothing_else(memes: Memes, features: Features) -> None:
    assert accuracy(features.scene, memes, "setting") > 0.98
    assert accuracy(features.scene, memes, "sentiment") < 1 / 3 + NEAR
    assert accuracy(features.scene, memes, "sarcasm") < 1 / 2 + NEAR


def test_only_text_and_scene_together_solve_sarcasm(memes: Memes, features: Features) -> None:
    """A product of kernels sees pairs of a word and a color, a sum of kernels each by itself.

    Both learn from the sarcasm labels of the training rows and are scored on the validation rows.
    """
    metrics = pytest.importorskip("sklearn.metrics")
    svm = pytest.importorskip("sklearn.svm")
    text, scene = (part @ part.T for part in (features.text, features.scene))
    labels = np.array([row["sarcasm"] for row in memes.rows])
    fit, held_out = np.split(np.arange(len(labels)), [len(memes.train)])

    def score(kernel: np.ndarray) -> float:
        machine = svm.SVC(kernel="precomputed", C=100.0, class_weight="balanced")
        machine.fit(kernel[np.ix_(fit, fit)], labels[fit])
        predicted = machine.predict(kernel[np.ix_(held_out, fit)])
        return float(metrics.balanced_accuracy_score(labels[held_out], predicted))

    assert score(text * scene) > 0.9
    assert score(text + scene) < 1 / 2 + 2 * NEAR  # fewer rows, twice the standard error


def test_words_and_scenes_are_independent_and_sarcasm_is_their_disagreement(memes: Memes) -> None:
    for rows in (memes.train, memes.validation):
        pairs = Counter((row["sentiment"], row["setting"]) for row in rows)
        assert set(pairs.values()) == {len(rows) // 9}
        assert len(pairs) == 9
        for row in rows:
            moods = [TASKS[task].index(row[task]) for task in ("sentiment", "setting")]
            assert row["sarcasm"] == ("yes" if moods[0] != moods[1] else "no")


@pytest.mark.parametrize("rows", [MIN_ROWS, 41])
def test_tables_have_the_rows_columns_and_labels_promised(tmp_path: Path, rows: int) -> None:
    memes = draw(tmp_path, rows=rows)
    assert (len(memes.train), len(memes.validation)) == (rows - rows // 4, rows // 4)
    for row in memes.rows:
        assert list(row) == COLUMNS
        assert all(row[task] in labels for task, labels in TASKS.items())
        with Image.open(tmp_path / row["image"]) as picture:
            assert (picture.mode, picture.size) == ("RGB", (PICTURE_SIZE, PICTURE_SIZE))
    for table in (memes.train, memes.validation):
        for task, labels in TASKS.items():
            assert {row[task] for row in table} == set(labels)


def test_no_two_rows_share_a_text_or_a_picture(memes: Memes) -> None:
    assert len({row["text"].casefold() for row in memes.rows}) == ROWS
    assert len({(memes.folder / row["image"]).read_bytes() for row in memes.rows}) == ROWS


def test_captions_vary_in_case_and_stay_legible(memes: Memes) -> None:
    texts = [row["text"] for row in memes.rows]
    assert {"upper", "lower", "mixed"} == {
        "upper" if text.isupper() else "lower" if text.islower() else "mixed" for text in texts
    }
    for row in memes.rows[:60]:
        with Image.open(memes.folder / row["image"]) as picture:
            strip = np.asarray(picture.convert("L").crop((0, 0, PICTURE_SIZE, STRIP_HEIGHT)))
        paper = strip[0, 0]
        ink = np.argwhere(np.abs(strip.astype(int) - paper) > 120)
        assert len(ink) > 5 * len(row["text"])
        # A caption that ran over the strip would touch its rim.
        assert ink.min() >= 1
        assert (ink.max(axis=0) < (STRIP_HEIGHT - 1, PICTURE_SIZE - 1)).all()


def test_there_are_captions_enough_for_the_most_rows() -> None:
    for mood in range(3):
        found = sample_memes._captions(mood, MAX_ROWS // 3 + 2, Random(0))
        assert len({text.casefold() for text in found}) == MAX_ROWS // 3 + 2


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    options = {"rows": MIN_ROWS, "missing": 0.3}
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        draw(tmp_path / name, seed=seed, **options)
    one, same, other = (contents(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    shared = {name for name in one.keys() & other.keys() if name.endswith((".png", ".csv"))}
    assert shared and all(one[name] != other[name] for name in shared)


def test_drawing_again_replaces_the_memes_and_keeps_other_files(tmp_path: Path) -> None:
    draw(tmp_path / "fresh", rows=MIN_ROWS, seed=2)
    draw(tmp_path / "again", rows=2 * MIN_ROWS, seed=1)
    note = tmp_path / "again" / "images" / "mine.png"
    note.write_bytes(b"kept")
    draw(tmp_path / "again", rows=MIN_ROWS, seed=2)
    assert note.read_bytes() == b"kept"
    note.unlink()
    assert contents(tmp_path / "again") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("missing", [0.0, 0.25, 1.0])
def test_missing_empties_one_cell_in_its_share_of_rows(tmp_path: Path, missing: float) -> None:
    whole = draw(tmp_path / "whole", rows=48)
    holed = draw(tmp_path / "holed", rows=48, missing=missing)
    for full, table in ((whole.train, holed.train), (whole.validation, holed.validation)):
        gaps = [[column for column in COLUMNS if not row[column]] for row in table]
        lacking = [names for names in gaps if names]
        assert len(lacking) == missing * len(table)
        assert all(len(names) == 1 for names in lacking)
        kinds = Counter("label" if names[0] in TASKS else names[0] for names in lacking)
        assert set(kinds) == ({"text", "image", "label"} if missing else set())
        assert not kinds or max(kinds.values()) - min(kinds.values()) <= 1
        for before, after in zip(full, table, strict=True):
            assert all(after[column] in ("", before[column]) for column in COLUMNS)
            drawn = (holed.folder / before["image"]).exists()
            assert drawn == bool(after["image"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rows": MIN_ROWS - 1}, f"rows={MIN_ROWS - 1}, but it must be from {MIN_ROWS}"),
        ({"rows": MAX_ROWS + 1}, f"rows={MAX_ROWS + 1}, but"),
        ({"missing": -0.1}, "missing=-0.1, but"),
        ({"missing": 5}, "missing=5, but it is a share of rows"),
        ({"missing": float("nan")}, "missing=nan, but"),
    ],
)
def test_bad_numbers_are_errors_and_write_nothing(
    tmp_path: Path, options: dict[str, float], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        draw(tmp_path / "memes", **options)
    assert not (tmp_path / "memes").exists()


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="holds other files"):
        draw_memes(tmp_path, rows=MIN_ROWS)
    assert contents(tmp_path) == {"train.csv": b"precious"}
    with pytest.raises(FileExistsError, match="is a file"):
        draw_memes(tmp_path / "train.csv", rows=MIN_ROWS)


def test_runs_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmorient.commands.samples", str(tmp_path / "memes")]
    options = ["--rows", str(MIN_ROWS), "--seed", "3", "--missing", "0.1"]
    subprocess.run(command + options, check=True, timeout=120)
    draw(tmp_path / "called", rows=MIN_ROWS, seed=3, missing=0.1)
    assert contents(tmp_path / "memes") == contents(tmp_path / "called")

    refused = subprocess.run(
        [*command, "--rows", "3"], capture_output=True, text=True, timeout=120, check=False
    )
    assert refused.returncode == 1
    assert "rows=3, but it must be from" in refused.stderr
    assert "Traceback" not in refused.stderr
