"""Runs that are interrupted go on and end in the same bytes; nothing of anybody's is overwritten."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

import mmorient.prediction.columns
import mmorient.prediction.predict
from mmorient.commands.predict import main
from mmorient.prediction.chunks import ChunkFolder, ChunkNote
from tests.mmorient.predicting import read_output, run, save_model, text_table

ROOT = Path(__file__).parents[3]


def end_at(moment: int, after: bool, arguments: list[str]) -> None:
    """Predict in this process, which kills itself at a change of a file's name."""
    rename, count = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == moment and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, target)
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return target

    Path.replace = replace  # type: ignore[method-assign]
    main(arguments)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_run_killed_at_any_moment_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 16)
    table, *options = text_table(tmp_path, 40)
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    run(saved_model, table, whole, *options)
    arguments = [str(saved_model), table, str(output), *options]
    # The manifest, three chunks, the joined file, and its last name.
    for moment in range(1, 7):
        for after in (False, True):
            child = multiprocessing.get_context("fork").Process(
                target=end_at, args=(moment, after, arguments)
            )
            child.start()
            child.join(60)
            assert child.exitcode == -signal.SIGKILL
            assert output.exists() == (moment == 6 and after)
            main(arguments)
            assert output.read_bytes() == whole.read_bytes()
            assert not output.with_name(f"{output.name}.chunks").exists()
            output.unlink()


@pytest.mark.slow
def test_a_command_killed_from_outside_keeps_its_parts_and_goes_on(tmp_path: Path, saved_model: Path) -> None:
    table, *options = text_table(tmp_path, 6000)
    output = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "mmorient.commands.predict", str(saved_model), table]
    subprocess.run([*command, str(tmp_path / "whole.parquet"), *options], check=True, timeout=300)
    with subprocess.Popen([*command, str(output), *options]) as process:
        while not (chunks := sorted((tmp_path / "out.parquet.chunks").glob("0*.parquet"))):
            assert process.poll() is None
        process.kill()
    written = {chunk: chunk.stat().st_mtime_ns for chunk in chunks}
    assert not output.exists() and 0 < len(written) < 6
    with subprocess.Popen([*command, str(output), *options]) as process:
        while process.poll() is None:
            for chunk, time in written.items():
                with suppress(FileNotFoundError):  # at the end
                    assert chunk.stat().st_mtime_ns == time
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.fixture
def begun(tmp_path: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Arguments of a run that has ended before its second chunk."""
    monkeypatch.setattr(mmorient.prediction.predict, "CHUNK_ROWS", 16)
    arguments = [str(saved_model), *text_table(tmp_path, 40)]
    arguments.insert(2, str(tmp_path / "out.csv"))
    process = multiprocessing.get_context("fork").Process(target=end_at, args=(3, False, arguments))
    process.start()
    process.join(60)
    assert [path.name[:7] for path in (tmp_path / "out.csv.chunks").glob("*.parquet")] == ["000000-"]
    yield arguments


def test_another_model_table_or_argument_is_refused_until_restarted(
    tmp_path: Path, begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model, table, output, *options = begun
    for changed, name in (
        ([str(save_model(tmp_path / "other", seed=1)), table, output, *options], "model"),
        ([model, table, output, *options[:-1], "4"], "batch_size"),
        ([model, table, output, *options, "--text_columns", "id"], "text_columns"),
    ):
        with pytest.raises(ValueError, match=rf"another job, which had {name} .*--restart"):
            main(changed)
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text() + "40,new\n")
    with pytest.raises(ValueError, match=r"which had table "):
        main(begun)
    main([*begun, "--restart"])
    assert len(read_output(tmp_path / "out.csv")) == 41
    assert "41 rows, 41 predicted, 0 errors" in capsys.readouterr().out


def test_a_job_that_an_earlier_version_began_is_finished(tmp_path: Path, begun: list[str]) -> None:
    (tmp_path / "out.csv.chunks").rename(tmp_path / "out.csv.parts")
    (chunk,) = (tmp_path / "out.csv.parts").glob("*.parquet")
    written = chunk.stat().st_ino
    seen = []
    find = ChunkFolder.find

    def found(self: ChunkFolder, index: int, *arguments: int) -> ChunkNote | None:
        seen.extend(path.stat().st_ino for path in self.folder.glob(f"{index:06d}-*.parquet"))
        return find(self, index, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ChunkFolder, "find", found)
        main(begun)
    assert written in seen and len(read_output(tmp_path / "out.csv")) == 40
    assert not list(tmp_path.glob("out.csv.*"))


@pytest.mark.parametrize("place", [None, 4, 0.3, 0.5, 0.7, -5])
def test_a_part_that_is_damaged_is_made_again(
    place: float | None, tmp_path: Path, begun: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (chunk,) = (tmp_path / "out.csv.chunks").glob("*.parquet")
    content = bytearray(chunk.read_bytes())
    if place is not None:  # one flipped bit of its head, its pages, its end
        content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    chunk.write_bytes(b"" if place is None else content)
    main(begun)
    assert f"{chunk} is damaged" in caplog.text
    damaged = (tmp_path / "out.csv").read_bytes()
    main([*begun, "--restart"])
    assert damaged == (tmp_path / "out.csv").read_bytes()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"format"', b"[" * 100_000])
def test_a_manifest_that_is_damaged_is_refused_until_restarted(
    content: bytes, tmp_path: Path, begun: list[str]
) -> None:
    (tmp_path / "out.csv.chunks" / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is damaged .*--restart"):
        main(begun)
    main([*begun, "--restart"])
    assert len(read_output(tmp_path / "out.csv")) == 40


@pytest.mark.parametrize("restart", [False, True])
def test_files_of_others_stay_among_the_chunks(restart: bool, tmp_path: Path, begun: list[str]) -> None:
    chunks = tmp_path / "out.csv.chunks"
    (chunks / "mine.txt").write_text("precious")
    main([*begun, *["--restart"] * restart])
    assert len(read_output(tmp_path / "out.csv")) == 40
    assert [path.name for path in chunks.iterdir()] == ["mine.txt"]


def test_an_output_that_is_there_is_kept_until_restarted(tmp_path: Path, saved_model: Path) -> None:
    table, *options = text_table(tmp_path, 3)
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(ValueError, match=r"is there already.*--restart"):
        run(saved_model, table, tmp_path / "out.csv", *options)
    assert (tmp_path / "out.csv").read_text() == "precious" and not (tmp_path / "out.csv.chunks").exists()
    run(saved_model, table, tmp_path / "out.csv", *options, "--restart")
    assert len(read_output(tmp_path / "out.csv")) == 3


def test_a_folder_of_other_files_is_not_touched(tmp_path: Path, saved_model: Path) -> None:
    table, *options = text_table(tmp_path, 3)
    (tmp_path / "out.csv.chunks").mkdir()
    (tmp_path / "out.csv.chunks" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds other files"):
        run(saved_model, table, tmp_path / "out.csv", *options, "--restart")
    assert [path.name for path in (tmp_path / "out.csv.chunks").iterdir()] == ["mine.txt"]


def test_two_runs_do_not_write_one_output(tmp_path: Path, begun: list[str]) -> None:
    with (
        FileLock(tmp_path / "out.csv.chunks" / ".lock"),
        pytest.raises(ValueError, match="another run is writing"),
    ):
        main(begun)
    main(begun)
    assert len(read_output(tmp_path / "out.csv")) == 40
