"""The command: what is wrong as a whole stops it at once; memory does not grow with the table."""

import tracemalloc
from pathlib import Path

import datasets
import pytest

import mmorient.prediction.columns
import mmorient.prediction.predict
from mmorient.commands.predict import main, parse
from mmorient.commands.running import run as run_command
from mmorient.prediction.predict import predict
from tests.mmorient.predicting import read_output, run, texts, write_rows

BROKEN: list[tuple[str, str | bytes, list[str], str]] = [
    ("t.csv", b"\xff\xfei\0m\0", [], "no CSV file in UTF-8 with a header"),
    ("t.csv", b"", [], "no CSV file in UTF-8 with a header: it is empty"),
    ("t.csv", "image,text\n", [], "has no rows"),
    ("t.csv", "image,text,text\na.png,x,y\n", [], "a name of its own"),
    ("t.csv", "picture,text\na.png,x\n", [], r"no column 'image': its columns are .*--image_column"),
    ("t.csv", "image,caption\na.png,x\n", [], r"no column 'text'"),
    ("t.csv", "image;text\na.png;x\n", [], r"no column 'image'.* 1 of ';': set `delimiter` to ';'"),
    ("t.csv", "image,text,error\na.png,x,y\n", [], r"the columns \['error'\] would be in the output twice"),
    ("t.csv", "image,text,predicted.mood\na.png,x,y\n", [], r"\['predicted.mood'\] .*: rename them"),
    ("t.csv", "image,text\na.png,x\n", ["--image_dir", "/nowhere"], "no picture folder at /nowhere"),
    ("t.csv", "image,text\na.png,x\n", ["--image_column", "none", "--text_columns"], "nothing to read"),
    ("t.csv", "image,text\na.png,x\n", ["--device", "abacus"], "--device is 'abacus'"),
    ("t.csv", "image,text\na.png,x\n", ["--device", "meta"], "--device is 'meta'"),
    ("t.parquet", b"PAR1 and nothing else", [], "no Parquet file"),
    ("t.jsonl", "{}\n[1]\n", [], "no column 'image'"),
    ("t.docx", b"PK\x03\x04", [], "unknown kind"),
]


@pytest.mark.parametrize(("name", "content", "options", "message"), BROKEN)
def test_what_is_wrong_as_a_whole_stops_before_anything_is_written(
    folder: Path, saved_model: Path, name: str, content: str | bytes, options: list[str], message: str
) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        run_command(main, [str(saved_model), str(folder / name), str(folder / "out.csv"), *options])
    assert sorted(folder.rglob("*")) == before


def test_outputs_that_cannot_be_are_refused(folder: Path, saved_model: Path) -> None:
    write_rows(folder / "t.csv", [{"image": "a.png", "text": "x"}])
    for output, message in (
        ("out.xlsx", r"ends in \.csv or \.parquet"),
        ("t.csv", "both the table and the output"),
    ):
        with pytest.raises(ValueError, match=message):
            run(saved_model, folder / "t.csv", folder / output, "--restart")
    with pytest.raises(ValueError, match=r"there is no table at nowhere\.csv"):
        run(saved_model, "nowhere.csv", folder / "out.csv")
    with pytest.raises(ValueError, match="'hub:someone/memes': save the dataset to disk"):
        run(saved_model, "hub:someone/memes", folder / "out.csv")
    (folder / "out.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        run(saved_model, folder / "t.csv", folder / "out.csv")
    assert (folder / "t.csv").is_file()


def test_a_split_of_a_saved_dataset_is_named_by_its_folder(tmp_path: Path, saved_model: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "dev")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    options = [str(tmp_path / "out.csv"), "--image_column", "none"]
    with pytest.raises(ValueError, match=r"has the splits \['train', 'dev'\]: name the folder of one"):
        predict(parse([str(saved_model), str(tmp_path / "saved"), *options]))
    predict(parse([str(saved_model), str(tmp_path / "saved" / "dev"), *options]))
    assert [row["text"] for row in read_output(tmp_path / "out.csv")] == ["dev"]


def test_memory_does_not_grow_with_the_table(
    tmp_path: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 64)
    peaks = []
    for count in (256, 2560):
        rows = [{"id": index, "text": text, "ballast": "x" * 5000} for index, text in enumerate(texts(count))]
        write_rows(tmp_path / "t.csv", rows)
        tracemalloc.start()
        run(saved_model, tmp_path / "t.csv", tmp_path / f"{count}.csv", "--image_column", "none")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The larger table alone has 12 MB more.
    assert peaks[1] < peaks[0] + 2_000_000
    assert (tmp_path / "2560.csv").stat().st_size > 12_000_000
