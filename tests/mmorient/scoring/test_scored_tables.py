"""What predict writes, score reads: every kind of task, table and output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mmorient.commands.score import main
from tests.mmorient.conftest import draw
from tests.mmorient.predicting import run, save_model, texts

TASKS: dict[str, Any] = {
    "mood": {"labels": ["bad", "so-so", "good"]},
    "grade": {"labels": ["1", "2", "3"], "kind": "ordinal"},
    "about": {"labels": ["politics", "animals", "1"], "kind": "multilabel"},
    "funny": {"labels": ["no", "yes"], "column": "is_funny", "values": {"true": "yes", "false": "no"}},
}
MOODS = ["good", "bad", None, "so-so", "bad", "good"]
GRADES = [1, 3, 2, None, 2, 1]
ABOUT: list[list[Any] | None] = [["politics"], [], None, ["animals", "politics"], ["animals", 1], []]
FUNNY = [True, False, None, True, True, False]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {
        name: {key: task[key] for key in ("labels", "kind") if key in task} for name, task in TASKS.items()
    }
    return save_model(tmp_path_factory.mktemp("model"), options)


def rows() -> list[dict[str, Any]]:
    return [
        {"text": text, "mood": mood, "grade": grade, "about": about, "is_funny": funny}
        for text, mood, grade, about, funny in zip(texts(6), MOODS, GRADES, ABOUT, FUNNY, strict=True)
    ]


def json_lines(path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def mixed_json_lines(path: Path) -> Path:
    """One label stands by itself, as people write it: cells have several types."""
    mixed = [
        {**row, "about": row["about"][0] if row["about"] in (["politics"],) else row["about"]}
        for row in rows()
    ]
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in mixed))
    return path


def parquet(path: Path, grade: str = "int64") -> Path:
    columns = {name: [row[name] for row in rows()] for name in rows()[0]}
    columns["about"] = [about and [str(entry) for entry in about] for about in columns["about"]]
    path = path.with_suffix(".parquet")
    pq.write_table(pa.table({**columns, "grade": pa.array(GRADES, pa.type_for_alias(grade))}), path)
    return path


def fractions(path: Path) -> Path:
    """Grades as pandas makes them of whole numbers with gaps."""
    return parquet(path, "float64")


def not_numbers(path: Path) -> Path:
    table = pq.read_table(fractions(path))
    grades = pa.array([float("nan") if grade is None else float(grade) for grade in GRADES])
    path = path.with_suffix(".parquet")
    pq.write_table(table.set_column(table.column_names.index("grade"), "grade", grades), path)
    return path


def saved(path: Path) -> Path:
    names = datasets.ClassLabel(names=TASKS["about"]["labels"])
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "mood": datasets.ClassLabel(names=TASKS["mood"]["labels"]),
            "grade": datasets.Value("int64"),
            "about": datasets.List(names),
            "is_funny": datasets.Value("bool"),
        }
    )
    plain = [{**row, "about": row["about"] and [str(entry) for entry in row["about"]]} for row in rows()]
    datasets.Dataset.from_list(plain, features).save_to_disk(str(path))
    return path


def separated(path: Path) -> Path:
    path = path.with_suffix(".csv")
    lines = ["text,mood,grade,about,is_funny"]
    for row in rows():
        about = "" if row["about"] is None else json.dumps(row["about"]).replace('"', '""')
        cells = [row["mood"] or "", "" if row["grade"] is None else f"{row['grade']}.0", f'"{about}"']
        lines.append(
            ",".join([row["text"], *cells, "" if row["is_funny"] is None else str(row["is_funny"]).lower()])
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "write", [json_lines, mixed_json_lines, parquet, fractions, not_numbers, saved, separated]
)
@pytest.mark.parametrize("apart", [False, True])
def test_predictions_are_scored_against_their_own_labels(
    tmp_path: Path, model: Path, kind: str, write: Callable[[Path], Path], apart: bool
) -> None:
    table = write(tmp_path / "t")
    output = tmp_path / f"out.{kind}"
    run(model, table, output, "--image_column", "none")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"tasks": TASKS}))
    truth = ["--truth", str(table)] if apart else []
    main(["table", str(tmp_path / "recipe.yaml"), str(output), "--json", str(tmp_path / "s.json"), *truth])
    scored = json.loads((tmp_path / "s.json").read_text())
    known = {"mood": 5, "grade": 5, "about": 5, "funny": 5}
    assert {name: task["rows"] for name, task in scored["tasks"].items()} == known
    # Of the true labels: how often each is answered if it is what is most frequent.
    assert scored["majority"]["about"] == pytest.approx(0.0)
    assert scored["majority"]["funny"] == pytest.approx(2 * 3 / 8 / 2)


def test_pictures_inside_the_truth_are_those_that_predictions_name(tmp_path: Path, model: Path) -> None:
    draw(1).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    image = [{"bytes": content, "path": f"{row}.png"} for row in range(6)]
    columns = {name: [row[name] for row in rows()] for name in ("text", "mood")}
    pq.write_table(pa.table({"image": image, **columns}), tmp_path / "t.parquet")
    run(model, tmp_path / "t.parquet", tmp_path / "out.csv")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"tasks": {"mood": TASKS["mood"]}}))
    main(
        [
            "table",
            str(tmp_path / "recipe.yaml"),
            str(tmp_path / "out.csv"),
            "--truth",
            str(tmp_path / "t.parquet"),
        ]
    )
