"""The scoring script: tables and answer files in, scores and answer files out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from mmorient.commands.score import main
from mmorient.scoring.semeval import INTENSITY, PRESENCE, SENTIMENT

ROOT = Path(__file__).parents[3]
RECIPE = """
image_column: image
tasks:
  mood: {labels: [bad, fine, good], values: {great: good}}
  about: {labels: [politics, animals], kind: multilabel}
"""
COLUMNS = (
    *("image", "mood", "about", "predicted.mood"),
    *("probability.mood.bad", "probability.mood.fine", "probability.mood.good"),
    *("predicted.about", "probability.about.politics", "probability.about.animals", "error"),
)
ROWS = [
    "a.png,bad,politics,bad,0.5,0.3,0.2,politics,0.9,0.1,",
    'b.png,great,"politics,animals",good,0.1,0.1,0.8,politics|animals,0.8,0.7,',
    "c.png,fine,animals,good,0.2,0.3,0.5,,0.3,0.4,",
    "d.png,,,bad,0.6,0.2,0.2,animals,0.1,0.9,",
    "e.png,fine,politics,fine,0.1,0.6,0.3,animals,0.2,0.8,",
]
FAILED = "f.png,fine,politics,,,,,,,,unreadable: no picture"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    write(tmp_path / "out.csv", ROWS)
    return tmp_path


def write(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


def score(folder: Path, *options: str) -> dict:
    paths = [str(folder / "recipe.yaml"), str(folder / "out.csv"), "--json", str(folder / "scores.json")]
    main(["table", *paths, *options])
    return json.loads((folder / "scores.json").read_text())


def test_a_table_is_scored_over_its_labelled_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = score(folder)
    mood, about = results["tasks"]["mood"], results["tasks"]["about"]
    truth, answers = [0, 2, 1, 1], [0, 2, 2, 1]
    assert mood["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))
    assert mood["accuracy"] == accuracy_score(truth, answers) and mood["rows"] == 4
    # Bins of 0.5 (one right of two), 0.6 and 0.8.
    assert mood["expected_calibration_error"] == pytest.approx((2 * 0.0 + 0.4 + 0.2) / 4, abs=1e-6)
    labels, holds = [[1, 0], [1, 1], [0, 1], [1, 0]], [[1, 0], [1, 1], [0, 0], [0, 1]]
    assert about["macro_f1"] == pytest.approx(f1_score(labels, holds, average="macro"))
    assert about["subset_accuracy"] == 0.5
    # Always fine: F1 0, 2/3 and 0. Labels that hold in 3 of 4 rows, and in half: always politics alone.
    assert results["majority"] == pytest.approx({"mood": 2 / 9, "about": 6 / 7 / 2})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:4]] == ["task", "mood", "about", "mean"]
    assert results["not_predicted_rows"] == 0


def test_labels_may_stand_in_another_table(folder: Path) -> None:
    expected = score(folder)
    (folder / "out.csv").rename(folder / "truth.csv")
    write(folder / "out.csv", [row.replace("great", "").replace("fine", "bad", 1) for row in ROWS])
    found = score(folder, "--truth", str(folder / "truth.csv"))
    # c's true label is read from the other table; what is predicted stays.
    assert found["tasks"]["about"] == expected["tasks"]["about"]
    assert found["tasks"]["mood"]["rows"] == 4


def test_labelled_rows_without_a_prediction_are_refused_or_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = score(folder)
    write(folder / "out.csv", [*ROWS, FAILED])
    with pytest.raises(ValueError, match=r"row 7 could not be predicted .* and are labelled.*--leave_out"):
        score(folder)
    found = score(folder, "--leave_out_errors")
    assert found["not_predicted_rows"] == 1
    assert found["tasks"] == expected["tasks"]
    assert "not predicted: 1 row(s)" in capsys.readouterr().out
    # Without a label there is nothing to miss.
    write(folder / "out.csv", [*ROWS, FAILED.replace("fine,politics", ",")])
    found = score(folder)
    assert found["tasks"] == expected["tasks"]
    assert found["not_predicted_rows"] == 1
    assert "not predicted: 1 row(s)" in capsys.readouterr().out
    # What is left of a malformed row may stand in other columns than its own.
    malformed = 'f.png,politics,fine,,,,,,,,"malformed row, row 7: it has 2 cell(s)"'
    write(folder / "out.csv", [*ROWS, malformed])
    with pytest.raises(ValueError, match=r"row 7 could not be predicted .* or malformed.*--leave_out"):
        score(folder)
    found = score(folder, "--leave_out_errors")
    assert found["tasks"] == expected["tasks"] and found["not_predicted_rows"] == 1


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (ROWS[:-1], "has 5 rows and"),
        ([ROWS[1], ROWS[0], *ROWS[2:]], "have different pictures in column 'image', in rows 2, 3"),
        ([row.replace("great", "superb") for row in ROWS], "['superb'] in row 3"),
        ([f"{row[:5]},,," + "," * 7 for row in ROWS], "no row is labelled for any task"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(folder: Path, truth: list[str], message: str) -> None:
    write(folder / "truth.csv", truth)
    with pytest.raises(ValueError) as refused:
        score(folder, "--truth", str(folder / "truth.csv"))
    assert message in str(refused.value)


HEADER = "image_name,humour,sarcasm,offensive,motivational,overall_sentiment"
TRUE = [
    "a.png,very_funny,not_sarcastic,slight,motivational,very_negative",
    "b.png,not_funny,very_twisted,not_offensive,not_motivational,neutral",
    "c.png,hilarious,general,hateful_offensive,motivational,positive",
]
ANSWERS = ["-1_1011_2011", "0_0100_0300", "1_1111_3131"]


def predicted(path: Path, tasks: dict[str, tuple[str, ...]], part: int) -> str:
    """The predictions table that says what `ANSWERS` say in that part."""
    lines = [",".join(["image_name", *(f"predicted.{name}" for name in tasks), "error"])]
    for name, answer in zip("abc", ANSWERS, strict=True):
        field = answer.split("_")[part]
        digits = [int(field) + 1] if part == 0 else map(int, field)
        cells = [labels[digit] for labels, digit in zip(tasks.values(), digits, strict=True)]
        lines.append(",".join([f"{name}.png", *cells, ""]))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, str]:
    return {
        "--a": predicted(tmp_path / "a.csv", {"sentiment": SENTIMENT}, 0),
        "--b": predicted(tmp_path / "b.csv", PRESENCE, 1),
        "--c": predicted(tmp_path / "c.csv", INTENSITY, 2),
    }


def flat(options: dict[str, str]) -> list[str]:
    return [part for pair in options.items() for part in pair]


def test_predictions_become_answers_that_score_as_they_should(
    tables: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, gold = tmp_path / "answers.txt", tmp_path / "gold.csv"
    gold.write_text("\n".join([HEADER, *TRUE]))
    main(["write_semeval", str(out), *flat(tables)])
    assert out.read_text().splitlines() == ANSWERS
    main(["semeval", str(out), str(gold), "--json", str(tmp_path / "scores.json")])
    results = json.loads((tmp_path / "scores.json").read_text())
    assert [results[task]["macro_f1"] for task in "ABC"] == [1, 1, 1]
    assert [results[task]["tasks"].keys() for task in "BC"] == [PRESENCE.keys(), INTENSITY.keys()]
    printed = capsys.readouterr().out
    assert all(f"task {task}\n" in printed for task in "ABC")


def test_presence_follows_from_intensity_where_no_table_says_it(
    tables: dict[str, str], tmp_path: Path
) -> None:
    del tables["--b"]
    main(["write_semeval", str(tmp_path / "answers.txt"), *flat(tables)])
    assert (tmp_path / "answers.txt").read_text().splitlines() == ANSWERS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b.png", "x.png", "have different pictures in column 'image_name', in row 3"),
        ("c.png,hilarious,general,hateful_offensive,motivational,\n", "", "has 3 rows and"),
        ("hilarious", "funny enough", "['funny enough'] in row 4"),
        (
            "hilarious,general,hateful_offensive,motivational,",
            ",,,,unreadable",
            "row 4 could not be predicted",
        ),
        ("image_name", "picture", "has no column 'image_name'"),
        ("predicted.humour", "predicted.fun", "has no column 'predicted.humour'"),
    ],
)
def test_tables_that_do_not_fit_become_no_answers(
    tables: dict[str, str], tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = Path(tables["--c"])
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(ValueError) as refused:
        main(["write_semeval", str(tmp_path / "answers.txt"), *flat(tables)])
    assert message in str(refused.value)
    assert not (tmp_path / "answers.txt").exists()


def test_errors_end_the_script_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("0_0000_0000\n0_0000\n")
    command = [
        sys.executable,
        "-m",
        "mmorient.commands.score",
        "semeval",
        *2 * [str(tmp_path / "answers.txt")],
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and "line 2: '0_0000' has 2 part(s)" in result.stderr


def test_every_row_that_stops_a_score_is_listed_beside_the_predictions(folder: Path) -> None:
    rows = [f"{n}.png,superb,politics,bad,0.5,0.3,0.2,politics,0.9,0.1," for n in range(30)]
    write(folder / "out.csv", rows)
    beside = folder / "out.csv.problems.csv"
    with pytest.raises(ValueError, match=r"(?s)and 20 more.*All 30 rows .*out\.csv\.problems\.csv"):
        score(folder)
    assert len(beside.read_text().splitlines()) == 31 and "'superb'" in beside.read_text()
    write(folder / "out.csv", [FAILED.replace("f.png", f"{n}.png") for n in range(12)])
    with pytest.raises(ValueError, match=r"could not be predicted.*\n.*All 12 rows"):
        score(folder)
    assert (
        beside.read_text().splitlines()[-1].startswith("not_predicted,")
        and "no picture" in beside.read_text()
    )
    write(folder / "out.csv", ROWS)
    score(folder)
    assert not beside.exists()
