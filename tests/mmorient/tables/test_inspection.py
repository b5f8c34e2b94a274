"""The schema report: its numbers are those of the tables."""

from pathlib import Path

import pytest
import yaml

from mmorient.commands.inspect import main
from mmorient.commands.train import main as train
from mmorient.recipes.arguments import DataArguments
from mmorient.tables.inspection import inspection_report
from mmorient.tables.splits import read_splits
from tests.mmorient.conftest import draw

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
TASKS = {
    "mood": {"labels": ["bad", "good"], "kind": "ordinal"},
    "about": {"labels": ["politics", "animals"], "kind": "multilabel", "separator": "|"},
}
TRAIN = """image,text,mood,about
a.png,one,bad,politics|animals
near.jpg,,good,animals
zz.png,two,fine,
broken.png,three,,cats
,One!,bad,politics
,,bad,politics
"""
DEV = "image,text,mood,about\na.png,four,good,animals\nb.png,,,\n"


@pytest.fixture
def lines(folder: Path) -> list[list[str]]:
    """The words of every line of the report."""
    draw(0).save(folder / "images" / "near.jpg", quality=60)
    (folder / "images" / "broken.png").write_bytes(b"broken")
    (folder / "train.csv").write_text(TRAIN)
    (folder / "dev.csv").write_text(DEV)
    data = DataArguments(data_dir=str(folder), validation_file="dev.csv", tasks=TASKS)
    return [line.split() for line in inspection_report(read_splits(data, 0), data).splitlines()]


def section(lines: list[list[str]], title: str) -> list[str]:
    start = next(index for index, line in enumerate(lines) if line[:1] == [title])
    end = next((index for index in range(start, len(lines)) if not lines[index]), len(lines))
    return [" ".join(line) for line in lines[start:end]]


def test_rows_pictures_and_texts_are_counted(lines: list[list[str]]) -> None:
    assert section(lines, "rows") == [
        "rows 5 2",
        "without a picture 1 0",
        "picture not found 1 0",
        "picture unreadable 1 0",
        "without a text 1 1",
        "without any label 2 1",
        "left out (neither picture nor text) 1 0",
        "left out (malformed) 0 0",
    ]


def test_labels_are_counted_by_task_and_split(lines: list[list[str]]) -> None:
    assert section(lines, "mood") == [
        "mood (ordinal) training validation",
        "bad 2 66.7% 0 0.0%",
        "good 1 33.3% 1 100.0%",
        "not labelled 2 1",
        "most : fewest 2.0 : 1 a class has no row",
        "unknown: 'fine' 1 0",
    ]
    assert section(lines, "about") == [
        "about (multilabel) training validation",
        "politics 2 66.7% 0 0.0%",
        "animals 2 66.7% 1 100.0%",
        "not labelled 2 1",
        "most : fewest 1.0 : 1 a class has no row",
        "unknown: 'cats' 1 0",
    ]


def test_unreadable_pictures_are_named(lines: list[list[str]]) -> None:
    (line,) = section(lines, "pictures")[1:]
    assert "train.csv row 5: broken.png: cannot read a picture" in line


def test_duplicates_are_counted_within_and_across_the_split(lines: list[list[str]]) -> None:
    assert section(lines, "duplicates") == [
        "duplicates training validation crossing pairs",
        "same picture none none 1",
        "near picture 2 rows in 1 groups none 0",
        "same text none none 0",
        "near text 2 rows in 1 groups none 0",
    ]
    crossing = " ".join(next(line for line in lines if line[:2] == ["same", "picture:"]))
    assert "train.csv row 2 = " in crossing and crossing.endswith("dev.csv row 2")


def test_what_stops_a_run_is_told_with_its_switch(lines: list[list[str]]) -> None:
    stops = section(lines, "A")
    assert stops[0] == "A run stops here, for 6 reason(s):"
    kinds = ["missing_pictures", "unreadable_pictures", "unknown_labels", "unknown_labels"]
    for line, kind in zip(stops[1:], [*kinds, "empty_rows", "split_duplicates"], strict=True):
        assert f"`allow: [{kind}]`" in line


def test_the_command_prints_the_report_and_trains_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the commented recipe, every option of which about the data is used here."""
    recipe = yaml.safe_load((RECIPES / "own_table.yaml").read_text())
    header = "image,corrected,text,sarcastic,feeling,offence,about,Joy,Sadness,age,split\n"
    rows = [
        f",,words {i:02d},{'yes' if i % 2 else 'no'},{('awful', 'neutral', 'great', '?')[i % 4]},slight,"
        f"{('politics|work', 'nothing', 'animals', '')[i % 4]},{i % 2},yes,{i + 0.5},"
        f"{'dev' if i % 5 == 0 else 'train'}\n"
        for i in range(40)
    ]
    (folder / "memes.csv").write_text(header + "".join(rows))
    path = folder / "recipe.yaml"
    output = folder / "out"
    path.write_text(yaml.safe_dump({**recipe, "data_dir": str(folder), "output_dir": str(output)}))
    main([str(path)])
    report = capsys.readouterr().out
    assert "10% held out, stratified" in report and "Nothing stops a run." in report
    main([str(path), "--split_column", "split", "--validation_split", "dev", "--test_share", "0"])
    assert "rows 32 8" in " ".join(capsys.readouterr().out.split())
    assert not output.exists()


def test_what_the_recipe_allows_is_told(folder: Path) -> None:
    (folder / "train.csv").write_text("image,text,mood\n,one,bad\n,two,fine\n,three,good\n")
    data = DataArguments(
        data_dir=str(folder), tasks={"mood": ["bad", "good"]}, allow=["unknown_labels"], validation_share=0.4
    )
    report = inspection_report(read_splits(data, 0), data)
    assert "Nothing stops a run.\nThe recipe allows:\n- " in report and "['fine'] in row 3" in report


def test_the_command_names_the_file_that_lists_every_row_with_a_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"no{number}.png,text {number},bad\n" for number in range(84))
    (folder / "train.csv").write_text("image,text,mood\n" + rows)
    recipe, output = folder / "recipe.yaml", folder / "out"
    options = {"data_dir": str(folder), "output_dir": str(output), "tasks": {"mood": ["bad", "good"]}}
    recipe.write_text(yaml.safe_dump(options))
    main([str(recipe)])
    printed = capsys.readouterr().out
    listed = output / "problems.csv"
    assert "and 74 more" in printed and f"All 84 rows with their problems are listed in {listed}." in printed
    lines = listed.read_text().splitlines()
    said = f"there is no 'no83.png' in {folder / 'images'}"
    assert lines[-1] == f"missing_pictures,{folder / 'train.csv'},row 85,{said}" and len(lines) == 85
    with pytest.raises(ValueError, match=r"(?s)and 74 more.*All 84 rows .* are listed in .*problems\.csv"):
        train([str(recipe)])
