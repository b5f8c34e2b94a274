"""Checkpoints: whole ones are told from others, and a run goes on only from its own."""

import errno
import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from mmorient.commands.train import main
from mmorient.fitting.checkpoints import find_damage, only_run, remove_older, start_or_resume, write_manifest
from tests.mmorient.fitting.test_train import ROOT, frozen_recipe

IDENTITY = {"seed": 1, "tasks": {"humour": ["no", "yes"]}}


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("mmorient.fitting.checkpoints"), "propagate", True)


def write_checkpoint(output: Path, step: int, whole: bool = True) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(100))
    (folder / "trainer_state.json").write_text("{}")
    if whole:
        write_manifest(folder)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run's folder with whole checkpoints of steps 2, 4 and 10."""
    assert start_or_resume(tmp_path, IDENTITY, restart=False) is None
    for step in (2, 10, 4):
        write_checkpoint(tmp_path, step)
    return tmp_path


def test_the_latest_checkpoint_counts(output: Path) -> None:
    assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-10"


@pytest.mark.parametrize("harm", ["no manifest", "empty"])
def test_a_checkpoint_that_was_cut_off_is_removed_and_the_one_before_is_used(
    output: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = output / "checkpoint-10"
    for file in [folder / "whole.json"] if harm == "no manifest" else list(folder.iterdir()):
        file.unlink()
    assert find_damage(folder) == "there is no whole.json"
    assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-4"
    assert not list(output.glob("*checkpoint-10*")) and "checkpoint-10 was cut off" in caplog.text


@pytest.mark.parametrize(
    "harm",
    [
        "half a manifest",
        "another manifest",
        "short",
        "longer",
        "changed",
        "gone",
        "folder",
        "folder as manifest",
    ],
)
def test_a_checkpoint_that_was_whole_is_set_aside_and_the_one_before_is_used(
    output: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = output / "checkpoint-10"
    weights, note = folder / "model.safetensors", folder / "whole.json"
    content = weights.read_bytes()
    if harm in ("half a manifest", "another manifest"):
        note.write_text(note.read_text()[:40] if harm == "half a manifest" else "[1]")
    elif harm in ("gone", "folder", "folder as manifest"):
        changed = note if harm == "folder as manifest" else weights
        changed.unlink()
        if harm != "gone":
            changed.mkdir()
    else:
        weights.write_bytes({"short": content[:-1], "longer": content + b"0", "changed": content[::-1]}[harm])
    before = sorted(os.listdir(folder))
    assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-4"
    assert not folder.exists() and sorted(os.listdir(output / "set-aside-checkpoint-10")) == before
    assert "checkpoint-10 is not whole (" in caplog.text and "set-aside-checkpoint-10" in caplog.text


@pytest.mark.parametrize("file", ["model.safetensors", "whole.json"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_checkpoint_that_cannot_be_read_at_the_moment_is_set_aside(
    output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, file: str, number: int
) -> None:
    open_file, refused = Path.open, output / "checkpoint-10" / file

    def fail(path: Path, *args: Any, **options: Any) -> Any:
        if path == refused:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fail)
        assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-4"
    assert f"{file} cannot be read: {os.strerror(number)}" in caplog.text
    (output / "set-aside-checkpoint-10").rename(output / "checkpoint-10")
    assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-10"


def test_a_checkpoint_whose_folder_cannot_be_listed_at_the_moment_is_set_aside(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_folder = os.listdir

    def fail(path: Path) -> list[str]:
        if path == output / "checkpoint-10":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return list_folder(path)

    (output / "checkpoint-10" / "trainer_state.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", fail)
        assert start_or_resume(output, IDENTITY, restart=False) == output / "checkpoint-4"
    assert (output / "set-aside-checkpoint-10" / "model.safetensors").is_file()


def test_what_was_set_aside_stays(output: Path) -> None:
    for _ in range(2):
        (output / "checkpoint-10" / "trainer_state.json").write_text("changed")
        start_or_resume(output, IDENTITY, restart=False)
        write_checkpoint(output, 10)
    remove_older(output, 1, None)
    start_or_resume(output, IDENTITY, restart=True)
    aside = {"set-aside-checkpoint-10", "set-aside-checkpoint-10-2"}
    assert {path.name for path in output.glob("*checkpoint*")} == aside


def test_older_checkpoints_are_removed_but_for_the_best(output: Path) -> None:
    (output / "checkpoint-best-backup").mkdir()  # somebody's own
    remove_older(output, None, None)
    assert len(list(output.glob("checkpoint-*"))) == 4
    remove_older(output, 2, "where/it/was/checkpoint-2")
    found = {path.name for path in output.glob("checkpoint-*")}
    assert found == {"checkpoint-2", "checkpoint-10", "checkpoint-best-backup"}
    remove_older(output, 1, None)
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-10", "checkpoint-best-backup"}


def test_a_removal_that_was_interrupted_is_known_as_such(
    output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> None:
        (path / "model.safetensors").unlink()
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        remove_older(output, 2, None)
    assert "checkpoint-2 cannot be removed" in caplog.text
    for step in (10, 4):
        shutil.rmtree(output / f"checkpoint-{step}")
    assert start_or_resume(output, IDENTITY, restart=False) is None
    assert not (output / "checkpoint-2").exists()


def start_in_a_process(output: Path, rank: int, port: int, found: Any) -> None:
    """As `torchrun` starts the processes of a run."""
    os.environ.update(RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE="4")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    PartialState._reset_state()
    PartialState(cpu=True)
    for restart in (True, False):
        for seed in (1, 2):
            try:
                found.put((rank, restart, seed, start_or_resume(output, {"seed": seed}, restart)))
            except ValueError as error:
                found.put((rank, restart, seed, str(error)))
            PartialState().wait_for_everyone()
            if restart and rank == 0:
                write_checkpoint(output, seed)
            PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


def test_four_processes_start_together(tmp_path: Path) -> None:
    """One of them writes and looks; a refusal reaches the others, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    processes = [
        fork.Process(target=start_in_a_process, args=(tmp_path, rank, port, found)) for rank in range(4)
    ]
    for process in processes:
        process.start()
    answers = [found.get(timeout=120) for _ in range(16)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for rank in range(4):
        own = {(restart, seed): answer for number, restart, seed, answer in answers if number == rank}
        assert own[True, 1] is None and own[True, 2] is None
        assert "another run (seed was 2 and is 1)" in own[False, 1]
        assert own[False, 2] == tmp_path / "checkpoint-2"
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "checkpoint-2"}


def test_without_a_whole_checkpoint_the_run_starts_anew(tmp_path: Path) -> None:
    start_or_resume(tmp_path, IDENTITY, restart=False)
    write_checkpoint(tmp_path, 2, whole=False)
    assert start_or_resume(tmp_path, IDENTITY, restart=False) is None


def test_checkpoints_of_another_run_are_refused_and_removed_on_request(output: Path) -> None:
    with pytest.raises(ValueError, match=r"another run \(seed was 1 and is 2\): choose another `output_dir`"):
        start_or_resume(output, {**IDENTITY, "seed": 2}, restart=False)
    assert (output / "checkpoint-10").is_dir()
    (output / "notes.txt").write_text("mine")
    assert start_or_resume(output, {**IDENTITY, "seed": 2}, restart=True) is None
    assert not list(output.glob("checkpoint-*")) and (output / "notes.txt").is_file()
    write_checkpoint(output, 2)
    assert start_or_resume(output, {**IDENTITY, "seed": 2}, restart=False) == output / "checkpoint-2"


def test_checkpoints_of_nobody_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    with pytest.raises(ValueError, match="unknown run"):
        start_or_resume(tmp_path, IDENTITY, restart=False)


def test_what_is_no_checkpoint_is_left_alone(output: Path) -> None:
    for name in ("checkpoint-best-backup", "checkpoint-notes"):
        (output / name).mkdir()
    (output / "checkpoint-12.txt").write_text("mine")
    start_or_resume(output, IDENTITY, restart=False)
    start_or_resume(output, IDENTITY, restart=True)
    assert {path.name for path in output.glob("checkpoint-*")} == {
        "checkpoint-best-backup",
        "checkpoint-notes",
        "checkpoint-12.txt",
    }


def test_files_in_folders_of_a_checkpoint_count(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 2, whole=False)
    (folder / "shards").mkdir()
    (folder / "shards" / "0.bin").write_bytes(b"0" * 50)
    write_manifest(folder)
    assert find_damage(folder) is None
    (folder / "shards" / "0.bin").write_bytes(b"0" * 49)
    assert find_damage(folder) == "shards/0.bin is not as it was written"


def test_a_manifest_is_written_when_every_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, 2, whole=False)
    files = {path.stat().st_ino for path in folder.iterdir()}
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    write_manifest(folder)
    # The last one is the manifest itself.
    assert set(flushed[:-1]) == files and flushed[-1] == (folder / "whole.json").stat().st_ino


def test_an_older_checkpoint_stays_until_the_new_one_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies while it finishes its second checkpoint still has the first one to go on from."""
    steps = []

    def die_at_the_second(checkpoint: Path) -> None:
        steps.append(checkpoint)
        if len(steps) == 2:
            raise KeyboardInterrupt
        write_manifest(checkpoint)

    monkeypatch.setattr("mmorient.fitting.trainer.write_manifest", die_at_the_second)
    recipe = frozen_recipe(tmp_path, save_strategy="steps", save_steps=1, save_total_limit=1)
    with pytest.raises(KeyboardInterrupt):
        main(recipe)
    assert [find_damage(checkpoint) for checkpoint in steps] == [None, "there is no whole.json"]
    main(recipe)
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-4"]


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(ValueError, match="another run writes to"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass


def test_a_run_that_diverges_says_so_and_keeps_no_weights_that_are_not_numbers(tmp_path: Path) -> None:
    options = {"learning_rate": 1e30, "save_strategy": "steps", "save_steps": 1, "max_grad_norm": 0.0}
    with pytest.raises(ValueError, match=r"not numbers at step 1|the loss is (nan|inf) at step"):
        main(frozen_recipe(tmp_path, logging_steps=1, **options))
    for manifest in (tmp_path / "out").glob("checkpoint-*/whole.json"):
        weights = load_file(manifest.with_name("model.safetensors"))
        assert all(weight.isfinite().all() for weight in weights.values())


def test_starting_a_finished_run_again_leaves_the_same_report(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2)
    main(recipe)
    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    first = json.loads((moved / "report" / "report.json").read_text())
    main([*recipe, "--output_dir", str(moved)])
    again = json.loads((moved / "report" / "report.json").read_text())
    assert first["graphs"] and again["graphs"] == first["graphs"]
    assert again["curves"] == first["curves"] and again["splits"] == first["splits"]
    assert 0 < again["duration_seconds"] <= first["duration_seconds"]


def test_a_run_does_not_go_on_in_the_folder_of_one_with_other_labels(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, save_strategy="steps", save_steps=2)
    main(recipe)
    table = tmp_path / "memes" / "train.csv"
    table.write_text(table.read_text().replace(",yes", ",no", 1))
    with pytest.raises(ValueError, match="training rows was"):
        main(recipe)
    main([*recipe, "--restart", "true"])


EARLY = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
    "early_stopping_patience": 2,
    "max_steps": 40,
    "save_total_limit": 3,
}


def test_early_stopping_stops_and_a_finished_run_is_not_trained_on(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, **EARLY)
    main(recipe)
    steps = {int(path.name.split("-")[1]) for path in (tmp_path / "out").glob("checkpoint-*")}
    last, best = max(steps), min(steps)
    assert last < 40 and last - best == 2
    # What was loaded and saved is the best checkpoint, and not the last.
    saved, kept, newest = (
        load_file(tmp_path / "out" / folder / "model.safetensors")
        for folder in ("", f"checkpoint-{best}", f"checkpoint-{last}")
    )
    # g is another: HIMA's stage 2 has seen the references since, and says so.
    changed = {name for name in kept if not torch.equal(saved[name], kept[name])}
    assert changed and all("running_g" in name or "references_digest" in name for name in changed)
    assert any(not torch.equal(saved[name], newest[name]) for name in newest)
    main(recipe)
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(saved[name], again[name]) for name in saved)
    assert {int(path.name.split("-")[1]) for path in (tmp_path / "out").glob("checkpoint-*")} == steps


def test_encoders_that_are_trained_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    """The picture encoder's weights have other names in files than in memory."""
    options = {"freeze_encoders": False, "learner_hidden_sizes": [8], "hima_hidden_size": 4}
    recipe = frozen_recipe(tmp_path, save_strategy="steps", save_steps=2, model_options=options)
    main(recipe)
    whole = load_file(tmp_path / "out" / "model.safetensors")
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    main(recipe)
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


DROPOUT = {
    **{"learner_hidden_sizes": [8], "hima_hidden_size": 4, "graph_hidden_size": 4},
    **{"learner_dropout": 0.3, "modality_dropout": 0.3},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, torch.Tensor]]:
    """A recipe of three epochs of five steps, and its last weights without checkpoints and evaluations."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    options = {"max_steps": -1, "num_train_epochs": 3, "save_steps": 3, "eval_steps": 2}
    recipe = frozen_recipe(folder, rows=48, model_options=DROPOUT, save_total_limit=None, **options)
    recipe += ["--feature_cache", str(folder / "features")]
    main(recipe)
    return recipe, load_file(folder / "out" / "model.safetensors")


def evaluations(output: Path) -> dict[str, list[list[float]]]:
    """The curves of what was evaluated in training."""
    curves = json.loads((output / "report" / "report.json").read_text())["curves"]
    return {name: points for name, points in curves.items() if name.startswith("eval")}


# Whether the best model is kept, `save_strategy` and `eval_strategy`: all that are not refused.
STRATEGIES = [
    *((False, "epoch", evaluation) for evaluation in ("no", "epoch", "steps")),
    *((False, "steps", evaluation) for evaluation in ("no", "steps")),
    *((keep_best, "best", evaluation) for keep_best in (False, True) for evaluation in ("epoch", "steps")),
    *((True, evaluation, evaluation) for evaluation in ("epoch", "steps")),
]


@pytest.mark.parametrize(("keep_best", "save", "evaluation"), STRATEGIES)
def test_neither_evaluations_nor_an_interruption_between_them_change_a_run(
    uninterrupted: tuple[list[str], dict[str, torch.Tensor]],
    tmp_path: Path,
    keep_best: bool,
    save: str,
    evaluation: str,
) -> None:
    recipe, expected = uninterrupted
    recipe = [*recipe, "--save_strategy", save, "--eval_strategy", evaluation, "--output_dir", str(tmp_path)]
    if keep_best:  # what is saved must have been evaluated
        recipe += ["--load_best_model_at_end", "true", "--eval_steps", "3"]
    main(recipe)
    whole, curves = load_file(tmp_path / "model.safetensors"), evaluations(tmp_path)
    assert bool(curves) is (evaluation != "no")
    if not keep_best:
        assert all(torch.equal(weight, expected[name]) for name, weight in whole.items())
    checkpoints = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    for checkpoint in checkpoints[1:]:
        shutil.rmtree(checkpoint)
    main(recipe)
    again = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    assert evaluations(tmp_path) == curves


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2, "max_steps": 30}
    recipe = frozen_recipe(tmp_path, **options)
    main([*recipe, "--output_dir", str(tmp_path / "whole")])
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    command = [sys.executable, "training/train.py", *recipe]
    output, kills = tmp_path / "out", 0
    for delay in (0.0, 0.05, 0.4):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = set(output.glob("checkpoint-*"))
        while process.poll() is None and not set(output.glob("checkpoint-*")) - seen:
            time.sleep(0.005)
        time.sleep(delay)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills == 3
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = load_file(output / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
