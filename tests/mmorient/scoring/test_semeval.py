"""SemEval-2020 task 8: the answer format, its malformed files, and the organisers' scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score

from mmorient.scoring.semeval import (
    INTENSITY,
    MEMOTION_TASKS,
    PRESENCE,
    QUALITIES,
    SENTIMENT,
    Answers,
    read_answers,
    read_gold,
    score_answers,
    write_answers,
)
from mmorient.tables.problems import TableError

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
HEADER = "image_name,humour,sarcasm,offensive,motivational,overall_sentiment\n"
MEMES = (
    HEADER
    + "a.png,very_funny,not_sarcastic,slight,motivational,very_negative\n"
    + "b.png,not_funny,very_twisted,not_offensive,not_motivational,neutral\n"
    + "c.png,hilarious,general,hateful_offensive,motivational,positive\n"
)
ANSWERS = ["-1_1011_2011", "0_0100_0300", "1_1111_3131"]


def draw(rows: int, seed: int) -> Answers:
    generator = np.random.default_rng(seed)
    sentiment, presence = generator.integers(-1, 2, rows), generator.integers(0, 2, (rows, 4))
    return Answers(sentiment, presence, generator.integers(0, [4, 4, 4, 2], (rows, 4)))


def same(first: Answers, second: Answers) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("sentiment", "presence", "intensity")
    )


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    answers = draw(50, 0)
    write_answers(tmp_path / "answers.txt", answers)
    assert same(read_answers(tmp_path / "answers.txt"), answers)
    again = (tmp_path / "answers.txt").read_bytes()
    write_answers(tmp_path / "answers.txt", read_answers(tmp_path / "answers.txt"))
    assert (tmp_path / "answers.txt").read_bytes() == again


def test_a_line_is_sentiment_presence_and_intensity(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_bytes("\ufeff-1_1101_2103\r\n1_0000_0000 \r\n\r\n".encode())
    found = read_answers(tmp_path / "answers.txt")
    assert found.sentiment.tolist() == [-1, 1]
    assert found.presence.tolist() == [[1, 1, 0, 1], [0, 0, 0, 0]]
    assert found.intensity.tolist() == [[2, 1, 0, 3], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("0_0000_0000\n\n0_0000_0000\n", "line 2: it is blank"),
        ("\n0_0000_0000\n", "line 1: it is blank"),
        ("0_0000\n", "line 1: '0_0000' has 2 part(s) between underscores"),
        ("0\n", "line 1: '0' has 1 part(s)"),
        ("0_0000_0000_1\n", "line 1: '0_0000_0000_1' has 4 part(s)"),
        ("0 0000 0000\n", "has 1 part(s)"),
        ("0_0000_0000\n2_0000_0000\n", "line 2: '2_0000_0000': T1, the sentiment, is '2', and -1, 0 or 1 is"),
        ("+1_0000_0000\n", "T1, the sentiment, is '+1'"),
        ("_0000_0000\n", "T1, the sentiment, is ''"),
        ("positive_0000_0000\n", "T1, the sentiment, is 'positive'"),
        ("0_0020_0000\n", "T2, what the meme has, is '0020', and four digits 0 or 1 is expected"),
        ("0_000_0000\n", "T2, what the meme has, is '000'"),
        ("0_00000_0000\n", "T2, what the meme has, is '00000'"),
        ("0_0000_0400\n", "T3, how much of it, is '0400', and four digits from 0 to 3 is expected"),
        ("0_0000_00\n", "T3, how much of it, is '00'"),
        ("0_0000_-100\n", "T3, how much of it, is '-100'"),
        ("0_0000_000\u0661\n", "T3, how much of it, is '000\u0661'"),
        ("0_0000_0000,\n", "T3, how much of it, is '0000,'"),
        ("id\n" * 12, "has 12 line(s) that are no answer"),
        ("id\n" * 12, "and 2 more"),
    ],
)
def test_malformed_files_are_refused_with_their_lines(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text(content, encoding="utf-8")
    with pytest.raises(TableError) as refused:
        read_answers(tmp_path / "answers.txt")
    assert message in str(refused.value) and "answers.txt" in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_bytes(b"\xff\xfe0\x00")
    for name in ("answers.txt", "missing.txt"):
        with pytest.raises(TableError, match="cannot be read as an answer file"):
            read_answers(tmp_path / name)


def gold(tmp_path: Path, content: str, column: str | None = None) -> Answers:
    (tmp_path / "gold.csv").write_text(content, encoding="utf-8")
    return read_gold(tmp_path / "gold.csv", column)


def test_true_labels_are_read_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "gold.txt").write_text("\n".join(ANSWERS))
    expected = read_gold(tmp_path / "gold.txt")
    assert same(gold(tmp_path, MEMES), expected)
    # A quality is present where its intensity is above 0.
    assert np.array_equal(expected.presence, expected.intensity > 0)
    rows = [f"{number}.png,{answer}" for number, answer in enumerate(ANSWERS)]
    assert same(gold(tmp_path, "\n".join(["image,labels", *rows])), expected)
    two = [f"{answer},{ANSWERS[0]}" for answer in ANSWERS]
    assert same(gold(tmp_path, "\n".join(["first,second", *two]), "first"), expected)


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        (
            "a,b\n0_0000_0000,1_0000_0000\n",
            None,
            "answers in the columns ['a', 'b']: say which with --column",
        ),
        ("a,b\n0_0000_0000,1_0000_00\n", "b", "column 'b' has 1 row(s) that are no answer"),
        ("a\n0_0000_0000\n", "c", "has no column 'c'"),
        ("a\n0_0000_0000\nx\n", None, "neither a column of answers"),
        (
            HEADER.replace("sarcasm,", "") + "a,not_funny,slight,motivational,neutral\n",
            None,
            "['sarcasm'] are",
        ),
        (HEADER + "a,,general,slight,motivational,neutral\n", None, "row 2 have no humour: fill the cell"),
        (HEADER + "a,dull,general,slight,motivational,neutral\n", None, "['dull'] in row 2"),
    ],
)
def test_unusable_true_labels_are_refused(
    content: str, column: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TableError) as refused:
        gold(tmp_path, content, column)
    assert message in str(refused.value)


def test_an_answer_file_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="which has no column 'x'"):
        read_gold(tmp_path / "gold.txt", "x")


def test_scores_are_macro_f1_and_means_over_the_qualities() -> None:
    answers, true = draw(80, 1), draw(80, 2)
    results = score_answers(answers, true, resamples=50)
    assert results["A"]["macro_f1"] == pytest.approx(
        f1_score(true.sentiment, answers.sentiment, average="macro")
    )
    for task, field in (("B", "presence"), ("C", "intensity")):
        parts = [
            f1_score(getattr(true, field)[:, index], getattr(answers, field)[:, index], average="macro")
            for index in range(4)
        ]
        found = results[task]["tasks"]
        assert [found[name]["macro_f1"] for name in QUALITIES] == pytest.approx(parts)
        assert results[task]["macro_f1"] == pytest.approx(np.mean(parts))
        low, high = results[task]["macro_f1_interval"]
        assert low < results[task]["macro_f1"] < high


def test_another_number_of_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="the answers have 3 rows and the true labels 4"):
        score_answers(draw(3, 0), draw(4, 0))


def test_labels_are_those_of_the_recipes() -> None:
    def tasks(letter: str) -> dict[str, Any]:
        return yaml.safe_load((RECIPES / f"memotion7k_task_{letter}.yaml").read_text())["tasks"]

    assert tasks("a")["sentiment"] == MEMOTION_TASKS["sentiment"]
    assert tasks("a")["sentiment"]["labels"] == list(SENTIMENT)
    assert {name: tuple(task["labels"]) for name, task in tasks("b").items()} == PRESENCE
    assert {name: tuple(task["labels"]) for name, task in tasks("c").items()} == INTENSITY
    assert tasks("c") == {name: MEMOTION_TASKS[name] for name in QUALITIES}
